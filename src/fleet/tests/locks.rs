//! Locks and room: nobody holds a lock while there is no place for their build.

use super::agents::Agents;
use super::stage::play;
use crate::explain::ReasonCode;
use std::time::Duration;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {one: "127.0.0.1:1", many: "127.0.0.1:1"}}}
providers: {cloud: {fake: {latency: 200ms}}}
pools:
  one: {fake: {on: cloud, image: "debian:12"}, max: 1}
  many: {fake: {on: cloud, image: "debian:12"}, max: 9}
locks: {key: 1}
builders:
  plain: {pool: one, steps: [{run: make}]}
  signed: {pool: one, locks: {key: exclusive}, steps: [{run: make}]}
  free: {pool: many, locks: {key: exclusive}, steps: [{run: make}]}
"#;

#[test]
fn who_has_no_room_keeps_its_turn_and_takes_no_lock_yet() {
    let minute = |agents: &mut Agents| agents.lasts = Some(Duration::from_secs(60));
    play(1, CONFIG, minute, async |stage| {
        let row = async |request| stage.ctx.store.request(request).await.unwrap().unwrap();
        let started =
            async |request| stage.until("it runs", async || stage.started_within(request).await).await;
        let plain = stage.wish("plain").await;
        started(plain).await;
        let signed = stage.wish("signed").await;
        names(&stage.says(signed, ReasonCode::PoolFull).await, "maximum of 1 worker ");
        assert_eq!(row(signed).await.locks, None, "nobody holds it, and there is no place to use it");
        let free = stage.wish("free").await;
        names(&stage.says(free, ReasonCode::LockTaken).await, "`key`");
        // The place first, and the lock with it; the next one has it when that one is over.
        let (signed, free) = (started(signed).await.as_secs(), started(free).await.as_secs());
        assert!((55..75).contains(&signed), "{signed}");
        assert!((115..140).contains(&free), "{free}");
    });
}

#[track_caller]
fn names(sentence: &str, what: &str) {
    assert!(sentence.contains(what), "{what}: {sentence}");
}
