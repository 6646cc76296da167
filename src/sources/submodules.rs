//! The submodules of a revision: where they are, which commit each is, and whether they may be fetched at all.
//!
//! `.gitmodules` is written by whoever wrote the revision, so each address in it is a stranger's wish: it is followed to hosts that are allowed,
//! by http, https, ssh and git alone, and without being sent on elsewhere. Nothing else in the file has a say.

use std::collections::BTreeMap;
use std::path::Path;

use futures::FutureExt;
use serde::{Deserialize, Serialize};

use super::error::SourceError;
use super::repository::Repository;
use super::selection::{Opened, Selection};
use super::tree::TreeFile;
use super::{Inner, Sources};

/// Submodules within submodules.
const DEPTH: usize = 10;
/// Of one checkout, over all.
const MOST: usize = 200;
/// Bytes of one `.gitmodules`.
const FILE: u64 = 1 << 20;

/// One submodule of a checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submodule {
    /// As its own repository's `.gitmodules` has it.
    pub name: String,
    /// Below the codebase's folder.
    pub path: String,
    /// Absolute.
    pub url: String,
    pub revision: String,
}

/// What `.gitmodules` and the tree say of one.
struct Named {
    name: String,
    url: String,
    commit: String,
}

/// Where submodules are looked for.
struct Level {
    prefix: String,
    url: String,
    revision: String,
    selection: Selection,
    depth: usize,
}

impl Sources {
    /// The submodules of a selection, those within others after them. `keyed` says whether the codebase's key may be used for what is on its
    /// own server.
    pub async fn submodules(
        &self,
        codebase: &str,
        revision: &str,
        selection: &Selection,
        recursive: bool,
        keyed: bool,
    ) -> Result<Vec<Submodule>, SourceError> {
        let own = self.inner.repository(codebase).await?;
        let mut found: Vec<Submodule> = Vec::new();
        let mut levels = vec![Level {
            prefix: String::new(),
            url: own.url.clone(),
            revision: revision.to_owned(),
            selection: selection.clone(),
            depth: 0,
        }];
        while let Some(level) = levels.pop() {
            let of = self.inner.selected(codebase, &level.selection).await?;
            let read = |mirror: std::path::PathBuf| {
                let (of, level) = (&of, &level);
                async move {
                    let commit = self.inner.commit_of(of, &mirror, &level.revision, &level.selection).await?;
                    self.inner.named(&mirror, &commit).await
                }
                .boxed()
            };
            let named = self.inner.with_revision_of(&of, &level.revision, read).await;
            let named = named.map_err(|error| match level.depth {
                0 => error,
                _ => SourceError::submodule(&level.prefix, &level.url, error),
            })?;
            for (path, Named { name, url, commit }) in named {
                let place = if level.depth == 0 { path.clone() } else { format!("{}/{path}", level.prefix) };
                if level.depth == 0 && !selection.has(&path) {
                    continue;
                }
                let url = absolute(&level.url, &url);
                let fault = |error| SourceError::submodule(&place, &url, error);
                if !is_plain(&path) {
                    return Err(fault(SourceError::refused("its path", "it leads out of its repository")));
                }
                own.submodule(codebase, &url, keyed).map_err(fault)?;
                if found.len() == MOST {
                    return Err(fault(SourceError::refused("it", format!("a checkout has {MOST} at most"))));
                }
                let (path, revision) = (place.clone(), commit.clone());
                found.push(Submodule { name, path, url: url.clone(), revision });
                if recursive && level.depth + 1 == DEPTH {
                    return Err(fault(SourceError::refused("it", format!("it is {DEPTH} levels deep"))));
                }
                if recursive {
                    let submodule = Some(Opened { url: url.clone(), keyed });
                    let selection = Selection { submodule, ..Selection::default() };
                    let depth = level.depth + 1;
                    levels.push(Level { prefix: place, url, revision: commit, selection, depth });
                }
            }
        }
        Ok(found)
    }
}

