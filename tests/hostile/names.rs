//! Names that lead out, in what a step leaves behind and in what a repository holds: refused by the shipped agent and by git, and said.

use serde_json::json;

use crate::harness::{Bench, GitRepo, Options, Scratch, processes};

const SECRET: &str = "outside-of-everything";

const BUILDERS: &str = r#"
pools: {here: {local: {}, max: 2, accepts: any, reuse: {builds: 100, idle: 5m}}}
builders:
  link-of-properties:
    steps:
      - {name: write, run: 'ln -s OUTSIDE a.env'}
      - {name: take, properties: {from: a.env}}
  link-in-a-folder:
    steps:
      - {name: write, run: 'mkdir -p d/e && ln -s OUTSIDE d/e/file && echo fine > d/good'}
      - {name: take, upload: {paths: d, as: all}}
  link-above:
    steps:
      - {name: write, run: 'ln -s "$(dirname OUTSIDE)" up'}
      - {name: take, upload: {paths: 'up/*', as: all}}
  link-of-the-folder:
    steps:
      - {name: write, run: 'ln -s "$(dirname OUTSIDE)" up'}
      - {name: take, run: 'echo written > here', dir: up}
  name-from-outside:
    steps:
      - {name: take, upload: {paths: '{{ props.name }}', as: all}}
  shipped:
    retries: 0
    steps:
      - {name: take, checkout: {app: {by: master, mode: full}}}
"#;

/// Commits that no honest git makes, as branches of the bare repository.
const TREES: &str = r#"
set -e
commit() { git -c user.name=M -c user.email=m@example.org commit-tree -m evil "$1"; }
blob=$(echo evil | git hash-object -w --stdin)
folder=$(printf '100644 blob %s\tx\n' $blob | git mktree)
dots=$(printf '040000 tree %s\t..\n' $folder | git mktree)
git update-ref refs/heads/dots $(commit $dots)
for target in / .. . /etc; do
  link=$(printf %s $target | git hash-object -w --stdin)
  # A link, and below it a file: two entries of one name.
  both=$(printf '120000 blob %s\ta\n040000 tree %s\ta\n' $link $folder | git mktree)
  git update-ref refs/heads/link-$(printf %s $target | tr ./ ds) $(commit $both)
done
"#;

#[test]
fn names_that_lead_out_are_refused() {
    let scratch = Scratch::new();
    let app = GitRepo::with(scratch.path(), "app", &[("file", "text\n")]);
    let made = std::process::Command::new("sh").args(["-c", TREES]).current_dir(app.bare()).output();
    let made = made.expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let outside = scratch.folder("outside");
    std::fs::write(outside.join("file"), format!("value={SECRET}\n")).expect("the folder is ours");
    let builders = BUILDERS.replace("OUTSIDE", &outside.join("file").display().to_string());
    let config = format!("codebases: {{app: {{git: '{}', branches: main}}}}\n{builders}", app.url());
    let bench = Bench::within(scratch, &config, Options::default());

    let names = ["link-of-properties", "link-in-a-folder", "link-above", "link-of-the-folder"];
    let mut wishes: Vec<i64> = names.iter().map(|name| bench.start(name)).collect();
    let name = json!({"properties": {"name": "../../../../../../etc/passwd"}});
    wishes.push(bench.start_with("name-from-outside", &name));
    let words = ["leads out", "leads out", "matches no file", "leads out", "`..`"];
    for (wish, words) in wishes.into_iter().zip(words) {
        let build = bench.ended(wish);
        build.must_be("failure");
        let (result, said) = build.end_of("take");
        assert!(result == "failure" && said.contains(words), "{words} is not in {:#}", build.detail);
        assert_eq!(build.step("take")["class"], "user", "{:#}", build.detail);
        assert!(build.property("value").is_null());
        let text = format!("{:#}", build.detail);
        assert!(
            !text.contains(SECRET) && build.detail["artifacts"].as_array().is_none_or(|all| all.is_empty()),
            "{text}"
        );
    }
    assert!(!outside.join("here").exists());

    for (branch, words) in [
        ("link-s", "the archive is refused: entry `a` is a link"),
        ("link-dd", "the archive is refused: entry `a` is a link that leads out"),
        ("link-d", "the archive is refused: entry `a/"),
        ("link-setc", "the archive is refused: entry `a` is a link"),
        ("dots", "invalid path"),
    ] {
        let wish = json!({"sources": [{"codebase": "app", "branch": branch}]});
        let build = bench.ended(bench.start_with("shipped", &wish));
        assert!(["failure", "exception"].contains(&build.result()), "{branch}: {:#}", build.detail);
        assert!(build.end_of("take").1.contains(words), "{branch}: {words} is not in {:#}", build.detail);
    }
    assert!(processes::is_alive(bench.master.pid()));
}
