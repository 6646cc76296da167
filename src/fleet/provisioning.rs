//! From a waiting request to a class of workers, and from a class to a worker's row.

use super::choosing::Placed;
use super::resolving::{self, Image};
use super::{Fleet, FleetError, failures, trees};
use crate::accounts::Account;
use crate::config::{BuilderConfig, PoolConfig};
use crate::ctx::Active;
use crate::specs::{self, Rendered, Wish};
use rouse_contract::tree::Tree;
use rouse_contract::{LaunchSpec, ProviderError, ProviderKind, ResolveRequest, Resolved};
use rouse_model::buildset::{Request, SettledImage};
use rouse_model::failure::FailureClass;
use rouse_model::matching::ReuseClass;
use rouse_model::worker::{self, Link, Phase, Worker};
use rouse_model::{ConfigRevisionId, RequestId, Timestamp, WorkerId};
use rouse_store::Batch;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// No instance lives longer, whatever happens.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// How many rendered specs are remembered.
const REMEMBERED: usize = 4_096;

/// What this process has rendered: digest → the spec to launch. Lost with it; the digests are on record.
#[derive(Debug, Default)]
pub(super) struct Specs {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    spec: LaunchSpec,
    /// Of what it was rendered: the pool as it was written then.
    of: Arc<PoolConfig>,
}

impl Specs {
    pub(super) fn get(&self, digest: &str) -> Option<LaunchSpec> {
        self.known
            .lock()
            .expect("nothing panics while it is held")
            .get(digest)
            .map(|known| known.spec.clone())
    }

    /// Whether it was rendered of the pool as it is now.
    pub(super) fn is_of(&self, digest: &str, pool: &PoolConfig) -> bool {
        let known = self.known.lock().expect("nothing panics while it is held");
        known.get(digest).is_some_and(|known| known.of.launches_like(pool))
    }

    /// Answers its digest.
    pub(super) fn put(&self, spec: LaunchSpec, of: Arc<PoolConfig>) -> String {
        let digest = spec.digest();
        let mut known = self.known.lock().expect("nothing panics while it is held");
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(digest.clone(), Known { spec, of });
        digest
    }
}

/// What a pool is to be for a wish.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    rendered: Rendered,
    tree: Option<Tree>,
    /// The worker's own image first, where it has one; those of services by their names.
    pub(super) asks: Vec<(Option<String>, ResolveRequest)>,
    image: Option<Resolved>,
    beside: BTreeMap<String, Resolved>,
}

impl Wanted {
    /// What was answered about the worker's own image, or about a service's.
    pub(super) fn is(&mut self, service: Option<String>, resolved: Resolved) {
        match service {
            Some(service) => _ = self.beside.insert(service, resolved),
            None => self.image = Some(resolved),
        }
    }

    /// Once all is answered.
    pub(super) fn spec(self, pool_name: &str, request: &Request) -> LaunchSpec {
        specs::launch_spec(pool_name, request, self.rendered, self.image, self.beside, self.tree)
    }
}

/// What requests are whose images are still being asked for: each pass would read and render all of them anew.
#[derive(Debug, Default)]
pub(super) struct Unsettled(Mutex<HashMap<(RequestId, String), (ConfigRevisionId, Wanted)>>);

impl Unsettled {
    fn take(&self, request: RequestId, pool: &str, config: ConfigRevisionId) -> Option<Wanted> {
        let mut known = self.0.lock().expect("nothing panics while it is held");
        let (revision, wanted) = known.remove(&(request, pool.to_owned()))?;
        (revision == config).then_some(wanted)
    }

    fn put(&self, request: RequestId, pool: &str, config: ConfigRevisionId, wanted: Wanted) {
        let mut known = self.0.lock().expect("nothing panics while it is held");
        // Those that were cancelled meanwhile are in it, too.
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((request, pool.to_owned()), (config, wanted));
    }
}

