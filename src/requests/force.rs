//! Wishes of people: a force scheduler with typed parameters, or a builder straight away.

use super::make::{self, Made, MakeError, Stamp, Wish};
use crate::config::{Config, SchedulerConfig, Trigger};
use crate::ctx::{Active, Ctx};
use crate::sources::SourceError;
use rouse_model::Trust;
use rouse_model::property::Properties;
use rouse_store::{Batch, ReadError};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A repository that takes longer to say whether it has a revision is not waited for.
const FIND_OUT: Duration = Duration::from_secs(20);
/// Nor one that takes longer to say where a branch is: then each build finds out by itself.
const FIND_TIP: Duration = Duration::from_secs(10);

/// What a person asks for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Answers to a scheduler's parameters, or free properties of a builder.
    pub answers: BTreeMap<String, Value>,
    /// Codebase → branch and revision.
    pub sources: BTreeMap<String, AskedSource>,
    pub reason: Option<String>,
    pub owner: String,
    /// The client's own key: asking twice with one makes one buildset.
    pub idempotency_key: Option<String>,
    pub priority: Option<i64>,
}

/// What is to be built of one codebase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedSource {
    pub branch: Option<String>,
    pub revision: Option<String>,
}

/// Why a wish was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ForceError {
    #[error("scheduler `{0}` is not configured")]
    NoScheduler(String),
    #[error("scheduler `{0}` is not one to force; it has no `force:`")]
    NotForced(String),
    #[error("{}", .0.join("; "))]
    Answers(Vec<String>),
    #[error("codebase `{0}` is not configured")]
    NoCodebase(String),
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error("read what is there")]
    Read(#[from] ReadError),
}

/// Sets off a force scheduler.
///
/// # Errors
/// With all answers that were not taken, at once.
pub async fn scheduler(ctx: &Ctx, name: &str, asked: Asked) -> Result<Made, ForceError> {
    let active = ctx.config();
    let found = active.config.schedulers.iter().find(|(n, _)| n.as_str() == name);
    let (_, config) = found.ok_or_else(|| ForceError::NoScheduler(name.to_owned()))?;
    let mut properties = properties_of(config, name);
    properties.extend(&answers(config, name, &asked)?);
    let builders = config.builders.iter().map(ToString::to_string).collect();
    let codebases = config.codebases.iter().map(|(c, b)| (c.to_string(), b.clone())).collect();
    submit(ctx, &active, Some(name), builders, codebases, properties, config.priority, asked).await
}

/// Builds one builder, as it is.
///
/// # Errors
/// Where the builder or a codebase is not configured.
pub async fn builder(ctx: &Ctx, name: &str, asked: Asked) -> Result<Made, ForceError> {
    let active = ctx.config();
    let found = active.config.builders.get(name);
    let config = found.ok_or_else(|| MakeError::NoBuilder(name.to_owned()))?;
    let branch = |codebase: &str| {
        let own = config.branch_of(codebase).map(str::to_owned);
        own.or_else(|| default_branch(&active.config, codebase))
    };
    let codebases = config.codebases.iter().map(|c| (c.to_string(), branch(c.as_str()))).collect();
    let mut properties = Properties::default();
    for (key, value) in &asked.answers {
        properties.set(key.clone(), value.clone(), format!("asked by {}", asked.owner), false);
    }
    submit(ctx, &active, None, vec![name.to_owned()], codebases, properties, 0, asked).await
}

fn default_branch(config: &Config, codebase: &str) -> Option<String> {
    let (_, codebase) = config.codebases.iter().find(|(name, _)| name.as_str() == codebase)?;
    codebase.default_branch().map(str::to_owned)
}

/// The properties that a scheduler gives to its buildsets.
#[must_use]
pub fn properties_of(config: &SchedulerConfig, name: &str) -> Properties {
    let mut properties = Properties::default();
    for (key, value) in &config.properties {
        properties.set(key.to_string(), value.clone(), format!("scheduler {name}"), false);
    }
    properties
}

