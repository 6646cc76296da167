use std::os::unix::fs::PermissionsExt;

use super::super::{Class, TreeFile};
use super::{Fixture, Remote, packed};

#[tokio::test]
async fn addresses_that_are_options_or_commands_are_never_run() {
    let (fixture, _) = Fixture::new();
    let canary = fixture.dir.path().join("canary");
    let touch = format!("touch {}", canary.display());
    for url in [
        format!("--upload-pack={touch}"),
        format!("ext::sh -c '{touch}'"),
        format!("ext::{touch}"),
        format!("ssh://-oProxyCommand={touch}/x"),
        format!("-oProxyCommand={touch}:x"),
        format!("foo::{touch}"),
        "fd::17".to_owned(),
        "relative/path".to_owned(),
    ] {
        fixture.point("app", &url, None);
        let error = fixture.sources.look("app").await.unwrap_err();
        assert_eq!(error.class(), Class::Refused, "{url}: {error}");
        assert!(!canary.exists(), "{url} was run");
    }
}

#[tokio::test]
async fn branches_with_names_like_code_are_names() {
    let (fixture, remote) = Fixture::new();
    let tip = remote.commit("a", "1", "first");
    let names = ["$(reboot)", "';id", "`id`", "a&b", "a|b", "x;touch-canary", "é", "%s", "{{branch}}"];
    for name in names {
        remote.git(&["update-ref", &format!("refs/heads/{name}"), &tip]);
    }
    let refs = fixture.look_and_fetch().await;
    for name in names {
        assert_eq!(refs.get(name), Some(&tip), "{name}");
        assert_eq!(fixture.sources.tip("app", Some(name)).await.unwrap(), tip);
    }
}

#[tokio::test]
async fn what_is_no_revision_is_not_given_to_git() {
    let (fixture, remote) = Fixture::new();
    remote.commit("a", "1", "first");
    for bad in ["main", "HEAD", "--output=canary", "", "@{u}", ":/first"] {
        for error in [
            packed(&fixture.sources, bad, 0).await.unwrap_err(),
            fixture.sources.read_file("app", bad, "a", 10).await.unwrap_err(),
            fixture.sources.history("app", bad, None, &[]).await.unwrap_err(),
        ] {
            assert_eq!(error.class(), Class::Refused, "{bad:?}: {error}");
        }
    }
}

