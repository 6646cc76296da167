//! No file of the project names a place on one person's machine: where the clone lies, or a home.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Faults;
use crate::process;
use crate::workspace::Workspace;

/// Folders that every machine has: naming what lies in them is fine.
const COMMON: &[&str] =
    &["/", "/tmp", "/var", "/var/tmp", "/usr", "/usr/src", "/opt", "/srv", "/home", "/root", "/mnt", "/src"];

pub fn check(workspace: &Workspace) -> Result<Faults> {
    let places = places(workspace);
    let mut faults = Faults::new();
    for file in workspace.files()? {
        let Some(text) = workspace.text(&file)? else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(place) = places.iter().find(|place| names(line, place)) {
                faults.push(format!(
                    "{}:{}: names {place}, a place on this machine",
                    file.display(),
                    number + 1
                ));
            }
        }
    }
    Ok(faults)
}

/// The clone, the clone that it is a work tree of, the folders around them, and the home.
fn places(workspace: &Workspace) -> Vec<String> {
    let mut folders = vec![workspace.root.clone()];
    let asked = process::output(
        Command::new("git")
            .args(["rev-parse", "--path-format=absolute", "--git-common-dir"])
            .current_dir(&workspace.root),
    );
    if let Ok(common) = asked
        && let Some(main) = Path::new(common.trim()).parent()
    {
        folders.push(main.to_path_buf());
    }
    let around: Vec<PathBuf> =
        folders.iter().filter_map(|folder| folder.parent()).map(PathBuf::from).collect();
    folders.extend(around);
    folders.extend(std::env::var_os("HOME").map(PathBuf::from));
    let mut places: Vec<String> =
        folders.iter().map(|folder| folder.to_string_lossy().into_owned()).collect();
    places.retain(|place| !COMMON.contains(&place.as_str()));
    places.sort();
    places.dedup();
    places
}

/// Whether the line has the place as a path of its own or the beginning of one.
fn names(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + place.len()..].chars().next();
        let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | '$');
        !before.is_some_and(part) && !after.is_some_and(|c| part(c) && c != '/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_whole_path_or_its_beginning() {
        assert!(names("see /builder/clone/src/main.rs", "/builder/clone"));
        assert!(names("in `/builder`,", "/builder"));
        assert!(!names("/builders", "/builder"));
        assert!(!names("https://host/builder", "/builder"));
        assert!(!names("$dir/builder", "/builder"));
    }
}
