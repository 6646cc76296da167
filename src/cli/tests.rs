//! Verbs against a real API on a real socket, on a seeded past: what stands on stdout, and how they exit.

use super::output::{Format, Out};
use super::{Cli, CliError, Exit, dispatch};
use crate::api::tests::seed::{LOG_TEXT, print};
use crate::api::tests::world::{ADMIN, NOW, World};
use clap::{CommandFactory, Parser};
use rouse_agent_protocol::masking::Masks;
use rouse_model::LogId;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Keeps what is written to it.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap().clone();
        anstream::adapter::strip_str(&String::from_utf8(bytes).unwrap()).to_string()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Terminal {
    world: World,
    url: String,
    token: std::path::PathBuf,
}

struct Said {
    out: String,
    err: String,
    exit: Exit,
}

impl Terminal {
    async fn new() -> Self {
        let world = World::seeded().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (router, stopping) = (world.router.clone(), world.stopping.clone());
        tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned()).await.unwrap();
        });
        let token = world.folder.path().join("token");
        std::fs::write(&token, format!("{ADMIN}\n")).unwrap();
        Self { world, url, token }
    }

    async fn run(&self, words: &str) -> Said {
        let token = self.token.to_str().unwrap();
        let mut arguments = vec!["rouse", "--server", &self.url, "--token-file", token];
        arguments.extend(words.split_whitespace());
        let cli = Cli::try_parse_from(arguments).unwrap_or_else(|error| panic!("{words}: {error}"));
        let (data, notes) = (Kept::default(), Kept::default());
        let writer = |kept: &Kept| -> Box<dyn Write> { Box::new(kept.clone()) };
        let mut out = Out::to(cli.global.output, writer(&data), writer(&data), writer(&notes), NOW);
        let done = dispatch(cli.verb, &cli.global, &mut out).await;
        let exit = match &done {
            Ok(exit) => *exit,
            Err(error) => {
                out.note(&error.to_string());
                error.exit()
            }
        };
        Said { out: data.text(), err: notes.text(), exit }
    }
}

#[test]
fn the_parser_holds_together() {
    Cli::command().debug_assert();
}

#[tokio::test]
async fn tables_and_pages_read_as_they_are_written_down() {
    let terminal = Terminal::new().await;
    for (name, words) in [
        ("build_list", "build list"),
        ("build_show", "build show 1"),
        ("request_list", "request list"),
        ("request_show", "request show 2"),
        ("explain", "explain request 3"),
        ("explain_build", "explain build 1"),
        ("explain_worker", "explain worker here-7f3k1"),
        ("explain_pool", "explain pool here"),
        ("worker_list", "worker list --all"),
        ("worker_show", "worker show here-7f3k1"),
        ("worker_machines", "worker machines"),
        ("pool_list", "pool list"),
        ("pool_show", "pool show here"),
        ("builder_list", "builder list"),
        ("builder_show", "builder show unit"),
        ("change_list", "change list"),
        ("scheduler_list", "scheduler list"),
        ("codebase_list", "codebase list"),
        ("codebase_show", "codebase show app"),
        ("project_list", "project list"),
        ("secret_list", "secret list"),
        ("cache_list", "cache list"),
        ("artifacts", "build artifacts 1"),
        ("build_tests", "build tests 1"),
        ("builder_tests", "builder tests unit --suite words --test counts"),
        ("events", "events --subject worker/1"),
        ("logs", "logs 1"),
        ("logs_failed", "logs 1 --failed"),
        ("logs_times", "logs 1 --step test --timestamps"),
    ] {
        let said = terminal.run(words).await;
        assert_eq!(said.exit, Exit::Success, "{words}: {}", said.err);
        insta::assert_snapshot!(name, format!("$ rouse {words}\n{}---\n{}", said.out, said.err));
    }
}

