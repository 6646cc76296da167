//! What is counted as demand and as capacity, and within which limits.

use super::*;
use crate::ctx::Announced;
use crate::fleet::tests::lone::Lone;
use rouse_model::budget::Standing;
use rouse_model::build::Build;
use rouse_model::worker::{Cause, CauseCode, LaunchToken, ProviderRef};
use rouse_provider_fake::{Fault, on};
use rouse_store::testing::samples;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {first: "127.0.0.1:1", second: "127.0.0.1:1", wide: "127.0.0.1:1", once: "127.0.0.1:1", dear: "127.0.0.1:1", hourly: "127.0.0.1:1", off: "127.0.0.1:1", half: "127.0.0.1:1"}}}
providers: {cloud: {fake: {latency: 200ms}}, drained: {fake: {}, drain: true}}
pools:
  first: {fake: {on: cloud, image: "debian:12"}, max: 1, waiting: 1, reuse: {builds: 5, idle: 10m}}
  second: {fake: {on: cloud, image: "debian:12"}, max: 9, reuse: {builds: 5, idle: 10m}}
  wide: {fake: {on: cloud, image: "debian:12"}, max: 9, slots: 2, reuse: {builds: 5, idle: 10m}}
  once: {fake: {on: cloud, image: "debian:12"}, max: 9}
  dear:
    fake: {on: cloud, image: "debian:12"}
    slots: 2
    price: 6 USD/h
    warm: {wait_costs: 60 USD/h}
    reuse: {builds: 5, idle: 10m}
  hourly:
    fake: {on: cloud, image: "debian:12"}
    reuse: {builds: 5, idle: 10m}
    schedule: [{cron: "30 1 * * *", for: 1h, min: 2}]
  off: {fake: {on: drained, image: "debian:12"}, max: 9, price: 6 USD/h}
  half: {fake: {on: [drained, cloud], image: "debian:12"}, max: 9, price: 6 USD/h}
locks: {rig: {count: 1, per: worker}}
builders:
  either: {pool: [first, second], steps: [{run: make}]}
  unit: {pool: second, steps: [{run: make}]}
  other: {pool: wide, steps: [{run: make}]}
  rigged: {pool: second, locks: {rig: 1}, steps: [{run: make}]}
  rigged-wide: {pool: wide, locks: {rig: 1}, steps: [{run: make}]}
"#;

const MINUTE: Duration = Duration::from_secs(60);

/// What the pools are asked for by these requests, how many each, and of which pools that is not known yet.
async fn asked(lone: &Lone, waiting: &[Request], seen: (&[Worker], &Budgets, &[WorkerId])) -> Wishes {
    let (workers, budgets, waiting_workers) = seen;
    let active = lone.active();
    let taken = Taken::by(&active.config, workers);
    let waiting_workers = waiting_workers.iter().copied().collect();
    let filled = Filled { taken: &taken, budgets, waiting: &waiting_workers };
    lone.fleet.demand(&active, waiting.to_vec(), workers, filled, None).await.unwrap()
}

fn by_pool(wishes: &Wishes) -> Vec<(&str, usize)> {
    wishes.waiting().collect()
}

/// Requests of a builder whose images are known, of its second pool too.
async fn settled(lone: &Lone, builder: &str, count: usize) -> Vec<Request> {
    let mut requests = Vec::new();
    for _ in 0..count {
        requests.push(lone.request(builder).await);
    }
    let full = [lone.worker(100, "first", "cloud")];
    for workers in [&full[..0], &full] {
        // What is asked for is there a moment later, and on record when it is looked at then.
        for _ in 0..2 {
            asked(lone, &requests, (workers, &Budgets::new(), &[])).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            for request in &mut requests {
                *request = lone.row(request.id).await;
            }
        }
    }
    requests
}

