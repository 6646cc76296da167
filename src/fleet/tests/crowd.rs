//! Many workers wished for at once, on an account that takes so many calls a second: the whole master, over simulated time.

use super::agents::Agents;
use super::stage::{Stage, play};
use rouse_model::buildset::{Request, RequestState};
use rouse_model::worker::Phase;
use rouse_provider_fake::on;
use rouse_store::Page;
use std::time::Duration;

const CROWD: usize = 500;

fn config(account: &str) -> String {
    format!(
        r#"version: 1
server: {{agents: {{advertise: {{boxes: "127.0.0.1:1"}}}}}}
providers: {{cloud: {account}}}
pools: {{boxes: {{fake: {{on: cloud, image: "debian:12"}}, max: {CROWD}}}}}
builders: {{unit: {{pool: boxes, steps: [{{run: make}}]}}}}
"#
    )
}

/// How many seconds it takes until all are there, and the calls of launches that were made and refused.
fn crowd(account: &str) -> (f64, (usize, usize)) {
    let for_hours = |agents: &mut Agents| agents.lasts = Some(Duration::from_secs(36_000));
    play(1, &config(account), for_hours, async |stage| {
        let since = stage.ctx.now();
        come(stage).await;
        (stage.ctx.now().since(since).as_secs_f64(), stage.cloud.calls(on::LAUNCH))
    })
}

/// All at once; until each has its instance.
async fn come(stage: &Stage) {
    for _ in 0..CROWD {
        stage.wish("unit").await;
    }
    let there = |phase: &Phase| matches!(phase, Phase::Booting { .. } | Phase::Up { .. });
    let all = async || {
        let workers = stage.ctx.store.live_workers().await.unwrap();
        (workers.iter().filter(|worker| there(&worker.phase)).count() == CROWD).then_some(())
    };
    stage.until("each has its instance", all).await;
}

#[test]
fn five_hundred_workers_come_as_fast_as_their_account_lets_them() {
    for (account, best, calls) in [
        ("{fake: {latency: 200ms, rate: 10/s}, rate: {writes: 10/s}}", 50.0, CROWD..=CROWD),
        ("{fake: {latency: 200ms, rate: 1/s, batch: 20}, rate: {writes: 1/s}}", 25.0, 25..=28),
    ] {
        let began = std::time::Instant::now();
        let (took, (made, refused)) = crowd(account);
        eprintln!("{account}: {took:.1} s by {made} calls; {:.1?} for the test", began.elapsed());
        assert!(took <= 1.2 * best, "{account}: {took} s");
        assert!(calls.contains(&made) && refused == 0, "{account}: {made} calls, {refused} refused");
    }
}

/// Ten wishes for a pool; once they have been seen to, the instances of each account and all requests.
fn wished(accounts: &str, on: &str, seconds: u64, lasts: Duration) -> (Vec<Request>, (usize, usize)) {
    let config = format!(
        r#"version: 1
server: {{agents: {{advertise: {{boxes: "127.0.0.1:1"}}}}}}
providers: {{{accounts}}}
pools: {{boxes: {{fake: {{on: {on}, image: "debian:12"}}, max: 10}}}}
builders: {{unit: {{pool: boxes, steps: [{{run: make}}]}}}}
"#
    );
    let ways = |agents: &mut Agents| agents.lasts = Some(lasts);
    play(1, &config, ways, async |stage| {
        for _ in 0..10 {
            stage.wish("unit").await;
        }
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let all = Page { before: None, limit: 100 };
        (stage.ctx.store.requests(&Default::default(), all).await.unwrap(), stage.cloud.calls(on::LAUNCH))
    })
}

fn assert_nobody_was_charged(requests: &[Request]) {
    assert_eq!(requests.len(), 10);
    for request in requests {
        assert_eq!((request.attempts, &request.provision.failures), (0, &vec![]), "{request:?}");
        assert_eq!(request.not_before, None, "{request:?}");
    }
}

#[test]
fn what_one_account_has_no_room_for_another_one_takes() {
    let accounts = "one: {fake: {latency: 200ms, capacity: 3}}, other: {fake: {latency: 200ms}}";
    let (requests, (calls, _)) = wished(accounts, "[one, other]", 15, Duration::from_secs(3600));
    assert_nobody_was_charged(&requests);
    let claimed = requests.iter().filter(|request| request.state == RequestState::Claimed).count();
    assert_eq!(claimed, 10, "{requests:#?}");
    assert!(calls <= 20, "{calls} calls");
    assert!(requests.iter().all(|request| request.provision.held.is_none()), "nobody had to wait");
}

#[test]
fn one_launch_finds_out_whether_an_account_has_room_again() {
    let account = "one: {fake: {latency: 200ms, capacity: 4}}";
    let minute = Duration::from_secs(60);
    let (requests, (calls, _)) = wished(account, "one", 40, minute);
    assert_nobody_was_charged(&requests);
    let waiting: Vec<&Request> = requests.iter().filter(|r| r.state == RequestState::Queued).collect();
    assert_eq!(waiting.len(), 6, "{requests:#?}");
    for request in waiting {
        let held = request.provision.held.as_ref().expect("it is told why it waits");
        assert!(held.why.contains("`one`") && held.why.contains("no capacity for fake"), "{held:?}");
    }
    assert!((10..=10 + 5).contains(&calls), "{calls} calls");
    // Each round begins when the one before it ends, and not when the next try was due.
    let (requests, (calls, _)) = wished(account, "one", 3 * 60 + 30, minute);
    assert_nobody_was_charged(&requests);
    assert!(requests.iter().all(|request| request.state == RequestState::Done), "{requests:#?}");
    assert!(calls <= 10 + 30, "{calls} calls");
}