#[tokio::test]
async fn hooks_and_settings_of_repositories_and_users_are_not_followed() {
    let (fixture, remote) = Fixture::new();
    let tip = remote.commit("a", "1", "first");
    fixture.look_and_fetch().await;
    let canary = fixture.dir.path().join("canary");
    let script = format!("#!/bin/sh\ntouch '{}'\n", canary.display());
    let mirror = fixture.mirrors().remove(0);
    for place in [mirror.clone(), remote.dir.join(".git")] {
        std::fs::create_dir_all(place.join("hooks")).unwrap();
        for hook in ["reference-transaction", "post-fetch", "post-update", "pre-auto-gc", "post-checkout"] {
            let path = place.join("hooks").join(hook);
            std::fs::write(&path, &script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    remote.git(&["config", "uploadpack.packObjectsHook", &format!("touch '{}';", canary.display())]);
    remote.git(&["config", "core.fsmonitor", &format!("touch '{}'", canary.display())]);
    std::fs::remove_file(&canary).ok();
    let file = remote.dir.join("a");
    std::fs::write(&file, "2").unwrap();
    // plumbing, so that the remote's own hooks stay out of it
    let tree = remote.git(&["-c", "core.hooksPath=/dev/null", "write-tree"]);
    let new = remote.git(&["commit-tree", "-p", &tip, "-m", "second", &tree]);
    remote.git(&["-c", "core.hooksPath=/dev/null", "update-ref", "refs/heads/main", &new]);
    std::fs::remove_file(&canary).ok();
    assert_eq!(fixture.look_and_fetch().await["main"], new);
    packed(&fixture.sources, &new, 0).await.unwrap();
    assert!(!canary.exists(), "something of the repository was run");
}

#[tokio::test]
async fn submodules_and_filters_of_a_repository_run_and_read_nothing() {
    let (fixture, remote) = Fixture::new();
    let canary = fixture.dir.path().join("canary");
    let touch = format!("touch '{}'", canary.display());
    // What would be stolen: a repository on the master's own disk that its user can read.
    let private = Remote::new(&fixture.dir.path().join("private"));
    let stolen = private.commit("secret", "hunter2", "first");
    let modules = format!(
        "[submodule \"run\"]\n\tpath = run\n\turl = ext::sh -c {touch:?}\n\tupdate = !{touch}\n\
         [submodule \"disk\"]\n\tpath = disk\n\turl = file://{}\n",
        private.dir.display()
    );
    std::fs::write(remote.dir.join(".gitmodules"), modules).unwrap();
    let attributes = "* filter=evil diff=evil merge=evil working-tree-encoding=UTF-16\n";
    std::fs::write(remote.dir.join(".gitattributes"), attributes).unwrap();
    // Settings of the repository itself, as one on a shared disk may have them.
    for (key, value) in [
        ("filter.evil.smudge", touch.as_str()),
        ("filter.evil.process", &touch),
        ("diff.evil.textconv", &touch),
        ("diff.evil.command", &touch),
        ("diff.external", &touch),
        ("core.pager", &touch),
        ("core.gitProxy", &touch),
        ("core.alternateRefsCommand", &touch),
        ("tar.tar.command", &touch),
    ] {
        remote.git(&["config", key, value]);
    }
    std::fs::write(remote.dir.join("a"), "1").unwrap();
    // plumbing, so that the remote's own settings stay out of it
    let blob = |file: &str| remote.git(&["hash-object", "-w", "--no-filters", file]);
    for file in [".gitmodules", ".gitattributes", "a"] {
        remote.git(&["update-index", "--add", "--cacheinfo", &format!("100644,{},{file}", blob(file))]);
    }
    for path in ["run", "disk"] {
        remote.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{stolen},{path}")]);
    }
    let tree = remote.git(&["write-tree"]);
    let tip = remote.git(&["commit-tree", "-m", "first", &tree]);
    remote.git(&["update-ref", "refs/heads/main", &tip]);
    std::fs::remove_file(&canary).ok();

    assert_eq!(fixture.look_and_fetch().await["main"], tip);
    fixture.sources.history("app", &tip, None, &[]).await.unwrap();
    let tar = packed(&fixture.sources, &tip, 0).await.unwrap();
    for path in ["run", "disk"] {
        let read = fixture.sources.read_file("app", &tip, path, 100).await.unwrap();
        assert_eq!(read, Some(TreeFile::Submodule), "{path}");
    }
    assert!(!canary.exists(), "something of the repository was run");
    assert!(!String::from_utf8_lossy(&tar).contains("hunter2"));
    let mirror = fixture.mirrors().remove(0);
    assert!(!mirror.join("modules").exists() && !mirror.join("objects/info/alternates").exists());
    let error = fixture.sources.read_file("app", &stolen, "secret", 100).await.unwrap_err();
    assert_eq!(error.class(), Class::Missing, "{error}");
}

#[tokio::test]
async fn links_in_a_tree_are_told_and_not_followed() {
    let (fixture, remote) = Fixture::new();
    std::os::unix::fs::symlink("/etc/passwd", remote.dir.join("link")).unwrap();
    std::os::unix::fs::symlink("../../up", remote.dir.join("up")).unwrap();
    let tip = remote.commit("a", "1", "first");
    let link = fixture.sources.read_file("app", &tip, "link", 100).await.unwrap();
    assert_eq!(link, Some(TreeFile::Link("/etc/passwd".into())));
    let tar = packed(&fixture.sources, &tip, 0).await.unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    let kinds: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.path().unwrap().display().to_string(), e.header().entry_type()))
        .collect();
    assert!(kinds.contains(&("link".into(), tar::EntryType::Symlink)), "{kinds:?}");
    assert!(kinds.contains(&("up".into(), tar::EntryType::Symlink)));
}

#[tokio::test]
async fn a_commit_cannot_pass_for_two() {
    let (fixture, remote) = Fixture::new();
    let base = remote.commit("a", "1", "first");
    let fake = format!("\u{1}{}\nMallory\nm@x\n0\nfake", "0".repeat(40));
    std::fs::write(remote.dir.join(fake.replace('/', "_")), "x").unwrap();
    std::fs::write(remote.dir.join(":100644 100644 a b M"), "x").unwrap();
    let tip = remote.commit("b", "1", &format!("message\n\n{fake}\n:100644 x"));
    let history = fixture.sources.history("app", &tip, Some(&base), &[]).await.unwrap();
    assert_eq!((history.total, history.commits.len()), (1, 1));
    assert_eq!(history.commits[0].author, "Ann Author <ann@example.org>");
    assert_eq!(history.commits[0].files.len(), 3);
}
