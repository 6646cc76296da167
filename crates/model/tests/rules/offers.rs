//! Which offering is launched next.

use proptest::prelude::*;
use rouse_model::money::Price;
use rouse_model::scaling::offers::{
    Choice, LOST_AT_MOST, Next, Offer, Offering, Passed, Record, Standing, Why, choose,
};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const OPEN: Standing = Standing::Open;

fn one(name: &str, price: i64, standing: Standing) -> Offering {
    Offering { name: name.into(), price: Price(price), standing, record: Record::default() }
}

fn refused(minutes: u32) -> Standing {
    Standing::Refused { refused_for: MINUTE * minutes, again_in: MINUTE / 2 }
}

fn offers(spot: [Standing; 2], on_demand: Standing) -> Vec<Offer> {
    let spot = vec![one("spot a", 50, spot[0]), one("spot b", 40, spot[1])];
    vec![
        Offer { try_for: Some(MINUTE * 5), of: spot },
        Offer { try_for: None, of: vec![one("on demand", 170, on_demand)] },
    ]
}

fn next(spot: [Standing; 2], on_demand: Standing) -> Next {
    choose(&offers(spot, on_demand), |_| true).next
}

const FIRST: Next = Next::Launch { offer: 0, at: 0 };
const CHEAPEST: Next = Next::Launch { offer: 0, at: 1 };
const LATER: Next = Next::Launch { offer: 1, at: 0 };

#[test]
fn an_offer_is_tried_for_its_time() {
    assert_eq!(next([OPEN, OPEN], OPEN), CHEAPEST);
    assert_eq!(next([OPEN, refused(9)], OPEN), FIRST, "the other one of the same offer");
    assert_eq!(next([refused(9), refused(4)], OPEN), Next::Wait(Some(MINUTE / 2)), "one was refused late");
    let soon = Standing::Refused { refused_for: MINUTE * 5 - Duration::from_secs(3), again_in: MINUTE };
    assert_eq!(
        next([refused(9), soon], OPEN),
        Next::Wait(Some(Duration::from_secs(3))),
        "when its time is over"
    );
    assert_eq!(next([refused(9), refused(5)], OPEN), LATER);
    let finds_out = |minutes: u32| Standing::Asked { refused_for: Some(MINUTE * minutes) };
    assert_eq!(next([refused(9), finds_out(5)], OPEN), LATER, "the others do not wait for whoever finds out");
    assert_eq!(next([refused(9), finds_out(4)], OPEN), Next::Wait(None));
    let again = Standing::Asked { refused_for: None };
    assert_eq!(next([refused(9), again], OPEN), Next::Wait(None), "it can be had again, by few at first");
    assert_eq!(next([refused(9), refused(9)], refused(1)), Next::Wait(Some(MINUTE / 2)));
    let late = Standing::Refused { refused_for: MINUTE, again_in: MINUTE * 9 };
    let last = Offer { try_for: Some(MINUTE * 5), of: vec![one("only", 50, late)] };
    let wait = choose(&[last], |_| true).next;
    assert_eq!(wait, Next::Wait(Some(MINUTE * 9)), "there is nothing after it to be waited for");
}

#[test]
fn what_became_of_a_worker_is_added_to_what_became_of_others() {
    let mut record = Record::default();
    record.add(MINUTE, true, false);
    record.add(MINUTE * 2, false, true);
    record.add(MINUTE * 600, true, true);
    let lost = MINUTE * 2 + LOST_AT_MOST;
    assert_eq!(record, Record { launched: 3, came: 2, interrupted: 2, there: MINUTE * 603, lost });
}

#[test]
fn time_that_is_lost_counts_as_its_share_of_all_and_of_what_is_taken_for_granted() {
    let lost =
        |there: u32, lost: u32| Record { there: MINUTE * there, lost: MINUTE * lost, ..Record::default() };
    assert_eq!((lost(0, 0).keeps(), lost(120, 60).keeps(), lost(60, 90).keeps()), (1.0, 0.75, 2.0 / 3.0));
}

#[test]
fn what_was_passed_over_is_told() {
    let Choice { passed, .. } = choose(&offers([refused(9), refused(5)], OPEN), |_| true);
    let why = |minutes: u32| Why::Refused { refused_for: MINUTE * minutes };
    assert_eq!(passed, [Passed { offer: 0, at: 0, why: why(9) }, Passed { offer: 0, at: 1, why: why(5) }]);
    let Choice { passed, .. } = choose(&offers([refused(9), OPEN], OPEN), |_| true);
    assert_eq!(passed, [], "it would not have been taken anyway");
    let Choice { next, passed } = choose(&offers([OPEN, refused(9)], OPEN), |_| true);
    assert_eq!((next, passed), (FIRST, vec![Passed { offer: 0, at: 1, why: why(9) }]), "the cheaper one");
    let alike = Offer { try_for: None, of: vec![one("a", 40, refused(1)), one("b", 40, OPEN)] };
    assert_eq!(choose(&[alike], |_| true).passed, [], "nothing was lost with it");
    let dear = choose(&offers([OPEN, OPEN], OPEN), |price| price.0 < 45);
    assert_eq!((dear.next, dear.passed), (CHEAPEST, vec![]));
    let dear = choose(&offers([OPEN, refused(1)], OPEN), |price| price.0 < 45);
    assert_eq!((dear.next, dear.passed.len()), (Next::Wait(Some(MINUTE / 2)), 2));
    assert_eq!(choose(&offers([OPEN, OPEN], OPEN), |_| false).next, Next::TooDear);
}

