//! Its figures: on traces made by hand, where the answer is known, and on real ones.

use super::{Offer, OfferError, Outcome, Policy, PolicyError, Trace, World, bound, picture, simulate};
use std::time::Duration;

const BOOT: Duration = Duration::from_secs(120);

/// (Arrival, duration, class), in seconds.
fn trace(jobs: &[(u64, u64, &str)]) -> Trace {
    let rows = jobs.iter().map(|(at, takes, class)| format!("{},{},{class}\n", at * 1000, takes * 1000));
    let text = format!("arrival_ms,duration_ms,class\n{}", rows.collect::<String>());
    Trace::read("by hand", text.as_bytes()).unwrap()
}

fn world() -> World {
    World {
        boot: BOOT,
        boot_spread: 1.0,
        boot_failures: 0.0,
        announced: 0.0,
        lead: BOOT,
        false_alarms: 0.0,
        slots: 1,
        max_uses: usize::MAX,
        price: 2.0,
        offers: Vec::new(),
        resume: Duration::from_secs(10),
        park_price: 0.05,
        seed: 1,
    }
}

fn run(trace: &Trace, world: &World, policy: &str) -> Outcome {
    let outcome = simulate(trace, world, &policy.parse().unwrap());
    // What fails shall be read.
    Outcome { samples: Vec::new(), ..outcome }
}

#[test]
fn the_bound_boots_again_where_that_is_less_than_to_idle() {
    let of = |jobs: &[(u64, u64, &str)]| bound(&trace(jobs), BOOT) * 1000.0;
    assert_eq!(of(&[(0, 1000, "a")]), 120.0);
    assert_eq!(of(&[(0, 500, "a"), (550, 500, "a")]), 170.0, "it idles for 50 s");
    assert_eq!(of(&[(0, 500, "a"), (900, 500, "a")]), 240.0, "400 s of idling are more than a boot");
    assert_eq!(of(&[(0, 500, "a"), (500, 500, "a")]), 120.0, "the one ends as the other begins");
    assert_eq!(of(&[(0, 500, "a"), (499, 500, "a")]), 240.0, "two at a time");
    assert_eq!(of(&[(0, 500, "a"), (550, 500, "b")]), 240.0, "another kind of worker");
}

#[test]
fn who_is_not_announced_waits_for_a_boot_and_who_is_does_not() {
    let jobs: Vec<_> = (0..100).map(|n| (10_000 * n, 600, "a")).collect();
    let cold = run(&trace(&jobs), &world(), "demand");
    assert!((120.0..120.3).contains(&cold.mean_wait_s), "{cold:?}");
    assert_eq!(cold.boots, 100);
    let known = run(&trace(&jobs), &World { announced: 1.0, ..world() }, "rouse");
    // Before the first worker has come nobody knows how long that takes.
    assert!(known.mean_wait_s < 121.0 / 100.0 + 0.3, "{known:?}");
    assert_eq!(known.boots, 100);
    // 100 workers, each for a boot and a build, at 2 an hour; until it is known that all is announced, they idle.
    let least = 100.0 * 720.0 / 3600.0 * 2.0;
    assert!((least..least * 1.05).contains(&known.cost), "{known:?}");
}

#[test]
fn launches_that_fail_are_launched_again_and_false_alarms_cost() {
    let jobs: Vec<_> = (0..200).map(|n| (3_000 * n, 600, "a")).collect();
    let half = run(&trace(&jobs), &World { boot_failures: 0.5, ..world() }, "demand");
    assert!((150.0..400.0).contains(&half.mean_wait_s), "each waits for two boots in the mean: {half:?}");
    assert!((320..500).contains(&half.boots), "{half:?}");
    let known = World { announced: 1.0, ..world() };
    let alarmed = run(&trace(&jobs), &World { false_alarms: 0.5, ..known.clone() }, "rouse");
    let calm = run(&trace(&jobs), &known, "rouse");
    assert!(alarmed.boots > calm.boots + 50 && alarmed.cost > calm.cost, "{alarmed:?}, {calm:?}");
}

