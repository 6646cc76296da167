//! Many workers wished for at once, on an account that takes so many calls a second: the whole master, over simulated time.

use super::town::{master, wish};
use crate::ctx::Ctx;
use crate::requests;
use rouse_model::Timestamp;
use rouse_model::worker::Phase;
use rouse_provider_fake::{Cloud, on};
use rouse_store::Batch;
use rouse_store::testing::{Death, Memory};
use rouse_testkit::clock::SimClock;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const START: Timestamp = Timestamp(1_764_032_400_000_000);
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
    let clock = Arc::new(SimClock::at(START));
    let cloud = Cloud::new(Arc::clone(&clock), 1, &["debian:12"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rouse.yaml"), config(account)).unwrap();
    let memory = Memory::new().unwrap();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        clock.enter();
        let (store, _dead) = memory.open_for(Death::Never).await.unwrap();
        let stop = CancellationToken::new();
        let (ctx, _logs) = master(store, &clock, &cloud, folder.path(), &stop).await;
        let since = clock.steady();
        come(&ctx).await;
        let took = clock.steady().since(since).as_secs_f64();
        clock.leave();
        (took, cloud.calls(on::LAUNCH))
    })
}

/// All at once; until each has its instance, whose agent never comes.
async fn come(ctx: &Ctx) {
    for number in 0..CROWD {
        let made = requests::make(ctx, &ctx.config(), wish(number, "unit"), Batch::new("test.wish")).await;
        made.unwrap();
    }
    loop {
        let workers = ctx.store.live_workers().await.unwrap();
        let there = |phase: &Phase| matches!(phase, Phase::Booting { .. } | Phase::Up { .. });
        if workers.iter().filter(|worker| there(&worker.phase)).count() == CROWD {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