#[test]
fn a_dear_offer_gives_way_to_a_cheap_one_that_is_paid_for() {
    let rack = Offer { try_for: Some(MINUTE), of: vec![one("own", 900, OPEN)] };
    let cloud = Offer { try_for: None, of: vec![one("spot", 40, OPEN)] };
    let choice = choose(&[rack, cloud], |price| price.0 < 100);
    assert_eq!(choice.next, LATER);
    assert_eq!(choice.passed, [Passed { offer: 0, at: 0, why: Why::TooDear }]);
}

#[test]
fn what_is_lost_makes_an_hour_dear() {
    let price = Price(100);
    let fresh = Record::default();
    assert!((fresh.score(price) - 100.0).abs() < 1e-9, "nothing is known against it");
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let good = Record { launched: 20, came: 20, interrupted: 0, there: hours(20), lost: Duration::ZERO };
    let taken = Record { interrupted: 10, lost: hours(10), ..good };
    let broken = Record { came: 10, ..good };
    assert!(good.score(price) <= fresh.score(price) + 1e-9);
    assert!((1.7..2.0).contains(&(taken.score(price) / 100.0)), "{}", taken.score(price));
    assert!((1.6..2.0).contains(&(broken.score(price) / 100.0)), "{}", broken.score(price));
    let mut offers = offers([OPEN, OPEN], OPEN);
    offers[0].of[1].record = taken;
    assert_eq!(choose(&offers, |_| true).next, FIRST, "the dearer one is cheaper in the end");
}

fn standings() -> impl Strategy<Value = Standing> {
    let some = || (0_u64..1_200).prop_map(Duration::from_secs);
    prop_oneof![
        3 => Just(OPEN),
        1 => prop::option::of(some()).prop_map(|refused_for| Standing::Asked { refused_for }),
        3 => (some(), some()).prop_map(|(refused_for, again_in)| Standing::Refused { refused_for, again_in }),
    ]
}

fn records() -> impl Strategy<Value = Record> {
    (0_u32..40, 0_u32..40, 0_u32..40, 0_u64..100_000, 0_u64..100_000).prop_map(
        |(launched, came, interrupted, there, lost)| Record {
            launched,
            came: came.min(launched),
            interrupted,
            there: Duration::from_secs(there),
            lost: Duration::from_secs(lost.min(there)),
        },
    )
}

fn tiers() -> impl Strategy<Value = Vec<Offer>> {
    let one = (0_i64..300, standings(), records())
        .prop_map(|(price, standing, record)| Offering { record, ..one("any", price, standing) });
    let offer = (prop::option::of(0_u64..900), prop::collection::vec(one, 1..4))
        .prop_map(|(secs, of)| Offer { try_for: secs.map(Duration::from_secs), of });
    prop::collection::vec(offer, 1..4)
}

fn refused_for(one: &Offering) -> Option<Duration> {
    match one.standing {
        Standing::Open => None,
        Standing::Asked { refused_for } => refused_for,
        Standing::Refused { refused_for, .. } => Some(refused_for),
    }
}

proptest! {
    #[test]
    fn no_later_offer_before_its_time_and_none_passed_that_can_be_had(offers in tiers(), most in 0_i64..400) {
        let pays = |price: Price| price.0 <= most;
        let choice = choose(&offers, pays);
        let over = |offer: &Offer| {
            let wanted = offer.of.iter().filter(|one| pays(one.price));
            wanted.map(refused_for).all(|refused| refused.is_some_and(|r| r >= offer.try_for.unwrap_or_default()))
        };
        match choice.next {
            Next::Launch { offer, at } => {
                let chosen = &offers[offer].of[at];
                prop_assert!(chosen.standing == OPEN && pays(chosen.price));
                prop_assert!(offers[..offer].iter().all(over), "a later offer before its time");
                let alike = offers[offer].of.iter().filter(|one| one.standing == OPEN && pays(one.price));
                let best = alike.map(|one| one.record.score(one.price)).fold(f64::INFINITY, f64::min);
                prop_assert!(chosen.record.score(chosen.price) <= best, "the cheapest");
            }
            _ => {
                let tried = offers.iter().position(|offer| !over(offer)).map_or(offers.len(), |last| last + 1);
                let open = offers[..tried].iter().flat_map(|offer| &offer.of);
                prop_assert!(open.into_iter().all(|one| one.standing != OPEN || !pays(one.price)), "one can be had");
                let any = offers[..tried].iter().flat_map(|offer| &offer.of).any(|one| pays(one.price));
                prop_assert_eq!(choice.next == Next::TooDear, !any);
            }
        }
    }

    #[test]
    fn who_asks_more_is_not_taken_for_that(mut offers in tiers(), offer in 0_usize..3, at in 0_usize..3, more in 1_i64..500) {
        let Some(found) = offers.get_mut(offer).and_then(|offer| offer.of.get_mut(at)) else { return Ok(()) };
        let here = Next::Launch { offer, at };
        let was = found.price;
        found.price.0 += more;
        let dear = choose(&offers, |_| true).next;
        offers[offer].of[at].price = was;
        let before = choose(&offers, |_| true).next;
        prop_assert!(dear != here || before == here);
    }
}
