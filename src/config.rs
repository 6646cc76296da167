//! Configuration: text → spanned tree → checked types.
//!
//! [`load`] reads the main file and the folder beside it, [`parse`] takes texts that were stored before. The text becomes a tree in which
//! every node knows where it stands ([`tree`]); the tree is walked along the published schema ([`structure`], [`schema`]), which is made
//! from the raw types of the sections; what is right becomes those types, whose `check` functions look after references, templates and
//! contradictions, and give the checked types that the rest of the master reads. All faults are collected, each with its place.
//!
//! Owns no state: a revision is its texts. Must not know the store, any provider by name, or the value of any secret.

pub mod leaf;

mod approval;
mod builder;
mod cache;
mod check;
mod codebase;
mod context;
mod diff;
mod fault;
mod lock;
mod merge;
mod parameter;
mod place;
mod pool;
mod project;
mod provider;
mod report;
mod rings;
mod scheduler;
mod schema;
mod secret;
mod server;
mod source;
mod step;
mod structure;
mod suggest;
mod telemetry;
#[cfg(test)]
mod tests;
mod tree;

pub use approval::ApprovalConfig;
pub use builder::{BuilderConfig, Supersede};
pub use check::Config;
pub use codebase::{CodebaseConfig, MirrorPolicy};
pub use diff::{ChangeKind, FieldChange, ObjectChange, diff};
pub use fault::{Code, Fault, Severity};
pub use leaf::{
    ArtifactName, BuilderName, CodebaseName, HostPort, LockName, MessagePatterns, Patterns, Period, PoolName,
    ProjectName, PropertyName, ProviderName, SchedulerName, SecretName,
};
pub use parameter::{AnswerFault, ParameterConfig, ParameterKind};
pub use pool::{Attach, Bounds, Budget, Deadlines, Hours, Idle, Park, PoolConfig, Reuse, Warm};
pub use project::{DEFAULT_PROJECT, ProjectConfig};
pub use provider::ProviderConfig;
pub use report::{FaultRecord, Faults, Position};
pub use scheduler::{
    After, ChangeFilter, Changes, Cron, Every, Force, IfChanged, Missed, SchedulerConfig, Trigger, When,
};
pub use schema::schema;
pub use secret::{Reach, SecretConfig, SecretSource, VaultPlace};
pub use server::{Agents, Keep, KeyPair, ObjectsConfig, ServerConfig, Transfers, VaultConfig};
pub use source::{SourceFile, hash};
pub use step::{MAX_FILE_LOGS, MAX_STEPS, printed as printed_steps};
pub use telemetry::TelemetryConfig;
pub use tree::Span;

use context::Context;
use rouse_contract::ProviderKind;
use std::path::Path;
use std::sync::Arc;
use tree::{Data, Entry, Node};

/// The version of the rules that this Rouse follows.
const VERSION: i64 = 1;

impl Config {
    /// The builders that an entry with a `matrix` became; empty where it is one builder, or none.
    #[must_use]
    pub fn of_matrix(&self, entry: &str) -> Vec<&str> {
        let of_entry =
            self.builders.keys().filter(|name| leaf::family(name) == entry && name.as_str() != entry);
        of_entry.map(|name| name.as_str()).collect()
    }
}

/// A good configuration, with the texts that it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// The main file first. Serialized, this is what a revision stores.
    pub sources: Vec<SourceFile>,
    /// [`hash`] of the sources.
    pub hash: String,
    /// What is taken and yet worth a look; empty for most.
    pub warnings: Faults,
}

/// Reads and checks a main file, with the files of the folder beside it: `rouse.d/*.yaml` for `rouse.yaml`.
///
/// # Errors
/// All faults at once, where there is an error among them.
pub fn load(main: &Path, kinds: &[Arc<dyn ProviderKind>]) -> Result<Loaded, Faults> {
    let folder = main.parent().unwrap_or(Path::new(""));
    let (sources, faults) = source::read_all(main);
    if faults.is_empty() {
        check_sources(folder, sources, kinds)
    } else {
        Err(Faults::new(folder, sources, faults))
    }
}

