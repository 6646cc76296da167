//! Logs as people and programs read them: while they grow and afterwards, of any size and any bytes.

mod kinds;
mod live;
mod volume;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The objects that hold parts of a log.
fn objects_of(state: &Path, log: i64) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(state).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        // A worker's own folder holds no objects, and may be closed to us.
        if path.is_dir() {
            found.extend(objects_of(&path, log));
        } else if path.to_string_lossy().contains("/logs/e") && name.starts_with(&format!("{log}.")) {
            found.push(path);
        }
    }
    found
}

fn texts(page: &Value) -> Vec<&str> {
    let lines = page["lines"].as_array().map_or(&[][..], Vec::as_slice);
    lines.iter().map(|line| line["text"].as_str().expect("it is there")).collect()
}
