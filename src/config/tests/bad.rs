//! Bad configurations and their messages: each `bad/NAME.yaml` has what a person reads beside it, in `bad/NAME.txt`.
//! After a change that is meant, run the tests with `UPDATE_EXPECT=1` and read the difference.

use super::kinds;
use crate::config::{Code, Severity, SourceFile, parse};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Begins a further file within a case.
const FILE_MARK: &str = "#### ";

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/bad");
    let entries = std::fs::read_dir(folder).expect("the folder of cases");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let mut cases: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    cases.sort();
    cases
}

fn sources(case: &Path) -> Vec<SourceFile> {
    let text = std::fs::read_to_string(case).expect("a case");
    let mut sources = vec![SourceFile::new("rouse.yaml", "")];
    for line in text.split_inclusive('\n') {
        match line.strip_prefix(FILE_MARK) {
            Some(name) => sources.push(SourceFile::new(name.trim(), "")),
            None => sources.last_mut().expect("the first is there").text.push_str(line),
        }
    }
    sources
}

/// What a person reads: of a configuration that is taken all the same, its warnings.
fn message(case: &Path) -> (String, BTreeSet<Code>) {
    let kinds = if case.ends_with("offers.yaml") { kinds::with_offers() } else { kinds::all() };
    let (text, faults) = match parse(&sources(case), &kinds) {
        Err(faults) => (faults.to_string(), faults),
        Ok(loaded) => {
            let faults = loaded.warnings;
            assert!(!faults.list.is_empty(), "{} has no fault", case.display());
            assert!(faults.list.iter().all(|fault| fault.severity == Severity::Warning));
            (format!("{}{}", faults.text(false), faults.counts()), faults)
        }
    };
    (format!("{text}\n"), faults.list.iter().map(|fault| fault.code).collect())
}

#[test]
fn every_bad_input_has_its_message() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let (message, _) = message(&case);
        let expected = case.with_extension("txt");
        if update {
            std::fs::write(&expected, message).expect("the folder of cases can be written");
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != message {
            wrong.push(format!("{}:\n{message}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_code_has_a_case() {
    let seen: BTreeSet<Code> = cases().iter().flat_map(|case| message(case).1).collect();
    // A file that cannot be read is tried with real files; the others have no text that would bring them about.
    let elsewhere = [Code::Unreadable, Code::TooLarge, Code::Internal];
    let missing: Vec<_> =
        Code::ALL.iter().filter(|code| !seen.contains(code) && !elsewhere.contains(code)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
