//! A stranger's branch, built by each provider: what it tries comes to nothing, and its log says why. The same tree, once it is on a branch that was
//! declared, may do what builds are for.

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

use crate::harness::docker::Image;
use crate::harness::{Bench, Build, Docker, GitRepo, Options, Scratch};

/// Prints a line with LEAK for everything that should not have been possible. What is tried, and what came of it, is printed too.
const ATTACK: &str = r#"
set +e
leak() { echo "LEAK: $*"; }
tries() { what=$1; shift; if said=$("$@" 2>&1); then leak "$what: $said"; else echo "$what: ${said:-refused}"; fi; }
tries "list the master's state" ls "$STATE"
for file in $FILES "$SECRET"; do tries "read $file" head -c 1 "$file"; done
for socket in "$SOCKET" /var/run/docker.sock; do
  tries "write to $socket" sh -c "test -w $socket"
done
tries "read the environment of the first process" sh -c 'cat /proc/1/environ'
start() {
  body='{"properties": {}}'
  { printf 'POST /api/v1/builders/deploy/build HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n%sContent-Length: %s\r\nConnection: close\r\n\r\n%s' "$1" "${#body}" "$body"; sleep 1; } |
    busybox nc -w 5 127.0.0.1 "${API##*:}" > answer 2>&1
  head -n 1 answer; grep -q '^HTTP/1.1 2' answer
}
tries "start a deployment" start ''
tries "start a deployment with a token of its own making" start 'Authorization: Bearer rouse_0123456789
'
mkdir -p kept; echo poison > kept/poison
test -z "$DEPLOY_KEY" || leak "a secret is in the environment"
"#;

/// What a container has beside that.
const IN_CONTAINER: &str = r#"
test "$(ls /sys/class/net)" = lo || leak "there is a network: $(ls /sys/class/net)"
tries "ask the machine's metadata" sh -c 'echo GET /latest/meta-data/ | nc -w 5 169.254.169.254 80'
tries "write to a folder that others see" sh -c 'echo x > /shared/poison'
"#;

/// Of a build that is trusted.
const ALLOWED: &str = r#"
ls /sys/class/net; echo good > /shared/mine; printf '%s' "$DEPLOY_KEY" | wc -c
"#;

