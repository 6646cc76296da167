//! Merges and folders: made by the mirror itself, and always the same.

use super::super::{Class, Selection, SourceError};
use super::trees::unpacked;
use super::{Fixture, Remote};

async fn all(fixture: &Fixture, revision: &str, selection: &Selection) -> Result<Vec<u8>, SourceError> {
    use futures::TryStreamExt;
    let tree = fixture.sources.tree("app", revision, selection, 0).await?;
    tree.try_fold(Vec::new(), async |mut all, piece| {
        all.extend_from_slice(&piece);
        Ok(all)
    })
    .await
}

async fn names(fixture: &Fixture, revision: &str, folders: &[&str]) -> Vec<String> {
    let folders = folders.iter().map(|folder| (*folder).to_owned()).collect();
    let selection = Selection { folders, ..Selection::default() };
    unpacked(&all(fixture, revision, &selection).await.unwrap()).into_keys().collect()
}

#[tokio::test]
async fn folders_are_what_git_s_own_sparse_checkout_leaves() {
    let (fixture, remote) = Fixture::new();
    for file in ["top", "a/one", "a/b/two", "a/b/c/three", "a/d/four", "ab/five", "e/ü x/six", "e/seven"] {
        std::fs::create_dir_all(remote.dir.join(file).parent().unwrap()).unwrap();
        std::fs::write(remote.dir.join(file), file).unwrap();
    }
    let tip = remote.commit("last", "1", "first");
    for folders in [&["a/b"][..], &["a"], &["e/ü x", "a/b/c"], &["nowhere"], &["a/b", "a"], &["to", "top"]] {
        let clone = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut command = remote.command(args);
            let output = command.current_dir(clone.path()).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        git(&["clone", "-q", "--no-checkout", remote.dir.to_str().unwrap(), "."]);
        git(&[&["sparse-checkout", "set", "--cone"], folders].concat());
        git(&["checkout", "-q", &tip]);
        let listed = git(&["-c", "core.quotePath=false", "ls-files", "-t"]);
        let mut expected: Vec<_> = listed.lines().filter_map(|line| line.strip_prefix("H ")).collect();
        expected.sort_unstable();
        assert_eq!(names(&fixture, &tip, folders).await, expected, "{folders:?}");
    }
    let selection = Selection { folders: vec!["a".into()], ..Selection::default() };
    let first = all(&fixture, &tip, &selection).await.unwrap();
    assert!(first == all(&fixture, &tip, &selection).await.unwrap(), "a transfer could not go on");
}

/// Two sides of a fork: what they merge to, and the two revisions.
fn fork(remote: &Remote, ours: &[(&str, &str)], theirs: &[(&str, &str)]) -> (String, String) {
    remote.commit("a", "1\n2\n3\n4\n5\n6\n7\n", "base");
    remote.git(&["checkout", "-q", "-b", "topic"]);
    let mut revision = String::new();
    for (name, text) in theirs {
        revision = remote.commit(name, text, "theirs");
    }
    remote.git(&["checkout", "-q", "main"]);
    let mut onto = String::new();
    for (name, text) in ours {
        onto = remote.commit(name, text, "ours");
    }
    (revision, onto)
}

#[tokio::test]
async fn a_merge_is_the_same_commit_whoever_makes_it() {
    let (fixture, remote) = Fixture::new();
    let (revision, onto) = fork(
        &remote,
        &[("a", "0\n2\n3\n4\n5\n6\n7\n"), ("m", "m")],
        &[("a", "1\n2\n3\n4\n5\n6\n8\n"), ("t", "t")],
    );
    let merge = fixture.sources.merge("app", &revision, &onto).await.unwrap();
    let selection = Selection { onto: Some(onto.clone()), ..Selection::default() };
    let files = unpacked(&all(&fixture, &revision, &selection).await.unwrap());
    assert_eq!(
        (files["a"].as_str(), files["m"].as_str(), files["t"].as_str()),
        ("0\n2\n3\n4\n5\n6\n8\n", "m", "t")
    );
    // Another master has nothing of it, and comes to the same.
    let (other, _) = Fixture::new();
    other.point("app", &remote.dir.display().to_string(), None);
    assert_eq!(other.sources.merge("app", &revision, &onto).await.unwrap(), merge);
    let pack = |fixture: &Fixture| {
        let (sources, revision, onto) = (fixture.sources.clone(), revision.clone(), onto.clone());
        async move {
            use futures::TryStreamExt;
            let pack = sources.merge_pack("app", &revision, &onto, 0).await.unwrap();
            pack.try_fold(Vec::new(), async |mut all, piece| {
                all.extend_from_slice(&piece);
                Ok(all)
            })
            .await
            .unwrap()
        }
    };
    let bytes = pack(&fixture).await;
    assert!(bytes == pack(&other).await, "a transfer could not go on");
    // Who has both sides needs no more.
    let file = fixture.dir.path().join("pack");
    std::fs::write(&file, bytes).unwrap();
    let mut unpack = remote.command(&["unpack-objects", "-q"]);
    assert!(unpack.stdin(std::fs::File::open(&file).unwrap()).status().unwrap().success());
    assert_eq!(remote.git(&["log", "-1", "--format=%P %an", &merge]), format!("{onto} {revision} Rouse"));
    remote.git(&["fsck", "--strict"]);
}

#[tokio::test]
async fn a_conflict_names_its_files() {
    let (fixture, remote) = Fixture::new();
    let (revision, onto) = fork(
        &remote,
        &[("a", "0\n2\n3\n4\n5\n6\n7\n"), ("b c", "x"), ("d", "d")],
        &[("a", "9\n2\n3\n4\n5\n6\n7\n"), ("b c", "y"), (".gitattributes", "* merge=union\n")],
    );
    let error = fixture.sources.merge("app", &revision, &onto).await.unwrap_err();
    let expected = format!("{revision} cannot be merged into {onto}: conflicts in a, b c");
    assert_eq!((error.to_string(), error.class()), (expected, Class::Refused));
    remote.git(&["checkout", "-q", "--orphan", "stranger"]);
    let stranger = remote.commit("z", "z", "no past");
    let error = fixture.sources.merge("app", &stranger, &onto).await.unwrap_err();
    assert!(error.to_string().contains("no commit in common"), "{error}");
    for bad in ["main", "--output=x", ""] {
        let error = fixture.sources.merge("app", &revision, bad).await.unwrap_err();
        assert_eq!(error.class(), Class::Refused, "{bad:?}: {error}");
    }
}
