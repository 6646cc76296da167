use super::*;
use crate::api::tests::world::{ADMIN, READ, SHOP, World};
use axum::http::{Method, StatusCode};
use rouse_contract::layers::CallKind;

/// The series of a metric, in the order of their labels.
fn series<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")))
        .collect()
}

fn levels(pool: &str, busy: u32, idle: u32) -> FleetLevels {
    let phases = [("up", busy + idle)].into();
    FleetLevels {
        pools: [(
            pool.to_owned(),
            PoolLevels { demand: 3, supply: idle, busy, idle, phases, ..PoolLevels::default() },
        )]
        .into(),
    }
}

async fn scraped(world: &World, token: &str) -> (StatusCode, String) {
    let (status, body) = world.call(token, Method::GET, "/metrics", None).await;
    (status, body.as_str().map_or_else(|| body.to_string(), str::to_owned))
}

#[test]
fn the_page_in_the_docs_is_this_book() {
    let kept = include_str!("../../docs/reference/metrics.md");
    assert!(kept == reference(), "docs/reference/metrics.md is behind; write it anew: cargo xtask generate");
}

#[tokio::test]
async fn they_are_for_those_who_see_everything() {
    let world = World::new().await;
    for (token, expected) in [
        ("", StatusCode::UNAUTHORIZED),
        (SHOP, StatusCode::FORBIDDEN),
        (READ, StatusCode::OK),
        (ADMIN, StatusCode::OK),
    ] {
        let (status, text) = scraped(&world, token).await;
        assert_eq!(status, expected, "{token}: {text}");
        assert_eq!(text.ends_with("# EOF\n"), expected == StatusCode::OK, "{text}");
    }
}

#[tokio::test]
async fn what_is_configured_begins_at_zero_and_what_is_not_is_forgotten() {
    let world = World::new().await;
    let metrics = &world.ctx.metrics;
    metrics.launched("here", None);
    metrics.launched("here", Some(FailureClass::Image));
    metrics.launched("gone", None);
    let (_, text) = scraped(&world, READ).await;
    assert_eq!(
        series(&text, "rouse_launches_total")
            .iter()
            .filter(|line| line.contains("\"here\""))
            .collect::<Vec<_>>(),
        [
            &"rouse_launches_total{pool=\"here\",outcome=\"accepted\"} 1",
            &"rouse_launches_total{pool=\"here\",outcome=\"boot\"} 0",
            &"rouse_launches_total{pool=\"here\",outcome=\"image\"} 1",
        ]
    );
    assert!(!text.contains("\"gone\""), "{text}");
    assert!(text.contains("rouse_builds_total{builder=\"unit\",result=\"failure\"} 0\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn levels_are_those_of_the_last_pass_as_long_as_there_is_one() {
    let metrics = Metrics::default();
    metrics.fleet_saw(Some(levels("here", 2, 1)));
    tokio::time::advance(Duration::from_secs(2)).await;
    metrics.fleet_saw(Some(levels("here", 0, 3)));
    tokio::time::advance(Duration::from_secs(1)).await;
    metrics.fleet_saw(Some(levels("here", 0, 3)));
    assert_eq!((metrics.busy.of(["here"]).get(), metrics.idle.of(["here"]).get()), (4.0, 5.0));
    // Nobody looked for so long that nobody knows how it was.
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert!(metrics.seen.lock().unwrap().fleet().is_none());
    metrics.fleet_saw(Some(levels("here", 1, 0)));
    assert_eq!((metrics.busy.of(["here"]).get(), metrics.idle.of(["here"]).get()), (4.0, 5.0));
    // Another master took the role.
    metrics.fleet_saw(None);
    assert!(metrics.seen.lock().unwrap().fleet().is_none());
    metrics.fleet_saw(Some(levels("here", 1, 0)));
    assert_eq!(metrics.busy.of(["here"]).get(), 4.0);
}

#[tokio::test]
async fn the_fleets_levels_are_told_by_the_master_that_has_its_role() {
    let world = World::seeded().await;
    let (_, text) = scraped(&world, READ).await;
    assert!(text.contains("rouse_fleet_role 0\n") && !text.contains("rouse_demand"), "{text}");
    world.ctx.metrics.fleet_saw(Some(levels("here", 2, 1)));
    let (_, text) = scraped(&world, READ).await;
    for line in [
        "rouse_fleet_role 1",
        "rouse_demand{pool=\"here\"} 3",
        "rouse_supply{pool=\"here\"} 1",
        "rouse_instances{pool=\"here\",phase=\"up\"} 3",
        "rouse_instances{pool=\"here\",phase=\"booting\"} 0",
        "rouse_masters{state=\"up\"} 1",
        "rouse_trouble{part=\"database\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}:\n{text}");
    }
    let waiting: i64 = series(&text, "rouse_requests_waiting")
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap())
        .sum();
    assert_eq!(waiting, world.ctx.store.queue_length().await.unwrap());
    assert!(waiting > 0);
}

#[test]
fn calls_are_counted_by_how_they_ended() {
    let metrics = Metrics::default();
    let call = |end| CallRecord { kind: CallKind::Launch, took: Duration::from_millis(300), end };
    metrics.called("docker", &call(CallEnd::Launched { asked: 1, accepted: 1 }));
    metrics.called("docker", &call(CallEnd::Failed(FailureClass::Quota)));
    metrics.called("docker", &call(CallEnd::Dropped));
    for outcome in ["done", "quota", "dropped"] {
        assert_eq!(metrics.calls.of(["docker", "launch", outcome]).get(), 1, "{outcome}");
    }
    let mut text = String::new();
    encode_registry(&mut text, &metrics.book.registry).unwrap();
    let counted = "rouse_provider_call_seconds_count{provider=\"docker\",call=\"launch\"} 3\n";
    assert!(text.contains(counted), "{text}");
}