#[tokio::test]
async fn data_is_the_apis_own() {
    let terminal = Terminal::new().await;
    let json = terminal.run("build show 1 -o json").await.out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, terminal.world.get("/builds/1").await);
    let list = terminal.run("build list -o json").await.out;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list, terminal.world.get("/builds").await["items"]);
    let yaml = terminal.run("pool show here -o yaml").await.out;
    assert!(yaml.starts_with("name: here\nkind: local\n"), "{yaml}");
    assert_eq!(terminal.run("build list -q").await.out, "2\n1\n");
    assert_eq!(terminal.run("build list --limit 1 -q").await.out, "2\n");
    assert_eq!(terminal.run("worker list -q").await.out, "here-7f3k3\nhere-7f3k2\n");
    assert_eq!(terminal.run("logs 1 --step test --raw").await.out, plain(LOG_TEXT));
    let logs: serde_json::Value =
        serde_json::from_str(&terminal.run("logs 1 --failed -o json").await.out).unwrap();
    assert_eq!(logs[0]["lines"][1]["n"], 1);
    let raw: serde_json::Value = serde_json::from_str(&terminal.run("api GET /builds/1").await.out).unwrap();
    assert_eq!(raw, json);
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[tokio::test]
async fn what_goes_wrong_has_its_exit_code() {
    let terminal = Terminal::new().await;
    for (words, exit) in [
        ("build show 99", Exit::NotFound),
        ("worker show nobody", Exit::NotFound),
        ("logs 1 --step nothing", Exit::NotFound),
        ("build cancel 1", Exit::Error),
        ("force push", Exit::Error),
        ("force release", Exit::Error),
        ("force release -p version", Exit::Usage),
        ("explain build 99", Exit::NotFound),
        ("explain worker 5", Exit::NotFound),
        ("explain pool nowhere", Exit::NotFound),
        ("api FETCH /builds", Exit::Usage),
        ("api GET builds", Exit::Usage),
        ("worker kill here-7f3k2", Exit::Declined),
        ("config plan", Exit::Success),
        ("config plan --detailed-exitcode", Exit::Success),
    ] {
        let said = terminal.run(words).await;
        assert_eq!(said.exit, exit, "{words}: {}{}", said.out, said.err);
    }
    std::fs::write(&terminal.token, "rouse_wrong").unwrap();
    assert_eq!(terminal.run("build list").await.exit, Exit::Denied);
    std::fs::remove_file(&terminal.token).unwrap();
    assert_eq!(terminal.run("build list").await.exit, Exit::Denied);
    std::fs::write(&terminal.token, ADMIN).unwrap();
    let file = terminal.world.folder.path().join("rouse.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("max: 2", "max: 4")).unwrap();
    assert_eq!(terminal.run("config plan --detailed-exitcode").await.exit, Exit::Changes);
    let said = terminal.run("config reload").await;
    assert_eq!(said.out, "revision 2 is in force\n~ pool here  max 2 → 4\n");
}

#[tokio::test]
async fn wishes_are_made_and_told() {
    let terminal = Terminal::new().await;
    let said = terminal.run("pool grant here 20 --for 6h --reason release").await;
    assert!(said.out.starts_with("pool here may spend 20.00 more until 2"), "{}{}", said.out, said.err);
    let said = terminal.run("pool grants here").await;
    assert!(said.out.contains("20.00") && said.out.contains("api (token admin): release"), "{}", said.out);
    let said = terminal.run("pool show here").await;
    assert!(said.out.contains("30.00 USD/day (50.00 with what is granted)"), "{}", said.out);
    let said = terminal.run("cancel 2 -r enough").await;
    assert_eq!((said.out.as_str(), said.exit), ("build 2 of unit is being cancelled\n", Exit::Success));
    let said = terminal.run("request approve 1").await;
    assert_eq!((said.out.as_str(), said.exit), ("request 1 of unit is approved\n", Exit::Success));
    let said = terminal.run("request approve 3").await;
    assert!(said.err.contains("request 3 waits for nobody's approval"), "{}", said.err);
    let said = terminal.run("worker drain 2").await;
    assert_eq!(said.out, "worker here-7f3k2 takes no new builds, and ends once it is free\n");
    let said = terminal.run("worker hold 2 --for 1h").await;
    assert!(said.err.contains("it is being drained; take that back first"), "{}", said.err);
    assert_eq!(terminal.run("worker drain 2 --cancel").await.exit, Exit::Success);
    let said = terminal.run("worker hold 2 --for 90m -r core").await;
    assert!(
        said.out.starts_with("worker here-7f3k2 takes no new builds, and is kept until 20"),
        "{}",
        said.out
    );
    assert!(terminal.run("worker list").await.out.contains("held for 1h 30m by"));
    assert!(terminal.run("worker show 2").await.out.contains("core"));
    let said = terminal.run("worker release 2").await;
    assert_eq!(said.out, "worker here-7f3k2 is held no longer\n");
    let said = terminal.run("worker kill 2 --yes").await;
    assert_eq!(said.out, "worker here-7f3k2 is being ended\n");
    let said = terminal.run("force release -p version=1.2 --key k").await;
    assert!(said.out.starts_with("request ") && said.out.ends_with(" of builder unit\n"), "{}", said.out);
    assert!(terminal.run("force release -p version=1.2 --key k").await.out.ends_with("under the same key\n"));
    let said = terminal.run("token create ci -r operate").await;
    assert!(said.out.starts_with("rouse_"), "{}", said.out);
    assert_eq!(terminal.run("token remove ci").await.exit, Exit::Success);
    let said = terminal.run("retry 1").await;
    assert!(said.err.contains("rouse explain"), "{}", said.err);
}

#[tokio::test]
async fn waiting_ends_with_how_it_ended() {
    let terminal = Terminal::new().await;
    let said = terminal.run("build watch 1").await;
    assert_eq!(said.exit, Exit::BuildFailed);
    assert!(
        said.err.contains("✗ build 1 failure") && said.err.contains("rouse logs 1 --failed"),
        "{}",
        said.err
    );
    let said = terminal.run("build watch 2 --timeout 0").await;
    assert_eq!(said.exit, Exit::TimedOut);
    let said = terminal.run("build start unit -b wip --wait").await;
    assert_eq!(said.exit, Exit::NeverRuns, "{}{}", said.out, said.err);
    assert!(said.err.contains("no pool can ever run it"), "{}", said.err);
}

#[tokio::test]
async fn a_build_that_ends_while_it_is_watched_is_told_by_its_events() {
    let terminal = Terminal::new().await;
    let ends = async {
        let store = &terminal.world.ctx.store;
        let mut build = store.build(rouse_model::BuildId(2)).await.unwrap().unwrap();
        build.result = Some(rouse_model::BuildResult::Success);
        build.finished = Some(NOW);
        let mut batch = rouse_store::Batch::new("test.end");
        batch.update(&mut build);
        batch.event(rouse_model::event::NewEvent {
            kind: rouse_model::event::EventKind::BuildFinished,
            version: 1,
            subject: "build/2".into(),
            project: "shop".into(),
            at: NOW,
            payload: serde_json::json!({}),
        });
        store.commit(batch).await.unwrap();
    };
    let watched = tokio::time::timeout(Duration::from_secs(30), terminal.run("build watch 2"));
    let (said, ()) = tokio::join!(watched, ends);
    assert_eq!(said.unwrap().exit, Exit::Success);
}

#[tokio::test]
async fn a_log_is_followed_until_its_build_ends() {
    let terminal = Terminal::new().await;
    let log = LogId(3);
    let world = &terminal.world;
    world.ctx.logs.open(log, Masks::default());
    print(world, log, 0, "begin\nha").await;
    let rest = async {
        print(world, log, 8, "lf\n").await;
        let mut sealed = world.ctx.logs.seal(log, 11, None).await.unwrap();
        let mut build = world.ctx.store.build(rouse_model::BuildId(2)).await.unwrap().unwrap();
        build.result = Some(rouse_model::BuildResult::Success);
        build.finished = Some(NOW);
        sealed.update(&mut build);
        world.commit(sealed).await;
    };
    let followed = tokio::time::timeout(Duration::from_secs(30), terminal.run("logs 2 -f"));
    let (said, ()) = tokio::join!(followed, rest);
    let said = said.unwrap();
    assert_eq!(said.out, "── checkout\nbegin\nhalf\n");
    assert_eq!((said.err.as_str(), said.exit), ("build 2 ended: success\n", Exit::Success));
}

#[test]
fn detaching_says_how_to_come_back() {
    let error = CliError::Detached { back: "rouse build watch 5".into() };
    assert_eq!((error.exit(), Exit::Interrupted as u8), (Exit::Interrupted, 130));
    assert_eq!(Format::default(), Format::Table);
}
