//! The doctor: looks at what a master stands on, and says how to mend what it finds. It works on the machine of a master, whether that runs or
//! not, and changes nothing that lasts. It shows no token, no key and no password.

mod bucket;
mod data;
mod host;
mod providers;

use crate::config::{Loaded, load};
use rouse_contract::ProviderKind;
use rouse_store::Location;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Patient {
    pub config: PathBuf,
    pub state: PathBuf,
    pub database: Location,
    /// The folder of logs and artifacts that was named, if one was.
    pub objects: Option<PathBuf>,
    /// `agents/` beside the master's binary.
    pub agents: PathBuf,
    pub kinds: Vec<Arc<dyn ProviderKind>>,
    /// Microseconds since 1970.
    pub now: i64,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    /// Works, and will not for ever, or not as safely as it could.
    Warn,
    Fail,
    /// Could not be looked at; why.
    Skip,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `state`, `database`, `provider docker`.
    pub check: String,
    pub status: Status,
    pub found: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    fn new(check: impl Into<String>, status: Status, found: impl Into<String>, mend: Option<String>) -> Self {
        Self { check: check.into(), status, found: found.into(), mend }
    }

    pub(crate) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(check, Status::Ok, found, None)
    }

    pub(crate) fn skip(check: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(check, Status::Skip, why, None)
    }

    pub(crate) fn warn(check: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(check, Status::Warn, found, Some(mend.into()))
    }

    pub(crate) fn fail(check: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(check, Status::Fail, found, Some(mend.into()))
    }
}

/// Looks at everything, one after the other.
pub async fn examine(patient: &Patient) -> Vec<Finding> {
    let (config, loaded) = configuration(patient);
    let mut findings = vec![config];
    findings.extend(host::state(patient));
    findings.push(host::disk(&patient.state));
    findings.push(host::agent(patient).await);
    let facts = data::database(patient, &mut findings).await;
    let bucket = loaded
        .as_ref()
        .and_then(|loaded| loaded.config.server.objects.as_ref().map(|at| (at, &loaded.config)));
    match bucket {
        Some((at, config)) => findings.extend(bucket::objects(patient, at, config).await),
        None => findings.extend(data::objects(patient).await),
    }
    findings.push(data::clock(patient).await);
    match loaded {
        Some(loaded) => findings.extend(providers::all(patient, &loaded.config, facts).await),
        None => {
            findings.push(Finding::skip("providers", "they stand in the configuration, which has faults"));
        }
    }
    findings
}

fn configuration(patient: &Patient) -> (Finding, Option<Loaded>) {
    let path = patient.config.display();
    if !patient.config.exists() {
        let mend = "say where it is with --config or ROUSE_CONFIG, or write a first one: rouse init";
        return (Finding::fail("config", format!("{path} does not exist"), mend), None);
    }
    match load(&patient.config, &patient.kinds) {
        Ok(loaded) => {
            let warnings = loaded.warnings.list.len();
            let found = format!("{path} has no faults");
            let finding = if warnings == 0 {
                Finding::ok("config", found)
            } else {
                Finding::warn(
                    "config",
                    format!("{found}, {warnings} warnings"),
                    format!("rouse config check {path}"),
                )
            };
            (finding, Some(loaded))
        }
        Err(faults) => {
            let first = faults.list.first().map_or("", |fault| fault.message.as_str());
            let found = format!("{path} has faults ({}); the first: {first}", faults.counts());
            (Finding::fail("config", found, format!("rouse config check {path}")), None)
        }
    }
}
