//! The providers, and the way from a worker back to the master: a socket in the folder that the two share can be reached, and where a worker
//! needs no image, one is started, calls home, and is ended.

use super::{Finding, Patient};
use crate::accounts::{Account, Accounts};
use crate::config::Config;
use crate::supervisor::chain;
use rouse_contract::{
    Installation, LaunchItem, LaunchOutcome, LaunchSpec, ObservedState, ProviderError, Tag,
};
use rouse_model::failure::FailureClass;
use rouse_model::{Timestamp, Trust, WorkerId};
use rouse_store::Facts;
use rouse_store::Location;
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether what was started has ended.
const LOOK: Duration = Duration::from_millis(500);
/// The name of what is made for a look; it belongs to no worker, so a master takes away what a doctor that was killed has left.
const PROBE: &str = "doctor";
/// No worker ever has this number.
const NUMBER: WorkerId = WorkerId(i64::MAX);
/// How long the probe may live by itself.
const EXPIRY_S: f64 = 60.0;

pub(super) async fn all(patient: &Patient, config: &Config, facts: Option<Facts>) -> Vec<Finding> {
    if config.providers.is_empty() {
        return vec![Finding::skip("providers", "no pool names one")];
    }
    match std::fs::metadata(&patient.state) {
        Ok(meta) if meta.uid() == rustix::process::geteuid().as_raw() => {}
        Ok(meta) => {
            let found = format!("the state folder belongs to user {}", meta.uid());
            return vec![Finding::new(
                "providers",
                super::Status::Skip,
                found,
                Some("run as that user".into()),
            )];
        }
        Err(_) => return vec![Finding::skip("providers", "there is no state folder")],
    }
    let facts = facts.unwrap_or_else(|| Facts { installation: PROBE.to_owned(), store_epoch: 1 });
    let installation = Installation {
        id: facts.installation.clone(),
        store_epoch: facts.store_epoch,
        agents: patient.agents.clone(),
        state: patient.state.join("providers"),
        many_masters: matches!(patient.database, Location::Postgres(_)),
    };
    let accounts = Accounts::new(patient.kinds.clone(), installation);
    let mut findings = Vec::new();
    for (name, _) in &config.providers {
        let name = name.as_str();
        let check = format!("provider {name}");
        let account = match accounts.get(config, name) {
            Ok(account) => account,
            Err(error) => {
                findings.push(refused(check, &error));
                continue;
            }
        };
        match tokio::time::timeout(PATIENCE, account.provider.list()).await {
            Ok(Ok(there)) => {
                findings.push(Finding::ok(check, format!("answers; it has {} things of ours", there.len())));
                findings.push(way_back(patient, &account, &facts).await);
            }
            Ok(Err(error)) => findings.push(refused(check, &error)),
            Err(_) => findings.push(Finding::fail(
                check,
                format!("no answer within {} s", PATIENCE.as_secs()),
                "see that its daemon or service runs and is not overloaded",
            )),
        }
    }
    findings
}

fn refused(check: String, error: &ProviderError) -> Finding {
    let mend = match error.class {
        FailureClass::Auth => "look at its credentials and at what they allow",
        FailureClass::Throttle | FailureClass::Quota => "wait, or ask for more",
        _ => "see that its daemon or service runs, and that this user may speak to it",
    };
    Finding::fail(check, chain(error), mend)
}

async fn way_back(patient: &Patient, account: &Account, facts: &Facts) -> Finding {
    let check = format!("way back from {}", account.name);
    let tag = Tag {
        installation: facts.installation.clone(),
        store_epoch: facts.store_epoch,
        pool: PROBE.to_owned(),
        worker: NUMBER,
        name: PROBE.to_owned(),
        token: crate::keys::launch_token(&facts.installation, facts.store_epoch, NUMBER, patient.now),
    };
    let tried = tokio::time::timeout(PATIENCE, probe(account, &tag, patient.now)).await;
    let left = clean(account, &tag).await;
    let mend = "see that the state folder's path is short, that every user may pass through the folders above it (chmod o+x), and that the agent can be started";
    match (tried, left) {
        (Ok(Ok(_)), Err(error)) => {
            Finding::fail(check, chain(&error), "see that what it makes can be removed")
        }
        (Ok(Ok(found)), Ok(())) => Finding::ok(check, found),
        (Ok(Err(why)), _) => Finding::fail(check, why, mend),
        (Err(_), _) => Finding::fail(check, format!("nobody called within {} s", PATIENCE.as_secs()), mend),
    }
}

