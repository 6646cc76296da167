//! How long an agent may take to come, learned from those before it: a machine that hangs is noticed soon where machines boot fast, and none is given up
//! that is only slow.

use super::stage::play;
use crate::fleet::learned::ANEW;
use rouse_provider_fake::Fault;
use std::time::Duration;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {fast: "127.0.0.1:1", slow: "127.0.0.1:1", fixed: "127.0.0.1:1"}}}
providers: {cloud: {fake: {latency: 200ms}}}
pools:
  fast: {fake: {on: cloud, image: "debian:12", boot: 2s}}
  slow: {fake: {on: cloud, image: "debian:12", boot: 3m}}
  fixed: {fake: {on: cloud, image: "debian:12", boot: 2s}, deadlines: {attach: 5m}}
builders:
  on-fast: {pool: fast, steps: [{run: make}]}
  on-slow: {pool: slow, steps: [{run: make}]}
  on-fixed: {pool: fixed, steps: [{run: make}]}
"#;

#[test]
fn a_hung_machine_is_noticed_soon_where_machines_boot_fast() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            for builder in ["on-fast", "on-fixed"] {
                for _ in 0..12 {
                    stage.build(builder).await;
                }
                stage.next_instance(Fault::Mute);
                stage.build(builder).await;
            }
            // One that hung makes nobody wait longer for the next one.
            stage.build("on-fast").await;
            stage.next_instance(Fault::Mute);
            stage.build("on-fast").await;
            let fast = stage.given_up("fast").await;
            assert!(fast.len() == 2 && fast.iter().all(|after| (60..75).contains(after)), "{fast:?}");
            let fixed = stage.given_up("fixed").await;
            assert!(matches!(fixed.as_slice(), [300..315]), "{fixed:?}");
        },
    );
}

#[test]
fn machines_that_boot_slower_than_anybody_knew_come_all_the_same() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            // Three minutes, where two are given to the first one.
            for _ in 0..3 {
                stage.build("on-slow").await;
            }
            let slow = stage.given_up("slow").await;
            assert!(matches!(slow.as_slice(), [120..135]), "{slow:?}");
            // One that is slower still is within what is known by then.
            stage.next_instance(Fault::Slow(Duration::from_secs(300)));
            stage.build("on-slow").await;
            assert_eq!(stage.given_up("slow").await.len(), 1);
        },
    );
}

#[test]
fn a_pool_that_becomes_slow_is_waited_for() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            for _ in 0..12 {
                stage.build("on-fast").await;
            }
            for _ in 0..2 {
                stage.next_instance(Fault::Slow(Duration::from_secs(100)));
            }
            stage.build("on-fast").await;
            let fast = stage.given_up("fast").await;
            assert!(matches!(fast.as_slice(), [60..75]), "the second had twice as long: {fast:?}");
            // What came is looked at so often.
            tokio::time::sleep(ANEW).await;
            stage.next_instance(Fault::Slow(Duration::from_secs(200)));
            stage.build("on-fast").await;
            assert_eq!(stage.given_up("fast").await.len(), 1, "now it is known");
        },
    );
}
