//! Operations of a batch that concern different rows, as one statement: a way to the server and back takes longer than what most of them do.
//!
//! ```text
//! WITH o0 AS (UPDATE … RETURNING 1), o1 AS (INSERT … RETURNING 1) SELECT (SELECT count(*) FROM o0), (SELECT count(*) FROM o1)
//! ```
//! Parts of one statement do not see each other's changes, so what concerns a row that was changed before begins a new one.

use crate::batch::{Op, Statement};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// Most operations of one statement.
const MOST: usize = 16;
/// There are far fewer shapes of batches than this.
const SHAPES: usize = 1_000;

/// Cuts operations, in their order, where one may concern a row that an earlier one does.
pub(super) fn groups(ops: &[Op]) -> Vec<&[Op]> {
    let mut groups = Vec::new();
    let mut begin = 0;
    let mut touched: HashMap<&'static str, bool> = HashMap::new();
    for (at, op) in ops.iter().enumerate() {
        let table = op.statement().table;
        let inserts = matches!(op, Op::Insert { .. } | Op::InsertOrIgnore { .. });
        // New rows of one table go together; anything else may be the same row.
        let meets = touched.get(table).is_some_and(|only_inserts| !(inserts && *only_inserts));
        if meets || at - begin == MOST {
            groups.push(&ops[begin..at]);
            begin = at;
            touched.clear();
        }
        touched.insert(table, inserts);
    }
    if begin < ops.len() {
        groups.push(&ops[begin..]);
    }
    groups
}

/// The texts that were made so far, by the texts of their parts.
#[derive(Default)]
pub(super) struct Shapes {
    known: HashMap<Vec<usize>, Arc<str>>,
}

impl Shapes {
    /// One statement that does all of these and answers, in their order, how many rows each has touched.
    pub(super) fn join(&mut self, parts: &[Statement<'_>]) -> Arc<str> {
        // Each text is made once and stays where it is.
        let shape: Vec<usize> = parts.iter().map(|part| std::ptr::from_ref(part.sql).addr()).collect();
        if let Some(known) = self.known.get(&shape) {
            return Arc::clone(known);
        }
        if self.known.len() >= SHAPES {
            self.known.clear();
        }
        let made: Arc<str> = joined(parts).into();
        self.known.insert(shape, Arc::clone(&made));
        made
    }
}

fn joined(parts: &[Statement<'_>]) -> String {
    let (mut with, mut counts, mut offset) = (String::new(), String::new(), 0);
    for (n, part) in parts.iter().enumerate() {
        let comma = if n == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(with, "{comma}o{n} AS ({} RETURNING 1)", renumbered(&part.sql.dollar, offset));
        let _ = write!(counts, "{comma}(SELECT count(*) FROM o{n})");
        offset += part.params.len();
    }
    format!("WITH {with} SELECT {counts}")
}

/// The same text with `$1` as the parameter after so many others.
fn renumbered(sql: &str, offset: usize) -> String {
    let mut pieces = sql.split('$');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
        let number: usize = piece[..digits].parse().unwrap_or_default();
        let _ = write!(out, "${}{}", number + offset, &piece[digits..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Batch;
    use rouse_model::config_revision::PlanRow;
    use rouse_model::master::Role;
    use rouse_model::{BuildId, MasterId, Timestamp, WorkerId};

    fn lease(slot: i64) -> rouse_model::build::Lease {
        rouse_model::build::Lease { worker: WorkerId(1), slot, build: BuildId(slot), since: Timestamp(0) }
    }

    #[test]
    fn what_may_be_the_same_row_begins_a_new_statement() {
        let mut batch = Batch::new("test");
        let role = Role { role: "r".into(), shard: String::new(), master: MasterId(1), term: 1 };
        batch.insert(&lease(1)).insert(&lease(2)).expect_role(&role).delete(&lease(1)).delete(&lease(2));
        for _ in 0..20 {
            batch.insert_or_ignore(&PlanRow { hash: "h".into(), body: "{}".into() });
        }
        let sizes: Vec<usize> = groups(&batch.ops).into_iter().map(<[Op]>::len).collect();
        assert_eq!(sizes, [3, 1, 16, 5]);
    }

    #[test]
    fn parameters_are_counted_through() {
        let mut batch = Batch::new("test");
        batch.delete(&lease(1)).insert_or_ignore(&PlanRow { hash: "h".into(), body: "{}".into() });
        let parts: Vec<Statement<'_>> = batch.ops.iter().map(Op::statement).collect();
        let text = Shapes::default().join(&parts);
        assert_eq!(
            &*text,
            "WITH o0 AS (DELETE FROM leases WHERE worker = $1 AND slot = $2 RETURNING 1), \
             o1 AS (INSERT INTO plans (hash, body) VALUES ($3, $4) ON CONFLICT DO NOTHING RETURNING 1) \
             SELECT (SELECT count(*) FROM o0), (SELECT count(*) FROM o1)"
        );
    }
}
