//! What stands between a store and its database now, as far as its writes tell: for whoever asks whether this master can work.
//!
//! Owned by the store; each write notes its beginning and its end here, so a database that answers nothing at all is seen, too.

use crate::{CommitError, DatabaseError};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A write that was not answered for so long is waited for in vain.
const SILENT: Duration = Duration::from_secs(3);

/// Why nothing can be written now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub since: Instant,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Another process holds the database for itself.
    Locked,
    /// The disk is full. Where this is known only from what the database says, it may be the disk of its server.
    Full,
    /// In the words of its driver.
    Failing(String),
    /// It answers nothing.
    Silent,
}

#[derive(Debug, Default)]
pub(crate) struct Condition {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    /// When a write was answered last, or the first of those that wait began.
    moved: Option<Instant>,
    failing: Option<Trouble>,
}

impl Condition {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// A write begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Waiting {
        let mut state = self.lock();
        if state.waiting == 0 {
            state.moved = Some(Instant::now());
        }
        state.waiting += 1;
        drop(state);
        Waiting { condition: Arc::clone(self) }
    }

    pub(crate) fn now(&self) -> Option<Trouble> {
        let state = self.lock();
        let silent = || {
            let since = state.moved.filter(|at| state.waiting > 0 && at.elapsed() >= SILENT)?;
            Some(Trouble { since, why: Why::Silent })
        };
        state.failing.clone().or_else(silent)
    }
}

/// A write that is not answered yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    condition: Arc<Condition>,
}

impl Waiting {
    pub(crate) fn end<T>(self, done: &Result<T, CommitError>) {
        let mut state = self.condition.lock();
        let now = Instant::now();
        state.moved = Some(now);
        match done {
            Err(CommitError::Unavailable { source, .. }) => {
                let since = state.failing.as_ref().map_or(now, |before| before.since);
                state.failing = Some(Trouble { since, why: why(source) });
            }
            _ => state.failing = None,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.condition.lock().waiting -= 1;
    }
}

fn why(error: &DatabaseError) -> Why {
    match error {
        DatabaseError::Sqlite(error) => of_sqlite(error),
        DatabaseError::Sqlx(error) => of_postgres(error),
        DatabaseError::Away(error) => {
            if let Some(error) = error.downcast_ref::<rusqlite::Error>() {
                of_sqlite(error)
            } else if let Some(error) = error.downcast_ref::<sqlx::Error>() {
                of_postgres(error)
            } else {
                Why::Failing(error.to_string())
            }
        }
        DatabaseError::Other(text) => Why::Failing(text.clone()),
    }
}

fn of_sqlite(error: &rusqlite::Error) -> Why {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
    match error.sqlite_error_code() {
        Some(DatabaseBusy | DatabaseLocked) => Why::Locked,
        Some(DiskFull) => Why::Full,
        _ => Why::Failing(error.to_string()),
    }
}

fn of_postgres(error: &sqlx::Error) -> Why {
    if error.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == "53100") {
        return Why::Full;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = source.source();
    }
    Why::Failing(text)
}

/// What a later try may not meet: the database is away, locked, full. Anything else is a fault of the question.
pub(crate) fn is_away(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Sqlite(error) => crate::sqlite::is_of_database(error),
        DatabaseError::Sqlx(error) => crate::postgres::is_of_database(error),
        DatabaseError::Away(_) => true,
        DatabaseError::Other(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> Result<(), CommitError> {
        let busy =
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None);
        let source = DatabaseError::Away(Arc::new(busy));
        Err(CommitError::Unavailable { batch: "test", source })
    }

    #[test]
    fn a_write_that_fails_is_trouble_until_one_succeeds() {
        let condition = Arc::new(Condition::default());
        assert_eq!(condition.now(), None);
        condition.begin().end(&unavailable());
        let first = condition.now().unwrap();
        assert_eq!(first.why, Why::Locked);
        condition.begin().end(&unavailable());
        assert_eq!(condition.now().unwrap().since, first.since);
        // What is refused was read and judged by a database that works.
        condition.begin().end::<()>(&Err(CommitError::Conflict { batch: "test", table: "builds" }));
        assert_eq!(condition.now(), None);
    }

    #[test]
    fn a_write_that_nobody_answers_is_trouble_too() {
        let condition = Arc::new(Condition::default());
        let waiting = condition.begin();
        assert_eq!(condition.now(), None);
        condition.lock().moved = Instant::now().checked_sub(SILENT);
        assert_eq!(condition.now().unwrap().why, Why::Silent);
        // Whoever asked has gone.
        drop(waiting);
        assert_eq!(condition.now(), None);
    }
}
