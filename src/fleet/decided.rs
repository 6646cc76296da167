//! Decisions on record: a row for each deed, and for each state that lasts. What is the same as before is counted, not written again.
//!
//! The memory of the last one of each pool belongs to whoever has the fleet's role, and goes with it.

use rouse_model::decision::{Decision, DecisionCode, Reckoning};
use rouse_model::{ConfigRevisionId, DecisionId, MasterId, Timestamp};
use rouse_store::Batch;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// What nothing was done for is kept if it lasts so long: between two launches there is mostly something of that kind.
const LASTING: Duration = Duration::from_secs(2);
/// How long it has lasted is written down so often.
const WRITTEN: Duration = Duration::from_secs(60);

/// The last decision of each pool.
#[derive(Debug, Default)]
pub(super) struct Decided(Mutex<HashMap<String, Last>>);

#[derive(Debug)]
struct Last {
    decision: Decision,
    since: Instant,
    /// When its row was written; not yet where it has not lasted.
    written: Option<Instant>,
}

/// What a pass came to for one pool.
#[derive(Debug)]
pub(super) struct Now<'a> {
    pub pool: &'a str,
    pub code: DecisionCode,
    pub reckoning: Reckoning,
    pub config: ConfigRevisionId,
    pub master: MasterId,
    pub at: Timestamp,
}

impl Decided {
    fn pools(&self) -> MutexGuard<'_, HashMap<String, Last>> {
        self.0.lock().expect("nothing panics while it is held")
    }

    /// Whether it is the same as the last one of its pool, and so needs no number.
    pub(super) fn goes_on(&self, now: &Now<'_>) -> bool {
        self.pools().get(now.pool).is_some_and(|last| last.decision.code == now.code && !now.code.is_deed())
    }

    /// The same once more; what is to be written of that.
    pub(super) fn again(&self, now: Now<'_>, batch: &mut Batch) {
        if let Some(last) = self.pools().get_mut(now.pool) {
            last.decision.passes += 1;
            last.decision.until = now.at;
            last.decision.reckoning = now.reckoning;
            last.write(batch);
        }
    }

    /// Something else; what is to be written of it and of the one before.
    pub(super) fn next(&self, id: DecisionId, now: Now<'_>, batch: &mut Batch) {
        let decision = Decision {
            id,
            pool: now.pool.to_owned(),
            code: now.code,
            at: now.at,
            until: now.at,
            passes: 1,
            config: now.config,
            master: now.master,
            reckoning: now.reckoning,
        };
        let mut next = Last { decision, since: Instant::now(), written: None };
        next.write(batch);
        let before = self.pools().insert(now.pool.to_owned(), next);
        if let Some(before) = before.filter(|last| last.written.is_some() && last.decision.passes > 1) {
            batch.upsert(&before.decision);
        }
    }

    /// Another master decides.
    pub(super) fn forget(&self) {
        self.pools().clear();
    }
}

impl Last {
    /// Where it is due.
    fn write(&mut self, batch: &mut Batch) {
        let due = match self.written {
            // Nothing to tell, however long it lasts.
            Some(_) if self.decision.code == DecisionCode::Rest => false,
            Some(written) => written.elapsed() >= WRITTEN,
            None => self.decision.code.is_deed() || self.since.elapsed() >= LASTING,
        };
        if due {
            self.written = Some(Instant::now());
            batch.upsert(&self.decision);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::scaling::Limits;

    fn now(code: DecisionCode, at: i64) -> Now<'static> {
        let limits = Limits {
            min: 0,
            max: 2,
            waiting: 0,
            slots: 1,
            builds: 1,
            ramp: 9,
            idle: Duration::ZERO,
            boot: None,
            foretold: 0.0,
            reserve: 0.0,
            warm: 0,
            park: 0,
            usual: None,
            purse: None,
        };
        let reckoning = Reckoning::within(&limits, &[]);
        Now {
            pool: "p",
            code,
            reckoning,
            config: ConfigRevisionId(1),
            master: MasterId(1),
            at: Timestamp::from_secs(at),
        }
    }

    /// What a pass writes, as it would be done.
    async fn pass(decided: &Decided, store: &rouse_store::Store, now: Now<'_>) {
        let mut batch = Batch::new("fleet.decided");
        if decided.goes_on(&now) {
            decided.again(now, &mut batch);
        } else {
            decided.next(store.next_id().await.expect("a number"), now, &mut batch);
        }
        if !batch.is_empty() {
            store.commit(batch).await.expect("written");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn deeds_and_what_lasts_are_kept_once() {
        let store = rouse_store::testing::Memory::new().expect("memory").open().await.expect("a store");
        let decided = Decided::default();
        let kept = async || -> Vec<(DecisionCode, i64, i64)> {
            let page = rouse_store::Page::default();
            let rows = store.decisions("p", page).await.expect("rows");
            rows.iter().rev().map(|d| (d.code, d.passes, d.until.since(d.at).as_secs() as i64)).collect()
        };
        // Two launches are two, and what lies between them is not told of.
        for (at, code) in [(0, DecisionCode::Launch), (1, DecisionCode::Met), (2, DecisionCode::Launch)] {
            pass(&decided, &store, now(code, at)).await;
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let launches = [(DecisionCode::Launch, 1, 0), (DecisionCode::Launch, 1, 0)];
        assert_eq!(kept().await, launches);
        for at in 3..100 {
            pass(&decided, &store, now(DecisionCode::PoolFull, at)).await;
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // Written when it had lasted, and a minute after that.
        assert_eq!(kept().await[2..], [(DecisionCode::PoolFull, 63, 62)]);
        pass(&decided, &store, now(DecisionCode::End, 100)).await;
        assert_eq!(kept().await[2..], [(DecisionCode::PoolFull, 97, 96), (DecisionCode::End, 1, 0)]);
        for at in 101..1_000 {
            pass(&decided, &store, now(DecisionCode::Rest, at)).await;
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(kept().await[4..], [(DecisionCode::Rest, 3, 2)], "rest is written once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_passed_by_or_is_as_it_was_written_is_not_written() {
        let decided = Decided::default();
        let next = |id: i64, code, at| {
            let mut batch = Batch::new("fleet.decided");
            decided.next(DecisionId(id), now(code, at), &mut batch);
            !batch.is_empty()
        };
        assert!(next(1, DecisionCode::Launch, 0));
        assert!(!next(2, DecisionCode::Met, 0), "the launch is on record as it is");
        let mut batch = Batch::new("fleet.decided");
        decided.again(now(DecisionCode::Met, 1), &mut batch);
        assert!(batch.is_empty() && !next(3, DecisionCode::PoolFull, 1), "it did not last");
        assert!(decided.goes_on(&now(DecisionCode::PoolFull, 2)));
        decided.forget();
        assert!(!decided.goes_on(&now(DecisionCode::PoolFull, 2)), "another master decides");
    }
}