impl Inner {
    /// Path → address and commit, of submodules that a commit both names and has.
    async fn named(&self, mirror: &Path, commit: &str) -> Result<BTreeMap<String, Named>, SourceError> {
        let Some(TreeFile::Content { bytes, .. }) =
            self.read_file(mirror, commit, ".gitmodules", FILE).await?
        else {
            return Ok(BTreeMap::new());
        };
        let doing = "read `.gitmodules`";
        let args = ["config", "--no-includes", "-z", "--file", "-", "--list"];
        let output = self.git(doing, &args).input(bytes).run(self.limits.read).await;
        let text = output.map_err(|e| match e {
            SourceError::Git { said, .. } => SourceError::refused("`.gitmodules`", said),
            other => other,
        })?;
        let mut modules: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
        for entry in String::from_utf8_lossy(&text.stdout).split('\0') {
            let Some((key, value)) = entry.split_once('\n') else { continue };
            let Some((name, key)) = key.strip_prefix("submodule.").and_then(|key| key.rsplit_once('.'))
            else {
                continue;
            };
            let module = modules.entry(name.to_owned()).or_default();
            match key {
                "path" => module.0 = Some(value.trim_end_matches('/').to_owned()),
                "url" => module.1 = Some(value.to_owned()),
                _ => {}
            }
        }
        let whole = modules.into_iter().filter_map(|(name, (path, url))| Some((path?, (name, url?))));
        let urls: BTreeMap<String, (String, String)> = whole.collect();
        let mut found = BTreeMap::new();
        for (path, (name, url)) in
            urls.into_iter().filter(|(path, _)| !path.is_empty() && !path.contains('\0'))
        {
            if found.len() > MOST {
                break;
            }
            let git = self.git(doing, &["ls-tree", "-z", "--end-of-options", commit, &path]);
            let output = git.within(mirror).run(self.limits.read).await?;
            let entry = String::from_utf8_lossy(&output.stdout).into_owned();
            if let Some(rest) = entry.strip_prefix("160000 commit ")
                && let Some((id, _)) = rest.split_once('\t')
            {
                found.insert(path, Named { name, url, commit: id.to_owned() });
            }
        }
        Ok(found)
    }
}

/// Whether a path stays where it is, whatever the file system thinks of letters.
fn is_plain(path: &str) -> bool {
    let good = |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
    path.len() <= 1024 && !path.chars().any(char::is_control) && path.split('/').all(good)
}

/// An address as git understands it that is written in a repository which is at `parent`.
fn absolute(parent: &str, url: &str) -> String {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.to_owned();
    }
    let (mut base, mut rest, mut colon) = (parent.trim_end_matches('/'), url, false);
    loop {
        if let Some(more) = rest.strip_prefix("./") {
            rest = more;
        } else if let Some(more) = rest.strip_prefix("../") {
            rest = more;
            match (base.rsplit_once('/'), base.rsplit_once(':')) {
                (Some((head, _)), _) => base = head,
                (None, Some((head, _))) => (base, colon) = (head, true),
                (None, None) => base = "",
            }
        } else {
            break;
        }
    }
    let between = if colon { ':' } else { '/' };
    format!("{base}{between}{}", rest.trim_end_matches('/'))
}

impl Repository {
    /// A submodule's, where its address is one that may be followed.
    pub(super) fn submodule(&self, codebase: &str, url: &str, keyed: bool) -> Result<Self, SourceError> {
        let mut submodule = Self::new(url, None, Vec::new());
        submodule.is_submodule = true;
        submodule.check()?;
        let Some(server) = submodule.server() else {
            return Err(SourceError::Address("submodules come by http, https, ssh or git alone".to_owned()));
        };
        let own = self.server();
        let is_allowed = own.as_ref().is_some_and(|own| own.host == server.host)
            || self.submodule_hosts.iter().any(|host| host.eq_ignore_ascii_case(&server.host));
        if !is_allowed {
            return Err(SourceError::Address(format!(
                "submodules of `{codebase}` may not be on the host `{}`; it can be allowed by `submodule_hosts` of the codebase",
                server.host
            )));
        }
        if keyed && own.as_ref() == Some(&server) {
            submodule.key.clone_from(&self.key);
            submodule.has_identity = true;
        }
        Ok(submodule)
    }
}

#[cfg(test)]
mod tests {
    use super::{absolute, is_plain};

    #[test]
    fn relative_addresses_are_those_of_git() {
        for (parent, url, expected) in [
            ("https://h/shop/app.git", "../lib.git", "https://h/shop/lib.git"),
            ("https://h/shop/app.git/", "../../other/lib.git", "https://h/other/lib.git"),
            ("https://h/shop/app.git", "./lib.git", "https://h/shop/app.git/lib.git"),
            ("git@h:shop/app.git", "../lib.git", "git@h:shop/lib.git"),
            ("git@h:app.git", "../lib.git", "git@h:lib.git"),
            ("https://h/a", "https://g/b", "https://g/b"),
            ("https://h/a", "../../evil.example/x", "https://evil.example/x"),
            ("a", "../x", "/x"),
        ] {
            assert_eq!(absolute(parent, url), expected, "{parent} {url}");
        }
    }

    #[test]
    fn a_path_stays_within_its_repository() {
        assert!(is_plain("libs/a.git") && is_plain("ünder/x"));
        for bad in ["", "/a", "a//b", "../a", "a/..", ".git/hooks", "a/.GIT/x", "a\nb"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
