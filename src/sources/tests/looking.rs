use std::fmt::Write;

use super::super::{Class, Limits};
use super::Fixture;

#[tokio::test]
async fn two_hundred_branches_are_seen_in_one_look_and_fetched_in_one_go() {
    let (fixture, remote) = Fixture::new();
    remote.commit("a", "1", "first");
    let mut stream = String::new();
    for n in 0..200 {
        writeln!(stream, "commit refs/heads/topic/{n}\nmark :{}\ncommitter A <a@b> 1700000000 +0000\ndata 3\nc{n:02}\nfrom refs/heads/main^0\nM 100644 inline f{n}\ndata 1\nx", n + 1).unwrap();
    }
    remote.import(&stream.replace("data 3\nc1", "data 4\nc1").replace("data 4\nc10\n", "data 3\nc10\n"));
    let look = fixture.sources.look("app").await.unwrap();
    assert_eq!(look.refs.len(), 201);
    assert_eq!(look.default_branch.as_deref(), Some("main"));
    assert!(fixture.mirrors().is_empty(), "a look fetches nothing");
    assert_eq!(fixture.sources.fetch("app", &look.refs).await.unwrap(), look.refs);
    let known = vec![remote.tip("main")];
    let history = fixture.sources.history("app", &look.refs["topic/7"], None, &known).await.unwrap();
    assert_eq!((history.total, history.commits[0].files.as_slice()), (1, ["f7".to_owned()].as_slice()));
}

#[tokio::test]
async fn commits_since_a_base_come_newest_first_with_authors_and_files() {
    let (fixture, remote) = Fixture::new();
    let base = remote.commit("a", "1", "first");
    remote.commit("src/b c.txt", "2", "second\n\nwith a body\n");
    let tip = remote.commit("é\u{1F980}", "3", "third");
    let history = fixture.sources.history("app", &tip, Some(&base), &[]).await.unwrap();
    assert_eq!((history.total, history.rewritten, history.base_lost), (2, false, false));
    assert!(history.is_complete());
    let [third, second] = history.commits.as_slice() else { panic!("{history:?}") };
    assert_eq!((third.revision.as_str(), third.message.as_str()), (tip.as_str(), "third"));
    assert_eq!(third.files, ["é\u{1F980}"]);
    assert_eq!(second.message, "second\n\nwith a body");
    assert_eq!(second.author, "Ann Author <ann@example.org>");
    assert_eq!((second.email.as_str(), second.when), ("ann@example.org", 1_700_000_000));
    assert_eq!(second.files, ["src/b c.txt"]);
}

#[tokio::test]
async fn a_merge_of_three_hundred_commits_is_counted_in_full_and_listed_to_the_limit() {
    let (fixture, remote) = Fixture::limited(Limits { commits: 50, ..Limits::default() });
    let base = remote.commit("a", "1", "first");
    let mut stream = String::new();
    for n in 0..300 {
        let from = if n == 0 { "from refs/heads/main^0\n" } else { "" };
        writeln!(stream, "commit refs/heads/topic\ncommitter A <a@b> 1700000000 +0000\ndata 1\nc\n{from}M 100644 inline d/f{n}\ndata 1\nx").unwrap();
    }
    remote.import(&stream);
    remote.git(&["merge", "-q", "--no-ff", "-m", "merge topic", "topic"]);
    let tip = remote.tip("main");
    let history = fixture.sources.history("app", &tip, Some(&base), &[]).await.unwrap();
    assert_eq!((history.total, history.commits.len()), (301, 50));
    assert!(!history.is_complete(), "files that are not listed count as unknown");
    assert_eq!(history.commits[0].files.len(), 300, "of a merge: all that it brought to its first parent");
    let (fixture, _) = (Fixture::limited(Limits { files: 10, ..Limits::default() }), ());
    fixture.0.point("app", &remote.dir.display().to_string(), None);
    let history = fixture.0.sources.history("app", &tip, Some(&base), &[]).await.unwrap();
    assert_eq!((history.commits[0].files.len(), history.commits[0].all_files), (10, false));
    assert!(!history.is_complete());
}

#[tokio::test]
async fn a_push_by_force_is_told_and_an_unknown_base_gives_the_tip_alone() {
    let (fixture, remote) = Fixture::new();
    let first = remote.commit("a", "1", "first");
    let second = remote.commit("a", "2", "second");
    fixture.look_and_fetch().await;
    remote.git(&["reset", "-q", "--hard", &first]);
    let other = remote.commit("a", "3", "other");
    fixture.look_and_fetch().await;
    let history = fixture.sources.history("app", &other, Some(&second), &[]).await.unwrap();
    assert!(history.rewritten);
    assert_eq!(history.commits.iter().map(|c| c.message.as_str()).collect::<Vec<_>>(), ["other"]);
    // back to an older commit: nothing new, and still a move
    let history = fixture.sources.history("app", &first, Some(&other), &[]).await.unwrap();
    assert!(history.rewritten);
    assert_eq!((history.total, history.commits.len(), history.commits[0].files.len()), (0, 1, 0));
    // a base that nobody has any more
    let history = fixture.sources.history("app", &other, Some(&"0".repeat(40)), &[]).await.unwrap();
    assert!(history.base_lost && !history.is_complete());
    assert_eq!(history.commits.len(), 1);
}

