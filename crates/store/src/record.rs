//! Records: the model's types as rows, one list of columns for each, from which all of a table's SQL follows.

use crate::value::{Field, Malformed, Value};
use std::sync::LazyLock;

/// One statement as each database counts its parameters, made once.
#[derive(Debug)]
pub struct Sql {
    /// `$1`: PostgreSQL's, and this crate's.
    pub dollar: String,
    /// `?1`: SQLite takes `$1` for a name and counts names by first appearance.
    pub question: String,
}

impl Sql {
    pub(crate) fn new(dollar: impl Into<String>) -> Self {
        let dollar = dollar.into();
        Self { question: dollar.replace('$', "?"), dollar }
    }
}

/// A table's SQL, made once.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [&'static str],
    /// Indexes into `columns`.
    pub key: Vec<usize>,
    pub generation: Option<usize>,
    /// `a, b, c`
    pub list: String,
    pub insert: Sql,
    pub insert_or_ignore: Sql,
    pub upsert: Sql,
    /// All columns but the key's; the parameters are the columns in order, then the expected generation where there is one.
    pub update: Sql,
    pub delete: Sql,
}

impl Table {
    pub(crate) fn new(name: &'static str, columns: &'static [&'static str], key: &[&str]) -> Self {
        let at = |wanted: &str| columns.iter().position(|c| *c == wanted);
        let key: Vec<usize> = key.iter().map(|k| at(k).expect("a record's key names its columns")).collect();
        let generation = at("generation");
        let list = columns.iter().map(|c| quote(c)).collect::<Vec<_>>().join(", ");
        let marks = (1..=columns.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        let insert = format!("INSERT INTO {name} ({list}) VALUES ({marks})");
        let sets = columns
            .iter()
            .enumerate()
            .filter(|(n, _)| !key.contains(n))
            .map(|(n, c)| format!("{} = ${}", quote(c), n + 1))
            .collect::<Vec<_>>()
            .join(", ");
        let by_key = key
            .iter()
            .map(|n| format!("{} = ${}", quote(columns[*n]), n + 1))
            .collect::<Vec<_>>()
            .join(" AND ");
        let guard = generation.map_or(String::new(), |_| format!(" AND generation = ${}", columns.len() + 1));
        let keys = key.iter().map(|n| quote(columns[*n])).collect::<Vec<_>>().join(", ");
        let taken = (0..columns.len())
            .filter(|n| !key.contains(n))
            .map(|n| format!("{0} = excluded.{0}", quote(columns[n])))
            .collect::<Vec<_>>()
            .join(", ");
        let delete_by = key
            .iter()
            .enumerate()
            .map(|(i, n)| format!("{} = ${}", quote(columns[*n]), i + 1))
            .collect::<Vec<_>>();
        Self {
            name,
            columns,
            insert_or_ignore: Sql::new(format!("{insert} ON CONFLICT DO NOTHING")),
            upsert: Sql::new(format!("{insert} ON CONFLICT ({keys}) DO UPDATE SET {taken}")),
            insert: Sql::new(insert),
            update: Sql::new(format!("UPDATE {name} SET {sets} WHERE {by_key}{guard}")),
            delete: Sql::new(format!("DELETE FROM {name} WHERE {}", delete_by.join(" AND "))),
            key,
            generation,
            list,
        }
    }
}

fn quote(column: &str) -> String {
    if column == "set" { "\"set\"".to_owned() } else { column.to_owned() }
}

/// A type that is a row.
pub trait Record: Sized {
    fn table() -> &'static Table;
    fn values(&self) -> Vec<Value>;
    /// # Errors
    /// Where a cell does not hold what its column must.
    fn from_values(values: Vec<Value>) -> Result<Self, Malformed>;
    /// The generation that an update expects to find; bumped by it.
    fn generation(&mut self) -> Option<&mut i64>;
}

macro_rules! record {
    (@generation $self:ident generation) => { Some(&mut $self.generation) };
    ($type:ty => $table:literal key($($key:ident),+) { $($column:ident),+ $(,)? } $($generation:ident)?) => {
        impl Record for $type {
            fn table() -> &'static Table {
                static TABLE: LazyLock<Table> =
                    LazyLock::new(|| Table::new($table, &[$(stringify!($column)),+], &[$(stringify!($key)),+]));
                &TABLE
            }
            fn values(&self) -> Vec<Value> {
                vec![$(self.$column.put()),+]
            }
            fn from_values(values: Vec<Value>) -> Result<Self, Malformed> {
                let mut cells = values.into_iter();
                Ok(Self {
                    $($column: {
                        let cell = cells.next();
                        let found = format!("{cell:?}");
                        cell.and_then(Field::take).ok_or(Malformed { table: $table, column: stringify!($column), found })?
                    }),+
                })
            }
            fn generation(&mut self) -> Option<&mut i64> {
                record!(@pick self $($generation)?)
            }
        }
    };
    (@pick $self:ident) => { None };
    (@pick $self:ident $generation:ident) => { Some(&mut $self.$generation) };
}

use rouse_model::build::{Build, BuildProperty, Command, Lease, Step};
use rouse_model::buildset::{Buildset, Request, SchedulerState};
use rouse_model::config_revision::{ApiToken, ConfigRevision, PlanRow};
use rouse_model::logs::{Artifact, Log, LogSegment};
use rouse_model::master::{Master, Role};
use rouse_model::source::{Change, ChangeSet, CodebaseState, Head, SourceStamp};
use rouse_model::worker::Worker;

record!(Master => "masters" key(id) { id, name, machine, term, counter, started, stopped });
record!(Role => "roles" key(role, shard) { role, shard, master, term });
record!(ConfigRevision => "config_revisions" key(id) { id, hash, sources, author, effective });
record!(PlanRow => "plans" key(hash) { hash, body });
record!(ApiToken => "api_tokens" key(id) { id, name, sha256, role, project, created });
record!(Head => "heads" key(codebase, branch) { codebase, branch, revision, seen_at, generation } generation);
record!(CodebaseState => "codebase_states" key(codebase) {
    codebase, url, looked, error, failing_since, watching, default_branch, generation
} generation);
record!(ChangeSet => "change_sets" key(id) {
    id, project, codebase, branch, revision, base, trust, commits, seen_at, noticed_by
});
record!(Change => "changes" key(id) { id, change_set, codebase, branch, revision, author, message, files, authored_at });
record!(SchedulerState => "scheduler_states" key(scheduler, key) { scheduler, key, value, generation } generation);
record!(Buildset => "buildsets" key(id) {
    id, origin, project, scheduler, reason, owner, properties, trust, parent, created, done, result, generation
} generation);
record!(SourceStamp => "source_stamps" key(buildset, codebase) { buildset, codebase, branch, revision, change_set, trust });
record!(Request => "requests" key(id) {
    id, buildset, builder, project, state, priority, created, not_before, attempts, trust, cancel, build, claimed_by, result, done,
    config, provision, generation
} generation);
record!(Build => "builds" key(id) {
    id, request, buildset, builder, project, attempt, worker, slot, master, config, plan, trust, summary, cancel, result, class,
    requested, provisioned_from, matched, running_from, finishing_from, finished, generation
} generation);
record!(BuildProperty => "build_properties" key(build, name) { build, name, property });
record!(Step => "steps" key(id) { id, build, seq, name, result, class, summary, started, finished, memory, generation } generation);
record!(Command => "commands" key(id) {
    id, build, step, seq, worker, incarnation, log, state, action, outcome, stop, generation
} generation);
record!(Log => "logs" key(id) { id, build, step, name, bytes, lines, sealed, inline, note, created, generation } generation);
record!(LogSegment => "log_segments" key(log, seq) { log, seq, first_byte, bytes, first_line, lines, key });
record!(Artifact => "artifacts" key(id) { id, build, step, set, path, bytes, sha256, key, created });
record!(Worker => "workers" key(id) {
    id, name, pool, provider, project, trust, spec_digest, spec, config, attempt, master, term, slots, max_builds, builds_done, wanted,
    phase, link, incarnation, agent_key, facts, requested, accepted, attached, idle_since, gone, expires, console, generation
} generation);
record!(Lease => "leases" key(worker, slot) { worker, slot, build, since });
