//! What every process of a worker carries in its environment, so that it is found without a record.

use crate::places::WorkerPlace;
use crate::processes::Environment;
use rouse_contract::Tag;
use rouse_model::WorkerId;
use rouse_model::worker::LaunchToken;

/// The whole environment of a worker: nothing else of the master's is passed on.
pub(crate) fn worker_environment(
    tag: &Tag,
    account: &str,
    place: &WorkerPlace,
    more: &[(String, String)],
) -> Vec<(String, String)> {
    let path = |name: &str| place.own(name).display().to_string();
    let mut all: Vec<(String, String)> = ["PATH", "LANG", "TZ"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    all.extend([
        ("HOME".to_owned(), path("home")),
        ("TMPDIR".to_owned(), path("tmp")),
        ("USER".to_owned(), "rouse".to_owned()),
        ("LOGNAME".to_owned(), "rouse".to_owned()),
        ("SHELL".to_owned(), "/bin/sh".to_owned()),
    ]);
    all.extend_from_slice(more);
    // Last, so that nothing stands in for them.
    all.extend(tag_environment(tag, account));
    all
}

fn tag_environment(tag: &Tag, account: &str) -> [(String, String); 7] {
    [
        ("ROUSE_INSTALLATION".into(), tag.installation.clone()),
        ("ROUSE_EPOCH".into(), tag.store_epoch.to_string()),
        ("ROUSE_ACCOUNT".into(), account.to_owned()),
        ("ROUSE_POOL".into(), tag.pool.clone()),
        ("ROUSE_WORKER".into(), tag.name.clone()),
        ("ROUSE_WORKER_ID".into(), tag.worker.to_string()),
        ("ROUSE_TOKEN".into(), tag.token.0.clone()),
    ]
}

/// The tag that a process of this installation and account carries.
pub(crate) fn tag_of(environment: &Environment, installation: &str, account: &str) -> Option<Tag> {
    let ours = environment.get("ROUSE_INSTALLATION")? == installation
        && environment.get("ROUSE_ACCOUNT")? == account;
    ours.then_some(())?;
    Some(Tag {
        installation: installation.to_owned(),
        store_epoch: environment.get("ROUSE_EPOCH")?.parse().ok()?,
        pool: environment.get("ROUSE_POOL")?.to_owned(),
        worker: WorkerId(environment.get("ROUSE_WORKER_ID")?.parse().ok()?),
        name: environment.get("ROUSE_WORKER")?.to_owned(),
        token: LaunchToken(environment.get("ROUSE_TOKEN")?.to_owned()),
    })
}
