//! The whole: sections as they are written, and the order in which their meaning is checked.

use super::builder::{BuilderConfig, RawBuilder, expand, inherit, triggers};
use super::codebase::{CodebaseConfig, RawCodebase};
use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::{
    BuilderName, CodebaseName, LockName, PoolName, ProjectName, ProviderName, SchedulerName, SecretName,
    family,
};
use super::lock::RawLock;
use super::pool::{PoolConfig, RawPool};
use super::project::{ProjectConfig, RawProject};
use super::provider::{ProviderConfig, RawProvider};
use super::scheduler::{RawScheduler, SchedulerConfig, Surroundings, check_rings};
use super::secret::{RawSecret, SecretConfig};
use super::server::{RawServer, ServerConfig};
use super::tree::Path;
use indexmap::IndexMap;
use rouse_contract::layers::Rates;
use rouse_model::Trust;
use rouse_model::approval::ApprovalOf;
use rouse_model::locks::Lock;
use rouse_model::matching::{Offer, Requirement, fits};
use rouse_model::placement::Room;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What Rouse builds, where, and when. Every key is explained on hover; times are written with their unit (`30s`, `5m`, `90d`).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Config")]
pub(crate) struct RawConfig {
    /// Which rules the file follows: 1.
    #[schemars(schema_with = "version_schema")]
    version: u32,
    /// What concerns the whole installation.
    #[serde(default)]
    server: RawServer,
    /// Names of values that never stand in a configuration: where they are found, and who may see them.
    #[serde(default)]
    secrets: IndexMap<SecretName, RawSecret>,
    /// Tenants: owners of codebases and builders. What names none belongs to `default`.
    #[serde(default)]
    projects: IndexMap<ProjectName, RawProject>,
    /// What can change: repositories that builds check out.
    #[serde(default)]
    codebases: IndexMap<CodebaseName, RawCodebase>,
    /// Accounts and endpoints that make instances; not needed where the usual one will do.
    #[serde(default)]
    providers: IndexMap<ProviderName, RawProvider>,
    /// What builds share and what is no worker: a licence, a key, a rig. A number says how many may be taken at the same time.
    #[serde(default)]
    locks: IndexMap<LockName, RawLock>,
    /// Where work can run.
    #[serde(default)]
    pools: IndexMap<PoolName, RawPool>,
    /// Recipes.
    #[serde(default)]
    pub(crate) builders: IndexMap<BuilderName, RawBuilder>,
    /// What turns changes, clocks and wishes into builds.
    #[serde(default)]
    schedulers: IndexMap<SchedulerName, RawScheduler>,
}

fn version_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "const": 1 })
}

/// A checked configuration: references are good, `like` is resolved, defaults are in. Maps are in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Config {
    pub server: ServerConfig,
    pub secrets: IndexMap<SecretName, SecretConfig>,
    /// `default` is always among them.
    pub projects: IndexMap<ProjectName, ProjectConfig>,
    pub codebases: IndexMap<CodebaseName, CodebaseConfig>,
    /// Those that are declared, and the usual ones that pools imply.
    pub providers: IndexMap<ProviderName, ProviderConfig>,
    pub locks: IndexMap<LockName, Lock>,
    pub pools: IndexMap<PoolName, PoolConfig>,
    /// Without the templates.
    pub builders: IndexMap<BuilderName, BuilderConfig>,
    pub schedulers: IndexMap<SchedulerName, SchedulerConfig>,
}

impl RawConfig {
    /// Checks what it means. Faults go to the context; what has faults is left out.
    pub(crate) fn check(self, cx: &mut Context<'_>) -> Config {
        debug_assert_eq!(self.version, 1, "judged before");
        let mut projects: IndexMap<_, _> =
            self.projects.into_iter().map(|(name, raw)| (name, raw.check())).collect();
        projects.entry(cx.default_project()).or_default();
        let secrets = section("secrets", self.secrets, cx, RawSecret::check);
        cx.secrets.clone_from(&secrets);
        let locks: IndexMap<_, _> = self.locks.into_iter().map(|(name, raw)| (name, raw.check())).collect();
        cx.locks.clone_from(&locks);
        let mut providers = section("providers", self.providers, cx, RawProvider::check);
        let pools = section("pools", self.pools, cx, RawPool::check);
        add_implied(&mut providers, &pools, cx);
        let codebases = section("codebases", self.codebases, cx, RawCodebase::check);
        let templates: Vec<_> = self
            .builders
            .iter()
            .filter(|(_, builder)| builder.template)
            .map(|(name, _)| name.clone())
            .collect();
        let builders = builders(&self.builders, &templates, cx);
        never_runs(&builders, &pools, cx);
        let around = Surroundings { builders: &builders, templates: &templates, codebases: &codebases };
        let schedulers =
            section("schedulers", self.schedulers, cx, |raw, cx, path| raw.check(cx, path, &around));
        let server = self.server.check(cx);
        check_rings(schedulers.iter().map(|(name, scheduler)| (name, &scheduler.trigger)), cx);
        Config { server, secrets, projects, codebases, providers, locks, pools, builders, schedulers }
    }
}

