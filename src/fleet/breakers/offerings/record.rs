//! What accounts have refused, on record: a row is written when something changes (a refusal that counts, an end of refusals), never for each launch. Whoever
//! has the fleet's role reads what others have written, since each master launches its own workers.

use super::{All, Offerings, Refused};
use crate::fleet::{Fleet, FleetError};
use rouse_contract::ProviderError;
use rouse_model::Timestamp;
use rouse_model::breaker::{self, Breaker, FORGOTTEN};
use rouse_model::offering::{OfferingHealth, Scarce};
use rouse_store::Batch;
use std::collections::{HashMap, HashSet};
use std::sync::MutexGuard;
use std::time::Duration;
use tokio::time::Instant;

/// Between looks at what other masters have written.
const LOOK: Duration = Duration::from_secs(5);
/// What was written so long ago is read by everybody.
const SETTLED: Duration = Duration::from_secs(30);

/// What is known of the rows.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// When they were read.
    read: Option<Instant>,
    /// As they stand, as far as this process knows.
    rows: HashMap<(String, Scarce), Timestamp>,
}

/// One change of a row.
#[derive(Debug)]
enum Change {
    Written(OfferingHealth),
    /// There is nothing more to know of it.
    Over(OfferingHealth),
}

/// The error that a refusal was told with.
fn error_of(account: &str, what: &Scarce) -> ProviderError {
    ProviderError::new(what.class(), format!("launch on `{account}`"), what.to_string())
}

/// The instant of a moment on record; the beginning of this process' clock for one before that.
fn instant(at: Timestamp, now: Timestamp) -> Instant {
    let here = Instant::now();
    if at > now { here + at.since(now) } else { here.checked_sub(now.since(at)).unwrap_or(here) }
}

fn moment(at: Instant, now: Timestamp) -> Timestamp {
    let here = Instant::now();
    if at > here { now + at.duration_since(here) } else { now - here.duration_since(at) }
}

impl Refused {
    fn of_row(row: &OfferingHealth, now: Timestamp) -> Self {
        let failures = u32::try_from(row.failures).unwrap_or(u32::MAX);
        let breaker = Breaker::known(failures, instant(row.until, now));
        let since = row.refused_since.map(|since| instant(since, now));
        Self {
            known: breaker::Refused::known(breaker, since),
            error: error_of(&row.account, &row.what),
            by: row.wanted_by.clone(),
            written: Some(row.changed),
        }
    }

    fn row(&self, (account, what): &(String, Scarce), now: Timestamp) -> OfferingHealth {
        OfferingHealth {
            account: account.clone(),
            what: what.clone(),
            wanted_by: self.by.clone(),
            refused_since: self.known.since().map(|since| moment(since, now)),
            failures: self.known.breaker().failures().into(),
            until: moment(self.known.breaker().until(), now),
            changed: now,
        }
    }
}

impl Offerings {
    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.record.lock().expect("nothing panics while it is held")
    }

    /// What was read is old by the time it is wanted again.
    pub(in crate::fleet) fn read_anew(&self) {
        self.recorded().read = None;
    }

    fn is_to_be_read(&self) -> bool {
        self.recorded().read.is_none_or(|read| read.elapsed() >= LOOK)
    }

    /// Takes over what others have written since, and answers what nobody needs any more.
    fn take_over(&self, rows: Vec<OfferingHealth>, now: Timestamp) -> Vec<OfferingHealth> {
        let (mut known, mut recorded) = (self.known(), self.recorded());
        let mut over = Vec::new();
        let mut there = HashSet::new();
        for row in rows {
            let key = (row.account.clone(), row.what.clone());
            let here = known.get(&key);
            if here.is_none() && row.until + FORGOTTEN < now {
                over.push(row);
                continue;
            }
            let is_news = recorded.rows.get(&key).is_none_or(|written| *written < row.changed);
            // What is about to be written is newer.
            if is_news && here.is_none_or(|here| here.written.is_some()) {
                known.insert(key.clone(), Refused::of_row(&row, now));
                recorded.rows.insert(key.clone(), row.changed);
            }
            there.insert(key);
        }
        // Another master has found that it can be had; but what was written just now may not have been there yet.
        let settled = |written: Timestamp| written + SETTLED < now;
        known.retain(|key, here| there.contains(key) || here.written.is_none_or(|written| !settled(written)));
        recorded.rows.retain(|key, written| there.contains(key) || !settled(*written));
        recorded.read = Some(Instant::now());
        over
    }

    /// What has changed here since it was written down; as good as written with the answer.
    fn changes(&self, now: Timestamp) -> Vec<Change> {
        let (mut known, mut recorded) = (self.known(), self.recorded());
        let mut changes = Vec::new();
        for (key, refused) in known.iter_mut().filter(|(_, refused)| refused.written.is_none()) {
            refused.written = Some(now);
            recorded.rows.insert(key.clone(), now);
            changes.push(Change::Written(refused.row(key, now)));
        }
        let known: &All = &known;
        recorded.rows.retain(|key, _| {
            if known.contains_key(key) {
                return true;
            }
            changes.push(Change::Over(over(key, now)));
            false
        });
        changes
    }

    /// A row that could not be written is to be written again.
    fn not_written(&self, row: &OfferingHealth) {
        if let Some(refused) = self.known().get_mut(&(row.account.clone(), row.what.clone())) {
            refused.written = None;
        }
    }
}