/// What has worked, or what has not.
async fn probe(account: &Account, tag: &Tag, now: i64) -> Result<String, String> {
    let said = |error: &(dyn std::error::Error + 'static)| chain(error);
    let folder = match account.provider.link_dir(tag).await {
        Ok(Some(folder)) => folder,
        Ok(None) => return Ok("its workers share no folder with the master; nothing to look at here".into()),
        Err(error) => return Err(said(&error)),
    };
    let at = folder.join("sock");
    let doing = |what: &str, error: std::io::Error| format!("{what} the socket {}: {error}", at.display());
    let listener = UnixListener::bind(&at).map_err(|error| doing("make", error))?;
    std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o666))
        .map_err(|error| doing("open up", error))?;
    if account.provider.capabilities().images {
        let (mine, theirs) = tokio::join!(UnixStream::connect(&at), listener.accept());
        mine.map_err(|error| doing("connect to", error))?;
        theirs.map_err(|error| doing("listen on", error))?;
        return Ok("a socket in the folder that workers get can be reached; none was started, since they need an image".into());
    }
    let join = join_document(tag);
    write_join(&folder, &join).map_err(|error| format!("write the join document: {error}"))?;
    let spec = LaunchSpec {
        pool: PROBE.to_owned(),
        project: "default".to_owned(),
        trust: Trust::Untrusted,
        image: None,
        options: json!({}),
        env: std::collections::BTreeMap::new(),
        secrets: rouse_contract::Keyring::default(),
        shelves: Vec::new(),
        beside: [].into(),
        tree: None,
    };
    let expires = Timestamp(now + (EXPIRY_S * 1e6) as i64);
    let item = LaunchItem { tag: tag.clone(), join, needs_network: false, offering: None, expires };
    match account.provider.launch(&spec, &[item]).await.pop() {
        Some(LaunchOutcome::Accepted { .. } | LaunchOutcome::Pending) => {}
        Some(LaunchOutcome::Died { reason, console, .. }) => {
            return Err(format!("a worker was started and ended: {reason} {}", console.unwrap_or_default()));
        }
        Some(other) => return Err(format!("a worker could not be started: {other:?}")),
        None => return Err("a worker could not be started".into()),
    }
    let (mut caller, _) = tokio::select! {
        called = listener.accept() => called.map_err(|error| doing("listen on", error))?,
        ended = its_end(account, tag) => return Err(format!("a worker was started and ended at once: {ended}")),
    };
    let mut first = [0; 4];
    caller.read_exact(&mut first).await.map_err(|error| doing("read from", error))?;
    if &first == b"GET " {
        Ok("a worker was started and called home".into())
    } else {
        Err("what called was no agent".into())
    }
}

/// Returns once the instance has ended, with how.
async fn its_end(account: &Account, tag: &Tag) -> String {
    loop {
        tokio::time::sleep(LOOK).await;
        let there = account.provider.list().await.unwrap_or_default();
        let ours = there.into_iter().find(|o| o.tag.as_ref().is_some_and(|found| found.token == tag.token));
        if let Some(ObservedState::Ended { detail, .. }) = ours.map(|observed| observed.state) {
            return detail;
        }
    }
}

/// As the fleet writes it, with a token that opens nothing.
fn join_document(tag: &Tag) -> Vec<u8> {
    let document = json!({
        "version": 1, "installation": tag.installation, "worker": tag.name, "worker_id": tag.worker.0, "join_token": PROBE,
        "store_epoch": tag.store_epoch, "endpoints": [{"unix": {"path": "sock"}}], "work_dir": "", "expiry_s": EXPIRY_S,
    });
    document.to_string().into_bytes()
}

fn write_join(folder: &Path, join: &[u8]) -> std::io::Result<()> {
    let half = folder.join("join.new");
    std::fs::write(&half, join)?;
    std::fs::set_permissions(&half, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(half, folder.join("join.json"))
}

/// Takes away what was made for the look.
async fn clean(account: &Account, tag: &Tag) -> Result<(), ProviderError> {
    for observed in account.provider.list().await? {
        if observed.tag.as_ref().is_some_and(|found| found.token == tag.token) {
            account.provider.terminate(&observed.at).await?;
        }
    }
    Ok(())
}
