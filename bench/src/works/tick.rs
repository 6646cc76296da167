//! What one look of the scaler costs: requests counted into demand, and the decision over it and the workers.
//!
//! From values that lie in memory: how the fleet reads them is in `backlog`. All classes are of one pool, which is the worst that can be, and every busy worker's build is
//! looked ahead to.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rouse_model::durations::Durations;
use rouse_model::matching::ReuseClass;
use rouse_model::money::Money;
use rouse_model::scaling::{Capacity, Limits, Running, Tally, decide};
use rouse_model::{Timestamp, Trust, WorkerId};

use crate::ground::Ground;
use crate::report::{Row, Samples};

const NOW: Timestamp = Timestamp(1_764_032_400_000_000);
/// Images, projects and the like that are wanted at the same time.
const CLASSES: usize = 500;

pub fn run(ground: &Ground) -> Result<Row> {
    let rounds = ground.size.of(3, 20, 50);
    let (workers, pending) = (1_000, 100_000);
    let mut took = Samples::default();
    let mut tenth = Samples::default();
    for _ in 0..rounds {
        took.push(tick(workers, pending)?.as_secs_f64() * 1e3);
        tenth.push(tick(workers / 10, pending / 10)?.as_secs_f64() * 1e3);
    }
    // Ten times as much is n log n where it takes ten times log(100,000) / log(10,000).
    let growth = took.median().zip(tenth.median()).map(|(all, tenth)| all / tenth);
    Ok(Row::new("tick", "ms")
        .rouse(&took)
        .with("workers", Some(workers as f64))
        .with("pending", Some(pending as f64))
        .with("growth", growth)
        .note("growth: against a tenth of both; n log n is 12.5"))
}

fn tick(workers: usize, pending: usize) -> Result<Duration> {
    let classes: Vec<ReuseClass> = (0..CLASSES).map(class).collect();
    let requests: Vec<ReuseClass> = (0..pending).map(|n| classes[n * 7 % CLASSES].clone()).collect();
    let usual = Arc::new(Durations::of((1..=100).map(|n| Duration::from_secs(6 * n))));
    let capacity: Vec<Capacity> =
        (0..workers).map(|n| capacity(n, &classes[n * 13 % CLASSES], &usual)).collect();
    let limits = Limits {
        min: 10,
        max: workers + 200,
        waiting: 0,
        slots: 1,
        builds: 50,
        ramp: 1_000,
        idle: Duration::from_secs(120),
        boot: Some(Duration::from_secs(60)),
        foretold: 0.5,
        reserve: 0.7,
        warm: 0,
        park: 0,
        usual: None,
        purse: None,
    };
    let began = Instant::now();
    let mut tally = Tally::default();
    for class in &requests {
        tally.waits(class, None);
    }
    let decision = decide(black_box(&limits), &tally.into_wishes(), &capacity, NOW);
    let took = began.elapsed();
    ensure!(decision.launch.iter().map(|(_, n)| n).sum::<usize>() > 0, "nothing is launched");
    ensure!(decision.terms.iter().map(|(_, terms)| terms.waiting).sum::<usize>() == pending, "some are lost");
    Ok(took)
}

fn class(n: usize) -> ReuseClass {
    ReuseClass {
        pool: "cloud".into(),
        // As long as a real one.
        spec_digest: format!("{n:064x}"),
        trust: Trust::Trusted,
        project: format!("project-{}", n % 20),
    }
}

/// Of ten workers one is on its way, two are idle, and seven build.
fn capacity(n: usize, class: &ReuseClass, usual: &Arc<Durations>) -> Capacity {
    let ago = |seconds: usize| NOW - Duration::from_secs(seconds as u64);
    let (booting, idle) = (n.is_multiple_of(10), matches!(n % 10, 1 | 2));
    let running = Running { since: ago(n % 600), usual: Arc::clone(usual) };
    Capacity {
        worker: WorkerId(n as i64),
        class: class.clone(),
        free: usize::from(booting || idle),
        locked: 0,
        slots: 1,
        leaving: false,
        waits: false,
        idle_since: idle.then(|| ago(n % 300)),
        up_by: booting.then_some(NOW + Duration::from_secs(30)),
        parked: None,
        uses_left: 20,
        spares: Money::default(),
        running: if booting || idle { Vec::new() } else { vec![running] },
    }
}
