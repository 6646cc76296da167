//! What an account has that nobody has a record of, and what is told to an agent so that it finds its master.

use super::lone::Lone;
use crate::accounts::Account;
use crate::fleet::{joining, reaper};
use rouse_agent_protocol::{Endpoint, JoinDocument};
use rouse_contract::{LaunchItem, LaunchOutcome, LaunchSpec, Tag};
use rouse_model::worker::{LaunchToken, Phase, ProviderRef, Wanted, Worker};
use rouse_model::{Trust, WorkerId};
use rouse_provider_fake::on;
use std::collections::HashSet;
use std::time::Duration;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {p: "agents.example.org:8020"}}}
providers: {cloud: {fake: {}}, here: {local: {folder: "$FOLDER/work", uids: {count: 0}}}}
pools:
  p: {fake: {on: cloud, image: "debian:12"}}
  q: {fake: {on: cloud, image: "debian:12"}}
  here: {local: {on: here}}
builders: {unit: {pool: p, steps: [{run: make}]}}
"#;

pub(super) fn account(lone: &Lone, name: &str) -> Account {
    lone.fleet.accounts.get(&lone.active().config, name).unwrap()
}

/// Launches something under a tag, whoever has a record of it.
pub(super) async fn launch(account: &Account, worker: &Worker, tag: Tag) -> ProviderRef {
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
    match account.provider.launch(&spec, &[item]).await.pop() {
        Some(LaunchOutcome::Accepted { at }) => at,
        outcome => panic!("{outcome:?}"),
    }
}

/// A worker with an instance of its own, of which nothing is on record yet.
pub(super) async fn launched(lone: &Lone, id: i64, pool: &str, account: &Account) -> (Worker, ProviderRef) {
    let token = LaunchToken(format!("token {id}"));
    let worker = Worker { phase: Phase::Requested { token }, ..lone.worker(id, pool, &account.name) };
    let tag = crate::keys::tag(lone.ctx().store.facts(), &worker);
    let at = launch(account, &worker, tag).await;
    (worker, at)
}

#[tokio::test(start_paused = true)]
async fn what_no_record_of_this_epoch_wants_goes_when_it_was_seen_twice() {
    let lone = Lone::of(CONFIG).await;
    let cloud = account(&lone, "cloud");
    let tag_of = |worker: &Worker| crate::keys::tag(lone.ctx().store.facts(), worker);
    let token = |id| Phase::Requested { token: LaunchToken(format!("token {id}")) };
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

#[tokio::test(start_paused = true)]
async fn a_worker_is_looked_at_whose_instance_is_not_as_it_should_be() {
    let lone = Lone::of(CONFIG).await;
    let cloud = account(&lone, "cloud");
    let since = lone.now();
    let up = |at: ProviderRef| (Phase::Up { at }, Wanted::Run);
    let parked = |at: ProviderRef| (Phase::Parked { at, since }, Wanted::Park);
    let mut workers = Vec::new();
    for (id, is, lies) in [(1, true, false), (2, true, true), (3, false, true), (4, false, false)] {
        let (worker, at) = launched(&lone, id, "p", &cloud).await;
        if lies {
            cloud.provider.park(&at).await.unwrap();
        }
        let (phase, wanted) = if is { up(at) } else { parked(at) };
        workers.push(Worker { phase, wanted, ..worker });
    }
    // One more, of which nothing is there.
    let (phase, wanted) = up(ProviderRef("none".into()));
    workers.push(Worker { phase, wanted, ..lone.worker(5, "p", "cloud") });
    lone.insert(&workers.iter().collect::<Vec<_>>()).await;
    reaper::sweep(&lone.fleet, &cloud, &HashSet::new()).await.unwrap();
    let suspected = workers.iter().filter(|worker| lone.fleet.is_suspected(worker.id));
    // Of one that lies, and is shown as running, it may be that it was seen before it lay.
    assert_eq!(suspected.map(|worker| worker.id.0).collect::<Vec<_>>(), [2, 5]);
}

#[tokio::test(start_paused = true)]
async fn who_looks_after_accounts_is_at_rest_when_it_was_told_to_stop() {
    let lone = Lone::of(CONFIG).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let looks_after = tokio::spawn(reaper::run(std::sync::Arc::clone(&lone.fleet), stop.clone()));
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(lone.cloud.calls(on::LIST).0 > 0);
    stop.cancel();
    looks_after.await.unwrap();
    // Simulated time goes on only where everybody is at rest.
    let lists = lone.cloud.calls(on::LIST).0;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(lone.cloud.calls(on::LIST).0, lists);
}
