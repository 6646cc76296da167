//! What was spent is added up alike.

use super::{Subject, insert, samples};
use rouse_model::budget::Parking;
use rouse_model::money::{Money, Price};
use rouse_model::worker::Worker;
use rouse_model::{BudgetGrantId, Timestamp, WorkerId};

const HOUR: i64 = 3600;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_secs(hours * HOUR)
}

/// One of a pool, that was there from one hour to another.
fn there(id: i64, pool: &str, price: i64, accepted: Option<i64>, gone: Option<i64>) -> Worker {
    let (accepted, gone) = (accepted.map(at), gone.map(at));
    Worker { pool: pool.into(), price: Price(price), accepted, gone, ..samples::worker(id) }
}

pub async fn what_is_gone_has_cost_what_it_was_there_for(subject: &dyn Subject) {
    let store = subject.open().await;
    for worker in [
        there(1, "big", 1_000, Some(0), Some(10)),
        there(2, "big", 100, Some(8), Some(12)),
        there(3, "big", 10_000, Some(1), Some(5)),
        there(4, "big", 7, None, Some(11)),
        there(5, "big", 7, Some(1), None),
        there(6, "small", 5, Some(9), Some(10)),
        there(7, "big", 0, Some(9), Some(10)),
        // A year of a thousand an hour.
        there(8, "long", 1_000_000_000, Some(0), Some(365 * 24)),
    ] {
        insert(&store, &worker).await;
    }
    let cost = async |pool, from, after, until| {
        store.cost_of_gone(pool, at(from), (at(after), at(until))).await.expect("it can be read")
    };
    assert_eq!(cost("big", 6, 6, 99).await, Money(4 * 1_000 + 4 * 100), "from six on");
    assert_eq!(cost("big", 9, 9, 99).await, Money(1_000 + 3 * 100));
    assert_eq!(
        (cost("big", 6, 6, 10).await, cost("big", 6, 10, 99).await),
        (Money(4_000), Money(400)),
        "in two parts"
    );
    assert_eq!((cost("small", 0, 0, 99).await, cost("none", 0, 0, 99).await), (Money(5), Money(0)));
    assert_eq!(cost("long", 0, 0, 99_999).await, Money(365 * 24 * 1_000_000_000));
}

pub async fn what_lay_parked_has_cost_less(subject: &dyn Subject) {
    let store = subject.open().await;
    insert(&store, &there(1, "big", 1_000, Some(0), Some(20))).await;
    insert(&store, &there(2, "big", 1_000, Some(0), None)).await;
    let lay = |worker, nth, since, until: Option<i64>| Parking {
        worker: WorkerId(worker),
        nth,
        since: at(since),
        until: until.map(at),
        spares: Price(900),
    };
    // Once resumed, and then ended where it lay.
    let all = [lay(1, 0, 2, Some(5)), lay(1, 1, 10, None), lay(2, 0, 3, None)];
    for parking in &all {
        insert(&store, parking).await;
    }
    let cost =
        async |from| store.cost_of_gone("big", at(from), (at(from), at(99))).await.expect("it can be read");
    assert_eq!(cost(0).await, Money(20 * 1_000 - (3 + 10) * 900));
    assert_eq!(cost(4).await, Money(16 * 1_000 - (1 + 10) * 900), "from four on");
    assert_eq!(cost(15).await, Money(5 * 100));
    assert_eq!(store.parking(WorkerId(1), 1).await.expect("read"), Some(all[1]));
    assert_eq!(store.parking(WorkerId(1), 2).await.expect("read"), None);
    assert_eq!(store.parkings_of_live("big").await.expect("read"), [all[2]]);
    assert_eq!(store.parkings_of(WorkerId(1)).await.expect("read"), all[..2]);
    assert_eq!(all[0].spared(at(4), at(99)), Money(900));
    assert_eq!(all[2].spared(at(4), at(6)), Money(1_800), "as of then");
}

pub async fn grants_hold_until_their_time_is_over(subject: &dyn Subject) {
    let store = subject.open().await;
    for (id, pool, until) in [(1, "big", 5), (2, "small", 9), (3, "big", 7)] {
        insert(
            &store,
            &rouse_model::budget::BudgetGrant { until: at(until), ..samples::budget_grant(id, pool) },
        )
        .await;
    }
    let hold = async |hour| -> Vec<BudgetGrantId> {
        let grants = store.budget_grants_at(at(hour)).await.expect("they can be read");
        grants.iter().map(|grant| grant.id).collect()
    };
    assert_eq!(hold(4).await, [1, 2, 3].map(BudgetGrantId));
    assert_eq!((hold(5).await, hold(9).await), ([2, 3].map(BudgetGrantId).to_vec(), vec![]));
    let of_big = store.budget_grants("big", crate::Page::default()).await.expect("they can be read");
    assert_eq!(of_big.iter().map(|grant| grant.id.0).collect::<Vec<_>>(), [3, 1], "newest first");
}