#[tokio::test]
async fn a_new_branch_brings_what_no_known_head_has() {
    let (fixture, remote) = Fixture::new();
    remote.commit("a", "1", "first");
    let main = remote.commit("a", "2", "second");
    remote.git(&["checkout", "-q", "-b", "topic"]);
    remote.commit("b", "1", "on topic");
    let topic = remote.commit("b", "2", "more on topic");
    let known = vec![main.clone(), "f".repeat(40)];
    let history = fixture.sources.history("app", &topic, None, &known).await.unwrap();
    assert_eq!(history.total, 2);
    let same = fixture.sources.history("app", &main, None, &known).await.unwrap();
    assert_eq!((same.total, same.commits.len()), (0, 1));
    let alone = fixture.sources.history("app", &topic, None, &[]).await.unwrap();
    assert_eq!((alone.total, alone.commits.len()), (1, 1), "the whole past is no change");
}

#[tokio::test]
async fn deleted_branches_are_gone_from_the_look_and_make_way_for_others() {
    let (fixture, remote) = Fixture::new();
    remote.commit("a", "1", "first");
    remote.git(&["branch", "topic"]);
    assert!(fixture.look_and_fetch().await.contains_key("topic"));
    remote.git(&["branch", "-D", "topic"]);
    remote.git(&["checkout", "-q", "-b", "topic/below"]);
    let tip = remote.commit("a", "2", "second");
    let refs = fixture.look_and_fetch().await;
    assert_eq!(refs.get("topic"), None);
    assert_eq!(refs["topic/below"], tip);
}

#[tokio::test]
async fn tags_stand_for_their_commits() {
    let (fixture, remote) = Fixture::new();
    let first = remote.commit("a", "1", "first");
    remote.git(&["tag", "light"]);
    remote.git(&["tag", "-a", "-m", "annotated", "v1"]);
    let refs = fixture.look_and_fetch().await;
    assert_eq!((&refs["refs/tags/light"], &refs["refs/tags/v1"]), (&first, &first));
}

#[tokio::test]
async fn the_tip_of_a_branch_is_found_by_name_or_by_default() {
    let (fixture, remote) = Fixture::new();
    let error = fixture.sources.tip("app", None).await.unwrap_err();
    assert_eq!(error.to_string(), "the repository of codebase `app` is empty");
    assert!(fixture.sources.look("app").await.unwrap().refs.is_empty());
    let first = remote.commit("a", "1", "first");
    assert_eq!(fixture.sources.tip("app", None).await.unwrap(), first);
    assert_eq!(fixture.sources.tip("app", Some("main")).await.unwrap(), first);
    let error = fixture.sources.tip("app", Some("mian")).await.unwrap_err();
    assert_eq!(error.class(), Class::Missing);
    assert_eq!(error.to_string(), "the repository of codebase `app` does not have the branch `mian`");
    let error = fixture.sources.tip("lib", None).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no codebase `lib` in the configuration");
}

#[tokio::test]
async fn sha256_repositories_have_mirrors_of_their_own() {
    let (fixture, remote) = Fixture::new();
    let other = fixture.dir.path().join("sha256");
    remote.git(&["init", "-q", "-b", "main", "--object-format=sha256", &other.display().to_string()]);
    let other = super::Remote { dir: other };
    let tip = other.commit("a", "1", "first");
    assert_eq!(tip.len(), 64);
    fixture.point("app", &other.dir.display().to_string(), None);
    assert_eq!(fixture.look_and_fetch().await["main"], tip);
    assert_eq!(fixture.sources.history("app", &tip, None, &[]).await.unwrap().commits[0].revision, tip);
}

#[tokio::test]
async fn a_repository_beyond_the_limits_is_refused_by_their_names() {
    let (fixture, remote) = Fixture::limited(Limits { refs: 2, ..Limits::default() });
    remote.commit("a", "1", "first");
    for name in ["b", "c"] {
        remote.git(&["branch", name]);
    }
    let error = fixture.sources.look("app").await.unwrap_err();
    assert_eq!(error.class(), Class::TooLarge);
    assert_eq!(error.to_string(), "the repository has 3 branches and tags; no more than 2 are looked at");

    let (fixture, remote) = Fixture::limited(Limits { mirror_bytes: 1 << 20, ..Limits::default() });
    // text that does not compress, large enough that the fetch outlasts a look at its size
    let mut text = String::new();
    let mut state = 1_u64;
    while text.len() < 60 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        write!(text, "{state:x}").unwrap();
    }
    remote.commit("big", &text, "big");
    let look = fixture.sources.look("app").await.unwrap();
    for again in [false, true] {
        let error = fixture.sources.fetch("app", &look.refs).await.unwrap_err();
        assert_eq!(error.class(), Class::TooLarge, "{error} (again: {again})");
        assert_eq!(error.to_string(), "the repository is larger than 1048576 bytes");
    }
}
