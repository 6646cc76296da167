//! Whatever comes from outside stays text: in scripts, arguments, environments, paths, names of files.

use serde_json::json;

use super::POOL;
use crate::harness::{Bench, GitRepo, Options, Scratch};

const BUILDER: &str = r#"builders:
  text:
    env: {FROM_BUILDER: "{{ branch }}"}
    steps:
      - checkout: app
      - name: script
        run: |
          printf '%s\n' {{ branch }}
          printf '%s\n' "{{ branch }}"
          printf '%s\n' "x{{ branch }}y"
          printf '%s\n' "$FROM_BUILDER" "$FROM_STEP" "$ROUSE_BRANCH"
        env: {FROM_STEP: "{{ branch }}"}
      - {name: argv, run: [printf, '%s\n', "{{ branch }}"]}
      - {name: folder, run: 'pwd > here', dir: "out/{{ branch }}"}
      - {name: keep, upload: {paths: "out/{{ branch }}/here", as: named}}
      - {name: fetch, download: {artifact: named, to: "back/{{ branch }}"}}
      - {name: read, properties: {from: "back/{{ branch }}/out/{{ branch }}/here.json"}, if: 'branch == "main"'}
      - {name: traces, run: 'find . -name pwned; find back -type f'}
"#;

#[test]
fn a_branch_is_text_wherever_it_stands() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "text\n")]);
    let branches = [
        "$(reboot)",
        "';id",
        "$(echo>pwned)",
        "`echo>pwned`",
        "\";echo>pwned;\"",
        "'\"$HOME\"'",
        "{a,b}",
        "a|b>pwned&",
        "üñ%41#&;!",
    ];
    for branch in branches {
        repo.push(branch);
    }
    let config = format!("codebases:\n  app: {{git: '{}'}}\n{POOL}{BUILDER}", repo.url());
    let bench = Bench::within(scratch, &config, Options::default());
    let requests = branches.map(|branch| {
        (branch, bench.start_with("text", &json!({"sources": [{"codebase": "app", "branch": branch}]})))
    });
    for (branch, request) in requests {
        let build = bench.ended(request);
        build.must_be("success");
        let expected = format!("{branch}\n{branch}\nx{branch}y\n{branch}\n{branch}\n{branch}\n");
        assert_eq!(build.text("script"), expected);
        assert_eq!(build.text("argv"), format!("{branch}\n"));
        assert_eq!(build.detail["artifacts"][0]["path"], format!("out/{branch}/here"));
        assert_eq!(build.text("traces"), format!("back/{branch}/out/{branch}/here\n"));
    }
}
