//! What the terminal shows: each line when it became true, read from the event log and the rows that it names.

use super::project::Pushed;
use crate::ctx::Ctx;
use anstyle::{AnsiColor, Style};
use futures::StreamExt;
use rouse_model::buildset::RequestState;
use rouse_model::event::{Event, EventKind};
use rouse_model::{BuildId, BuildResult, LogId, RequestId, StepId, Timestamp};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();
const DIM: Style = Style::new().dimmed();

/// Writes lines: to the terminal, or to stderr where stdout is for data.
#[derive(Debug)]
pub(super) struct Teller {
    to_stderr: bool,
    done: AtomicBool,
}

impl Teller {
    pub(super) fn new(to_stderr: bool) -> Self {
        Self { to_stderr, done: AtomicBool::new(false) }
    }

    /// The story that had to be told is told.
    pub(super) fn all_done(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// Nobody reads on where a line cannot be written.
    pub(super) fn plain(&self, line: &str) {
        let _ = if self.to_stderr {
            writeln!(anstream::stderr(), " {line}")
        } else {
            writeln!(anstream::stdout(), " {line}")
        };
    }

    pub(super) fn done(&self, what: &str, about: &str) {
        self.plain(&format!("{GREEN}✓{GREEN:#} {what:<12} {about}"));
    }
}

/// Follows one master's events from now on.
pub(super) struct Story<'a> {
    ctx: &'a Arc<Ctx>,
    say: &'a Teller,
    cursor: i64,
    pushed: Instant,
}

impl<'a> Story<'a> {
    pub(super) fn new(ctx: &'a Arc<Ctx>, say: &'a Teller) -> Self {
        Self { ctx, say, cursor: 0, pushed: Instant::now() }
    }

    /// A push counts from the first look on.
    pub(super) async fn wait_for_first_look(&mut self, codebase: &str) -> anyhow::Result<()> {
        let late = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(state) = self.ctx.store.codebase_state(codebase).await? {
                if state.looked.is_some() {
                    return Ok(());
                }
                anyhow::ensure!(
                    Instant::now() < late,
                    "the repository was not read: {}",
                    state.error.unwrap_or_default()
                );
            }
            anyhow::ensure!(Instant::now() < late, "the repository was not read within 30 s");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) fn pushed(&mut self, pushed: &Pushed) {
        self.pushed = Instant::now();
        let short: String = pushed.revision.chars().take(7).collect();
        self.say.plain(&format!("→ pushed       {short} \"{}\"", pushed.subject));
    }

    /// Tells everything until a build has ended, if need be in vain.
    pub(super) async fn follow_one_build(&mut self, within: Option<Duration>) -> anyhow::Result<BuildResult> {
        let follow = async {
            loop {
                for event in self.next().await? {
                    if let Some(result) = self.tell(&event).await? {
                        return Ok(result);
                    }
                }
            }
        };
        bounded(within, "the build has not ended", follow).await
    }

    /// Tells everything until no worker is there.
    pub(super) async fn worker_gone(&mut self, within: Option<Duration>) -> anyhow::Result<()> {
        let gone = async {
            loop {
                if self.ctx.store.live_workers().await?.is_empty() {
                    for event in self.ctx.store.events_after(self.cursor, 500).await? {
                        self.cursor = event.seq;
                        self.tell(&event).await?;
                    }
                    return Ok(());
                }
                for event in self.next().await? {
                    self.tell(&event).await?;
                }
            }
        };
        bounded(within, "the worker is still there", gone).await
    }

    async fn next(&mut self) -> anyhow::Result<Vec<Event>> {
        let mut committed = self.ctx.store.committed();
        loop {
            let mut events = self.ctx.store.events_after(self.cursor, 100).await?;
            // One at a time where a log is followed in between.
            events.truncate(1);
            if let Some(last) = events.last() {
                self.cursor = last.seq;
                return Ok(events);
            }
            // A missed wake-up costs a moment.
            let _ = tokio::time::timeout(Duration::from_millis(500), committed.changed()).await;
        }
    }

