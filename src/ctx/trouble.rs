//! What keeps this master from working now, in words for whoever looks at `/readyz` or at the log.

use super::Ctx;
use crate::objects::disk;
use rouse_store::Why;
use std::path::Path;
use std::time::{Duration, Instant};

/// A file of SQLite's grows by pages; with less than this it cannot be counted on.
const DATABASE_ROOM: u64 = 1 << 20;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// `database`, `log store`.
    pub part: &'static str,
    /// What it is in a word, as long as it is the same.
    pub kind: &'static str,
    /// Lower case, no full stop.
    pub message: String,
    pub since: Instant,
}

impl Ctx {
    /// Everything that is wrong now, as far as this master's own writes have met it. It goes on by itself once that is over.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        let database = self.store.trouble().map(|trouble| {
            let message = said_of_database(&trouble.why, self.store.file(), trouble.since.elapsed());
            Trouble { part: "database", kind: word(&trouble.why), message, since: trouble.since }
        });
        let objects = self.objects.trouble().map(|trouble| Trouble {
            part: "log store",
            kind: trouble.kind,
            message: trouble.message,
            since: trouble.since,
        });
        database.into_iter().chain(objects).collect()
    }
}

fn word(why: &Why) -> &'static str {
    match why {
        Why::Locked => "locked",
        Why::Full => "full",
        Why::Failing(_) => "failing",
        Why::Silent => "silent",
    }
}

fn said_of_database(why: &Why, file: Option<&Path>, waited: Duration) -> String {
    let seconds = waited.as_secs();
    // Not every way in which a full disk shows has its own code.
    let crowded = file.filter(|file| disk::room(file).is_some_and(|room| room.free < DATABASE_ROOM));
    match (why, file, crowded) {
        (Why::Full, Some(file), _) | (Why::Failing(_), _, Some(file)) => {
            disk::full("the database", file, DATABASE_ROOM)
        }
        (Why::Full, None, _) => {
            "the disk of the database's server is full; what is to be written waits".to_owned()
        }
        (Why::Locked, ..) => format!(
            "the database cannot be written for {seconds} s now, since another process holds it locked, a backup or a shell perhaps; what is \
             to be written waits"
        ),
        (Why::Failing(error), ..) => {
            format!(
                "the database cannot be written for {seconds} s now; what is to be written waits: {error}"
            )
        }
        (Why::Silent, ..) => format!("the database has answered no write for {seconds} s now"),
    }
}
