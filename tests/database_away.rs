//! The database is away for a while: the master waits, says so, and loses nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use serde_json::json;

use crate::harness::master::ROUSE;
use crate::harness::{Bench, Build, Database, Options, OwnPostgres, Scratch, wait};

/// How long it is away.
const AWAY: Duration = Duration::from_secs(20);
/// Until somebody says so. The machine may be busy with other tests.
const SAID: Duration = Duration::from_secs(15);
/// What the long build prints, at ten lines a second: longer than the database is away.
const LINES: usize = 260;

/// `long` runs all the while; `short` ends its first step in between; two at a time, so the others wait in the queue.
fn config(outside: &Path) -> String {
    let out = outside.display();
    format!(
        "pools:\n  here: {{local: {{}}, max: 2, reuse: {{builds: 100}}}}\nbuilders:\n  long:\n    steps:\n      - name: count\n        \
         run: |\n          echo long >> {out}/ran\n          n=0\n          while [ $n -lt {LINES} ]; do n=$((n + 1)); echo \"line $n\"; sleep 0.1; done\n      \
         - {{name: after, run: 'echo long after >> {out}/ran'}}\n  short:\n    steps:\n      - {{name: wait, run: 'echo short >> {out}/ran; sleep 5'}}\n      \
         - {{name: after, run: 'echo short after >> {out}/ran'}}\n"
    )
}

struct Scene {
    bench: Bench,
    http: Client,
}

impl Scene {
    fn new(scratch: Scratch, database: Database) -> Self {
        let outside = scratch.folder("outside");
        std::fs::write(outside.join("ran"), "").expect("the folder is ours");
        // Each worker has a user of its own.
        std::fs::set_permissions(outside.join("ran"), std::fs::Permissions::from_mode(0o666))
            .expect("the file is ours");
        let bench = Bench::within(scratch, &config(&outside), Options { database, ..Options::default() });
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build();
        Self { bench, http: http.expect("a client can be made") }
    }

    /// Status and body.
    fn health(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(format!("{}{path}", self.bench.master.address())).send();
        let answer = answer.unwrap_or_else(|error| panic!("GET {path}: {error:?}"));
        (answer.status().as_u16(), answer.text().unwrap_or_default())
    }

    /// Wishes for one more build, under a key of its own: made, or turned away and told when to come again.
    fn wish(&self, key: &str) -> Option<i64> {
        let token =
            std::fs::read_to_string(self.bench.master.state().join("admin.token")).expect("it is there");
        let address = format!("{}/api/v1/builders/short/build", self.bench.master.address());
        let wish = self.http.post(address).bearer_auth(token.trim()).header("idempotency-key", key);
        let answer = wish.json(&json!({})).send().expect("the master answers");
        let (status, retry) = (answer.status().as_u16(), answer.headers().get("retry-after").cloned());
        let body: serde_json::Value = answer.json().expect("an answer is JSON");
        if status == 503 {
            assert!(retry.is_some(), "{body}");
            assert_eq!(body["error"]["code"], "unavailable", "{body}");
            return None;
        }
        let id = body["requests"][0]["id"].as_i64();
        assert!((200..300).contains(&status) && id.is_some(), "{status}: {body}");
        id
    }

    /// Somebody at a terminal, who is not sent away either.
    fn watch(&self, request: i64) -> Child {
        let builds = self.bench.api.get(&format!("/builds?request={request}"));
        let build = builds["items"][0]["id"].as_i64().expect("it runs").to_string();
        let token =
            std::fs::read_to_string(self.bench.master.state().join("admin.token")).expect("it is there");
        let mut command = Command::new(ROUSE);
        command
            .args(["build", "watch", &build])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.env("ROUSE_SERVER", self.bench.master.address()).env("ROUSE_TOKEN", token.trim());
        command.spawn().expect("the binary starts")
    }

