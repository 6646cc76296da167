use std::path::Path;
use std::process::Command;

use super::Fixture;

/// What a git sees that has nothing but these layers.
fn seen(scratch: &Path, layers: &[&Path], args: &[&str]) -> Option<String> {
    let alternates: String =
        layers.iter().map(|layer| format!("{}\n", layer.join("objects").display())).collect();
    let run = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(args).current_dir(scratch).env_remove("GIT_DIR").env("GIT_CONFIG_GLOBAL", "/dev/null");
        git.output().unwrap()
    };
    run(&["init", "-q", "."]);
    std::fs::write(scratch.join(".git/objects/info/alternates"), alternates).unwrap();
    let output = run(args);
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn layers_hold_all_of_a_mirror_each_what_is_new_since_the_last() {
    let (fixture, remote) = Fixture::new();
    assert_eq!(fixture.sources.mirror_bytes("app").await.unwrap(), 0);
    assert!(fixture.sources.layer("app", &[]).await.unwrap().is_none(), "there is no mirror yet");
    let large = "some text that is not all the same\n".repeat(10_000);
    remote.commit("a", &large, "first");
    let first = remote.commit("b", "2", "second");
    fixture.sources.ensure("app", &first).await.unwrap();
    assert!(fixture.sources.mirror_bytes("app").await.unwrap() > 0);
    let base = fixture.sources.layer("app", &[]).await.unwrap().unwrap();
    assert!(base.tips.iter().eq([&first]));
    assert_eq!(std::fs::read_to_string(base.folder().join("ok")).unwrap(), format!("{first}\n"));
    assert!(fixture.sources.layer("app", &base.tips).await.unwrap().is_none(), "nothing is new");

    let second = remote.commit("b", "3", "third");
    fixture.sources.ensure("app", &second).await.unwrap();
    let more = fixture.sources.layer("app", &base.tips).await.unwrap().unwrap();
    assert!(more.tips.contains(&first) && more.tips.contains(&second), "{:?}", more.tips);
    assert!(more.bytes < base.bytes + 2_000 && more.name != base.name);
    let scratch = tempfile::tempdir().unwrap();
    let layers = [base.folder(), more.folder()];
    // All that leads there, every object whole.
    let list = ["rev-list", "--objects", "--count", second.as_str()];
    assert_eq!(seen(scratch.path(), &layers, &list).as_deref().map(str::trim), Some("9"));
    assert!(seen(scratch.path(), &layers, &["fsck", "--full", &second]).is_some());
    assert_eq!(seen(scratch.path(), &layers, &["show", &format!("{second}:a")]), Some(large));
    // The second alone is not enough, and the first has not the new one.
    assert_eq!(seen(scratch.path(), &[more.folder()], &list), None);
    assert_eq!(seen(scratch.path(), &[base.folder()], &list), None);
    let folder = base.folder().to_owned();
    drop(base);
    assert!(!folder.exists());
}
