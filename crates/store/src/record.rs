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
    /// All columns that may change, found by the key.
    pub update: Sql,
    /// The columns that are an update's parameters, in order; the expected generation follows them where there is one.
    pub updated: Vec<usize>,
    /// Leaves the row as it is; the parameters are the key and the generation that it must have.
    pub expect: Sql,
    pub delete: Sql,
}

impl Table {
    /// What is `fixed` is written once: an update leaves those columns alone, and with them every index that is made of nothing else.
    pub(crate) fn new(
        name: &'static str,
        columns: &'static [&'static str],
        key: &[&str],
        fixed: &[&str],
    ) -> Self {
        let at = |wanted: &str| columns.iter().position(|c| *c == wanted);
        let places = |names: &[&str]| -> Vec<usize> {
            names.iter().map(|name| at(name).expect("a record's lists name its columns")).collect()
        };
        let (key, fixed) = (places(key), places(fixed));
        let generation = at("generation");
        let list = columns.iter().map(|c| quote(c)).collect::<Vec<_>>().join(", ");
        let marks = (1..=columns.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        let insert = format!("INSERT INTO {name} ({list}) VALUES ({marks})");
        let changing: Vec<usize> =
            (0..columns.len()).filter(|n| !key.contains(n) && !fixed.contains(n)).collect();
        let equals = |places: &[usize], from: usize| -> Vec<String> {
            places
                .iter()
                .zip(from + 1..)
                .map(|(n, mark)| format!("{} = ${mark}", quote(columns[*n])))
                .collect()
        };
        let sets = equals(&changing, 0).join(", ");
        let by_key = equals(&key, changing.len()).join(" AND ");
        let updated: Vec<usize> = changing.iter().chain(&key).copied().collect();
        let guard = generation.map_or(String::new(), |_| format!(" AND generation = ${}", updated.len() + 1));
        let keys = key.iter().map(|n| quote(columns[*n])).collect::<Vec<_>>().join(", ");
        let taken = (0..columns.len())
            .filter(|n| !key.contains(n))
            .map(|n| format!("{0} = excluded.{0}", quote(columns[n])))
            .collect::<Vec<_>>()
            .join(", ");
        let delete_by = equals(&key, 0);
        Self {
            name,
            columns,
            insert_or_ignore: Sql::new(format!("{insert} ON CONFLICT DO NOTHING")),
            upsert: Sql::new(format!("{insert} ON CONFLICT ({keys}) DO UPDATE SET {taken}")),
            insert: Sql::new(insert),
            update: Sql::new(format!("UPDATE {name} SET {sets} WHERE {by_key}{guard}")),
            updated,
            expect: Sql::new(format!(
                "UPDATE {name} SET generation = generation WHERE {} AND generation = ${}",
                equals(&key, 0).join(" AND "),
                key.len() + 1
            )),
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
    /// The cell of the column at this place.
    fn value(&self, column: usize) -> Value;
    fn values(&self) -> Vec<Value> {
        (0..Self::table().columns.len()).map(|column| self.value(column)).collect()
    }
    /// # Errors
    /// Where a cell does not hold what its column must.
    fn from_values(values: Vec<Value>) -> Result<Self, Malformed>;
    /// The generation that an update expects to find; bumped by it.
    fn generation(&mut self) -> Option<&mut i64>;
}

/// What a cell holds. How it looks is written out only where that is not what it should be.
pub(crate) fn taken<T: Field>(
    table: &'static str,
    column: &'static str,
    cell: Option<Value>,
) -> Result<T, Malformed> {
    let malformed = |found: String| Malformed { table, column, found };
    T::take(cell.ok_or_else(|| malformed("nothing".into()))?).map_err(|cell| malformed(format!("{cell:?}")))
}

macro_rules! record {
    (@generation $self:ident generation) => { Some(&mut $self.generation) };
    ($type:ty => $table:literal key($($key:ident),+) $(fixed($($fixed:ident),+))? { $($column:ident),+ $(,)? }
     $($generation:ident)?) => {
        impl Record for $type {
            fn table() -> &'static Table {
                static TABLE: LazyLock<Table> = LazyLock::new(|| {
                    Table::new(
                        $table, &[$(stringify!($column)),+], &[$(stringify!($key)),+], &[$($(stringify!($fixed)),+)?],
                    )
                });
                &TABLE
            }
            fn value(&self, column: usize) -> Value {
                const CELLS: &[fn(&$type) -> Value] = &[$(|record| record.$column.put()),+];
                CELLS[column](self)
            }
            fn from_values(values: Vec<Value>) -> Result<Self, Malformed> {
                let mut cells = values.into_iter();
                Ok(Self {
                    $($column: taken($table, stringify!($column), cells.next())?),+
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

use rouse_model::budget::{BudgetGrant, Parking};
use rouse_model::build::{Build, BuildProperty, Command, Lease, Step};
use rouse_model::buildset::{Buildset, Request, SchedulerState};
use rouse_model::cache::Cache;
use rouse_model::config_revision::{ApiToken, ConfigRevision, PlanRow};
use rouse_model::cursor::Cursor;
use rouse_model::decision::Decision;
use rouse_model::enrolment::Enrolment;
use rouse_model::logs::{Artifact, Log, LogSegment};
use rouse_model::master::{Master, Role};
use rouse_model::offering::OfferingHealth;
use rouse_model::source::{Change, ChangeSet, CodebaseState, Head, SourceStamp};
use rouse_model::test_report::{TestReport, TestResult};
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
record!(Cursor => "cursors" key(reader) { reader, seq, generation } generation);
record!(Buildset => "buildsets" key(id)
    fixed(origin, project, scheduler, reason, owner, properties, trust, parent, created) {
    id, origin, project, scheduler, reason, owner, properties, trust, parent, created, done, result, generation
} generation);
record!(SourceStamp => "source_stamps" key(buildset, codebase) { buildset, codebase, branch, revision, change_set, trust });
record!(Request => "requests" key(id)
    fixed(buildset, builder, project, branch, created, trust) {
    id, buildset, builder, project, branch, state, priority, created, not_before, attempts, trust, cancel, build, claimed_by, result, done,
    config, provision, locks, approval, lapses, generation
} generation);
record!(Build => "builds" key(id)
    fixed(request, buildset, builder, project, attempt, worker, slot, config, trust, requested, matched) {
    id, request, buildset, builder, project, attempt, worker, slot, master, config, plan, trust, summary, cancel, result, class,
    requested, provisioned_from, matched, running_from, waiting_from, finishing_from, finished, generation
} generation);
record!(BuildProperty => "build_properties" key(build, name) { build, name, property });
record!(Step => "steps" key(id)
    fixed(build, seq, name, started) { id, build, seq, name, result, class, summary, started, finished, memory, generation } generation);
record!(Command => "commands" key(id)
    fixed(build, step, seq, worker, incarnation, log, action) {
    id, build, step, seq, worker, incarnation, log, state, action, outcome, stop, generation
} generation);
record!(Log => "logs" key(id)
    fixed(build, step, name, created) { id, build, step, name, bytes, lines, sealed, inline, note, created, generation } generation);
record!(LogSegment => "log_segments" key(log, seq) { log, seq, first_byte, bytes, first_line, lines, key });
record!(Artifact => "artifacts" key(id) { id, build, step, set, path, bytes, sha256, key, created });
record!(Cache => "caches" key(id)
    fixed(project, name, key, build, bytes, sha256, object, created) {
    id, project, name, key, build, bytes, sha256, object, created, used, replaced, generation
} generation);
record!(BudgetGrant => "budget_grants" key(id) { id, pool, amount, granted, until, by });
record!(Parking => "parkings" key(worker, nth) { worker, nth, since, until, spares });
record!(OfferingHealth => "offering_health" key(account, what) {
    account, what, wanted_by, refused_since, failures, until, changed
});
record!(Decision => "decisions" key(id) { id, pool, code, at, until, passes, config, master, reckoning });
record!(TestReport => "test_reports" key(build, step) {
    build, step, builder, branch, trust, total, failed, skipped, duration_us, created
});
record!(TestResult => "test_results" key(build, step, seq) {
    build, step, seq, suite, name, outcome, duration_us, message, since
});
record!(Worker => "workers" key(id)
    fixed(name, pool, provider, offering, price, project, trust, spec_digest, config, decision, attempt, slots, max_builds, requested) {
    id, name, pool, provider, offering, price, project, trust, spec_digest, spec, config, decision, attempt, master, term, slots, max_builds, builds_done, wanted,
    phase, link, incarnation, agent_key, facts, requested, accepted, attached, idle_since, gone, expires, console, resumes, resume_took, generation
} generation);
record!(Enrolment => "enrolments" key(account, name) {
    account, name, public_key, enrolled, enrolled_by, revoked, generation
} generation);
record!(Lease => "leases" key(worker, slot) { worker, slot, build, since });
