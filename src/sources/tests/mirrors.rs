use std::path::Path;

use super::super::{Class, Limits, Sources};
use super::{Fixture, packed};

#[tokio::test]
async fn a_mirror_that_is_half_made_is_set_aside_and_fetched_anew() {
    let (fixture, remote) = Fixture::new();
    let tip = remote.commit("a", "1", "first");
    fixture.look_and_fetch().await;
    let mirror = fixture.mirrors().remove(0);
    for damage in ["HEAD", "config", "objects", "refs"] {
        let path = mirror.join(damage);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::write(path, "").unwrap()
        }
        assert_eq!(fixture.look_and_fetch().await["main"], tip, "without {damage}");
        packed(&fixture.sources, &tip, 0).await.unwrap();
    }
    let aside = fixture.mirrors().iter().filter(|p| p.display().to_string().contains(".broken-")).count();
    assert_eq!(aside, 4);
}

/// Makes each pack and loose object worthless.
fn corrupt(mirror: &Path) {
    let mut folders = vec![mirror.join("objects")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|e| e == "pack") {
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, b"garbage").unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_corrupt_mirror_is_replaced_while_it_is_used() {
    let (fixture, remote) = Fixture::new();
    let first = remote.commit("a", "1", "first");
    fixture.look_and_fetch().await;
    corrupt(&fixture.mirrors()[0]);
    let tar = packed(&fixture.sources, &first, 0).await.unwrap();
    assert!(!tar.is_empty());
    corrupt(&fixture.mirrors()[0]);
    let second = remote.commit("a", "2", "second");
    assert_eq!(fixture.look_and_fetch().await["main"], second);
    let history = fixture.sources.history("app", &second, Some(&first), &[]).await.unwrap();
    assert_eq!(history.total, 1);
}

#[tokio::test]
async fn locks_that_a_killed_git_left_are_no_obstacle() {
    let (fixture, remote) = Fixture::new();
    remote.commit("a", "1", "first");
    fixture.look_and_fetch().await;
    let mirror = fixture.mirrors().remove(0);
    let locks: Vec<_> = std::fs::read_dir(mirror.join("refs/rouse"))
        .unwrap()
        .map(|e| e.unwrap().path().with_extension("lock"))
        .chain([mirror.join("packed-refs.lock")])
        .collect();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for lock in &locks {
        std::fs::File::create(lock).unwrap().set_modified(old).unwrap();
    }
    let tip = remote.commit("a", "2", "second");
    assert_eq!(fixture.look_and_fetch().await["main"], tip);
    assert!(locks.iter().all(|lock| !lock.exists()));
}

#[tokio::test]
async fn another_address_is_another_mirror_and_tidying_removes_the_unused() {
    let (fixture, remote) = Fixture::new();
    let tip = remote.commit("a", "1", "first");
    fixture.look_and_fetch().await;
    let other = super::Remote::new(&fixture.dir.path().join("other"));
    other.commit("z", "1", "elsewhere");
    fixture.point("app", &other.dir.display().to_string(), None);
    let error = packed(&fixture.sources, &tip, 0).await.unwrap_err();
    assert_eq!(error.class(), Class::Missing, "{error}");
    assert!(error.to_string().contains(&tip), "{error}");
    assert_eq!(fixture.mirrors().len(), 2);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(30 * 24 * 3600);
    for mirror in fixture.mirrors() {
        std::fs::File::open(mirror).unwrap().set_modified(old).unwrap();
    }
    fixture.sources.tidy(&["app".into(), "gone".into()]).await.unwrap();
    assert_eq!(fixture.mirrors().len(), 1);
    assert!(fixture.sources.tip("app", None).await.is_ok());
}

#[tokio::test]
async fn tidying_keeps_what_builds_may_still_want() {
    let (fixture, remote) = Fixture::new();
    let first = remote.commit("a", "1", "first");
    let second = remote.commit("a", "2", "second");
    fixture.look_and_fetch().await;
    remote.git(&["reset", "-q", "--hard", &first]);
    remote.git(&["reflog", "expire", "--expire=now", "--all"]);
    remote.git(&["gc", "-q", "--prune=now"]);
    fixture.look_and_fetch().await;
    fixture.sources.tidy(&["app".into()]).await.unwrap();
    assert!(!packed(&fixture.sources, &second, 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn many_callers_share_one_mirror() {
    let (fixture, remote) = Fixture::new();
    let mut tips = Vec::new();
    for n in 0..8 {
        tips.push(remote.commit("a", &n.to_string(), "more"));
    }
    let calls = tips.iter().map(|tip| packed(&fixture.sources, tip, 0));
    for tar in futures::future::join_all(calls).await {
        assert!(!tar.unwrap().is_empty());
    }
    assert_eq!(fixture.mirrors().len(), 1);
}

#[tokio::test]
async fn a_restarted_master_finds_its_mirrors() {
    let (fixture, remote) = Fixture::new();
    let tip = remote.commit("a", "1", "first");
    fixture.look_and_fetch().await;
    std::fs::remove_dir_all(&remote.dir).unwrap();
    let folder = fixture.dir.path().join("state/sources");
    let again = Sources::open(folder, fixture.addresses.clone(), Limits::default()).unwrap();
    assert!(!packed(&again, &tip, 0).await.unwrap().is_empty(), "the repository is away, the mirror is not");
    assert_eq!(again.look("app").await.unwrap_err().class(), Class::NotARepository);
}

#[tokio::test]
async fn a_master_may_be_started_anywhere_and_its_folder_be_called_anything() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("it's a \"folder\" $(with) % and spaces");
    let remote = super::Remote::new(&odd.join("remote"));
    let tip = remote.commit("a", "1", "first");
    let addresses = std::sync::Arc::new(super::Addresses::default());
    let sources = Sources::open(odd.join("state"), addresses.clone(), Limits::default()).unwrap();
    let repository = super::Repository::new(remote.dir.display().to_string(), None, Vec::new());
    addresses.0.lock().unwrap().insert("app".into(), repository);
    assert!(!packed(&sources, &tip, 0).await.unwrap().is_empty());
}

#[test]
fn calls_can_be_made_from_any_task() {
    fn sendable(_: impl Send) {}
    let (fixture, _) = Fixture::new();
    let refs = std::collections::BTreeMap::new();
    sendable(fixture.sources.look("app"));
    sendable(fixture.sources.fetch("app", &refs));
    sendable(fixture.sources.tip("app", None));
    sendable(fixture.sources.history("app", "", None, &[]));
    sendable(fixture.sources.read_file("app", "", "", 0));
    sendable(fixture.sources.tree("app", "", &super::Selection::default(), 0));
    sendable(fixture.sources.tidy(&[]));
}
