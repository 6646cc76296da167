//! What is kept though nothing waits, before anybody has asked for anything.

use super::stage::{Stage, World};
use rouse_model::Trust;
use rouse_model::worker::Worker;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {kept: "127.0.0.1:1"}}}
providers:
  there: {fake: {latency: 200ms}}
pools:
  kept: {fake: {on: there, image: "debian:12", boot: 20s}, min: 2, max: 4, accepts: any, reuse: {builds: 50, idle: 1m}}
builders:
  unit: {pool: kept, steps: [{run: make}]}
"#;

/// Two that are up and like this.
async fn two(stage: &Stage, what: &str, are: impl Fn(&Worker) -> bool) -> Vec<Worker> {
    let up = async || {
        let live = stage.ctx.store.live_workers().await.unwrap();
        (live.len() == 2 && live.iter().all(|one| one.attached.is_some() && are(one))).then_some(live)
    };
    stage.until(what, up).await
}

#[test]
fn workers_are_kept_before_anybody_has_asked_for_one() {
    let world = World::of(1, CONFIG);
    let first = world.life(
        |_| {},
        async |stage| {
            two(stage, "what a builder asks for with nothing given", |one| one.trust == Trust::Trusted).await;
            stage.wish_of("unit", Trust::Untrusted).await;
            two(stage, "what was asked for last", |one| one.trust == Trust::Untrusted).await
        },
    );
    // The next master has its predecessor's memory only in so far as it is on record.
    world.life(
        |_| {},
        async |stage| {
            first.iter().for_each(|worker| stage.die(worker));
            let are_others = |one: &Worker| first.iter().all(|before| before.id != one.id);
            let second = two(stage, "in place of those that died", are_others).await;
            assert!(second.iter().all(|one| one.trust == Trust::Untrusted), "{second:#?}");
            stage.reload(&CONFIG.replace("boot: 20s", "boot: 10s")).await;
            let are_new = |one: &Worker| second.iter().all(|before| before.spec_digest != one.spec_digest);
            two(stage, "of the pool as it is now", are_new).await;
        },
    );
}