fn answers(config: &SchedulerConfig, name: &str, asked: &Asked) -> Result<Properties, ForceError> {
    let Trigger::Force(force) = &config.trigger else { return Err(ForceError::NotForced(name.to_owned())) };
    let mut faults = Vec::new();
    let mut properties = Properties::default();
    for (key, parameter) in &force.parameters {
        match parameter.answer(asked.answers.get(key.as_str())) {
            Ok(value) => properties.set(key.to_string(), value, format!("force by {}", asked.owner), false),
            Err(fault) => {
                let help = fault.help.map(|h| format!(" ({h})")).unwrap_or_default();
                faults.push(format!("parameter `{key}`: {}{help}", fault.message));
            }
        }
    }
    let known: Vec<&str> = force.parameters.keys().map(|k| k.as_str()).collect();
    for key in asked.answers.keys().filter(|k| !known.contains(&k.as_str())) {
        let there = if known.is_empty() {
            "it takes none".to_owned()
        } else {
            format!("there are: {}", known.join(", "))
        };
        faults.push(format!("parameter `{key}` is not known; {there}"));
    }
    if faults.is_empty() { Ok(properties) } else { Err(ForceError::Answers(faults)) }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one wish, each from another place")]
async fn submit(
    ctx: &Ctx,
    active: &Active,
    scheduler: Option<&str>,
    builders: Vec<String>,
    codebases: Vec<(String, Option<String>)>,
    properties: Properties,
    priority: i64,
    asked: Asked,
) -> Result<Made, ForceError> {
    let mut wanted: BTreeMap<String, Option<String>> = codebases.into_iter().collect();
    for codebase in asked.sources.keys() {
        wanted.entry(codebase.clone()).or_insert(None);
    }
    let mut stamps = Vec::new();
    for (codebase, branch) in wanted {
        stamps.push(stamp(ctx, active, codebase, branch, &asked).await?);
    }
    let key = asked.idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
    let wish = Wish {
        origin: format!("api/{key}"),
        scheduler: scheduler.map(str::to_owned),
        reason: asked.reason.unwrap_or_else(|| format!("asked by {}", asked.owner)),
        owner: Some(asked.owner),
        properties,
        builders,
        stamps,
        parent: None,
        trust: Trust::Trusted,
        priority: asked.priority.unwrap_or(priority),
        images: [].into(),
        merges: [].into(),
        approved: None,
    };
    Ok(make::make(ctx, active, wish, Batch::new("buildset.make")).await?)
}

/// A wish that names a branch which is not declared, or a revision that no declared branch holds, is untrusted.
async fn stamp(
    ctx: &Ctx,
    active: &Active,
    codebase: String,
    branch: Option<String>,
    asked: &Asked,
) -> Result<Stamp, ForceError> {
    let found = active.config.codebases.iter().find(|(n, _)| n.as_str() == codebase);
    let (_, config) = found.ok_or_else(|| ForceError::NoCodebase(codebase.clone()))?;
    let source = asked.sources.get(&codebase).cloned().unwrap_or_default();
    let branch = source.branch.or(branch);
    // The repository's own branch, where nobody names one, is nobody's choice.
    let declared = branch.as_deref().is_none_or(|b| config.watches(b));
    let branch = match branch {
        Some(branch) => Some(branch),
        None => ctx.store.codebase_state(&codebase).await?.and_then(|state| state.default_branch),
    };
    let heads = ctx.store.heads(&codebase).await?;
    let (revision, known) = match source.revision {
        Some(revision) => {
            let of_declared = heads.iter().filter(|h| config.watches(&h.branch));
            let tips: Vec<String> = of_declared.filter_map(|h| h.revision.clone()).collect();
            let known = tips.contains(&revision) || is_within(ctx, &codebase, &revision, &tips).await;
            (Some(revision), known)
        }
        None => {
            let seen =
                heads.into_iter().find(|h| Some(&h.branch) == branch.as_ref()).and_then(|h| h.revision);
            let revision = match seen {
                Some(revision) => Some(revision),
                // Nobody polls it. Settled now, it is the same for all builds of this wish, and what a person approves no push can change.
                None => found_out(FIND_TIP, ctx.sources.tip(&codebase, branch.as_deref()), &codebase).await,
            };
            (revision, true)
        }
    };
    let trust = if declared && known { Trust::Trusted } else { Trust::Untrusted };
    Ok(Stamp { codebase, branch, revision, change_set: None, trust })
}

/// Whether a revision is in the past of one of these. What cannot be told in a moment, or not at all, is not.
async fn is_within(ctx: &Ctx, codebase: &str, revision: &str, tips: &[String]) -> bool {
    found_out(FIND_OUT, ctx.sources.is_within(codebase, revision, tips), codebase).await.unwrap_or(false)
}

/// What a repository says in a moment.
async fn found_out<T>(
    within: Duration,
    said: impl Future<Output = Result<T, SourceError>>,
    codebase: &str,
) -> Option<T> {
    match tokio::time::timeout(within, said).await {
        Ok(Ok(said)) => Some(said),
        Ok(Err(error)) => {
            tracing::debug!(codebase, error = crate::supervisor::chain(&error), "a revision is not known");
            None
        }
        Err(_) => None,
    }
}