fn section<'c, Name, Raw, Checked>(
    section: &str,
    raws: IndexMap<Name, Raw>,
    cx: &mut Context<'c>,
    check: impl Fn(Raw, &mut Context<'c>, &Path) -> Option<Checked>,
) -> IndexMap<Name, Checked>
where
    Name: AsRef<str> + std::hash::Hash + Eq,
{
    let checked = raws.into_iter().filter_map(|(name, raw)| {
        let path = Path::of([section, name.as_ref()]);
        check(raw, cx, &path).map(|checked| (name, checked))
    });
    checked.collect()
}

fn builders(
    raws: &IndexMap<BuilderName, RawBuilder>,
    templates: &[BuilderName],
    cx: &mut Context<'_>,
) -> IndexMap<BuilderName, BuilderConfig> {
    for (name, raw) in raws {
        raw.check_own(name, cx, &Path::of(["builders", name]));
    }
    let mut builders = IndexMap::new();
    for (name, raw, origins) in inherit(raws, cx) {
        let template = templates.contains(&name);
        // A template without steps is as good as one with some.
        if template && raw.steps.is_none() {
            continue;
        }
        let matrix = raw.matrix.clone();
        if let Some(builder) = raw.check(&name, cx, &origins).filter(|_| !template) {
            builders.extend(expand(&name, builder, matrix.as_ref()));
        }
    }
    triggers::settle(raws, &mut builders, templates, cx);
    builders
}

/// Accounts that nobody declares, because pools of their kind name none.
fn add_implied(
    providers: &mut IndexMap<ProviderName, ProviderConfig>,
    pools: &IndexMap<PoolName, PoolConfig>,
    cx: &mut Context<'_>,
) {
    for (name, pool) in pools {
        let Some(account) = pool.on.first().filter(|account| account.as_str() == pool.kind) else { continue };
        if let Some(other) = providers.get(account) {
            if other.kind != pool.kind {
                let message = format!(
                    "pool `{name}` uses the usual account of `{account}`, whose name another account has"
                );
                let path = Path::of(["providers", account]);
                let fault = Fault::new(Code::BadReference, cx.key(&path), message);
                cx.push(fault.label(format!("this one is of `{}`: rename it", other.kind)));
            }
            continue;
        }
        let Some(kind) = cx.kinds.iter().find(|kind| kind.name() == pool.kind) else { continue };
        let options = kind.default_account();
        let kind = pool.kind.clone();
        let usual = ProviderConfig {
            kind,
            options,
            capacity: Room::default(),
            drain: false,
            rate: Rates::default(),
            implied: true,
        };
        providers.insert(account.clone(), usual);
    }
}

/// Builders whose requests would wait for ever, by the very judgement that matches them later.
fn never_runs(
    builders: &IndexMap<BuilderName, BuilderConfig>,
    pools: &IndexMap<PoolName, PoolConfig>,
    cx: &mut Context<'_>,
) {
    if !cx.is_clean(&Path::of(["pools"])) {
        return;
    }
    let mut judged = None;
    for (name, builder) in builders {
        // Those of one entry differ in nothing that matters here.
        let name = family(name);
        if judged.replace(name) == Some(name) {
            continue;
        }
        let path = Path::of(["builders", name]);
        let known = builder.pools.iter().all(|pool| pools.contains_key(pool));
        if !known || !cx.is_clean(&path) {
            continue;
        }
        let named: Vec<String> = builder.pools.iter().map(ToString::to_string).collect();
        let misfits = |trust| -> Vec<String> {
            let wish = Requirement { pools: &named, project: &builder.project, trust };
            let why_not = |(pool, offer): (&PoolName, &PoolConfig)| {
                let why = fits(&wish, &Offer { pool, accepts: offer.accepts }).err()?;
                Some(format!("pool `{pool}`: {}", why.sentence()))
            };
            pools.iter().map_while(why_not).collect()
        };
        let of_trusted = misfits(Trust::Trusted);
        if of_trusted.len() < pools.len() {
            let asks = builder.approval.is_some_and(|approval| approval.of == ApprovalOf::Strangers);
            if asks && misfits(Trust::Untrusted).len() == pools.len() {
                let message =
                    format!("`approval: strangers` of builder `{name}` is for builds that no pool takes");
                let fault = Fault::warning(Code::Useless, cx.key(&path), message);
                cx.push(fault.note("strangers' builds run in pools that say `accepts: any`"));
            }
            continue;
        }
        let message = format!("builder `{name}` can never run: no pool would take it");
        let mut fault = Fault::new(Code::NeverRuns, cx.key(&path), message);
        if pools.is_empty() {
            fault = fault.note("no pool is declared: write one under `pools:`, such as `containers: {docker: {image: debian:12}}`");
        }
        cx.push(of_trusted.into_iter().fold(fault, Fault::note));
    }
}
