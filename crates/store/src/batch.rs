//! A batch: everything that becomes true together. The one way to write.

use crate::record::{Record, Sql, Table};
use crate::value::Value;
use rouse_model::event::NewEvent;
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};

static EXPECT_ROLE: LazyLock<Sql> =
    LazyLock::new(|| Sql::new("UPDATE roles SET term = term WHERE role = $1 AND shard = $2 AND term = $3"));
static UPDATE_MASTER: LazyLock<Sql> = LazyLock::new(|| {
    Sql::new(
        "UPDATE masters SET machine = $1, term = $2, counter = $3, started = $4, stopped = $5 \
         WHERE id = $6 AND term = $7 AND counter = $8",
    )
});

/// One change to one row.
#[derive(Debug, Clone)]
pub enum Op {
    Insert {
        table: &'static Table,
        values: Vec<Value>,
    },
    /// An equal key is left as it stands.
    InsertOrIgnore {
        table: &'static Table,
        values: Vec<Value>,
    },
    /// The last one written stands.
    Upsert {
        table: &'static Table,
        values: Vec<Value>,
    },
    /// Replaces what may change of a row: its columns of [`Table::updated`], then the generation that it must have.
    Update {
        table: &'static Table,
        params: Vec<Value>,
    },
    /// The row must stand under its key with this generation.
    Expect {
        table: &'static Table,
        params: Vec<Value>,
    },
    /// The row must be there.
    Delete {
        table: &'static Table,
        key: Vec<Value>,
    },
    /// The role must stand under this term.
    ExpectRole {
        role: String,
        shard: String,
        term: i64,
    },
    /// A master's row, guarded by the term and counter that it must have.
    UpdateMaster {
        id: i64,
        set: Vec<Value>,
        guard: Vec<Value>,
    },
}

/// The statement and parameters of one operation, and whether it must touch exactly one row.
pub(crate) struct Statement<'a> {
    pub table: &'static str,
    pub sql: &'static Sql,
    pub params: Cow<'a, [Value]>,
    pub one_row: bool,
}

impl Op {
    pub(crate) fn statement(&self) -> Statement<'_> {
        match self {
            Self::Insert { table, values } => Statement {
                table: table.name,
                sql: &table.insert,
                params: Cow::Borrowed(values),
                one_row: false,
            },
            Self::InsertOrIgnore { table, values } => Statement {
                table: table.name,
                sql: &table.insert_or_ignore,
                params: Cow::Borrowed(values),
                one_row: false,
            },
            Self::Upsert { table, values } => Statement {
                table: table.name,
                sql: &table.upsert,
                params: Cow::Borrowed(values),
                one_row: true,
            },
            Self::Update { table, params } => Statement {
                table: table.name,
                sql: &table.update,
                params: Cow::Borrowed(params),
                one_row: true,
            },
            Self::Expect { table, params } => Statement {
                table: table.name,
                sql: &table.expect,
                params: Cow::Borrowed(params),
                one_row: true,
            },
            Self::Delete { table, key } => {
                Statement { table: table.name, sql: &table.delete, params: Cow::Borrowed(key), one_row: true }
            }
            Self::ExpectRole { role, shard, term } => Statement {
                table: "roles",
                sql: &EXPECT_ROLE,
                params: Cow::Owned(vec![role.as_str().into(), shard.as_str().into(), (*term).into()]),
                one_row: true,
            },
            Self::UpdateMaster { id, set, guard } => {
                let mut params = set.clone();
                params.push((*id).into());
                params.extend(guard.iter().cloned());
                Statement { table: "masters", sql: &UPDATE_MASTER, params: Cow::Owned(params), one_row: true }
            }
        }
    }
}

/// All or nothing. Its name is what fault injection and traces know it by.
#[derive(Debug, Clone)]
pub struct Batch {
    pub name: &'static str,
    pub(crate) ops: Vec<Op>,
    pub(crate) events: Vec<NewEvent>,
    pub(crate) after: Vec<After>,
}

/// What somebody in this process does once the batch is true.
#[derive(Clone)]
pub(crate) struct After(pub Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("After")
    }
}

impl Batch {
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, ops: Vec::new(), events: Vec::new(), after: Vec::new() }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.events.is_empty()
    }

    pub fn insert<R: Record>(&mut self, record: &R) -> &mut Self {
        self.ops.push(Op::Insert { table: R::table(), values: record.values() });
        self
    }

    /// For content-addressed rows: an equal key is the same row.
    pub fn insert_or_ignore<R: Record>(&mut self, record: &R) -> &mut Self {
        self.ops.push(Op::InsertOrIgnore { table: R::table(), values: record.values() });
        self
    }

    /// For rows without a generation whose last writer is right.
    pub fn upsert<R: Record>(&mut self, record: &R) -> &mut Self {
        self.ops.push(Op::Upsert { table: R::table(), values: record.values() });
        self
    }

    /// Compare-and-set: the row must still have the record's generation, which is raised here and in the row. If the commit fails, the
    /// caller's copy is worthless and must be read again.
    pub fn update<R: Record>(&mut self, record: &mut R) -> &mut Self {
        let expected = record.generation().map(|generation| {
            *generation += 1;
            *generation - 1
        });
        let table = R::table();
        let mut params: Vec<Value> = table.updated.iter().map(|column| record.value(*column)).collect();
        params.extend(expected.map(Value::I64));
        self.ops.push(Op::Update { table, params });
        self
    }

    /// The row must stand as it was read; it is left alone. For a record with a generation.
    pub fn expect<R: Record>(&mut self, record: &mut R) -> &mut Self {
        let table = R::table();
        let mut params: Vec<Value> = table.key.iter().map(|column| record.value(*column)).collect();
        params.extend(record.generation().map(|generation| Value::I64(*generation)));
        self.ops.push(Op::Expect { table, params });
        self
    }

    pub fn delete<R: Record>(&mut self, record: &R) -> &mut Self {
        let key = R::table().key.iter().map(|column| record.value(*column)).collect();
        self.ops.push(Op::Delete { table: R::table(), key });
        self
    }

    pub fn expect_role(&mut self, role: &rouse_model::master::Role) -> &mut Self {
        self.ops.push(Op::ExpectRole { role: role.role.clone(), shard: role.shard.clone(), term: role.term });
        self
    }

    pub fn event(&mut self, event: NewEvent) -> &mut Self {
        self.events.push(event);
        self
    }

    /// Takes all of another batch, which becomes true with this one.
    pub fn append(&mut self, other: Self) -> &mut Self {
        self.ops.extend(other.ops);
        self.events.extend(other.events);
        self.after.extend(other.after);
        self
    }

    /// Called once the batch is true, by the process that committed it: a service lets go of what it kept until then. A process that dies in
    /// between never calls it, so nothing may depend on it that a restart would not find out.
    pub fn after_commit(&mut self, then: impl Fn() + Send + Sync + 'static) -> &mut Self {
        self.after.push(After(Arc::new(then)));
        self
    }
}

/// An event's cells, in the order of the insert.
pub(crate) fn event_values(event: &NewEvent) -> Vec<Value> {
    let kind = match serde_json::to_value(event.kind) {
        Ok(serde_json::Value::String(kind)) => kind,
        _ => unreachable!("a unit variant serializes to a string"),
    };
    vec![
        Value::Text(kind),
        Value::I64(event.version),
        event.subject.as_str().into(),
        event.project.as_str().into(),
        Value::I64(event.at.0),
        Value::Text(event.payload.to_string()),
    ]
}
