//! What pools have spent of their budgets, by the calendar.

use crate::config::PoolConfig;
use crate::ctx::Ctx;
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc};
use rouse_contract::units::{Each, Tariff};
use rouse_model::budget::{BudgetGrant, Parking, cost_since};
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::money::Money;
use rouse_model::worker::Worker;
use rouse_model::{BudgetGrantId, Timestamp};
use rouse_store::{Batch, CommitError, ReadError, Store};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// By then no master, whatever its clock says, writes that a worker was gone before.
const SETTLED: Duration = Duration::from_secs(120);
/// In microseconds: what is settled is added up once in one.
const MINUTE: i64 = 60_000_000;

/// One limit of a pool's budget, in the hour, day, week or month that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    pub limit: Tariff,
    /// With what is granted beyond it.
    pub amount: Money,
    pub spent: Money,
    /// When it begins anew.
    pub until: Timestamp,
}

/// What workers that have been gone for a while have cost, so that not all of a month is added up at each look.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<HashMap<(String, Each), Closed>>);

/// A part of an hour, day, week or month that nothing is added to any more.
#[derive(Debug, Clone, Copy)]
struct Closed {
    from: Timestamp,
    until: Timestamp,
    cost: Money,
}

impl Ledger {
    /// What those that are gone have cost since the limit began anew.
    async fn cost_of_gone(
        &self,
        store: &Store,
        pool: &str,
        each: Each,
        from: Timestamp,
        now: Timestamp,
    ) -> Result<Money, ReadError> {
        let until = Timestamp((now - SETTLED).0 / MINUTE * MINUTE).max(from);
        let key = (pool.to_owned(), each);
        let known = self.0.lock().expect("nothing panics while it is held").get(&key).copied();
        let closed = match known.filter(|closed| closed.from == from && closed.until == until) {
            Some(closed) => closed.cost,
            None => {
                let cost = store.cost_of_gone(pool, from, (from, until)).await?;
                let closed = Closed { from, until, cost };
                self.0.lock().expect("nothing panics while it is held").insert(key, closed);
                cost
            }
        };
        Ok(closed + store.cost_of_gone(pool, from, (until, Timestamp(i64::MAX))).await?)
    }
}

/// How each limit of a pool's budget stands. `live` are its workers that are not gone.
///
/// # Errors
/// Where the store cannot be read.
pub async fn spent(
    store: &Store,
    ledger: &Ledger,
    name: &str,
    pool: &PoolConfig,
    live: &[&Worker],
    now: Timestamp,
) -> Result<Vec<Spent>, ReadError> {
    if pool.budget.limits.is_empty() {
        return Ok(Vec::new());
    }
    let grants = store.budget_grants_at(now).await?;
    let lay = match live.iter().any(|worker| worker.resumes > 0 || worker.parked_since().is_some()) {
        true => store.parkings_of_live(name).await?,
        false => Vec::new(),
    };
    let granted: Money = grants.iter().filter(|grant| grant.pool == name).map(|grant| grant.amount).sum();
    let mut all = Vec::with_capacity(pool.budget.limits.len());
    for limit in &pool.budget.limits {
        let (from, until) = window(limit.each, now);
        let gone = ledger.cost_of_gone(store, name, limit.each, from, now).await?;
        let spent = gone + of_live(live, &lay, from, now);
        all.push(Spent { limit: *limit, amount: limit.amount + granted, spent, until });
    }
    Ok(all)
}

/// Why nothing was granted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("number a grant")]
    Read(#[from] ReadError),
    #[error("record a grant")]
    Commit(#[from] CommitError),
}

/// Lets a pool spend more than its budget from now on, for so long; `by` is who says so, and why.
///
/// # Errors
/// Where the store is away.
pub async fn grant(
    ctx: &Ctx,
    pool: &str,
    amount: Money,
    length: Duration,
    by: String,
) -> Result<BudgetGrant, GrantError> {
    let now = ctx.now();
    let id: BudgetGrantId = ctx.store.next_id().await?;
    let grant = BudgetGrant { id, pool: pool.to_owned(), amount, granted: now, until: now + length, by };
    let payload = serde_json::json!({"amount": amount.as_f64(), "until": grant.until, "by": grant.by});
    let mut batch = Batch::new("budget.grant");
    batch.insert(&grant).event(NewEvent {
        kind: EventKind::BudgetGranted,
        version: 1,
        subject: format!("pool/{pool}"),
        project: String::new(),
        at: now,
        payload,
    });
    ctx.store.commit(batch).await?;
    tracing::info!(pool, %amount, by = grant.by, "more may be spent than the budget says");
    ctx.nudges.fleet.notify_one();
    Ok(grant)
}

fn of_live(workers: &[&Worker], lay: &[Parking], from: Timestamp, now: Timestamp) -> Money {
    let cost = |worker: &&Worker| {
        let since = worker.accepted.unwrap_or(worker.requested);
        cost_since(worker.price, since, from, now)
    };
    let spared = lay.iter().filter(|lay| workers.iter().any(|worker| worker.id == lay.worker));
    workers.iter().map(cost).sum::<Money>() - spared.map(|lay| lay.spared(from, now)).sum()
}

/// Since when a limit counts what is spent, and until when, in UTC.
fn window(each: Each, now: Timestamp) -> (Timestamp, Timestamp) {
    let at = DateTime::<Utc>::from_timestamp_micros(now.0).unwrap_or_default().naive_utc();
    let day = at.date();
    let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN);
    let (from, until) = match each {
        Each::Minute | Each::Hour => {
            let from = midnight(day) + TimeDelta::hours(at.hour().into());
            (from, from + TimeDelta::hours(1))
        }
        Each::Day => (midnight(day), midnight(day + Days::new(1))),
        Each::Week => {
            let monday = day - Days::new(day.weekday().num_days_from_monday().into());
            (midnight(monday), midnight(monday + Days::new(7)))
        }
        Each::Month => {
            let first = day - Days::new(day.day0().into());
            (midnight(first), midnight(first + Months::new(1)))
        }
    };
    let micros = |at: chrono::NaiveDateTime| Timestamp(at.and_utc().timestamp_micros());
    (micros(from), micros(until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_begin_anew_by_the_calendar() {
        let at = |text: &str| Timestamp(text.parse::<DateTime<Utc>>().expect(text).timestamp_micros());
        let now = at("2026-02-26T13:45:10.5Z");
        for (each, from, until) in [
            (Each::Hour, "2026-02-26T13:00:00Z", "2026-02-26T14:00:00Z"),
            (Each::Day, "2026-02-26T00:00:00Z", "2026-02-27T00:00:00Z"),
            (Each::Week, "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"),
            (Each::Month, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ] {
            assert_eq!(window(each, now), (at(from), at(until)), "{each:?}");
        }
    }
}