#[test]
fn a_worker_serves_so_many_and_no_more() {
    // Each has ended before the next one comes, even where it had to wait for a boot.
    let jobs: Vec<_> = (0..40).map(|n| (750 * n, 600, "a")).collect();
    let boots = |world: &World, policy: &str| run(&trace(&jobs), world, policy).boots;
    assert_eq!(boots(&world(), "demand:idle=10m"), 1);
    assert_eq!(boots(&World { max_uses: 4, ..world() }, "demand:idle=10m"), 10);
    assert_eq!(boots(&world(), "single-use"), 40);
    assert_eq!(boots(&world(), "demand:idle=10m,uses=20"), 2);
}

#[test]
fn slots_are_shared_and_counted() {
    let jobs: Vec<_> = (0..8).map(|_| (0, 1000, "a")).collect();
    let four = run(&trace(&jobs), &World { slots: 4, ..world() }, "demand");
    assert_eq!((four.boots, four.peak), (2, 2));
    // In slots: 8 × 120 s of boot over 8 × 1000 s of builds; and what little it idles until the scaler looks.
    assert!((0.12..0.13).contains(&four.overhead), "{four:?}");
}

/// Two idle workers of one image, two at most, and a request for another image.
#[test]
fn at_the_maximum_an_idle_worker_of_another_image_makes_room_at_once() {
    let mut jobs = vec![(0, 60, "a"), (0, 60, "a"), (200, 60, "b")];
    let policy = "rouse:max=2,idle=1h";
    let three = run(&trace(&jobs), &world(), policy);
    assert_eq!((three.boots, three.peak), (3, 2));
    // The two first wait for a boot, as the third does, once the one it displaces is gone.
    assert!(three.mean_wait_s <= 121.0, "{three:?}");
    // From then on there is one of each: nobody knows better.
    jobs.extend((0..50).map(|n| (500 + 100 * n, 60, if n % 2 == 0 { "a" } else { "b" })));
    let all = run(&trace(&jobs), &world(), policy);
    assert_eq!(all.boots, 3, "{all:?}");
}

#[test]
fn a_seed_gives_the_same_answer_and_another_one_another() {
    let jobs: Vec<_> = (0..100).map(|n| (137 * n, 300, "a")).collect();
    let drawn = World { announced: 0.5, boot_spread: 3.0, boot_failures: 0.1, ..world() };
    let first = run(&trace(&jobs), &drawn, "rouse");
    assert_eq!(run(&trace(&jobs), &drawn, "rouse"), first);
    assert_ne!(run(&trace(&jobs), &World { seed: 2, ..drawn }, "rouse"), first);
}

/// Twenty bursts of four, an hour apart: nobody keeps an idle worker that long, and each burst would wait for boots.
fn bursts() -> Trace {
    let jobs: Vec<_> = (0..80).map(|n| (3_600 * (n / 4), 300, "a")).collect();
    trace(&jobs)
}

#[test]
fn parked_workers_wait_out_the_gaps_and_cost_less_than_idle_ones() {
    let of = |policy| run(&bursts(), &world(), policy);
    let (plain, parked, idle) = (of("rouse"), of("rouse:park=4"), of("rouse:idle=1h"));
    // But for the first burst all have a worker that is resumed, in place of one that boots.
    assert_eq!((plain.boots, parked.boots, parked.resumes, idle.boots), (80, 4, 76, 4));
    assert!(plain.mean_wait_s > 119.0 && parked.mean_wait_s < 17.0, "{plain:?}, {parked:?}");
    assert!(parked.cost < plain.cost && parked.cost < idle.cost / 2.0, "{parked:?}, {plain:?}, {idle:?}");
    // Until the last is done: nineteen gaps of less than an hour, four workers.
    let gaps = 76.0 * 3600.0;
    assert!((gaps * 0.7..gaps).contains(&parked.parked_s), "{parked:?}");
    assert!(parked.overhead < plain.overhead, "{parked:?}");
    assert_eq!((plain.resumes, plain.parked_s, plain.peak, parked.peak), (0, 0.0, 4, 4));
    // What runs costs the same, and what lies its own price.
    let lying = |price| run(&bursts(), &World { park_price: price, ..world() }, "rouse:park=4").cost;
    let more = parked.parked_s / 3600.0 * 0.05;
    assert!((lying(0.1) - parked.cost - more).abs() < 1e-6 && lying(2.0) == lying(3.0));
}

