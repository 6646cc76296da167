//! A look at a repository's refs, and the checks on names that come from it.

use std::collections::BTreeMap;

use super::Inner;
use super::error::SourceError;
use super::repository::Repository;

/// What a repository's refs point to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Where its HEAD points, if that branch exists.
    pub default_branch: Option<String>,
    /// Branches by name, tags as `refs/tags/NAME`, each with its commit.
    pub refs: BTreeMap<String, String>,
}

impl Inner {
    pub(super) async fn look(&self, repository: &Repository) -> Result<Look, SourceError> {
        const LINE: usize = 512;
        let _call = self.looks.acquire().await;
        let args = [
            "ls-remote",
            "--quiet",
            "--symref",
            "--end-of-options",
            &repository.url,
            "HEAD",
            "refs/heads/*",
            "refs/tags/*",
        ];
        let cap = self.limits.refs.saturating_mul(LINE);
        let git = self.git("look at the repository", &args).cap(cap).reaching(&self.folder, repository)?;
        let output = git.run(self.limits.look).await?;
        let look = Look::read(&output.stdout);
        if look.refs.len() > self.limits.refs {
            return Err(SourceError::TooMany { refs: look.refs.len(), limit: self.limits.refs });
        }
        Ok(look)
    }
}

impl Look {
    /// Reads the answer of `ls-remote`. Lines that no honest server sends are passed over.
    #[must_use]
    pub fn read(stdout: &[u8]) -> Self {
        let mut look = Self::default();
        let mut head = None;
        for line in String::from_utf8_lossy(stdout).lines() {
            let Some((left, name)) = line.split_once('\t') else { continue };
            if let Some(target) = left.strip_prefix("ref: ") {
                if name == "HEAD" {
                    head = target.strip_prefix("refs/heads/").map(str::to_owned);
                }
                continue;
            }
            if check_revision(left).is_err() {
                continue;
            }
            // the commit that an annotated tag stands for follows the tag itself
            let name = name.strip_suffix("^{}").unwrap_or(name);
            let name = name.strip_prefix("refs/heads/").unwrap_or(name);
            if name != "HEAD" && check_ref_name(name).is_ok() {
                look.refs.insert(name.to_owned(), left.to_owned());
            }
        }
        look.default_branch = head.filter(|branch| look.refs.contains_key(branch));
        look
    }
}

/// A full object id.
///
/// # Errors
/// With what is wrong with it.
pub fn check_revision(text: &str) -> Result<(), SourceError> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match hex && (text.len() == 40 || text.len() == 64) {
        true => Ok(()),
        false => Err(SourceError::refused(
            format!("the revision {text:?}"),
            "a revision is 40 or 64 hexadecimal digits",
        )),
    }
}

/// Git's own rules for the names of refs, and a bound on their length.
///
/// # Errors
/// With what is wrong with it.
pub fn check_ref_name(name: &str) -> Result<(), SourceError> {
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    let bad = name.len() > 255
        || name.starts_with('-')
        || name.ends_with(['.', '/'])
        || name == "@"
        || name.contains("..")
        || name.contains("@{")
        || name.contains(|c: char| c.is_control() || " ~^:?*[\\".contains(c))
        || name.split('/').any(bad_part);
    match bad {
        false => Ok(()),
        true => {
            Err(SourceError::refused(format!("the name {name:?}"), "it is no valid name of a branch or tag"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Look, check_ref_name, check_revision};

    #[test]
    fn a_look_is_read_and_lies_are_passed_over() {
        let a = "a".repeat(40);
        let b = "b".repeat(40);
        let text = format!(
            "ref: refs/heads/main\tHEAD\n{a}\tHEAD\n{a}\trefs/heads/main\n{b}\trefs/heads/$(reboot)\n\
             {a}\trefs/tags/v1\n{b}\trefs/tags/v1^{{}}\n{a}\trefs/heads/a b\n--upload-pack=x\trefs/heads/x\nnonsense\n\
             {a}\trefs/heads/-x\n{a}\trefs/heads/../x\n"
        );
        let look = Look::read(text.as_bytes());
        assert_eq!(look.default_branch.as_deref(), Some("main"));
        let refs: Vec<_> = look.refs.iter().map(|(n, r)| (n.as_str(), r.as_str())).collect();
        assert_eq!(refs, [("$(reboot)", b.as_str()), ("main", &a), ("refs/tags/v1", &b)]);
    }

    #[test]
    fn names_and_revisions_are_checked() {
        for good in ["main", "release/1.2", "$(reboot)", "';id", "refs/tags/v1", "a-b", "é"] {
            assert!(check_ref_name(good).is_ok(), "{good}");
        }
        for bad in [
            "", "-x", "a..b", "a b", "a/", "/a", ".a", "a/.b", "a.lock", "a\nb", "a:b", "x^", "@", "a@{1}",
            "a//b",
        ] {
            assert!(check_ref_name(bad).is_err(), "{bad}");
        }
        assert!(check_revision(&"0".repeat(64)).is_ok());
        for bad in ["", "HEAD", "main", &"A".repeat(40), &"0".repeat(41), "--x"] {
            assert!(check_revision(bad).is_err(), "{bad}");
        }
    }
}
