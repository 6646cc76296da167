//! What came of it: the table by file and the survivors as `docs/mutants.md` has them, or all of it as JSON.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::judge::Verdict;
use crate::list::{Change, What};
use crate::settle::Dropped;

const NOTICED: &str = "noticed";

#[derive(Default, Debug, PartialEq, Eq)]
struct Row {
    changes: usize,
    faulty: usize,
    unwoven: usize,
    noticed: usize,
    survived: usize,
}

impl Row {
    fn count(&mut self, verdict: &Verdict) {
        self.changes += 1;
        match verdict {
            Verdict::Dropped(Dropped::Fault(_)) => self.faulty += 1,
            Verdict::Dropped(Dropped::Unwoven(_)) => self.unwoven += 1,
            Verdict::Noticed(_) => self.noticed += 1,
            Verdict::Survived(_) => self.survived += 1,
        }
    }

    fn line(&self, name: &str) -> String {
        let Self { changes, faulty, unwoven, noticed, survived } = self;
        format!("| {name} | {changes} | {faulty} | {unwoven} | {noticed} | {survived} |\n")
    }

    fn run(&self) -> usize {
        self.noticed + self.survived
    }
}

pub struct Report<'a> {
    what: What,
    judged: Vec<(&'a Change, &'a Verdict)>,
}

impl<'a> Report<'a> {
    pub fn new(what: What, changes: &'a [Change], verdicts: &'a [Verdict]) -> Self {
        Self { what, judged: changes.iter().zip(verdicts).collect() }
    }

    /// Its files and places are named from the folder of the library's root on.
    fn short<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(self.what.home()).unwrap_or(name)
    }

    fn rows(&self) -> (BTreeMap<&str, Row>, Row) {
        let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
        let mut all = Row::default();
        for (change, verdict) in &self.judged {
            rows.entry(self.short(&change.file)).or_default().count(verdict);
            all.count(verdict);
        }
        (rows, all)
    }

    pub fn table(&self) -> String {
        let (rows, all) = self.rows();
        let mut text = format!("{}\n\n", self.summary(&all));
        text.push_str(
            "| file | changes | do not compile | not run | noticed | survived |\n|---|---|---|---|---|---|\n",
        );
        for (file, row) in &rows {
            text.push_str(&row.line(&format!("`{file}`")));
        }
        text.push_str(&all.line("**all**"));
        text.push_str("\n| survivor | tests that come by |\n|---|---|\n");
        for (change, verdict) in &self.judged {
            if let Verdict::Survived(tests) = verdict {
                // A bar ends a cell, even within code.
                let name = self.short(&change.name).replace('|', "\\|");
                text.push_str(&format!("| `{name}` | {tests} |\n"));
            }
        }
        text
    }

    fn summary(&self, all: &Row) -> String {
        let share = match all.run() {
            0 => String::from("nothing was run"),
            run => format!("{:.1} %", 100.0 * share(all.noticed, run)),
        };
        format!(
            "Of {} changes {} do not compile and {} are not run; of the {} that were, {} were noticed: **{share}**.",
            all.changes,
            all.faulty,
            all.unwoven,
            all.run(),
            all.noticed
        )
    }

    pub fn json(&self) -> Value {
        let (_, all) = self.rows();
        let each = self.judged.iter().map(|(change, verdict)| {
            let change = &change.name;
            match verdict {
                Verdict::Dropped(Dropped::Fault(code)) => {
                    json!({ "change": change, "result": "does_not_compile", "why": code })
                }
                Verdict::Dropped(Dropped::Unwoven(why)) => {
                    json!({ "change": change, "result": "not_run", "why": why })
                }
                Verdict::Noticed(by) => json!({ "change": change, "result": NOTICED, "by": by }),
                Verdict::Survived(tests) => json!({ "change": change, "result": "survived", "tests": tests }),
            }
        });
        json!({
            "of": self.what.name(),
            "changes": all.changes,
            "do_not_compile": all.faulty,
            "not_run": all.unwoven,
            "noticed": all.noticed,
            "survived": all.survived,
            "each": each.collect::<Vec<_>>(),
        })
    }
}

/// What the JSON of an earlier run has as noticed: changes by their names, and the tests that did.
pub fn noticed(json: &str) -> Result<HashMap<String, String>> {
    let report: Value = serde_json::from_str(json).context("it is not JSON")?;
    let each = report["each"].as_array().context("it has no list `each`, as what `-o json` prints has")?;
    let noticed = each.iter().filter(|change| change["result"] == NOTICED);
    let name =
        |change: &Value| Some((change["change"].as_str()?.to_owned(), change["by"].as_str()?.to_owned()));
    Ok(noticed.filter_map(name).collect())
}

#[expect(clippy::cast_precision_loss, reason = "a share, to be read by a person")]
fn share(part: usize, of: usize) -> f64 {
    part as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::Kind;

    fn change(file: &str, name: &str) -> Change {
        Change {
            number: 1,
            file: file.into(),
            kind: Kind::Binary,
            line: 1,
            column: 1,
            replacement: String::new(),
            name: format!("{file}{name}"),
            hidden_type: false,
        }
    }

    #[test]
    fn each_change_is_in_one_column() {
        let file = "crates/model/src/a.rs";
        let changes = [":1:1: one", ":2:1: replace || with && in two", ":3:1: three", ":4:1: four"];
        let changes = changes.map(|name| change(file, name));
        let verdicts = [
            Verdict::Noticed("test".into()),
            Verdict::Survived(3),
            Verdict::Dropped(Dropped::Fault("E0308".into())),
            Verdict::Dropped(Dropped::Unwoven("E0015".into())),
        ];
        let report = Report::new(What::Model, &changes, &verdicts);
        let table = report.table();
        assert!(table.starts_with("Of 4 changes 1 do not compile and 1 are not run; of the 2 that were, 1 were noticed: **50.0 %**."), "{table}");
        assert!(table.contains("| `a.rs` | 4 | 1 | 1 | 1 | 1 |\n| **all** | 4 | 1 | 1 | 1 | 1 |"), "{table}");
        assert!(table.ends_with("| `a.rs:2:1: replace \\|\\| with && in two` | 3 |\n"), "{table}");
        let json = report.json();
        assert_eq!(json["each"][1]["result"], "survived");
        let last = json!({ "change": changes[3].name, "result": "not_run", "why": "E0015" });
        assert_eq!(json["each"][3], last);
        let noticed = noticed(&json.to_string()).unwrap();
        assert_eq!(noticed.into_iter().collect::<Vec<_>>(), [(changes[0].name.clone(), "test".to_owned())]);
    }
}
