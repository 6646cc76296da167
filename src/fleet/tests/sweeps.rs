//! What an account has that nobody has a record of, and what is told to an agent so that it finds its master.

use super::lone::Lone;
use crate::accounts::Account;
use crate::fleet::{joining, reaper};
use rouse_agent_protocol::{Endpoint, JoinDocument};
use rouse_contract::{LaunchItem, LaunchSpec, Tag};
use rouse_model::worker::Worker;
use rouse_model::{Trust, WorkerId};
use std::collections::HashSet;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {p: "agents.example.org:8020"}}}
providers: {cloud: {fake: {}}, here: {local: {folder: "$FOLDER/work", uids: {count: 0}}}}
pools:
  p: {fake: {on: cloud, image: "debian:12"}}
  q: {fake: {on: cloud, image: "debian:12"}}
  here: {local: {on: here}}
builders: {unit: {pool: p, steps: [{run: make}]}}
"#;

fn account(lone: &Lone, name: &str) -> Account {
    lone.fleet.accounts.get(&lone.active().config, name).unwrap()
}

/// Launches something under a tag, whoever has a record of it.
async fn launch(account: &Account, worker: &Worker, tag: Tag) {
    let spec = LaunchSpec {
        pool: worker.pool.clone(),
        project: worker.project.clone(),
        trust: Trust::Trusted,
        image: None,
        options: serde_json::json!({"image": "debian:12"}),
        env: [].into(),
        secrets: rouse_contract::Keyring::default(),
        shelves: Vec::new(),
        beside: [].into(),
        tree: None,
    };
    let (join, expires) = (b"{}".to_vec(), worker.expires);
    let item = LaunchItem { tag, join, needs_network: true, offering: None, expires };
    let outcomes = account.provider.launch(&spec, &[item]).await;
    assert!(matches!(outcomes.as_slice(), [rouse_contract::LaunchOutcome::Accepted { .. }]), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn what_no_record_of_this_epoch_wants_goes_when_it_was_seen_twice() {
    let lone = Lone::of(CONFIG).await;
    let cloud = account(&lone, "cloud");
    let tag_of = |worker: &Worker| crate::keys::tag(lone.ctx().store.facts(), worker);
    let token = |id| rouse_model::worker::Phase::Requested {
        token: rouse_model::worker::LaunchToken(format!("token {id}")),
    };
    let worker = |id: i64| Worker { phase: token(id), ..lone.worker(id, "p", "cloud") };
    let (known, of_before, unknown) = (worker(1), worker(2), worker(3));
    lone.insert(&[&known, &of_before]).await;
    launch(&cloud, &known, tag_of(&known)).await;
    let epoch = lone.ctx().store.facts().store_epoch + 1;
    launch(&cloud, &of_before, Tag { store_epoch: epoch, ..tag_of(&of_before) }).await;
    launch(&cloud, &unknown, tag_of(&unknown)).await;
    let there = || {
        let mut all: Vec<WorkerId> = lone.cloud.leftovers().iter().map(|tag| tag.worker).collect();
        all.sort();
        all
    };
    let suspects = reaper::sweep(&lone.fleet, &cloud, &HashSet::new()).await.unwrap();
    assert_eq!((suspects.len(), there()), (2, [1, 2, 3].map(WorkerId).to_vec()));
    assert_eq!(reaper::sweep(&lone.fleet, &cloud, &suspects).await.unwrap(), HashSet::new());
    assert_eq!(there(), [WorkerId(1)]);
}

/// What a worker's agent is told of its master.
async fn told(lone: &Lone, pool: &str, account: &Account) -> Result<(LaunchItem, Endpoint), String> {
    let worker = lone.worker(7, pool, &account.name);
    let item = joining::item(&lone.fleet, &worker, account).await.unwrap()?;
    let mut document: JoinDocument = serde_json::from_slice(&item.join).unwrap();
    assert_eq!((document.worker_id, document.endpoints.len()), (7, 1));
    Ok((item, document.endpoints.remove(0)))
}

#[tokio::test]
async fn an_agent_is_told_how_it_finds_its_master_or_nothing_is_launched() {
    let lone = Lone::of(CONFIG).await;
    let cloud = account(&lone, "cloud");
    let (item, endpoint) = told(&lone, "p", &cloud).await.unwrap();
    assert!(matches!(&endpoint, Endpoint::Tls { address, .. } if address == "agents.example.org:8020"));
    assert!(item.needs_network);
    let error = told(&lone, "q", &cloud).await.unwrap_err();
    assert!(error.starts_with("workers of pool `q` are not on this host"), "{error}");

    let here = account(&lone, "here");
    let (item, endpoint) = told(&lone, "here", &here).await.unwrap();
    assert!(matches!(&endpoint, Endpoint::Unix { path } if path == "sock"), "{endpoint:?}");
    assert!(!item.needs_network);
    // The agent finds it in its folder, where others may read it too: it says nothing to anybody else.
    let folder = here.provider.link_dir(&item.tag).await.unwrap().expect("it has one");
    assert_eq!(std::fs::read(folder.join("join.json")).unwrap(), item.join);
    assert!(!folder.join("join.new").exists());

    let deaf = Lone::listening(CONFIG, None).await;
    let error = told(&deaf, "p", &account(&deaf, "cloud")).await.unwrap_err();
    assert!(error.contains("this master listens for no agents"), "{error}");
}
