//! Where a worker may be launched, as far as the fleet knows its accounts.

use super::lone::Lone;
use crate::config::PoolConfig;
use crate::fleet::breakers::{Asks, May};
use crate::placing::Taken;
use rouse_contract::{LaunchSpec, ProviderError, Resolved};
use rouse_model::failure::FailureClass;
use rouse_model::offering::Scarce;
use rouse_model::worker::{Link, Worker};
use rouse_provider_fake::{Fault, on};
use std::sync::Arc;
use std::time::Duration;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {pair: "127.0.0.1:1", drained: "127.0.0.1:1", single: "127.0.0.1:1", closed: "127.0.0.1:1"}}}
providers:
  one: {fake: {latency: 200ms}}
  two: {fake: {latency: 200ms}}
  off: {fake: {latency: 200ms}, drain: true}
pools:
  pair: {fake: {on: [one, two], image: "debian:12"}}
  drained: {fake: {on: [one, off], image: "debian:12"}}
  single: {fake: {on: one, image: "debian:12"}}
  closed: {fake: {on: off, image: "debian:12"}}
builders:
  unit: {pool: pair, steps: [{run: make}]}
"#;

#[tokio::test(start_paused = true)]
async fn workers_that_nobody_can_say_anything_of_keep_no_others_from_coming() {
    let lone = Lone::of(CONFIG).await;
    let active = lone.active();
    let attached = Link::Attached { session: "1".into(), since: lone.now() };
    let workers = [
        lone.worker(1, "pair", "one"),
        Worker { link: attached, ..lone.worker(2, "pair", "one") },
        lone.worker(3, "pair", "two"),
        lone.worker(4, "drained", "one"),
        lone.worker(5, "single", "one"),
        Worker { link: Link::Silent { since: lone.now() }, ..lone.worker(6, "pair", "one") },
    ];
    let within_reach = || {
        let there = lone.fleet.within_reach(&active, &workers);
        there.iter().map(|worker| worker.id.0).collect::<Vec<_>>()
    };
    assert_eq!(within_reach(), [1, 2, 3, 4, 5, 6]);
    let account = lone.fleet.accounts.get(&active.config, "one").unwrap();
    lone.cloud.script(|script| script.draw(on::LIST, 100, |_| Fault::Broken));
    account.provider.list().await.unwrap_err();
    lone.cloud.script(rouse_testkit::faults::Script::calm);
    // Of those whose pool has another account, and whose agent does not speak.
    assert_eq!(within_reach(), [2, 3, 4, 5]);
    account.provider.list().await.unwrap();
    assert_eq!(within_reach(), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_has_room_where_one_of_its_accounts_has() {
    let lone = Lone::of(CONFIG).await;
    let active = lone.active();
    let pool = |name: &str| -> &PoolConfig { &active.config.pools[name] };
    let has_room = |name: &str| lone.fleet.has_room(&active.config, pool(name), &Taken::default());
    assert_eq!(["pair", "drained", "closed"].map(has_room), [true, true, false]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_to_wait_while_one_launch_finds_out_on_any_account() {
    let lone = Lone::of(CONFIG).await;
    let active = lone.active();
    let pool = &active.config.pools["pair"];
    let asks = Asks { pool: "pair", offering: None };
    let refused = |account: &str, wait| {
        let error = ProviderError::new(FailureClass::Offering, "launch", format!("none on {account}"));
        let error = error.retry_after(Duration::from_secs(wait));
        lone.fleet.offerings.refused(account, asks, Scarce::Offering("fake".into()), &error);
    };
    let held_back = || {
        let error = lone.fleet.without_offering(pool, "pair")?;
        Some((error.message, error.retry_after.unwrap().as_secs()))
    };
    assert_eq!(held_back(), None);
    refused("one", 60);
    assert_eq!(held_back(), None, "there is another one");
    refused("two", 2);
    assert_eq!(held_back(), Some(("none on one".to_owned(), 2)), "whichever is the sooner");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(held_back(), None, "it may be asked again");
    lone.fleet.offerings.asks("two", asks);
    assert_eq!(held_back(), None, "it is being asked");
}

/// What is expected once this was announced.
async fn expected(lone: &Lone, builder: &str) -> Vec<String> {
    let wish = crate::requests::Wish { origin: "soon".into(), ..super::town::wish(0, builder) };
    let due = Some(lone.now() + Duration::from_secs(600));
    lone.ctx().coming.say(vec![crate::ctx::Announced { wish, due, likely: 1.0 }]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Said once more, by when it is known what its image is.
    let wish = crate::requests::Wish { origin: "soon".into(), ..super::town::wish(0, builder) };
    lone.ctx().coming.say(vec![crate::ctx::Announced { wish, due, likely: 1.0 }]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let expected = lone.fleet.expected.lock().unwrap();
    expected.iter().map(|expected| expected.builder.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn only_for_what_needs_no_lock_and_has_its_image_a_worker_is_launched_ahead() {
    let config = format!(
        "{CONFIG}  signed: {{pool: pair, locks: {{key: 1}}, steps: [{{run: make}}]}}\n  ghost: {{pool: none, steps: [{{run: make}}]}}\nlocks: {{key: 1}}\n"
    );
    let config = config
        .replace("builders:", "  none: {fake: {on: one, image: \"debian:0\"}}\nbuilders:")
        .replace("closed: \"127.0.0.1:1\"", "closed: \"127.0.0.1:1\", none: \"127.0.0.1:1\"");
    let lone = Lone::of(&config).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let ahead = tokio::spawn(crate::fleet::ahead::run(Arc::clone(&lone.fleet), stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(expected(&lone, "unit").await, ["unit"]);
    assert!(expected(&lone, "signed").await.is_empty());
    assert!(expected(&lone, "ghost").await.is_empty());
    stop.cancel();
    ahead.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_let_alone_for_as_long_as_its_owner_asks() {
    let lone = Lone::of(CONFIG).await;
    let worker = lone.worker(1, "single", "one");
    let minute = Duration::from_secs(60);
    let error = lone.fleet.offering_refused(&worker, Scarce::Quota("instances".into()), Some(minute));
    assert_eq!((error.class, error.retry_after), (FailureClass::Quota, Some(minute)));
    assert_eq!(error.message, "quota of instances is used up");
    let May::Not(told) = lone.fleet.offerings.may("one", Asks::of(&worker)) else { panic!("it is refused") };
    assert_eq!(told.retry_after, Some(minute));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_fails_says_nothing_of_those_beside_it() {
    let lone = Lone::of(CONFIG).await;
    let active = lone.active();
    let image = |id: &str| Resolved { image: id.to_owned(), id: id.to_owned() };
    let spec = LaunchSpec {
        pool: "single".into(),
        project: "default".into(),
        trust: rouse_model::Trust::Trusted,
        image: Some(image("own")),
        options: serde_json::json!({}),
        env: [].into(),
        secrets: rouse_contract::Keyring::default(),
        shelves: Vec::new(),
        beside: [("db".to_owned(), image("db"))].into(),
        tree: None,
    };
    let digest = lone.fleet.specs.put(spec, Arc::new(active.config.pools["single"].clone()));
    let worker = Worker { spec_digest: digest, ..lone.worker(1, "single", "one") };
    let error = ProviderError::new(FailureClass::Image, "pull", "the registry is away");
    let error = error.retry_after(Duration::from_secs(2));
    // Both could not be had lately, and this launch was to find out about both.
    for image in ["own", "db"] {
        lone.fleet.breakers.failed("one", image, error.clone());
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    ["own", "db"].iter().for_each(|image| lone.fleet.breakers.asks("one", image));
    let again = lone.fleet.image_failed(&worker, "own", error);
    assert_eq!(again, Duration::from_secs(4));
    assert!(matches!(lone.fleet.breakers.may("one", "own"), May::Not(_)));
    assert!(matches!(lone.fleet.breakers.may("one", "db"), May::Ask), "the next one finds out");
}

#[tokio::test(start_paused = true)]
async fn what_was_rendered_of_a_pool_is_of_no_use_for_another_one() {
    let lone = Lone::of(
        &CONFIG.replace("single: {fake: {on: one, image", "single: {fake: {on: one, boot: 1s, image"),
    )
    .await;
    let active = lone.active();
    let (pair, single) = (&active.config.pools["pair"], &active.config.pools["single"]);
    let request = lone.request("unit").await;
    let builder = active.config.builders.get("unit").unwrap();
    let mut known = request.clone();
    let class = async |request: &mut rouse_model::buildset::Request, pool: &PoolConfig| {
        lone.fleet.class_of(&active, builder, request, "pair", pool).await.unwrap()
    };
    assert_eq!(class(&mut known, pair).await, None, "its image is asked for");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let class = class(&mut known, pair).await.expect("its image is known");
    assert!(lone.fleet.specs.is_of(&class.spec_digest, pair));
    assert!(!lone.fleet.specs.is_of(&class.spec_digest, single) && !lone.fleet.specs.is_of("none", pair));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_was_told_of_an_image_is_not_asked_again() {
    let lone = Lone::of(CONFIG).await;
    let active = lone.active();
    let pool = &active.config.pools["single"];
    let ask = rouse_contract::ResolveRequest {
        images: vec!["debian:12".into()],
        options: serde_json::json!({}),
        secrets: rouse_contract::Keyring::default(),
        tree: None,
    };
    let (account, key) = lone.fleet.whom(&active, pool, &ask).unwrap();
    let mut request = lone.request("unit").await;
    let settled = rouse_model::buildset::SettledImage { image: "debian:12".into(), id: "as it was".into() };
    request.provision.images.insert(key.clone(), settled);
    let image = lone.fleet.image(&request, account, ask, &key).await.unwrap();
    assert!(
        matches!(&image, crate::fleet::resolving::Image::Is(resolved) if resolved.id == "as it was"),
        "{image:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_took_of_its_account_is_there_again_when_it_is_gone() {
    let lone = Lone::of(CONFIG).await;
    let worker = lone.worker(1, "single", "one");
    let asks = Asks::of(&worker);
    let may_ask = || matches!(lone.fleet.offerings.may("one", asks), May::Ask);
    lone.fleet.offering_refused(&worker, Scarce::Offering("fake".into()), None);
    tokio::time::advance(Duration::from_secs(2)).await;
    lone.fleet.offerings.asks("one", asks);
    assert!(!may_ask());
    // It was to find out, and was called off before it was taken.
    lone.fleet.offering_freed(&worker);
    assert!(may_ask());
    lone.fleet.offering_refused(&worker, Scarce::Offering("fake".into()), None);
    assert!(!may_ask());
    lone.fleet.offering_freed(&Worker { accepted: Some(lone.now()), ..worker.clone() });
    assert!(may_ask(), "there may be room now");
}
