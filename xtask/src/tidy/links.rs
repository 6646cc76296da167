//! Links between the project's documents lead somewhere, down to the heading.

use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::Faults;
use crate::workspace::Workspace;

pub fn check(workspace: &Workspace) -> Result<Faults> {
    let mut faults = Faults::new();
    for file in workspace.files()? {
        // What lies among the sources is a part of a document that stands elsewhere.
        if file.extension().is_none_or(|extension| extension != "md") || file.starts_with("src") {
            continue;
        }
        let Some(text) = workspace.text(&file)? else { continue };
        for (number, link) in links(&text) {
            if let Err(why) = follow(workspace, &file, &text, &link) {
                faults.push(format!("{}:{number}: {link}: {why}", file.display()));
            }
        }
    }
    Ok(faults)
}

fn follow(workspace: &Workspace, from: &Path, text: &str, link: &str) -> Result<(), String> {
    let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
    let target = if path.is_empty() {
        None
    } else {
        Some(normal(&from.parent().unwrap_or(Path::new("")).join(path))?)
    };
    let Some(target) = target else {
        return heading_in(text, heading);
    };
    if !workspace.root.join(&target).exists() {
        return Err("there is no such file".into());
    }
    if heading.is_none() || target.extension().is_none_or(|extension| extension != "md") {
        return Ok(());
    }
    let other = workspace.text(&target).map_err(|error| error.to_string())?.unwrap_or_default();
    heading_in(&other, heading)
}

fn heading_in(text: &str, heading: Option<&str>) -> Result<(), String> {
    match heading {
        None | Some("") => Ok(()),
        Some(wanted) if headings(text).any(|heading| heading == wanted) => Ok(()),
        Some(_) => Err("there is no such heading".into()),
    }
}

/// The path without `.` and `..`; an error where it leaves the project.
fn normal(path: &Path) -> Result<PathBuf, String> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if normal.pop() => {}
            Component::Normal(name) => normal.push(name),
            _ => return Err("it leads out of the project".into()),
        }
    }
    Ok(normal)
}

/// Targets of `[text](target)` and `[name]: target` within the project, with their line; not in code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let reference =
            line.starts_with('[').then(|| line.split_once("]: ")).flatten().map(|(_, target)| target.trim());
        for link in inline.chain(reference) {
            let outside = link.contains("://") || link.starts_with("mailto:");
            if !outside && !link.is_empty() {
                found.push((number, link.to_string()));
            }
        }
    }
    found
}

/// Lines outside fenced blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// Headings as their anchors: lower case, words joined by dashes, marks left out.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code() {
        let text =
            "see [a](docs/a.md#x) and `[b](b.md)`\n```\n[c](c.md)\n```\n[d]: ../d.md\n[e](https://e.org)";
        assert_eq!(links(text), [(1, "docs/a.md#x".to_string()), (5, "../d.md".to_string())]);
    }

    #[test]
    fn anchors_follow_the_headings() {
        let anchors: Vec<_> = headings("# The house\n## What it's *not*: 1\n").collect();
        assert_eq!(anchors, ["the-house", "what-its-not-1"]);
    }

    #[test]
    fn a_link_stays_in_the_project() {
        assert_eq!(normal(Path::new("docs/../README.md")).unwrap(), Path::new("README.md"));
        assert!(normal(Path::new("../x")).is_err());
    }
}