#[test]
fn what_lay_too_long_or_has_no_room_ends() {
    let of = |policy| run(&bursts(), &world(), policy);
    let short = of("rouse:park=4,park_for=30m");
    assert_eq!((short.boots, short.resumes), (80, 0));
    assert!((short.parked_s - 76.0 * 1800.0).abs() < 1.0, "{short:?}");
    let two = of("rouse:park=2");
    assert_eq!((two.boots, two.resumes), (42, 38));
}

fn offers(texts: &[&str]) -> World {
    World { offers: texts.iter().map(|text| text.parse().unwrap()).collect(), ..world() }
}

#[test]
fn what_is_out_of_stock_is_passed_over_until_it_is_back() {
    let jobs: Vec<_> = (0..100).map(|n| (360 * n, 300, "a")).collect();
    let of = |world: &World| run(&trace(&jobs), world, "single-use");
    let sure = of(&offers(&["spot:price=0.5", "sure:price=2"]));
    let counts = |outcome: &Outcome| outcome.per_offering.iter().map(|of| of.launched).collect::<Vec<_>>();
    assert_eq!(counts(&sure), [100, 0]);
    assert!((sure.cost - sure.per_offering[0].hours * 0.5).abs() < 1e-9, "{sure:?}");
    // Of ten hours it is away for two, in which twenty come.
    let away = of(&offers(&["spot:price=0.5,out=2h-4h,try_for=3m", "sure:price=2"]));
    let [spot, other] = away.per_offering.as_slice() else { panic!("{away:?}") };
    assert!((75..=82).contains(&spot.launched) && spot.launched + other.launched == 100, "{away:?}");
    assert!((10..=100).contains(&spot.refused) && other.refused == 0, "{away:?}");
    assert!((away.cost - spot.hours * 0.5 - other.hours * 2.0).abs() < 1e-9 && away.cost > sure.cost);
    // One of a hundred waits for three minutes and more.
    assert!((1.8..4.0).contains(&(away.mean_wait_s - sure.mean_wait_s)), "{away:?}");
    // Without another one, all wait until it is back.
    let alone = of(&offers(&["spot:price=0.5,out=2h-4h"]));
    assert_eq!(counts(&alone), [100]);
    assert!(alone.mean_wait_s > sure.mean_wait_s + 600.0, "{alone:?}");
}

#[test]
fn of_what_is_as_good_the_one_is_taken_that_is_taken_back_least() {
    let jobs: Vec<_> = (0..400).map(|n| (360 * n, 1_800, "a")).collect();
    let of = |offer: &str| run(&trace(&jobs), &offers(&[offer]), "single-use");
    let calm = of("spot a:price=0.50/spot b:price=0.55");
    assert_eq!(calm.per_offering[1].launched, 0, "{calm:?}");
    let wild = of("spot a:price=0.50,interrupted=1.5/spot b:price=0.55");
    let [a, b] = wild.per_offering.as_slice() else { panic!("{wild:?}") };
    assert!(b.launched > a.launched && a.interrupted > 5 && b.interrupted == 0, "{wild:?}");
    assert!(wild.overhead > calm.overhead && wild.mean_wait_s > calm.mean_wait_s, "{wild:?}");
    // Where nothing else is sold each build is tried four times at most.
    let never = of("spot:price=0.50,interrupted=60");
    assert!(never.given_up > 390 && never.boots <= 1_600, "{never:?}");
}

#[test]
fn offers_are_read() {
    let offer: Offer = "spot a:price=0.05,out=2h-5h,out=7h-8h/ spot b:price=0.06,interrupted=0.1,try_for=5m"
        .parse()
        .unwrap();
    let hours = |n: u64| Duration::from_secs(3600 * n);
    assert_eq!(offer.try_for, Some(Duration::from_secs(300)));
    let [a, b] = offer.of.as_slice() else { panic!("{offer:?}") };
    assert_eq!(
        (a.name.as_str(), a.price, a.out.clone()),
        ("spot a", 0.05, vec![hours(2)..hours(5), hours(7)..hours(8)])
    );
    assert_eq!((b.name.as_str(), b.price, b.interrupted), ("spot b", 0.06, 0.1));
    let wrong = |text: &str| text.parse::<Offer>().unwrap_err();
    for bare in ["spot", "spot:out=1h-2h", ":price=1", "a:price=1/b:interrupted=0.1", ""] {
        assert!(matches!(wrong(bare), OfferError::Bare(_)), "{bare}");
    }
    for setting in [
        "price=-1",
        "price=dear",
        "out=5h-2h",
        "out=2h",
        "interrupted=61",
        "try_for=soon",
        "colour=red",
        "price",
    ] {
        let told = wrong(&format!("spot:{setting}"));
        assert_eq!(told, OfferError::Setting { name: "spot".into(), setting: setting.into() });
    }
    assert!(matches!(wrong("a:price=1,try_for=1m/b:price=1,try_for=2m"), OfferError::Setting { .. }), "once");
}