    async fn tell(&self, event: &Event) -> anyhow::Result<Option<BuildResult>> {
        let id = event.body.subject.split('/').nth(1).and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
        let payload = &event.body.payload;
        let text = |key: &str| payload[key].as_str().unwrap_or_default().to_owned();
        match event.body.kind {
            EventKind::ChangeSetSeen => {
                let after = self.pushed.elapsed().as_secs_f64();
                self.say.done("noticed", &format!("{after:.1} s later by the poller of `project`"));
            }
            EventKind::RequestMade => {
                let builder = text("builder");
                self.say.done(
                    &format!("request {id}"),
                    &format!("builder `{builder}`, waiting: no worker yet, launching one"),
                );
            }
            EventKind::RequestChanged => self.launch_failed(RequestId(id)).await?,
            EventKind::BuildStarted => self.worker_is_up(BuildId(id)).await?,
            EventKind::LogMade => self.follow_log(LogId(id)).await?,
            EventKind::StepFinished => {
                let mark =
                    if text("result") == "success" { "│".to_owned() } else { format!("{RED}│{RED:#}") };
                let took =
                    self.ctx.store.step(StepId(id)).await?.and_then(|s| Some(s.finished?.since(s.started)));
                let took = took.map_or_else(String::new, |took| format!("{:.1} s", took.as_secs_f64()));
                self.say.plain(&format!("  {mark} {:<10} {:<44} {took}", text("name"), text("summary")));
            }
            EventKind::BuildFinished => return self.build_ended(BuildId(id)).await.map(Some),
            EventKind::WorkerPhase if text("phase") == "gone" => {
                let why = payload["cause"]["message"].as_str().unwrap_or("nothing waits");
                self.say.done(&format!("worker {}", text("name")), &format!("gone: {why}"));
            }
            _ => {}
        }
        Ok(None)
    }

    async fn worker_is_up(&self, build: BuildId) -> anyhow::Result<()> {
        let Some(worker) = self.ctx.store.build(build).await?.and_then(|b| b.worker) else { return Ok(()) };
        let Some(worker) = self.ctx.store.worker(worker).await? else { return Ok(()) };
        let now = self.ctx.now();
        let span = |from: Timestamp, to: Option<Timestamp>| to.map_or(0, |to| to.since(from).as_millis());
        let accepted = span(worker.requested, worker.accepted);
        let attached = worker.accepted.map_or(0, |from| span(from, worker.attached));
        let age = now.since(worker.requested).as_secs_f64();
        self.say.done(
            &format!("worker {}", worker.name),
            &format!(
                "did not exist {age:.1} s ago   instance up {accepted} ms · agent attached {attached} ms"
            ),
        );
        Ok(())
    }

    /// Says why no worker came, and that it goes on.
    async fn launch_failed(&self, request: RequestId) -> anyhow::Result<()> {
        let Some(request) = self.ctx.store.request(request).await? else { return Ok(()) };
        if let (RequestState::Queued, Some(failure)) = (request.state, request.provision.failures.last()) {
            self.say.plain(&format!("{RED}✗ {:<12} {}{RED:#}; trying again", "launch", failure.message));
        }
        Ok(())
    }

    /// Shows a log as it grows, until it is sealed.
    async fn follow_log(&self, log: LogId) -> anyhow::Result<()> {
        let mut lines = std::pin::pin!(self.ctx.logs.follow(log, 0));
        while let Some(line) = lines.next().await {
            let line = line?;
            if !line.open {
                self.say.plain(&format!("  {DIM}│{DIM:#} {}", line.text()));
            }
        }
        Ok(())
    }

    async fn build_ended(&self, id: BuildId) -> anyhow::Result<BuildResult> {
        let build =
            self.ctx.store.build(id).await?.ok_or_else(|| anyhow::anyhow!("build {id} has vanished"))?;
        let result = build.result.unwrap_or(BuildResult::Exception);
        let times = build.phase_times(self.ctx.now());
        #[expect(clippy::cast_precision_loss, reason = "a build's time in microseconds is far below 2^52")]
        let s = |micros: i64| format!("{:.2}", micros as f64 / 1e6);
        if result.is_good() {
            self.say.done(
                &format!("build {id}"),
                &format!(
                    "{GREEN}{result}{GREEN:#}      queued {} · provisioning {} · preparing {} · running {} · finishing {} s",
                    s(times.queued),
                    s(times.provisioning),
                    s(times.preparing),
                    s(times.running),
                    s(times.finishing)
                ),
            );
        } else {
            self.say.plain(&format!("{RED}✗ {:<12} {}{RED:#}", format!("build {id}"), build.summary));
            self.say.plain(&format!("  {DIM}│ rouse logs {id} --failed{DIM:#}"));
        }
        Ok(result)
    }
}

async fn bounded<T>(
    within: Option<Duration>,
    what: &str,
    wait: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let Some(within) = within else { return wait.await };
    tokio::time::timeout(within, wait)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("{what} after {} s", within.as_secs())))
}