/// All that is in a folder by now, whoever may see it; nothing of a worker's own.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut all = Vec::new();
    for path in entries.filter(|path| !path.ends_with("workers")) {
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

struct Scene {
    bench: Bench,
    repo: GitRepo,
    /// Goes with its images.
    _image: Option<Image>,
}

impl Scene {
    fn new(docker: Option<Docker>) -> Self {
        let scratch = Scratch::new();
        let repo = GitRepo::with(scratch.path(), "app", &[("attack.sh", "true\n")]);
        repo.branch("stranger");
        let attack = if docker.is_some() { [ATTACK, IN_CONTAINER].concat() } else { ATTACK.to_owned() };
        repo.land("stranger", "a small fix", &[("attack.sh", &attack)]);
        let secret = scratch.file("key", "s3cr3t-to-deploy");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        let shared = scratch.folder("shared");
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o777)).expect("it is ours");
        let image = docker.as_ref().map(|docker| docker.busybox(&[]));
        let pool = match &image {
            Some(image) => format!(
                "{{docker: {{image: '{}', pull: never, mounts: [{{source: {}, target: /shared}}]}}, accepts: any}}",
                image.name(),
                shared.display()
            ),
            None => "{local: {}, accepts: any}".to_owned(),
        };
        let config = format!(
            "secrets: {{deploy: {{file: {}}}}}\ncodebases: {{app: {{git: '{}', branches: main}}}}\npools: {{here: {pool}}}\n\
             builders:\n  base:\n    template: true\n    caches: {{kept: {{path: kept}}}}\n    env: {{STATE: '{{{{ props.state }}}}', SECRET: '{{{{ props.secret }}}}', SOCKET: '{{{{ props.socket }}}}', API: '{{{{ props.api }}}}', FILES: '{{{{ props.files }}}}'}}\n  \
             unit: {{like: base, steps: [{{checkout: app}}, {{name: attack, run: [sh, attack.sh]}}]}}\n  \
             prints: {{like: base, env: {{DEPLOY_KEY: secret:deploy}}, steps: [{{checkout: app}}, {{name: attack, run: [sh, attack.sh]}}]}}\n  \
             deploy: {{like: base, steps: [{{run: 'true'}}]}}\n  \
             allowed:\n    env: {{DEPLOY_KEY: secret:deploy}}\n    steps:\n      - {{checkout: app}}\n      - name: work\n        run: |\n          {}\n",
            secret.display(),
            repo.url(),
            ALLOWED.trim(),
        );
        let bench = Bench::within(scratch, &config, Options { docker, ..Options::default() });
        Self { bench, repo, _image: image }
    }

    fn build(&self, builder: &str, branch: &str) -> Build {
        self.bench.ended(self.start(builder, branch))
    }

    fn start(&self, builder: &str, branch: &str) -> i64 {
        let master = &self.bench.master;
        let state = master.state();
        // Where the master is told to be found.
        let known = |path: &std::path::Path| path.ends_with("api.url");
        let files = files(&state).into_iter().filter(|path| !known(path));
        let files: Vec<String> = files.map(|path| path.display().to_string()).collect();
        let properties = json!({
            "state": state, "secret": self.bench.scratch.path().join("key"), "api": master.address(), "files": files.join(" "),
            "socket": std::env::var("ROUSE_TEST_DOCKER_HOST").unwrap_or_default().trim_start_matches("unix://"),
        });
        let wish = json!({"sources": [{"branch": branch}], "properties": properties});
        self.bench.start_with(builder, &wish)
    }

    /// Nothing came of the attack, and each attempt says so.
    fn holds(&self, expected: &[&str]) {
        let build = self.build("unit", "stranger");
        let said = build.text("attack");
        assert!(!said.contains("LEAK"), "{said}");
        build.must_be("success");
        for line in expected {
            assert!(said.contains(line), "{line}\n{said}");
        }
        // A secret is not for it, whatever its builder says.
        let prints = self.build("prints", "stranger");
        prints.must_be("failure");
        let summary = prints.step("attack")["summary"].as_str().unwrap_or_default().to_owned();
        assert!(summary.contains("secret `deploy` is for trusted builds only"), "{summary}");
        assert!(!self.bench.api.get("/builds")["items"].to_string().contains("s3cr3t"));
        // What it left in its cache is read by nobody.
        assert_eq!(self.bench.api.get("/caches")["items"], json!([]));
        assert!(build.end_of("keep cache kept").1.contains("only trusted builds write caches"));
        // Nobody started a deployment.
        let deployments = self.bench.api.get("/builds?builder=deploy");
        assert_eq!(deployments["items"], Value::Array(vec![]), "{deployments:#}");
    }
}

#[test]
fn a_stranger_s_build_comes_to_nothing_on_a_local_worker() {
    if !nix::unistd::geteuid().is_root() {
        return rouse_testkit::back_ends::skip("needs root, for users of the workers' own");
    }
    let scene = Scene::new(None);
    scene.holds(&["list the master's state: ls: ", "Permission denied", "start a deployment: HTTP/1.1 401"]);
}

#[test]
fn a_stranger_s_build_comes_to_nothing_in_a_container() {
    let Some(docker) = Docker::of_this_run() else { return };
    let scene = Scene::new(Some(docker));
    scene.holds(&[
        "No such file or directory",
        "ask the machine's metadata: nc: can't connect to remote host (169.254.169.254): Network is unreachable",
        "write to a folder that others see: sh: can't create /shared/poison: Read-only file system",
    ]);
    // Whose branch is declared has what builds have.
    scene.repo.go_to("main");
    let allowed = scene.build("allowed", "main");
    allowed.must_be("success");
    let said = allowed.text("work");
    assert!(said.contains("eth0") && said.contains("16"), "{said}");
    // Wanted at the same time, of the same pool and image: each has a worker that was made for it.
    let both: Vec<i64> =
        (0..4).flat_map(|_| [scene.start("allowed", "main"), scene.start("unit", "stranger")]).collect();
    for pair in both.chunks(2) {
        let [allowed, stranger] = [0, 1].map(|n| scene.bench.ended(pair[n]));
        allowed.must_be("success");
        assert!(allowed.text("work").contains("eth0"), "{}", allowed.text("work"));
        stranger.must_be("success");
        assert!(!stranger.text("attack").contains("LEAK"), "{}", stranger.text("attack"));
    }
    let shared = scene.bench.scratch.path().join("shared");
    assert!(shared.join("mine").exists() && !shared.join("poison").exists());
}