#[test]
fn what_is_no_trace_is_told_with_its_line() {
    let why = |text: &str| crate::supervisor::chain(&Trace::read("t.csv", text.as_bytes()).unwrap_err());
    let told = why("arrival_ms,duration_ms\n1,2\n3,soon\n");
    assert!(told.contains("t.csv") && told.contains("line: 3") && told.contains("duration_ms"), "{told}");
    assert!(why("when,how\n1,2\n").contains("missing field `arrival_ms`"));
    assert_eq!(why("arrival_ms,duration_ms\n# nothing\n"), "t.csv: there is no work in it");
}

#[test]
fn policies_are_read() {
    let policy: Policy = "lean:idle=15m,max=7,ahead=no".parse().unwrap();
    assert_eq!((policy.reserve, policy.max, policy.looks_ahead), (0.0, 7, false));
    assert_eq!(policy.idle, Some(Duration::from_secs(900)));
    let wrong = |text: &str| text.parse::<Policy>().unwrap_err();
    assert!(wrong("fast").to_string().starts_with("there is no policy `fast`; there are rouse, lean,"));
    for setting in ["park=some", "park_for=0s", "idle=soon", "reserve=NaN", "max=0", "colour=red", "uses"] {
        let told = wrong(&format!("rouse:{setting}"));
        assert_eq!(
            told,
            PolicyError::Setting { policy: format!("rouse:{setting}"), setting: setting.into() }
        );
    }
}

#[test]
fn the_picture_has_a_panel_for_each_policy() {
    let trace = trace(&[(0, 600, "a"), (100, 600, "a"), (4000, 600, "a")]);
    let outcomes = ["rouse", "demand"].map(|policy| simulate(&trace, &world(), &policy.parse().unwrap()));
    let svg = picture(&trace, &outcomes).unwrap();
    for outcome in &outcomes {
        assert!(svg.contains(&format!("{}: overhead", outcome.policy)), "{svg}");
    }
    assert!(svg.matches("capacity: slots").count() == 2 && svg.starts_with("<svg"));
}

/// The floors: (policy, times the bound's overhead at most, mean wait at most).
fn holds(file: &str, floors: &[(&str, f64, f64)]) {
    let path = format!("{}/bench/traces/{file}.csv", env!("CARGO_MANIFEST_DIR"));
    let trace = Trace::read(file, std::fs::File::open(path).unwrap()).unwrap();
    let world = World { announced: 0.9, ..world() };
    for (policy, times, wait) in floors {
        let outcome = run(&trace, &world, policy);
        let reached = outcome.overhead / outcome.bound_overhead;
        eprintln!("{file} {policy}: {reached:.2} of the bound, {:.1} s", outcome.mean_wait_s);
        assert!(reached <= *times && outcome.mean_wait_s <= *wait, "{file}: {reached:.2} {outcome:?}");
    }
}

#[test]
fn work_that_is_announced_finds_its_worker_at_little_cost() {
    holds("gecko-t-t-win10-64", &[("rouse", 1.2, 2.5), ("lean", 1.15, 5.0)]);
}

#[test]
fn the_same_holds_of_three_times_as_much_work() {
    holds("gecko-t-t-linux-large", &[("rouse", 1.2, 2.5), ("lean", 1.15, 5.0)]);
}

#[test]
fn where_nothing_is_announced_little_is_lost() {
    let path = format!("{}/bench/traces/gecko-t-t-linux-large.csv", env!("CARGO_MANIFEST_DIR"));
    let trace = Trace::read("large", std::fs::File::open(path).unwrap()).unwrap();
    let outcome = run(&trace, &world(), "rouse");
    eprintln!("{:.1} % at {:.1} s", outcome.overhead * 100.0, outcome.mean_wait_s);
    assert!(outcome.overhead <= 0.14 && outcome.mean_wait_s <= 70.0, "{outcome:?}");
}