#[tokio::test(start_paused = true)]
async fn each_request_asks_the_first_pool_that_has_room_for_one_more() {
    let lone = Lone::of(CONFIG).await;
    let requests = settled(&lone, "either", 3).await;
    let none = Budgets::new();
    let there = [lone.worker(1, "first", "cloud")];
    let wishes = asked(&lone, &requests, (&[], &none, &[])).await;
    assert_eq!(by_pool(&wishes), [("first", 1), ("second", 2)]);
    let wishes = asked(&lone, &requests, (&there, &none, &[])).await;
    assert_eq!(by_pool(&wishes), [("second", 3)]);
    // One that only waits for others takes no room.
    let wishes = asked(&lone, &requests, (&there, &none, &[WorkerId(1)])).await;
    assert_eq!(by_pool(&wishes), [("first", 1), ("second", 2)]);
    let two = [lone.worker(1, "first", "cloud"), lone.worker(2, "first", "cloud")];
    let wishes = asked(&lone, &requests, (&two, &none, &[WorkerId(1), WorkerId(2)])).await;
    assert_eq!(by_pool(&wishes), [("second", 3)], "but for one alone");
    // Neither does one that lies parked.
    let parked = [Worker { wanted: Wanted::Park, ..lone.worker(1, "first", "cloud") }];
    let wishes = asked(&lone, &requests, (&parked, &none, &[])).await;
    assert_eq!(by_pool(&wishes), [("first", 1), ("second", 2)]);
}

