//! Paths below the work directory: checked, listed, removed, made. Never through a symbolic link that leads elsewhere.

mod glob;
mod root;

use std::io;
use std::path::Path;

use rouse_agent_protocol::{
    Entry, EntryKind, FailureClass, Listing, MAX_LISTED, MAX_NAME_BYTES, OutcomeKind, PathOp, Paths,
};
use thiserror::Error;

pub use glob::Glob;
pub use root::{Kind, Root, Visit};

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PathError {
    #[error("is absolute; paths are relative to the work directory")]
    Absolute,
    #[error("must not contain `..`")]
    Parent,
    #[error("must not contain a zero byte")]
    Zero,
}

/// The parts of a relative path that cannot leave where it starts, as far as the text goes. Empty parts and `.` mean nothing.
pub fn components(path: &[u8]) -> Result<Vec<&[u8]>, PathError> {
    if path.first() == Some(&b'/') {
        return Err(PathError::Absolute);
    }
    if path.contains(&0) {
        return Err(PathError::Zero);
    }
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&b"..".as_slice()) { Err(PathError::Parent) } else { Ok(parts) }
}

/// Do all operations in order; the first that fails ends the command.
pub fn perform(work_dir: &Path, wanted: &Paths) -> OutcomeKind {
    let root = match Root::open(work_dir) {
        Ok(root) => root,
        Err(error) => {
            return failed(
                format!("the work directory cannot be opened: {error}"),
                FailureClass::Infrastructure,
            );
        }
    };
    let mut listings = Vec::new();
    let mut room = Room { entries: MAX_LISTED, name_bytes: MAX_NAME_BYTES };
    for op in &wanted.ops {
        let (what, path, result) = match op {
            PathOp::List { path, glob } => {
                ("list", path, list(&root, path, glob, &mut room).map(|listing| listings.push(listing)))
            }
            PathOp::Remove { path } => ("remove", path, with(path, |parts| root.remove(parts))),
            PathOp::Make { path } => ("make", path, with(path, |parts| root.make_dirs(parts).map(drop))),
        };
        if let Err(error) = result {
            return failed(format!("{what} `{path}`: {error}"), FailureClass::User);
        }
    }
    OutcomeKind::PathsDone { listings }
}

fn failed(message: String, class: FailureClass) -> OutcomeKind {
    OutcomeKind::Failed { message, class }
}

fn with<T>(path: &str, act: impl FnOnce(&[&[u8]]) -> io::Result<T>) -> io::Result<T> {
    act(&components(path.as_bytes()).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?)
}

/// What the answer to one command may still hold.
struct Room {
    entries: usize,
    name_bytes: usize,
}

impl Room {
    fn take(&mut self, name: &[u8]) -> bool {
        let fits = self.entries > 0 && self.name_bytes >= name.len();
        if fits {
            self.entries -= 1;
            self.name_bytes -= name.len();
        }
        fits
    }
}

fn list(root: &Root, path: &str, glob: &str, room: &mut Room) -> io::Result<Listing> {
    let glob = Glob::new(glob).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    with(path, |base| {
        let mut entries = Vec::new();
        let mut cut = false;
        root.visit(base, &mut |visit| {
            let wanted = if glob.is_empty() {
                visit.path.is_empty()
            } else {
                !visit.path.is_empty() && glob.matches(visit.path)
            };
            if wanted && room.take(visit.path) {
                entries.push(entry(&visit));
            } else if wanted {
                cut = true;
            }
            Ok(!cut && glob.may_match_below(visit.path))
        })?;
        entries.sort_by(|a: &Entry, b| a.path.cmp(&b.path));
        Ok(Listing { entries, cut })
    })
}

fn entry(visit: &Visit<'_>) -> Entry {
    Entry {
        path: String::from_utf8_lossy(visit.path).into_owned(),
        kind: match visit.kind {
            Kind::File => EntryKind::File,
            Kind::Directory => EntryKind::Directory,
            Kind::Link => EntryKind::Link,
            Kind::Other => EntryKind::Other,
        },
        size: visit.size,
        modified_s: visit.modified_s,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn run(dir: &Path, ops: Vec<PathOp>) -> OutcomeKind {
        perform(dir, &Paths { ops })
    }

    fn names(outcome: OutcomeKind) -> Vec<String> {
        let OutcomeKind::PathsDone { listings } = outcome else { panic!("{outcome:?}") };
        listings.into_iter().flat_map(|l| l.entries).map(|e| format!("{}:{:?}", e.path, e.kind)).collect()
    }

    fn listing(path: &str, glob: &str) -> Vec<PathOp> {
        vec![PathOp::List { path: path.into(), glob: glob.into() }]
    }

    #[test]
    fn made_listed_removed() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), vec![PathOp::Make { path: "a/b".into() }, PathOp::Make { path: "a/b".into() }]);
        fs::write(dir.path().join("a/b/x.txt"), "12").unwrap();
        symlink("/etc", dir.path().join("a/out")).unwrap();
        assert_eq!(names(run(dir.path(), listing("a", "**"))), ["b:Directory", "b/x.txt:File", "out:Link"]);
        assert_eq!(names(run(dir.path(), listing("", "a/*/*.txt"))), ["a/b/x.txt:File"]);
        assert_eq!(names(run(dir.path(), listing("a/b/x.txt", ""))), [":File"]);
        assert!(names(run(dir.path(), listing("none", "*"))).is_empty());
        assert!(names(run(dir.path(), listing("none", ""))).is_empty());
        let outcome =
            run(dir.path(), vec![PathOp::Remove { path: "a".into() }, PathOp::Remove { path: "a".into() }]);
        assert!(matches!(outcome, OutcomeKind::PathsDone { .. }));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("precious"), "").unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        for path in ["out/precious", "../x", "/etc/passwd", "out/new"] {
            for op in [PathOp::Remove { path: path.into() }, PathOp::Make { path: path.into() }] {
                assert!(
                    matches!(
                        run(dir.path(), vec![op]),
                        OutcomeKind::Failed { class: FailureClass::User, .. }
                    ),
                    "{path}"
                );
            }
        }
        // The link itself may go.
        run(dir.path(), vec![PathOp::Remove { path: "out".into() }]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_work_directory_itself_is_emptied_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join(".hidden"), "").unwrap();
        run(dir.path(), vec![PathOp::Remove { path: ".".into() }]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn long_listings_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..=MAX_LISTED {
            fs::write(dir.path().join(n.to_string()), "").unwrap();
        }
        let OutcomeKind::PathsDone { listings } = run(dir.path(), listing("", "*")) else { panic!("failed") };
        assert!(listings[0].cut && listings[0].entries.len() == MAX_LISTED);
    }
}
