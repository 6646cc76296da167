//! The agent in Python is the proof that the protocol is small: so many lines, and nothing to be installed.

use std::fs;
use std::process::Command;

use crate::agents::{PYTHON_FILES, python_agent};

/// Of each file: the link with all that it keeps, and the work that it does for a master.
const MOST_LINES: usize = 400;

/// Of both together.
const MOST_IN_ALL: usize = 720;

/// Beyond this a line is two lines.
const MOST_COLUMNS: usize = 150;

/// All that is imported, as the parser of Python 3.9 sees it, less what the standard library has.
const IMPORTS: &str = "
import ast, sys
names = set()
for path in sys.argv[1:]:
    with open(path, encoding='utf-8') as file:
        tree = ast.parse(file.read(), path, feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or '.').split('.')[0])
print(*sorted(names - set(sys.stdlib_module_names)))
";

#[test]
fn it_has_few_lines() {
    let [agent, work, signing] = PYTHON_FILES;
    let mut in_all = 0;
    for file in [agent, work] {
        let text = fs::read_to_string(python_agent().join(file)).unwrap();
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{file} has {lines} lines");
        let long = text.lines().position(|line| line.chars().count() > MOST_COLUMNS);
        assert_eq!(long, None, "a line of {file} is longer than {MOST_COLUMNS} columns");
        in_all += lines;
    }
    assert!(in_all <= MOST_IN_ALL, "{in_all} lines");
    let entries = fs::read_dir(python_agent()).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["README.md", signing, agent, work], "nothing beside it, nothing left by a run");
}

#[test]
fn it_needs_the_standard_library_alone() {
    let files = PYTHON_FILES.map(|file| python_agent().join(file));
    let found = Command::new("python3").arg("-c").arg(IMPORTS).args(files).output();
    let found = found.expect("python3 is needed, 3.10 or later for this test");
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    assert_eq!(
        String::from_utf8_lossy(&found.stdout).trim(),
        "ed25519 rouse_work",
        "its own, and nothing else"
    );
}