/// A row of which only the key matters.
fn over((account, what): &(String, Scarce), now: Timestamp) -> OfferingHealth {
    let (account, what) = (account.clone(), what.clone());
    let wanted_by = [].into();
    OfferingHealth { account, what, wanted_by, refused_since: None, failures: 0, until: now, changed: now }
}

impl Fleet {
    /// Reads what accounts have refused, where that was not done lately.
    pub(in crate::fleet) async fn read_offerings(&self) -> Result<(), FleetError> {
        if !self.offerings.is_to_be_read() {
            return Ok(());
        }
        let rows = self.ctx.store.offering_health().await?;
        for row in self.offerings.take_over(rows, self.ctx.now()) {
            let mut batch = Batch::new("offering.forgotten");
            batch.delete(&row);
            match self.ctx.store.commit(batch).await {
                Ok(()) => {}
                // Another master was faster.
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes down what has changed. Nothing depends on it but how soon others know: where it fails, it is tried with the next change.
    pub(in crate::fleet) async fn write_offerings(&self) {
        for change in self.offerings.changes(self.ctx.now()) {
            let mut batch = Batch::new("offering.health");
            match &change {
                Change::Written(row) => batch.upsert(row),
                Change::Over(row) => batch.delete(row),
            };
            match self.ctx.store.commit(batch).await {
                Ok(()) => {}
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    let error = crate::supervisor::chain(&error);
                    tracing::warn!(error, "what an account has refused could not be written down");
                    if let Change::Written(row) = &change {
                        self.offerings.not_written(row);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::breakers::May;
    use crate::fleet::breakers::offerings::Asks;

    const SPOT: Asks<'static> = Asks { pool: "linux", offering: Some("spot") };

    fn spot() -> Scarce {
        Scarce::Offering("spot".into())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_764_000_000 + seconds)
    }

    fn refuse(offerings: &Offerings) {
        offerings.refused("aws", SPOT, spot(), &error_of("aws", &spot()));
    }

    fn written(offerings: &Offerings, now: Timestamp) -> Vec<OfferingHealth> {
        let rows = offerings.changes(now).into_iter().map(|change| match change {
            Change::Written(row) => row,
            Change::Over(row) => panic!("{row:?} is still wanted"),
        });
        rows.collect()
    }

    fn waits(offerings: &Offerings) -> Option<u64> {
        match offerings.may("aws", SPOT) {
            May::Not(error) => error.retry_after.map(|wait| wait.as_secs()),
            May::Ask | May::Wait => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_master_goes_on_where_the_first_one_was() {
        let (one, other) = (Offerings::default(), Offerings::default());
        refuse(&one);
        let rows = written(&one, at(0));
        refuse(&one);
        assert_eq!(written(&one, at(1)), [], "nobody is told twice");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(other.take_over(rows, at(1)), []);
        assert_eq!((waits(&one), waits(&other)), (Some(1), Some(1)));
        assert_eq!(other.about("aws", SPOT).refused_for, Some(Duration::from_secs(1)));
        // It finds out, and its pause is the second one.
        tokio::time::advance(Duration::from_secs(1)).await;
        other.asks("aws", SPOT);
        refuse(&other);
        let rows = written(&other, at(2));
        assert_eq!(one.take_over(rows, at(2)), []);
        assert_eq!((waits(&one), waits(&other)), (Some(4), Some(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_found_good_is_good_and_what_was_written_just_now_stays() {
        let one = Offerings::default();
        refuse(&one);
        let rows = written(&one, at(0));
        assert_eq!(one.take_over(Vec::new(), at(1)), []);
        assert_eq!(waits(&one), Some(2), "it was read before it was written");
        assert_eq!(one.take_over(Vec::new(), at(60)), []);
        assert!(one.about("aws", SPOT).refused_for.is_none(), "another master has taken it away");
        assert!(one.changes(at(60)).is_empty(), "and needs not be told of that");
        let long_ago = at(3_600);
        assert_eq!(
            Offerings::default().take_over(rows.clone(), long_ago),
            rows,
            "nobody has asked for so long"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_written_again_where_it_says_something_new() {
        let offerings = Offerings::default();
        let writes = |now| written(&offerings, at(now)).len();
        refuse(&offerings);
        assert_eq!((writes(0), writes(0)), (1, 0));
        // While it is let alone: the same says nothing, another pool that wants it does.
        let what = || Scarce::Quota("instances".into());
        let (one, other) =
            (Asks { pool: "linux", offering: None }, Asks { pool: "gpu", offering: Some("a") });
        let refuse = |asks| offerings.refused("aws", asks, what(), &error_of("aws", &what()));
        refuse(one);
        assert_eq!(writes(0), 1);
        refuse(one);
        assert_eq!(writes(0), 0);
        refuse(other);
        assert_eq!(writes(0), 1);
        // And so does whoever finds out that it is so still.
        tokio::time::advance(Duration::from_secs(2)).await;
        refuse(other);
        assert_eq!(writes(2), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_before_changes_nothing() {
        let (one, other) = (Offerings::default(), Offerings::default());
        refuse(&one);
        let rows = written(&one, at(0));
        assert_eq!(other.take_over(rows.clone(), at(0)), []);
        tokio::time::advance(Duration::from_secs(2)).await;
        other.asks("aws", SPOT);
        // Now and for ever after: one finds out, whatever is read meanwhile.
        for now in [2, 3, 40, 41, 42] {
            assert_eq!(other.take_over(rows.clone(), at(now)), []);
            assert!(matches!(other.may("aws", SPOT), May::Wait), "{now}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_is_old_once_all_have_read_it_and_of_no_use_once_nobody_has_asked_for_long() {
        let long = i64::try_from(FORGOTTEN.as_secs()).unwrap() + 2;
        let one = Offerings::default();
        refuse(&one);
        let rows = written(&one, at(0));
        assert_eq!(Offerings::default().take_over(rows.clone(), at(long)), []);
        assert_eq!(Offerings::default().take_over(rows.clone(), at(long + 1)), rows);
        assert_eq!(one.take_over(Vec::new(), at(30)), []);
        assert!(one.about("aws", SPOT).refused_for.is_some(), "it may not have been there yet");
        assert_eq!(one.take_over(Vec::new(), at(31)), []);
        assert!(one.about("aws", SPOT).refused_for.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_be_had_again_is_taken_off_the_record_though_it_was_not_read_yet() {
        let offerings = Offerings::default();
        refuse(&offerings);
        assert_eq!(written(&offerings, at(0)).len(), 1);
        assert_eq!(offerings.take_over(Vec::new(), at(1)), []);
        tokio::time::advance(Duration::from_secs(2)).await;
        for width in [1, 2, 4, 8] {
            (0..width).for_each(|_| offerings.asks("aws", SPOT));
            offerings.taken("aws", SPOT);
        }
        let changes = offerings.changes(at(3));
        assert!(matches!(changes.as_slice(), [Change::Over(row)] if row.what == spot()), "{changes:?}");
        assert!(offerings.changes(at(3)).is_empty());
    }
}
