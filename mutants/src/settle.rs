//! Weaves and compiles until it compiles: each round drops the changes that the compiler's complaints are about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::build::{Binary, Built, Cargo, Fault};
use crate::copy::Copy;
use crate::list::{Change, What};
use crate::places::{self, Found, Place};
use crate::weave::{Of, SWITCH, Woven, weave};

/// The compiler's complaints that a change is the cause of: it is of another type, or there is no such
/// operation or name. Others (in a constant no
/// function such as the switch can be called; what a block borrows ends with it) may be the weaving's.
const OWN: &[&str] =
    &[INCOMPLETE, "E0063", "E0277", "E0308", "E0368", "E0369", "E0412", "E0425", "E0433", "E0599", "E0600"];

/// A `match` lacks arms.
const INCOMPLETE: &str = "E0004";

const SWITCH_TEXT: &str = include_str!("../woven/switch.rs");

/// Why a change is not among those that can be switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It does not compile.
    Fault(String),
    /// It may well compile, but not where a switch chooses it.
    Unwoven(String),
}

pub struct Settled {
    pub dropped: BTreeMap<u32, Dropped>,
    /// Each place by the changes that can be switched on there.
    pub places: Vec<Vec<u32>>,
}

impl Settled {
    /// A change's place, by the first of its changes; none where it cannot be switched on.
    pub fn place(&self, change: u32) -> Option<u32> {
        let place = self.places.iter().find(|changes| changes.contains(&change));
        place.and_then(|changes| changes.first().copied())
    }
}

/// A file of the project with its places.
struct File<'a> {
    name: PathBuf,
    text: String,
    places: Vec<Place>,
    impossible: Vec<u32>,
    changes: Vec<&'a Change>,
}

/// The tests of the copy with all changes that can be switched on.
pub fn settle(
    tree: &Path,
    copy: &Copy,
    cargo: &Cargo,
    what: What,
    changes: &[Change],
) -> Result<(Settled, Vec<Binary>)> {
    let files = read(tree, changes)?;
    let mut dropped = without_place(&files);
    let switch = Path::new(what.home()).join(SWITCH).with_extension("rs");
    copy.write(&switch, SWITCH_TEXT.as_bytes())?;
    loop {
        let woven = write(copy, what, &files, &dropped)?;
        let faults = match cargo.tests(what)? {
            Built::Tests(tests) => {
                let places = woven.into_values().flat_map(|woven| woven.places).collect();
                return Ok((Settled { dropped, places }, tests));
            }
            Built::Faults(faults) => faults,
        };
        let before = dropped.len();
        for fault in &faults {
            for number in blamed(fault, &woven, cargo.root) {
                if let Some(change) = changes.iter().find(|change| change.number == number) {
                    dropped.entry(number).or_insert_with(|| judge(fault, change));
                }
            }
        }
        if dropped.len() == before {
            bail!("no change is the cause, so the project itself does not compile:\n{}", told(&faults));
        }
        let (left_out, all) = (dropped.len(), changes.len());
        eprintln!("{left_out} changes of {all} are left out so far: they do not compile");
    }
}

/// Each complaint with its place, which is one in the copy.
fn told(faults: &[Fault]) -> String {
    let line = |fault: &Fault| {
        let file = fault.places.first().map(|(file, _)| format!("{}: ", file.display()));
        format!("{}{}", file.unwrap_or_default(), fault.message)
    };
    faults.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn read<'a>(tree: &Path, changes: &'a [Change]) -> Result<Vec<File<'a>>> {
    let mut by_file: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        by_file.entry(&change.file).or_default().push(change);
    }
    let read = |(name, changes): (&str, Vec<&'a Change>)| {
        let text =
            std::fs::read_to_string(tree.join(name)).with_context(|| format!("{name} cannot be read"))?;
        let Found { places, impossible } = places::find(&text, &changes).with_context(|| name.to_owned())?;
        Ok(File { name: name.into(), text, places, impossible, changes })
    };
    by_file.into_iter().map(read).collect()
}