#[tokio::test(start_paused = true)]
async fn what_a_budget_does_not_pay_for_is_asked_of_the_next_pool() {
    let config = CONFIG.replace("max: 1, waiting: 1", "max: 9, waiting: 1");
    let lone = Lone::of(&config).await;
    let requests = settled(&lone, "either", 3).await;
    assert_eq!(requests[0].provision.digests.len(), 1);
    let wishes = async |left: i64| {
        let standing = Standing {
            limit: "10 USD/day".into(),
            amount: Money(left),
            spent: Money(0),
            promised: Money(0),
            launch: Money(10),
            until: lone.now() + MINUTE,
        };
        let counted = Counted { standing, build: MINUTE, each: MINUTE };
        let budgets = Budgets::from([("first".to_owned(), counted)]);
        // What the second one's image is is asked for at the first sight.
        for _ in 0..2 {
            asked(&lone, &requests, (&[], &budgets, &[])).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let mut known = Vec::new();
        for request in &requests {
            known.push(lone.row(request.id).await);
        }
        let wishes = asked(&lone, &known, (&[], &budgets, &[])).await;
        by_pool(&wishes).into_iter().map(|(name, count)| (name.to_owned(), count)).collect::<Vec<_>>()
    };
    assert_eq!(wishes(9).await, [("second".to_owned(), 3)]);
    assert_eq!(wishes(10).await, [("first".to_owned(), 1), ("second".to_owned(), 2)]);
    assert_eq!(wishes(30).await, [("first".to_owned(), 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_lock_of_workers_sets_a_limit_where_a_worker_runs_more_than_one_build() {
    let lone = Lone::of(CONFIG).await;
    for (builder, at_once) in [("rigged", None), ("rigged-wide", Some(1)), ("other", None)] {
        let requests = settled(&lone, builder, 2).await;
        let mut wishes = asked(&lone, &requests, (&[], &Budgets::new(), &[])).await;
        let (_, tally) = wishes.asked.pop_first().expect("something is asked for");
        let [demand] = &tally.into_wishes()[..] else { panic!("one class of {builder}") };
        assert_eq!((demand.waiting, demand.at_once), (2, at_once), "{builder}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_is_found_out_what_is_wanted_nothing_idles_for_nothing_but_not_for_ever() {
    let lone = Lone::of(CONFIG).await;
    lone.cloud.script(|script| script.plan(on::RESOLVE, Fault::Unheard));
    let request = lone.request("unit").await;
    let unsettled = async |age: u64| {
        let created = lone.now() - Duration::from_secs(age);
        let wishes =
            asked(&lone, &[Request { created, ..request.clone() }], (&[], &Budgets::new(), &[])).await;
        wishes.unsettled.contains("second")
    };
    assert!(unsettled(0).await && unsettled(59).await && !unsettled(60).await && !unsettled(61).await);
}

fn class(pool: &str) -> ReuseClass {
    ReuseClass { pool: pool.into(), ..class_of_worker(&samples::worker(1)) }
}

/// A pool's workers have taken so long to come, as far as the fleet knows.
async fn boots_in(lone: &Lone, pools: &[(&str, u64)]) {
    for (id, (pool, boot)) in (1..).zip(pools) {
        let requested = lone.now();
        let attached = Some(requested + Duration::from_secs(*boot));
        lone.insert(&[&Worker { requested, attached, ..lone.worker(id, pool, "cloud") }]).await;
    }
    lone.fleet.learned.look_anew();
    lone.fleet.learn_boots().await.unwrap();
}

fn announce(lone: &Lone, origin: &str, builder: &str) {
    let mut wish = crate::fleet::tests::wish(0, builder);
    wish.origin = origin.to_owned();
    lone.ctx().coming.say(vec![Announced { wish, due: Some(lone.now() + MINUTE), likely: 1.0 }]);
}

/// So many requests of a builder came that were announced, and as many that were not.
fn have_come(lone: &Lone, builder: &str, announced: usize, not: usize, at: Timestamp) {
    let builders = [builder.to_owned()];
    for number in 0..announced + not {
        let origin = format!("{builder}/{number}");
        if number < announced {
            announce(lone, &origin, builder);
        }
        lone.ctx().coming.has_come(&origin, &builders, at);
    }
    lone.ctx().coming.say(Vec::new());
}

fn looked_ahead(lone: &Lone) -> BTreeMap<String, Vec<Demand>> {
    let mut asked = Asked::new();
    lone.fleet.look_ahead(&lone.active(), &mut asked);
    asked.into_iter().map(|(pool, tally)| (pool, tally.into_wishes())).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_is_counted_until_it_has_come_with_what_comes_beside_it() {
    let lone = Lone::of(CONFIG).await;
    // Kept, so that what is said is heard.
    let _listens = lone.ctx().coming.listen();
    boots_in(&lone, &[("second", 60), ("wide", 2)]).await;
    have_come(&lone, "unit", 20, 10, lone.now() - MINUTE * 120);
    have_come(&lone, "other", 20, 10, lone.now() - MINUTE * 120);
    let expected = |origin: &str, builder: &str, pool: &str| Expected {
        origin: origin.into(),
        builder: builder.into(),
        class: class(pool),
        coming: Coming { due: lone.now() + MINUTE, likely: 0.5, beside: 0.0 },
    };
    for (builder, pool, beside) in [("unit", "second", 0.5), ("other", "wide", 0.0), ("once", "once", 0.0)] {
        lone.fleet.expect(vec![
            expected("soon", builder, pool),
            expected("soon", builder, "removed"),
            expected("never said", builder, pool),
        ]);
        announce(&lone, "soon", builder);
        let ahead = looked_ahead(&lone);
        assert_eq!(ahead.keys().collect::<Vec<_>>(), [pool]);
        let [Demand { coming, waiting: 0, .. }] = &ahead[pool][..] else { panic!("{ahead:?}") };
        let [one] = &coming[..] else { panic!("{coming:?}") };
        assert!(one.likely == 0.5 && (one.beside - beside).abs() < 0.01, "{pool}: {one:?}");
        // It has come, and waits itself.
        lone.ctx().coming.has_come("soon", &[builder.to_owned()], lone.now() - MINUTE * 120);
        lone.ctx().coming.say(Vec::new());
        assert!(looked_ahead(&lone).is_empty(), "{pool}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_without_a_word_is_expected_where_workers_come_slowly() {
    let lone = Lone::of(CONFIG).await;
    boots_in(&lone, &[("second", 60), ("wide", 2)]).await;
    for (builder, pool) in [("unit", "second"), ("quiet", "second"), ("other", "wide")] {
        lone.fleet.learned.asks(builder, &class(pool));
    }
    assert!(looked_ahead(&lone).is_empty(), "nothing has come yet");
    for builder in ["unit", "other"] {
        for seconds in [90, 30] {
            have_come(&lone, builder, 0, 1, lone.now() - Duration::from_secs(seconds));
        }
    }
    let ahead = looked_ahead(&lone);
    assert_eq!(ahead.keys().collect::<Vec<_>>(), ["second"]);
    // Each time one came, another one did; and so much of that is counted on.
    assert!((ahead["second"][0].unforeseen - 0.4).abs() < 0.01, "{ahead:?}");
}

#[tokio::test(start_paused = true)]
async fn only_a_pool_whose_workers_come_slowly_keeps_something_in_reserve() {
    let lone = Lone::of(CONFIG).await;
    let active = lone.active();
    let limits = |pool: &str| lone.fleet.limits(pool, &active.config.pools[pool], None);
    boots_in(&lone, &[("second", 60), ("wide", 2), ("once", 60), ("dear", 60)]).await;
    for (builder, pool) in [("unit", "second"), ("other", "wide"), ("alone", "once"), ("rare", "dear")] {
        lone.fleet.learned.asks(builder, &class(pool));
    }
    let long_ago = lone.now() - MINUTE * 120;
    have_come(&lone, "unit", 30, 10, long_ago);
    have_come(&lone, "other", 30, 10, long_ago);
    have_come(&lone, "alone", 40, 0, long_ago);
    have_come(&lone, "rare", 10, 30, long_ago);
    let [second, wide, once, dear] = ["second", "wide", "once", "dear"].map(limits);
    let about = |share: f64, expected: f64| (share - expected).abs() < 0.02;
    assert!(about(second.foretold, 0.75) && about(dear.foretold, 0.25), "{second:?}, {dear:?}");
    assert!(wide.foretold == 0.0 && once.foretold == 0.0, "{wide:?}, {once:?}");
    assert!(second.reserve == scaling::RESERVE && wide.reserve == 0.0);
    // A place on a worker of two costs half of it.
    let reserve = scaling::reserve(Price(60_000_000), Price(3_000_000));
    assert!(reserve > 1.0 && dear.reserve == reserve, "{dear:?}");
    assert_eq!((second.boot, wide.boot), (Some(MINUTE + MARGIN), Some(Duration::from_secs(2) + MARGIN)));
}

#[tokio::test(start_paused = true)]
async fn builds_are_looked_at_where_it_pays_to_know_when_they_end() {
    let lone = Lone::of(CONFIG).await;
    boots_in(&lone, &[("second", 60), ("wide", 2), ("once", 60)]).await;
    let workers: Vec<Worker> =
        (11..).zip(["second", "wide", "once"]).map(|(id, pool)| lone.worker(id, pool, "cloud")).collect();
    let mut batch = Batch::new("test.builds");
    (11..14).for_each(|id| _ = batch.insert(&Build { builder: "unit".into(), ..samples::build(id) }));
    lone.ctx().store.commit(batch).await.unwrap();
    let lease = |id: i64| Lease { worker: WorkerId(id), slot: 0, build: id.into(), since: lone.now() };
    let leases: Vec<Lease> = (11..14).map(lease).collect();
    let running = lone.fleet.look_at_builds(&lone.active(), &workers, &leases).await.unwrap();
    assert_eq!(running.keys().collect::<Vec<_>>(), [&WorkerId(11)]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_counts_as_what_it_can_still_do() {
    let lone = Lone::of(CONFIG).await;
    boots_in(&lone, &[("second", 60)]).await;
    let now = lone.now();
    let at = || ProviderRef("1".into());
    let idle_since = Some(now - MINUTE);
    let up = || Worker {
        phase: Phase::Up { at: at() },
        link: Link::Attached { session: "1".into(), since: now },
        attached: Some(now),
        idle_since,
        slots: 2,
        max_builds: 5,
        builds_done: 2,
        expires: now + MINUTE,
        ..lone.worker(7, "second", "cloud")
    };
    let lease = Lease { worker: WorkerId(7), slot: 0, build: 1.into(), since: now };
    let of = |worker: Worker, builds: usize| {
        let leases = vec![lease.clone(); builds];
        let in_use = InUse::of(leases, HashSet::new(), HashMap::new());
        lone.fleet.capacity_of(&worker, &in_use, &HashMap::new(), now)
    };
    let idle = of(up(), 0);
    assert_eq!((idle.free, idle.uses_left, idle.up_by, idle.leaving), (2, 3, None, false));
    assert_eq!(idle.idle_since, idle_since);
    let busy = of(up(), 1);
    assert_eq!((busy.free, busy.idle_since, busy.leaving), (1, None, false));
    let coming = || Worker {
        phase: Phase::Requested { token: LaunchToken("t".into()) },
        link: Link::Never,
        attached: None,
        ..up()
    };
    let comes = of(Worker { requested: now - MINUTE / 2, ..coming() }, 0);
    assert_eq!((comes.up_by, comes.idle_since, comes.free), (Some(now + MINUTE / 2), None, 2));
    let hold = || Wanted::Hold { until: now + MINUTE, by: "anna".into() };
    let held = of(Worker { wanted: hold(), ..up() }, 0);
    assert_eq!((held.free, held.idle_since, held.leaving), (0, None, false));
    assert!(!of(Worker { wanted: hold(), expires: now, ..up() }, 0).leaving, "it is kept for somebody");
    let parked = of(Worker { wanted: Wanted::Park, ..up() }, 0);
    assert_eq!((parked.free, parked.idle_since, parked.leaving), (0, None, false));
    assert_eq!(parked.parked, Some(now));
    let cause = || Cause::new(CauseCode::Idle, None, "nothing waits for it");
    for leaves in [
        Worker { wanted: Wanted::Drain { cause: cause() }, ..up() },
        Worker { wanted: Wanted::End { cause: cause() }, ..up() },
        Worker { phase: Phase::Terminating { at: Some(at()), since: now, cause: cause() }, ..up() },
        Worker { link: Link::Lost { at: now }, ..up() },
        Worker { expires: now, ..up() },
    ] {
        assert!(of(leaves.clone(), 0).leaving, "{leaves:#?}");
    }
    assert!(!of(Worker { expires: now + Duration::from_micros(1), ..up() }, 0).leaving);

    let resumes = |phase| Worker { phase, ..up() };
    boots_resumed(&lone).await;
    let (since, deadline) = (now - MINUTE / 6, now + MINUTE);
    let resuming = of(resumes(Phase::Resuming { at: at(), since, deadline }), 0);
    assert_eq!((resuming.up_by, resuming.parked), (Some(since + MINUTE / 2), None));
    let lies = of(resumes(Phase::Parked { at: at(), since }), 0);
    assert_eq!(lies.up_by, Some(now + MINUTE / 2), "it has not been asked for yet");
}

/// Workers of the second pool take half a minute to be resumed, as far as the fleet knows.
async fn boots_resumed(lone: &Lone) {
    let resume_took = Some(MINUTE / 2);
    lone.insert(&[&Worker { resume_took, ..lone.worker(50, "second", "cloud") }]).await;
    lone.fleet.learned.look_anew();
    lone.fleet.learn_boots().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_an_hour_keeps_is_launched_so_long_before_as_it_takes() {
    let lone = Lone::of(CONFIG).await;
    boots_in(&lone, &[("hourly", 60)]).await;
    lone.fleet.learned.asks("unit", &class("hourly"));
    let active = lone.active();
    let start = lone.now();
    let limits = async |seconds: u64| {
        let at = start + Duration::from_secs(seconds);
        tokio::time::advance(at.since(lone.now())).await;
        let limits = lone.fleet.limits("hourly", &active.config.pools["hourly"], None);
        (limits.min, limits.usual)
    };
    // At half past one, a minute and some seconds before.
    assert_eq!(limits(28 * 60 + 56).await, (0, None));
    assert_eq!(limits(28 * 60 + 58).await, (2, Some(class("hourly"))));
    // And no longer than it lasts.
    assert_eq!(limits(89 * 60).await, (2, Some(class("hourly"))));
    assert_eq!(limits(90 * 60 + 1).await, (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_parked_worker_is_resumed_where_there_is_room_and_money_for_it() {
    let lone = Lone::of(CONFIG).await;
    let active = lone.active();
    let standing = |left: i64| Standing {
        limit: "10 USD/day".into(),
        amount: Money(left),
        spent: Money(0),
        promised: Money(0),
        launch: Money(10),
        until: lone.now() + MINUTE,
    };
    let cases = [
        ("first", "cloud", 1_000_000, None, 0),
        ("first", "cloud", 10, Some(Short::By(Bound::Budget)), 0),
        ("off", "drained", 1_000_000, Some(Short::Room), 0),
        ("half", "drained", 1_000_000, Some(Short::Room), 1),
        ("half", "drained", 10, Some(Short::By(Bound::Budget)), 0),
    ];
    for (id, (pool, account, left, short, displaced)) in (1..).zip(cases) {
        let phase = Phase::Parked { at: ProviderRef(id.to_string()), since: lone.now() };
        let price = Price(6_000_000);
        let worker = Worker { phase, price, wanted: Wanted::Park, ..lone.worker(id, pool, account) };
        lone.insert(&[&worker]).await;
        let mut answer = Answer { resume: vec![worker.id], ..Answer::default() };
        let counted = Counted { standing: standing(left), build: MINUTE, each: MINUTE };
        let (mut taken, mut left) = (Taken::default(), Left::of(Some(&counted)));
        let workers = [worker];
        let of_pool = &active.config.pools[pool];
        let seen = (&mut taken, &mut left);
        let held_back = lone.fleet.resume(&active, of_pool, &workers, &mut answer, seen).await.unwrap();
        let case = format!("{pool} on {account}: {held_back:?}, {answer:?}");
        assert_eq!(held_back.first().map(|(_, _, short)| *short), short, "{case}");
        assert_eq!(
            (answer.resume.len(), answer.end.len()),
            (usize::from(short.is_none()), displaced),
            "{case}"
        );
        let wanted = lone.worker_row(workers[0].id).await.wanted;
        assert_eq!(wanted == Wanted::Run, short.is_none(), "{case}");
    }
}
