//! One installation with a project whose steps leave a trace outside of it, and what a build has left in the end.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::api::Api;
use crate::harness::{Database, GitRepo, Master, Options, Scratch, wait};

pub struct Scene {
    pub scratch: Scratch,
    pub repo: GitRepo,
    pub master: Master,
}

/// Their names and results.
type Steps = Vec<(String, Value)>;

/// What came of all that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces {
    /// The requests, by builder.
    requests: Vec<String>,
    /// Of each build its builder, its result, and those of its steps, oldest first.
    pub builds: Vec<(String, Value, Steps)>,
    /// What the steps have written outside, each line once for each time that it ran.
    pub ran: String,
    /// Byte by byte: what is no text would not be equal.
    log: String,
    artifacts: Vec<(String, String)>,
    /// Their names, and what the builds have left there.
    caches: Vec<(String, String)>,
}

pub fn config(repo: &GitRepo, outside: &Path, comment: &str) -> String {
    format!(
        "# {comment}\nversion: 1\ncodebases:\n  app: {{git: '{}', poll: 1s}}\npools:\n  here: {{local: {{}}}}\nbuilders:\n  trace:\n    \
         caches: {{made: {{path: made}}}}\n    steps:\n      - checkout: app\n      - run: |\n          echo first >> {out}\n          mkdir -p made; echo made > made/file\n          for n in 1 2 3 4 5 6 7 8 9; do echo \"line $n\"; sleep 0.05; done\n        \
         name: first\n      - run: cat file && echo second >> {out} && seq 1 5000\n        name: second\n      - upload: {{paths: file, as: kept}}\n  \
         asked:\n    steps:\n      - {{name: asked, run: 'echo asked >> {out}; echo done'}}\n\
         schedulers:\n  push: {{changes: {{app: {{branch: main}}}}, builders: [trace]}}\n",
        repo.url(),
        out = outside.display(),
    )
}

impl Scene {
    pub fn new(database: Database, environment: Vec<(String, String)>) -> Self {
        let scratch = Scratch::new();
        let repo = GitRepo::with(scratch.path(), "app", &[("file", "from the repository\n")]);
        let outside = scratch.folder("outside");
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o777))
            .expect("the folder is ours");
        // Each worker has a user of its own.
        let ran = scratch.file("outside/ran", "");
        std::fs::set_permissions(&ran, std::fs::Permissions::from_mode(0o666)).expect("the file is ours");
        let text = config(&repo, &ran, "as it began");
        let options = Options { database, environment, ..Options::default() };
        let master = Master::prepare(scratch.path(), &text, options);
        Self { scratch, repo, master }
    }

    /// One whose master notes each commit and deed.
    pub fn tracing(database: Database) -> Self {
        let mut scene = Self::new(database, vec![]);
        let trace = scene.scratch.path().join("commits").display().to_string();
        scene.master.set_environment(vec![("ROUSE_COMMIT_TRACE".to_owned(), trace)]);
        scene
    }

    /// The names of all that it has committed so far, over all starts.
    pub fn traced(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.scratch.path().join("commits")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Until the poller knows the repository: what is pushed from then on is a change.
    pub fn wait_for_first_look(&self) {
        self.master.api().until("the first look", "/codebases", wait::A_BUILD, |codebases| {
            codebases["items"][0]["looked"].as_str().map(drop)
        });
    }

    pub fn push(&self) {
        self.repo.land("main", "a change", &[("other", "text\n")]);
    }

    /// Whether something was pushed.
    pub fn has_pushed(&self) -> bool {
        self.repo.git(&["rev-list", "--count", "main"]).trim() != "1"
    }

    /// Its API as long as one can be had: the master may die between any two calls.
    pub fn asking(&self) -> impl Fn(&str) -> Option<Value> + use<> {
        let address = self.master.address();
        let token = self.master.state().join("admin.token");
        move |path| {
            let token = std::fs::read_to_string(&token).ok()?;
            Api::new(&address, token.trim()).try_get(path).ok()
        }
    }

    /// What came of it, once the request is done.
    pub fn traces(&self) -> Traces {
        self.traces_of(1)
    }

    /// What came of it, once so many requests are done, and whatever else there is.
    pub fn traces_of(&self, requests: usize) -> Traces {
        let api = self.master.api();
        api.until("the requests to end", "/requests", wait::A_BUILD, |listed| {
            let items = listed["items"].as_array()?;
            (items.len() >= requests && items.iter().all(|r| r["state"] == "done")).then_some(())
        });
        let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut requests: Vec<String> = api.list("/requests").iter().map(|r| name(&r["builder"])).collect();
        requests.sort();
        let mut traces = Traces {
            requests,
            builds: vec![],
            ran: self.ran(),
            log: String::new(),
            artifacts: vec![],
            caches: vec![],
        };
        for cache in api.list("/caches") {
            traces.caches.push((name(&cache["name"]), cache["bytes"].to_string()));
        }
        let mut details: Vec<Value> =
            api.list("/builds").iter().rev().map(|b| api.get(&format!("/builds/{}", b["id"]))).collect();
        details.sort_by_key(|detail| name(&detail["builder"]));
        for detail in &details {
            let steps = detail["steps"].as_array().expect("a build has steps");
            let results = steps.iter().map(|step| (name(&step["name"]), step["result"].clone())).collect();
            traces.builds.push((name(&detail["builder"]), detail["result"].clone(), results));
            for of_step in steps.iter().flat_map(|step| step["logs"].as_array().expect("a step has logs")) {
                traces.log += &text(api.bytes(&format!("/logs/{}/raw", of_step["id"])));
            }
            for kept in detail["artifacts"].as_array().expect("a build has artifacts") {
                let bytes = api.bytes(&format!("/artifacts/{}/content", kept["id"]));
                traces
                    .artifacts
                    .push((format!("{}/{}", name(&kept["set"]), name(&kept["path"])), text(bytes)));
            }
        }
        traces
    }

    /// Lines in the order of the alphabet: two builders write them.
    fn ran(&self) -> String {
        let text = std::fs::read_to_string(self.scratch.path().join("outside/ran")).unwrap_or_default();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join(" ")
    }

    /// Asks for a build by hand; `false` where the master did not say that it will be done.
    pub fn ask(&self, key: &str) -> bool {
        let token = self.master.state().join("admin.token");
        let Ok(token) = std::fs::read_to_string(token) else { return false };
        let api = Api::new(&self.master.address(), token.trim());
        api.try_post_once("/builders/asked/build", &json!({}), key).is_ok()
    }

    pub fn assert_nothing_left(&mut self) {
        let pid = self.master.pid();
        self.master.leftovers().assert_no_workers(wait::A_BUILD, pid);
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("what the steps make is text")
}