    /// What ran outside, in order of name.
    fn ran(&self) -> Vec<String> {
        let file = self.bench.scratch.path().join("outside/ran");
        let mut lines: Vec<String> =
            std::fs::read_to_string(file).expect("it is there").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Two builds run and two wait when `leave` takes the database away; `words` is what the master says of it.
    fn survives(&self, words: &[&str], leave: impl FnOnce(), come_back: impl FnOnce()) {
        let before = self.ran().len();
        let long = self.bench.start("long");
        let running = |build: &Build| build.detail["steps"][0]["logs"][0]["id"].is_i64();
        self.bench.running(long, "the long build to print", running);
        let mut shorts: Vec<i64> = (0..3).map(|_| self.bench.start("short")).collect();
        self.bench.running(shorts[0], "the short build to run", running);
        let attached = self.attachments();
        let watcher = self.watch(long);

        let left = Instant::now();
        leave();
        let mut said = String::new();
        wait::until_true("the master to say so", SAID, || {
            let (status, body) = self.health("/readyz");
            said = body;
            status == 503 && words.iter().all(|word| said.contains(word))
        });
        let key = format!("meanwhile {before}");
        let mut meanwhile = self.wish(&key);
        while left.elapsed() < AWAY {
            assert_eq!(self.health("/livez").0, 200);
            std::thread::sleep(Duration::from_millis(200));
        }
        come_back();

        wait::until_true("the master to be ready again", wait::A_BUILD, || self.health("/readyz").0 == 200);
        // Asked for once more, it is the same wish.
        wait::until_true("a wish to be taken", wait::A_BUILD, || {
            let again = self.wish(&key);
            let known = meanwhile.replace(again.unwrap_or_default());
            assert!(again.is_none() || known.is_none() || known == again, "{known:?} {again:?}");
            again.is_some()
        });
        shorts.extend(meanwhile);

        let build = self.bench.ended(long);
        build.must_be("success");
        assert_eq!(build.detail["attempt"], 1, "{:#}", build.detail);
        let watched = watcher.wait_with_output().expect("it was started");
        assert!(watched.status.success(), "{}", String::from_utf8_lossy(&watched.stderr));
        let lines: String = (1..=LINES).map(|n| format!("line {n}\n")).collect();
        assert_eq!(build.text("count"), lines, "the log is whole");
        for short in &shorts {
            let build = self.bench.ended(*short);
            build.must_be("success");
            assert_eq!(build.detail["attempt"], 1, "{:#}", build.detail);
        }
        assert_eq!(self.ran().len() - before, 2 + 2 * shorts.len(), "nothing ran twice: {:?}", self.ran());
        let builds = self.bench.api.list(&format!("/builds?request={long}"));
        assert_eq!(builds.len(), 1, "{builds:#?}");
        let log = self.bench.master.log();
        assert!(log.contains("not ready: the database"), "the log says so, too");
        assert!(log.contains("the trouble with the database is over"));
        assert_eq!(self.attachments(), attached, "the agents' sessions have stayed");
    }

    fn attachments(&self) -> usize {
        self.bench.master.log().matches("agent attached").count()
    }
}

#[test]
fn sqlite_may_be_locked_by_a_backup() {
    let scene = Scene::new(Scratch::new(), Database::File);
    let file = scene.bench.master.state().join("rouse.db");
    let backup = rusqlite::Connection::open(file).expect("it is there");
    backup.busy_timeout(Duration::from_secs(20)).expect("it can be set");
    scene.survives(
        &["the database cannot be written", "another process holds it locked", "backup"],
        || backup.execute_batch("BEGIN EXCLUSIVE").expect("nobody else holds it for long"),
        || backup.execute_batch("ROLLBACK").expect("it was begun"),
    );
}

#[test]
fn postgresql_may_be_stopped() {
    let scratch = Scratch::new();
    let Some(server) = OwnPostgres::start(scratch.path()) else { return };
    let scene = Scene::new(scratch, Database::At(server.url()));
    let server = std::cell::RefCell::new(server);
    scene.survives(
        &["the database cannot be written", "refused"],
        || server.borrow_mut().stop(),
        || server.borrow_mut().run(),
    );
}

#[test]
fn postgresql_may_stand_still() {
    let scratch = Scratch::new();
    let Some(server) = OwnPostgres::start(scratch.path()) else { return };
    let scene = Scene::new(scratch, Database::At(server.url()));
    // Ends before the folder that it lies in goes.
    let server = server;
    scene.survives(&["the database has answered no write for"], || server.freeze(), || server.thaw());
}