/// The hash of what [`load`] would read; `None` where that cannot be read.
#[must_use]
pub fn hash_of(main: &Path) -> Option<String> {
    let (sources, faults) = source::read_all(main);
    faults.is_empty().then(|| hash(&sources))
}

/// Checks texts, the main file first.
///
/// # Errors
/// All faults at once, where there is an error among them.
pub fn parse(sources: &[SourceFile], kinds: &[Arc<dyn ProviderKind>]) -> Result<Loaded, Faults> {
    check_sources(Path::new(""), sources.to_vec(), kinds)
}

fn check_sources(
    folder: &Path,
    sources: Vec<SourceFile>,
    kinds: &[Arc<dyn ProviderKind>],
) -> Result<Loaded, Faults> {
    let (config, faults) = check_texts(&sources, kinds);
    let faults = Faults::new(folder, sources.clone(), faults);
    match config {
        Some(config) if faults.errors() == 0 => {
            let hash = hash(&sources);
            Ok(Loaded { config, sources, hash, warnings: faults })
        }
        _ => Err(faults),
    }
}

fn check_texts(sources: &[SourceFile], kinds: &[Arc<dyn ProviderKind>]) -> (Option<Config>, Vec<Fault>) {
    check_with(sources, kinds, check::RawConfig::check)
}

/// `check` judges what it means, once its structure is as it should be.
fn check_with<T>(
    sources: &[SourceFile],
    kinds: &[Arc<dyn ProviderKind>],
    check: impl FnOnce(check::RawConfig, &mut Context<'_>) -> T,
) -> (Option<T>, Vec<Fault>) {
    let mut faults = Vec::new();
    let Some(mut tree) = merge::merged(sources, &mut faults) else { return (None, faults) };
    if !check_version(&mut tree, &mut faults) {
        return (None, faults);
    }
    let names: Vec<&'static str> = kinds.iter().map(|kind| kind.name()).collect();
    let schema = schema(kinds);
    let misread: Vec<Span> = faults.iter().filter_map(|fault| fault.span).collect();
    let mut structure = structure::Structure::new(&schema, &tree, sources, &names);
    let value = structure.check();
    let broken = structure.broken;
    faults.append(&mut structure.faults);
    let config = match value.map(serde_json::from_value::<check::RawConfig>) {
        None => None,
        Some(Err(error)) => {
            faults.push(Fault::new(
                Code::Internal,
                tree.span,
                format!("what was checked cannot be read: {error}"),
            ));
            None
        }
        Some(Ok(raw)) => {
            let mut cx = Context::new(&tree, sources, kinds, &names, broken, misread);
            let config = check(raw, &mut cx);
            faults.append(&mut cx.faults);
            Some(config)
        }
    };
    let keys: Vec<Span> =
        faults.iter().filter(|fault| fault.code == Code::BadKey).filter_map(|fault| fault.span).collect();
    // A value that was misread because its quotes are missing is not of a wrong type, too.
    let within = |outer: Span| keys.iter().any(|key| outer.contains(*key));
    faults.retain(|fault| fault.code != Code::WrongType || !fault.span.is_some_and(within));
    (config, faults)
}

/// Whether the rest can be judged by the rules of this version.
fn check_version(tree: &mut Node, faults: &mut Vec<Fault>) -> bool {
    let start = Span { end: tree.span.start, ..tree.span };
    let Some(entry) = tree.entry("version") else {
        let fault = Fault::new(Code::Version, start, "the configuration does not say its version");
        faults.push(fault.label("write `version: 1` here"));
        let one = Node { span: start, data: Data::Number(VERSION.into(), VERSION.to_string()) };
        if let Data::Map(entries) = &mut tree.data {
            entries.push(Entry { key: "version".to_owned(), key_span: start, value: one });
        }
        return true;
    };
    if matches!(&entry.value.data, Data::Number(number, _) if number.as_i64() == Some(VERSION)) {
        return true;
    }
    let written = entry.value.text().unwrap_or_else(|| entry.value.kind().to_owned());
    let fault = Fault::new(
        Code::Version,
        entry.value.span,
        format!("version `{written}` is not known to this Rouse"),
    );
    faults.push(
        fault.label("write `1`").note("nothing else was checked, because other versions have other rules"),
    );
    false
}
