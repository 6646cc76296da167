//! Which rendered sources of mounts are allowed. A source decides what a build can reach, and what it is rendered with may come from
//! anybody who can name a branch: so it is one entry of a folder that the configuration names, and no link to somewhere else.

use crate::options::MountOptions;
use rouse_contract::kind::is_template;
use std::path::{Component, Path};

/// What is wrong with a mount as it is written.
pub(crate) fn fault(mount: &MountOptions) -> Option<(&'static str, &'static str)> {
    if mount.source.is_empty() {
        return Some(("source", "there is nothing to mount"));
    }
    if is_template(&mount.source) && mount.allow.is_empty() {
        let message = "a template may not choose what is mounted: write it out, or let `allow` name the folders that it may lie in";
        return Some(("source", message));
    }
    let folder = |text: &String| text.starts_with('/') && !is_template(text) && is_straight(Path::new(text));
    (!mount.allow.iter().all(folder)).then_some(("allow", "folders are absolute paths, without a template"))
}

/// Why a rendered source may not be mounted.
pub(crate) fn refusal(mount: &MountOptions) -> Option<String> {
    if mount.allow.is_empty() {
        return None;
    }
    let source = Path::new(&mount.source);
    let within = mount.source.starts_with('/')
        && is_straight(source)
        && source.parent().is_some_and(|parent| mount.allow.iter().any(|folder| Path::new(folder) == parent));
    if !within {
        let folders = mount.allow.join("`, `");
        return Some(format!("`{}` is not to be mounted: it is no entry of `{folders}`", mount.source));
    }
    // A build that can write to the folder could have put it there.
    let link = source.symlink_metadata().is_ok_and(|found| found.is_symlink());
    link.then(|| format!("`{}` is not to be mounted: it is a link", mount.source))
}

/// Without `.`, `..` and empty names, which the daemon reads in its own way.
fn is_straight(path: &Path) -> bool {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let joined: std::path::PathBuf = path.components().collect();
    plain && joined.as_os_str() == path.as_os_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, allow: &[&str]) -> MountOptions {
        let allow = allow.iter().map(|&folder| folder.to_owned()).collect();
        MountOptions { source: source.into(), target: "/x".into(), readonly: false, allow }
    }

    #[test]
    fn a_template_needs_folders() {
        assert_eq!(fault(&mount("/srv/cache", &[])), None);
        assert_eq!(fault(&mount("/srv/{{ project }}", &["/srv"])), None);
        assert_eq!(fault(&mount("/srv/{{ project }}", &[])).map(|f| f.0), Some("source"));
        for folder in ["srv", "/srv/../etc", "/srv/", "/{{ project }}"] {
            assert_eq!(fault(&mount("/srv/x", &[folder])).map(|f| f.0), Some("allow"), "{folder}");
        }
    }

    #[test]
    fn only_an_entry_of_a_folder_is_allowed() {
        let folder = tempfile::tempdir().expect("a folder");
        let here = folder.path().to_str().expect("text");
        std::fs::create_dir(folder.path().join("mine")).expect("made");
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).expect("made");
        let refused = |name: &str| refusal(&mount(&format!("{here}/{name}"), &[here]));
        assert_eq!(refused("mine"), None);
        for name in ["", ".", "..", "../x", "mine/..", "mine/deep", "mine/", "./mine", "/mine"] {
            assert!(refused(name).is_some_and(|why| why.contains("no entry")), "{name}");
        }
        assert!(refused("link").is_some_and(|why| why.contains("a link")));
        assert!(refusal(&mount("/etc", &[here])).is_some());
        assert!(refusal(&mount("etc", &[here])).is_some());
        assert_eq!(refusal(&mount("/etc", &[])), None);
    }
}
