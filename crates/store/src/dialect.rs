//! What differs between the two databases, and nothing else.

/// One database's own words.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// An integer key that the caller sets.
    pub id: &'static str,
    /// The event log's table. SQLite numbers in commit order by itself, since one transaction writes at a time; PostgreSQL's rows are
    /// numbered afterwards by whoever holds the counter's row lock.
    pub events: &'static [&'static str],
}

pub(crate) const SQLITE: Dialect = Dialect {
    id: "INTEGER PRIMARY KEY",
    events: &[
        "CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, version BIGINT NOT NULL, \
               subject TEXT NOT NULL, project TEXT NOT NULL, at BIGINT NOT NULL, payload TEXT NOT NULL)",
        "CREATE INDEX events_of_workers ON events (subject, seq) WHERE kind IN ('worker_phase', 'worker_link', 'worker_wanted')",
    ],
};

pub(crate) const POSTGRES: Dialect = Dialect {
    id: "BIGINT PRIMARY KEY",
    events: &[
        "CREATE TABLE events (pos BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seq BIGINT UNIQUE, kind TEXT NOT NULL, \
         version BIGINT NOT NULL, subject TEXT NOT NULL, project TEXT NOT NULL, at BIGINT NOT NULL, payload TEXT NOT NULL)",
        "CREATE INDEX events_unnumbered ON events (pos) WHERE seq IS NULL",
        "CREATE INDEX events_of_workers ON events (subject, seq) WHERE kind IN ('worker_phase', 'worker_link', 'worker_wanted')",
        "CREATE TABLE event_counter (top BIGINT NOT NULL)",
        "INSERT INTO event_counter (top) VALUES (0)",
    ],
};

/// Takes the counter's row lock, numbers what is visible and unnumbered, and lets go at commit: so numbers become visible in order.
pub(crate) const STAMP: &[&str] = &[
    "UPDATE event_counter SET top = top",
    "WITH todo AS (SELECT pos, row_number() OVER (ORDER BY pos) AS n FROM (SELECT pos FROM events WHERE seq IS NULL ORDER BY pos LIMIT 5000) open), \
     base AS (SELECT top FROM event_counter) \
     UPDATE events SET seq = base.top + todo.n FROM todo, base WHERE events.pos = todo.pos",
    "UPDATE event_counter SET top = GREATEST(top, COALESCE((SELECT MAX(seq) FROM events), 0))",
];

pub(crate) const INSERT_EVENT: &str =
    "INSERT INTO events (kind, version, subject, project, at, payload) VALUES ($1, $2, $3, $4, $5, $6)";

pub(crate) const RESERVE: &str = "INSERT INTO id_blocks (kind, next) VALUES ($1, 1 + $2) \
     ON CONFLICT (kind) DO UPDATE SET next = id_blocks.next + $2 RETURNING next";
