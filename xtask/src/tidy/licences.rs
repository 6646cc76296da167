//! Licences and sources of everything that is linked in, by the lists in `deny.toml`.
//!
//! `cargo-deny` judges where it is installed. Elsewhere the same lists are held against cargo's metadata here,
//! so that a licence does not slip in from a machine without it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use super::Faults;
use crate::packages;
use crate::process;
use crate::workspace::{Workspace, array};

pub fn check(workspace: &Workspace) -> Result<Faults> {
    if packages::find("cargo-deny").is_some() {
        let mut command = workspace.cargo();
        command.args(["deny", "--all-features", "check", "licenses", "bans", "sources"]);
        return Ok(process::output(&mut command)
            .err()
            .map(|error| format!("{error:#}"))
            .into_iter()
            .collect());
    }
    let rules =
        Rules::read(&std::fs::read_to_string(workspace.root.join("deny.toml")).context("deny.toml")?)?;
    let resolved = workspace.resolved()?;
    let mut faults = Faults::new();
    for package in array(&resolved["packages"]) {
        let name = package["name"].as_str().unwrap_or_default();
        if let Some(source) = package["source"].as_str()
            && !rules.sources.iter().any(|allowed| source.trim_start_matches("registry+") == allowed)
        {
            faults.push(format!("{name} comes from {source}"));
        }
        if rules.banned.contains(name) {
            faults.push(format!("{name} is banned in deny.toml"));
        }
        let Some(expression) = package["license"].as_str() else {
            faults.push(format!("{name} states no licence"));
            continue;
        };
        if !rules.allows(name, expression)? {
            faults.push(format!("{name} is under {expression}, which deny.toml does not allow"));
        }
    }
    Ok(faults)
}

/// What is taken from `deny.toml`. Its lists are written one string a line or in one line; no more is read.
#[derive(Default)]
struct Rules {
    licences: BTreeSet<String>,
    /// Package and licence that it alone may have.
    exceptions: Vec<(String, String)>,
    banned: BTreeSet<String>,
    sources: BTreeSet<String>,
}

impl Rules {
    fn read(text: &str) -> Result<Self> {
        let mut rules = Self::default();
        let mut table = String::new();
        let mut key = String::new();
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'))
                && !name.contains('"')
            {
                table = name.to_string();
                continue;
            }
            if !line.starts_with(['{', '"'])
                && let Some((name, _)) = line.split_once(" = ")
            {
                key = name.to_string();
            }
            let value = line.strip_prefix(&format!("{key} = ")).unwrap_or(line);
            let strings: Vec<String> = value.split('"').skip(1).step_by(2).map(str::to_string).collect();
            match (table.as_str(), key.as_str()) {
                ("licenses", "allow") => rules.licences.extend(strings),
                ("licenses", "exceptions") => {
                    if let Some((name, licences)) = strings.split_first() {
                        rules
                            .exceptions
                            .extend(licences.iter().map(|licence| (name.clone(), licence.clone())));
                    }
                }
                ("bans", "deny") => rules.banned.extend(strings),
                ("sources", "allow-registry") => rules.sources.extend(strings),
                _ => {}
            }
        }
        if rules.licences.is_empty() || rules.sources.is_empty() {
            bail!("deny.toml allows no licence or no source");
        }
        Ok(rules)
    }

    fn allows(&self, package: &str, expression: &str) -> Result<bool> {
        let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut at = 0;
        let allowed = self.any(package, &words, &mut at);
        match allowed {
            Some(allowed) if at == words.len() => Ok(allowed),
            _ => bail!("the licence of {package} cannot be read: {expression}"),
        }
    }

    fn any(&self, package: &str, words: &[&str], at: &mut usize) -> Option<bool> {
        let mut allowed = self.all(package, words, at)?;
        while words.get(*at) == Some(&"OR") {
            *at += 1;
            allowed |= self.all(package, words, at)?;
        }
        Some(allowed)
    }

    fn all(&self, package: &str, words: &[&str], at: &mut usize) -> Option<bool> {
        let mut allowed = self.one(package, words, at)?;
        while words.get(*at) == Some(&"AND") {
            *at += 1;
            allowed &= self.one(package, words, at)?;
        }
        Some(allowed)
    }

    fn one(&self, package: &str, words: &[&str], at: &mut usize) -> Option<bool> {
        let word = *words.get(*at)?;
        *at += 1;
        if word == "(" {
            let allowed = self.any(package, words, at)?;
            (words.get(*at) == Some(&")")).then(|| *at += 1)?;
            return Some(allowed);
        }
        let mut licence = word.to_string();
        if words.get(*at) == Some(&"WITH") {
            licence = format!("{word} WITH {}", words.get(*at + 1)?);
            *at += 2;
        }
        let excepted = self.exceptions.iter().any(|(name, allowed)| name == package && *allowed == licence);
        Some(excepted || self.licences.contains(&licence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[licenses]
allow = [
    "MIT", # the usual one
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
]
exceptions = [
    { crate = "special", allow = ["MPL-2.0"] },
]
[bans]
deny = ["openssl"]
[sources]
allow-registry = ["https://example.org/index"]
"#;

    fn allowed(package: &str, expression: &str) -> bool {
        Rules::read(TEXT).unwrap().allows(package, expression).unwrap()
    }

    #[test]
    fn expressions_are_judged_by_the_list() {
        assert!(allowed("a", "MIT"));
        assert!(allowed("a", "GPL-3.0 OR MIT"));
        assert!(!allowed("a", "GPL-3.0 AND MIT"));
        assert!(allowed("a", "(MIT OR GPL-3.0) AND Apache-2.0"));
        assert!(allowed("a", "Apache-2.0 WITH LLVM-exception"));
        assert!(allowed("a", "MIT/Apache-2.0"));
        assert!(!allowed("a", "MPL-2.0"));
        assert!(allowed("special", "MPL-2.0"));
    }

    #[test]
    fn the_lists_are_read() {
        let rules = Rules::read(TEXT).unwrap();
        assert!(rules.banned.contains("openssl"));
        assert!(rules.sources.contains("https://example.org/index"));
        assert!(!rules.licences.contains("the usual one"));
        assert!(Rules::read(TEXT).unwrap().allows("a", "MIT OR").is_err());
    }
}
