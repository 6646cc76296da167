//! What differs between the two databases, and nothing else.

use crate::record::Sql;
use std::sync::LazyLock;

/// One database's own words.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// An integer key that the caller sets.
    pub id: &'static str,
    /// Text that is compared and ordered byte by byte, whatever language the database was made for.
    pub text: &'static str,
    /// The event log's table. SQLite numbers in commit order by itself, since one transaction writes at a time; PostgreSQL's rows are
    /// numbered afterwards by whoever holds the counter's row lock.
    pub events: &'static [&'static str],
}

pub(crate) const SQLITE: Dialect = Dialect {
    id: "INTEGER PRIMARY KEY",
    text: "TEXT",
    events: &[
        "CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, version BIGINT NOT NULL, \
               subject TEXT NOT NULL, project TEXT NOT NULL, at BIGINT NOT NULL, payload TEXT NOT NULL)",
        "CREATE INDEX events_of_workers ON events (subject, seq) WHERE kind IN ('worker_phase', 'worker_link', 'worker_wanted')",
    ],
};

pub(crate) const POSTGRES: Dialect = Dialect {
    id: "BIGINT PRIMARY KEY",
    text: "TEXT COLLATE \"C\"",
    events: &[
        "CREATE TABLE events (pos BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seq BIGINT UNIQUE, kind TEXT COLLATE \"C\" NOT NULL, \
         version BIGINT NOT NULL, subject TEXT COLLATE \"C\" NOT NULL, project TEXT COLLATE \"C\" NOT NULL, at BIGINT NOT NULL, payload TEXT NOT NULL)",
        "CREATE INDEX events_unnumbered ON events (pos) WHERE seq IS NULL",
        "CREATE INDEX events_of_workers ON events (subject, seq) WHERE kind IN ('worker_phase', 'worker_link', 'worker_wanted')",
        "CREATE TABLE event_counter (top BIGINT NOT NULL)",
        "INSERT INTO event_counter (top) VALUES (0)",
    ],
};

/// Whether there is anything to number: looked at without a lock.
pub(crate) const UNNUMBERED: &str = "SELECT EXISTS (SELECT 1 FROM events WHERE seq IS NULL)";

/// The right to number, until commit. A statement of its own, so that the next one sees what the holder before has numbered.
pub(crate) const TAKE_COUNTER: &str = "SELECT top FROM event_counter FOR UPDATE";

/// Numbers what is visible and unnumbered, and says how many: since the counter is held until commit, numbers become visible in order.
pub(crate) const STAMP: &str = "WITH todo AS (SELECT pos, row_number() OVER (ORDER BY pos) AS n FROM (SELECT pos FROM events WHERE seq IS NULL ORDER BY pos LIMIT 5000) open), \
     numbered AS (UPDATE events SET seq = (SELECT top FROM event_counter) + todo.n FROM todo WHERE events.pos = todo.pos RETURNING 1) \
     UPDATE event_counter SET top = top + (SELECT count(*) FROM numbered) RETURNING (SELECT count(*) FROM numbered)";

pub(crate) static INSERT_EVENT: LazyLock<Sql> = LazyLock::new(|| {
    Sql::new(
        "INSERT INTO events (kind, version, subject, project, at, payload) VALUES ($1, $2, $3, $4, $5, $6)",
    )
});

/// How PostgreSQL's writers begin: beside all others, or alone among them. Taken before any row, so that who waits here holds nothing.
pub(crate) const BEGIN: &str = "BEGIN; SELECT pg_advisory_xact_lock_shared(491362)";
pub(crate) const BEGIN_ALONE: &str = "BEGIN; SELECT pg_advisory_xact_lock(491362)";

/// PostgreSQL's: those of a whole transaction in one statement.
pub(crate) const INSERT_EVENTS: &str = "INSERT INTO events (kind, version, subject, project, at, payload) \
     SELECT kind, version, subject, project, at, payload \
     FROM UNNEST($1::TEXT[], $2::BIGINT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::TEXT[]) \
     WITH ORDINALITY AS new (kind, version, subject, project, at, payload, n) ORDER BY n";

pub(crate) static RESERVE: LazyLock<Sql> = LazyLock::new(|| {
    Sql::new(
        "INSERT INTO id_blocks (kind, next) VALUES ($1, 1 + $2) \
         ON CONFLICT (kind) DO UPDATE SET next = id_blocks.next + $2 RETURNING next",
    )
});