fn without_place(files: &[File]) -> BTreeMap<u32, Dropped> {
    let mut missing = BTreeMap::new();
    for file in files {
        let placed = file.places.iter().flat_map(|place| &place.changes);
        let placed: BTreeSet<u32> = placed.map(|change| change.number).collect();
        let without = file.changes.iter().filter(|change| !placed.contains(&change.number));
        missing.extend(without.map(|change| {
            let why = if file.impossible.contains(&change.number) {
                Dropped::Fault("beside a `let`".into())
            } else {
                Dropped::Unwoven("no place for it".into())
            };
            (change.number, why)
        }));
    }
    missing
}

fn write(
    copy: &Copy,
    what: What,
    files: &[File],
    dropped: &BTreeMap<u32, Dropped>,
) -> Result<BTreeMap<PathBuf, Woven>> {
    let dropped = dropped.keys().copied().collect();
    let root = Path::new(what.home()).join("lib.rs");
    let declared = format!("\n#[doc(hidden)]\n#[allow(missing_docs)]\npub mod {SWITCH};\n");
    let mut all = BTreeMap::new();
    for file in files {
        let mut woven = weave(&file.text, &file.places, &dropped);
        if file.name == root {
            woven.text.push_str(&declared);
        }
        copy.write(&file.name, woven.text.as_bytes())?;
        all.insert(file.name.clone(), woven);
    }
    if !all.contains_key(&root) {
        let path = copy.root.join(&root);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        if !text.ends_with(&declared) {
            copy.write(&root, format!("{text}{declared}").as_bytes())?;
        }
    }
    Ok(all)
}

/// The changes that a complaint is about: of the first of its places that some brought there, else of a place around one.
fn blamed(fault: &Fault, woven: &BTreeMap<PathBuf, Woven>, root: &Path) -> Vec<u32> {
    let blame = |of: &Of| {
        fault.places.iter().find_map(|(file, at)| {
            let file = file.strip_prefix(root).unwrap_or(file);
            Some(woven.get(file)?.blame(*at, *of)?.to_vec())
        })
    };
    let incomplete = fault.code.as_deref() == Some(INCOMPLETE);
    let order: &[Of] = if incomplete { &[Of::Match] } else { &[Of::Change, Of::Place] };
    order.iter().find_map(blame).unwrap_or_default()
}

fn judge(fault: &Fault, change: &Change) -> Dropped {
    match &fault.code {
        Some(code) if OWN.contains(&code.as_str()) && !change.hidden_type => Dropped::Fault(code.clone()),
        Some(code) if change.hidden_type => Dropped::Unwoven(format!("it returns an `impl Trait` ({code})")),
        Some(code) => Dropped::Unwoven(code.clone()),
        None => Dropped::Unwoven(fault.message.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::Kind;

    fn change(hidden_type: bool) -> Change {
        Change {
            number: 1,
            file: "a.rs".into(),
            kind: Kind::Body,
            line: 1,
            column: 1,
            replacement: String::new(),
            name: String::new(),
            hidden_type,
        }
    }

    fn fault(code: Option<&str>) -> Fault {
        Fault { code: code.map(str::to_owned), message: "no".into(), places: Vec::new() }
    }

    #[test]
    fn only_what_a_change_alone_can_be_the_cause_of_counts_as_not_compiling() {
        assert_eq!(judge(&fault(Some("E0308")), &change(false)), Dropped::Fault("E0308".into()));
        assert!(matches!(judge(&fault(Some("E0308")), &change(true)), Dropped::Unwoven(_)));
        assert!(matches!(judge(&fault(Some("E0015")), &change(false)), Dropped::Unwoven(_)));
        assert!(matches!(judge(&fault(None), &change(false)), Dropped::Unwoven(_)));
    }
}