/// The class of workers that a request asks of a pool, by the digest of what they are launched with.
pub(super) fn class(request: &Request, pool_name: &str, spec_digest: String) -> ReuseClass {
    ReuseClass {
        pool: pool_name.to_owned(),
        spec_digest,
        trust: request.trust,
        project: request.project.clone(),
    }
}

/// Whose image it is that cannot be had.
fn of_service(service: Option<&str>, mut error: ProviderError) -> ProviderError {
    if let Some(service) = service {
        error.doing = format!("service `{service}`: {}", error.doing);
    }
    error
}

impl Fleet {
    /// The class that a request asks of a pool as it is now; `None` where it is not known now: the image is being resolved, or cannot be.
    pub(super) async fn class_of(
        self: &Arc<Self>,
        active: &Active,
        builder: &BuilderConfig,
        request: &mut Request,
        pool_name: &str,
        pool: &PoolConfig,
    ) -> Result<Option<ReuseClass>, FleetError> {
        if let Some(digest) = request.provision.digests.get(pool_name)
            && self.specs.is_of(digest, pool)
        {
            return Ok(Some(class(request, pool_name, digest.clone())));
        }
        let before = request.provision.clone();
        let spec = match self.spec_of(active, builder, request, pool_name, pool).await? {
            Ok(Some(spec)) => spec,
            Ok(None) => return Ok(None),
            Err(error) => {
                failures::refused(self, builder, request, pool_name, None, &error).await?;
                return Ok(None);
            }
        };
        request.provision.imageless_since = None;
        let digest = self.specs.put(spec, Arc::new(pool.clone()));
        request.provision.digests.insert(pool_name.to_owned(), digest.clone());
        if request.provision != before {
            let mut batch = Batch::new("request.resolve");
            batch.update(request);
            match self.ctx.store.commit(batch).await {
                Ok(()) => self.ctx.nudges.matching.notify_one(),
                Err(error) if error.is_conflict() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(class(request, pool_name, digest)))
    }

    /// The spec to launch, `None` where an image is still being asked for; or why there cannot be one.
    async fn spec_of(
        self: &Arc<Self>,
        active: &Active,
        builder: &BuilderConfig,
        request: &mut Request,
        pool_name: &str,
        pool: &PoolConfig,
    ) -> Result<Result<Option<LaunchSpec>, ProviderError>, FleetError> {
        let mut wanted = match self.unsettled.take(request.id, pool_name, active.revision) {
            Some(wanted) => wanted,
            None => {
                let Some(kind) = self.accounts.kind(&pool.kind).cloned() else { return Ok(Ok(None)) };
                let Some(wish) = specs::wish(&self.ctx.store, builder, request.clone()).await? else {
                    return Ok(Ok(None));
                };
                match self.wanted(pool_name, pool, &*kind, &wish) {
                    Ok(wanted) => wanted,
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        let mut waits = false;
        // All are asked for before one is waited for.
        for (service, ask) in wanted.asks.clone() {
            let (key, resolved) = match self.settle(active, request, pool, ask).await? {
                Ok(Some(settled)) => settled,
                Ok(None) => {
                    waits = true;
                    continue;
                }
                Err(error) => return Ok(Err(of_service(service.as_deref(), error))),
            };
            let Resolved { image: name, id } = resolved.clone();
            request.provision.images.insert(key, SettledImage { image: name, id });
            wanted.is(service, resolved);
        }
        if waits {
            self.unsettled.put(request.id, pool_name, active.revision, wanted);
            return Ok(Ok(None));
        }
        Ok(Ok(Some(wanted.spec(pool_name, request))))
    }

    /// What a pool is to be for a wish, and what has to be asked for that.
    pub(super) fn wanted(
        &self,
        pool_name: &str,
        pool: &PoolConfig,
        kind: &dyn ProviderKind,
        wish: &Wish,
    ) -> Result<Wanted, ProviderError> {
        let rendered = specs::render_pool(pool, kind, &wish.scope).map_err(|error| {
            let doing = format!("render pool `{pool_name}` for this build");
            ProviderError::new(FailureClass::User, doing, crate::supervisor::chain(&error))
        })?;
        let reader = || trees::reader(Arc::clone(&self.ctx));
        let tree = specs::tree_of(&rendered, kind, wish, reader).map_err(|why| {
            let doing = format!("make the image of pool `{pool_name}` for this build");
            ProviderError::new(FailureClass::User, doing, why.to_string())
        })?;
        let own = specs::resolve_request(&rendered, kind, tree.clone()).map(|ask| (None, ask));
        let beside = specs::resolve_beside(&rendered, kind).into_iter().map(|(name, ask)| (Some(name), ask));
        let mut asks: Vec<(Option<String>, ResolveRequest)> = own.into_iter().chain(beside).collect();
        let secrets = crate::secrets::keyring(self.ctx.config(), &wish.request.project);
        asks.iter_mut().for_each(|(_, ask)| ask.secrets = secrets.clone());
        Ok(Wanted { rendered, tree, asks, image: None, beside: BTreeMap::new() })
    }

    /// Who is asked what an image means, and under which name the answer is kept, which is the same whichever account is asked.
    pub(super) fn whom(
        &self,
        active: &Active,
        pool: &PoolConfig,
        ask: &ResolveRequest,
    ) -> Result<(Account, String), ProviderError> {
        let account = self.accounts.get(&active.config, &self.asked(&active.config, pool))?;
        let on: Vec<&str> = pool.on.iter().map(|name| name.as_str()).collect();
        Ok((account, resolving::key(&on.join(","), ask)))
    }

    /// What an image means, with the name under which that is kept; `None` where it is being asked for.
    async fn settle(
        self: &Arc<Self>,
        active: &Active,
        request: &Request,
        pool: &PoolConfig,
        ask: ResolveRequest,
    ) -> Result<Result<Option<(String, Resolved)>, ProviderError>, FleetError> {
        let (account, key) = match self.whom(active, pool, &ask) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        Ok(match self.image(request, account, ask, &key).await? {
            Image::UnderWay => Ok(None),
            Image::Is(resolved) => Ok(Some((key, resolved))),
            Image::Not(error) => Err(error),
        })
    }

    /// The wish for one more worker of a class; once it is on record its driver does the rest. `None` where nobody knows any more what the class
    /// is: the next pass finds out.
    pub(super) async fn wished(
        &self,
        active: &Active,
        pool_name: &str,
        pool: &PoolConfig,
        class: &ReuseClass,
        placed: &Placed,
        now: Timestamp,
    ) -> Result<Option<Worker>, FleetError> {
        let Some(spec) = self.specs.get(&class.spec_digest) else { return Ok(None) };
        // What was foreseen before a reload is foreseen anew.
        if !self.specs.is_of(&class.spec_digest, pool) {
            return Ok(None);
        }
        let facts = self.ctx.store.facts();
        let id: WorkerId = self.ctx.store.next_id().await?;
        let token = crate::keys::launch_token(&facts.installation, facts.store_epoch, id, 1);
        Ok(Some(Worker {
            id,
            name: crate::keys::worker_name(pool_name, &token, id),
            pool: pool_name.to_owned(),
            provider: placed.account.clone(),
            offering: placed.offering.clone(),
            price: placed.price,
            project: class.project.clone(),
            trust: class.trust,
            spec_digest: class.spec_digest.clone(),
            spec: serde_json::to_string(&spec).unwrap_or_default(),
            config: active.revision,
            decision: None,
            attempt: 1,
            master: self.ctx.me,
            term: 1,
            slots: i64::from(pool.slots),
            max_builds: i64::from(pool.reuse.builds),
            builds_done: 0,
            wanted: worker::Wanted::Run,
            phase: Phase::Requested { token },
            link: Link::Never,
            incarnation: None,
            agent_key: None,
            facts: None,
            requested: now,
            accepted: None,
            attached: None,
            idle_since: None,
            gone: None,
            expires: now + MAX_AGE,
            console: None,
            resumes: 0,
            resume_took: None,
            generation: 0,
        }))
    }
}
