//! What is kept though nothing waits, before anybody has asked for anything.

use super::stage::{Stage, World, play};
use rouse_model::Trust;
use rouse_model::worker::Worker;
use rouse_provider_fake::{Fault, on};
use std::time::Duration;

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

/// These die, and others that are for untrusted builds as well take their place.
async fn successors(stage: &Stage, first: &[Worker]) -> Vec<Worker> {
    first.iter().for_each(|worker| stage.die(worker));
    let are_others = |one: &Worker| first.iter().all(|before| before.id != one.id);
    let second = two(stage, "in place of those that died", are_others).await;
    assert!(second.iter().all(|one| one.trust == Trust::Untrusted), "{second:#?}");
    second
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
            let second = successors(stage, &first).await;
            stage.reload(&CONFIG.replace("boot: 20s", "boot: 10s")).await;
            let are_new = |one: &Worker| second.iter().all(|before| before.spec_digest != one.spec_digest);
            two(stage, "of the pool as it is now", are_new).await;
        },
    );
}

/// Several builders share the pool, and one that never runs there asked last.
const SHARED: &str = r#"
  also: {pool: kept, steps: [{run: make}]}
  last: {pool: kept, steps: [{run: make}]}
  other: {pool: elsewhere, steps: [{run: make}]}
"#;

#[test]
fn of_several_builders_the_one_counts_that_asked_last() {
    let config = CONFIG
        .replace("pools:\n", "pools:\n  elsewhere: {fake: {on: there, image: \"debian:12\", boot: 5s}}\n")
        .replace("advertise: {", "advertise: {elsewhere: \"127.0.0.1:1\", ");
    let world = World::of(2, &format!("{}{}", config.trim_end(), SHARED));
    let first = world.life(
        |_| {},
        async |stage| {
            for (builder, trust) in [
                ("unit", Trust::Trusted),
                ("last", Trust::Trusted),
                ("also", Trust::Untrusted),
                ("other", Trust::Trusted),
            ] {
                stage.wish_of(builder, trust).await;
            }
            two(stage, "what the one asked for", |one| one.trust == Trust::Untrusted).await
        },
    );
    world.life(
        |_| {},
        async |stage| {
            successors(stage, &first).await;
        },
    );
}

#[test]
fn an_image_that_is_not_to_be_had_is_asked_for_again_after_a_while() {
    play(
        3,
        &CONFIG.replace("min: 2", "min: 0"),
        |_| {},
        async |stage| {
            stage.cloud.script(|script| script.plan(on::RESOLVE, Fault::Broken));
            let since = stage.ctx.now();
            stage.reload(CONFIG).await;
            stage.wait_for(since + Duration::from_secs(40)).await;
            assert_eq!(stage.cloud.struck(), 1, "it was asked for");
            assert_eq!(stage.workers("kept").await, []);
            two(stage, "it is there", |_| true).await;
        },
    );
}
