//! From a waiting request to a class of workers, and from a class to a worker's row: images are resolved here, once for each buildset.

use super::{Fleet, FleetError, failures};
use crate::config::{BuilderConfig, PoolConfig};
use crate::ctx::Active;
use crate::specs::{self, Rendered};
use rouse_contract::{LaunchSpec, Resolved};
use rouse_model::buildset::Request;
use rouse_model::matching::ReuseClass;
use rouse_model::worker::{Link, Phase, Wanted, Worker};
use rouse_model::{BuildsetId, Timestamp, WorkerId};
use rouse_store::Batch;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// No instance lives longer, whatever happens.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// How many rendered specs are remembered.
const REMEMBERED: usize = 4_096;

/// A buildset, a provider and images, in order.
type Asked = (BuildsetId, String, Vec<String>);

/// What this process has rendered and resolved. Lost with it; the digests are on record.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    /// Digest → the spec to launch.
    specs: Mutex<HashMap<String, LaunchSpec>>,
    /// What the images mean for that buildset.
    resolved: Mutex<HashMap<Asked, Resolved>>,
}

impl Fleet {
    /// The class that a request asks of a pool; `None` where it is not known now: the image is being resolved, or cannot be.
    pub(super) async fn class_of(
        &self,
        active: &Active,
        builder: &BuilderConfig,
        request: &mut Request,
        pool_name: &str,
        pool: &PoolConfig,
    ) -> Result<Option<ReuseClass>, FleetError> {
        let class = |digest: &str| ReuseClass {
            pool: pool_name.to_owned(),
            spec_digest: digest.to_owned(),
            trust: request.trust,
            project: request.project.clone(),
        };
        if let Some(digest) = request.provision.digests.get(pool_name)
            && self.resolver.specs.lock().expect("nothing panics while it is held").contains_key(digest)
        {
            return Ok(Some(class(digest)));
        }
        let Some(spec) = self.spec_of(active, builder, request, pool_name, pool).await? else {
            return Ok(None);
        };
        let digest = spec.digest();
        let known = request.provision.digests.get(pool_name) == Some(&digest);
        self.remember(&digest, spec);
        if !known {
            request.provision.digests.insert(pool_name.to_owned(), digest.clone());
            let mut batch = Batch::new("request.resolve");
            batch.update(request);
            match self.ctx.store.commit(batch).await {
                Ok(()) => self.ctx.nudges.matching.notify_one(),
                Err(error) if error.is_conflict() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(ReuseClass {
            pool: pool_name.to_owned(),
            spec_digest: digest,
            trust: request.trust,
            project: request.project.clone(),
        }))
    }

    fn remember(&self, digest: &str, spec: LaunchSpec) {
        let mut specs = self.resolver.specs.lock().expect("nothing panics while it is held");
        if specs.len() >= REMEMBERED {
            specs.clear();
        }
        specs.insert(digest.to_owned(), spec);
    }

    async fn spec_of(
        &self,
        active: &Active,
        builder: &BuilderConfig,
        request: &mut Request,
        pool_name: &str,
        pool: &PoolConfig,
    ) -> Result<Option<LaunchSpec>, FleetError> {
        let Some(kind) = self.accounts.kind(&pool.kind).cloned() else { return Ok(None) };
        let Some(wish) = specs::wish(&self.ctx.store, builder, request.clone()).await? else {
            return Ok(None);
        };
        let rendered = match specs::render_pool(pool, &*kind, &wish.scope) {
            Ok(rendered) => rendered,
            Err(error) => {
                let error = rouse_contract::ProviderError::new(
                    rouse_model::failure::FailureClass::User,
                    format!("render pool `{pool_name}` for this build"),
                    crate::supervisor::chain(&error),
                );
                failures::refused(self, builder, request, pool_name, None, &error).await?;
                return Ok(None);
            }
        };
        let image = match self.resolve(active, request, pool, &rendered).await {
            Ok(image) => image,
            Err(error) => {
                failures::refused(self, builder, request, pool_name, None, &error).await?;
                return Ok(None);
            }
        };
        Ok(Some(specs::launch_spec(pool_name, request, rendered, image)))
    }

    async fn resolve(
        &self,
        active: &Active,
        request: &Request,
        pool: &PoolConfig,
        rendered: &Rendered,
    ) -> Result<Option<Resolved>, rouse_contract::ProviderError> {
        let Some(ask) = specs::resolve_request(rendered) else { return Ok(None) };
        let account = pool.on.first().map(ToString::to_string).unwrap_or_default();
        let key = (request.buildset, account.clone(), rendered.images.clone());
        if let Some(known) = self.resolver.resolved.lock().expect("nothing panics while it is held").get(&key)
        {
            return Ok(Some(known.clone()));
        }
        let found = self.accounts.get(&active.config, &account)?.provider.resolve(&ask).await?;
        let mut resolved = self.resolver.resolved.lock().expect("nothing panics while it is held");
        if resolved.len() >= REMEMBERED {
            resolved.clear();
        }
        resolved.insert(key, found.clone());
        Ok(Some(found))
    }

    /// Records the wish for one more worker of a class. Its driver does the rest.
    pub(super) async fn request_worker(
        &self,
        active: &Active,
        pool_name: &str,
        pool: &PoolConfig,
        class: &ReuseClass,
        now: Timestamp,
    ) -> Result<(), FleetError> {
        let spec = self
            .resolver
            .specs
            .lock()
            .expect("nothing panics while it is held")
            .get(&class.spec_digest)
            .cloned();
        let Some(spec) = spec else { return Ok(()) };
        let facts = self.ctx.store.facts();
        let id: WorkerId = self.ctx.store.next_id().await?;
        let token = crate::keys::launch_token(&facts.installation, facts.store_epoch, id, 1);
        let worker = Worker {
            id,
            name: crate::keys::worker_name(pool_name, &token, id),
            pool: pool_name.to_owned(),
            provider: pool.on.first().map(ToString::to_string).unwrap_or_default(),
            project: class.project.clone(),
            trust: class.trust,
            spec_digest: class.spec_digest.clone(),
            spec: serde_json::to_string(&spec).unwrap_or_default(),
            config: active.revision,
            attempt: 1,
            master: self.ctx.me,
            slots: i64::from(pool.slots),
            max_builds: i64::from(pool.reuse.builds),
            builds_done: 0,
            wanted: Wanted::Run,
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
            generation: 0,
        };
        let mut batch = Batch::new("worker.request");
        batch.insert(&worker).event(crate::workers::phase_event(&worker, now));
        self.ctx.store.commit(batch).await?;
        self.ctx.nudges.fleet.notify_one();
        Ok(())
    }
}
