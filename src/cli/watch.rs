//! Watching a build or a request to its end: told by events, not by asking again and again. Ctrl-C detaches and never cancels.

use super::build::show::{step_line, times};
use super::client::{Client, as_view};
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{DIM, Format, HINT, Out, mark};
use super::sse::Stream;
use crate::api::views::{BuildDetail, BuildResult, ExplanationView, MasterView, RequestState, RequestView};
use serde_json::Value;
use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

/// Without any event for so long, it is looked at anyway: a lost notification costs delay, never the end.
const LOOK_ANYWAY: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The build's number
    build: i64,
    /// Stop waiting after so many seconds; the build goes on
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    let back = format!("rouse build watch {}", args.build);
    let watching = async {
        let detail = build(&client, args.build, out).await?;
        if out.format() != Format::Table {
            out.data(&client.get(&format!("/builds/{}", args.build), &Vec::new()).await?)?;
        }
        Ok(Exit::of_build(detail.build.result.unwrap_or(BuildResult::Exception)))
    };
    interruptible(within(args.timeout, watching, &back), &back).await
}

/// Ends with [`CliError::Detached`] at Ctrl-C.
pub(super) async fn interruptible<T>(
    work: impl Future<Output = Result<T, CliError>>,
    back: &str,
) -> Result<T, CliError> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(CliError::Detached { back: back.to_owned() }),
    }
}

/// Ends with [`CliError::TimedOut`] after so many seconds.
pub(super) async fn within<T>(
    seconds: Option<u64>,
    work: impl Future<Output = Result<T, CliError>>,
    back: &str,
) -> Result<T, CliError> {
    let Some(seconds) = seconds else { return work.await };
    match tokio::time::timeout(Duration::from_secs(seconds), work).await {
        Ok(done) => done,
        Err(_) => Err(CliError::TimedOut { back: back.to_owned() }),
    }
}

/// A connection that breaks is tried again for a while, each time later.
#[derive(Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    const TRIES: u32 = 8;

    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }

    /// Waits where trying again may help; gives the error back where it does not.
    pub(super) async fn wait(&mut self, error: CliError, out: &Out) -> Result<(), CliError> {
        if !error.may_pass() || self.tries >= Self::TRIES {
            return Err(error);
        }
        if self.tries == 0 {
            let what =
                if matches!(error, CliError::Api(_)) { "the master is not ready" } else { "connection lost" };
            out.note(&format!("{DIM}{what}; trying again{DIM:#}"));
        }
        self.pause().await;
        Ok(())
    }

    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(Duration::from_millis(250 << self.tries.min(5))).await;
        self.tries += 1;
    }
}

/// Where events are from now on, to be asked before the state is read: so nothing falls in between.
async fn now(client: &Client) -> Result<i64, CliError> {
    let master: MasterView = client.view("/master").await?;
    Ok(master.newest_event)
}

/// The same of a master that may have to be waited for.
async fn now_or_later(client: &Client, backoff: &mut Backoff, out: &Out) -> Result<i64, CliError> {
    loop {
        match now(client).await {
            Ok(place) => return Ok(place),
            Err(error) => backoff.wait(error, out).await?,
        }
    }
}

/// Waits for the next event about these things.
struct Bell<'a> {
    client: &'a Client,
    subjects: Vec<String>,
    place: i64,
    stream: Option<Stream>,
}

impl<'a> Bell<'a> {
    fn new(client: &'a Client, subjects: Vec<String>, place: i64) -> Self {
        Self { client, subjects, place, stream: None }
    }

    /// Returns at the next event, when the connection breaks, or after a while: the caller looks again in any case.
    async fn ring(&mut self) -> Result<(), CliError> {
        if self.stream.is_none() {
            let query = vec![("subject", self.subjects.join(","))];
            match self.client.events("/events", &query, Some(&self.place.to_string())).await {
                Ok(stream) => self.stream = Some(stream),
                // The look that follows says what is wrong.
                Err(error) if error.may_pass() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match tokio::time::timeout(LOOK_ANYWAY, stream.next()).await {
            Ok(Ok(Some(message))) => {
                if let Some(place) = message.id.and_then(|id| id.parse().ok()) {
                    self.place = place;
                }
            }
            Ok(Ok(None) | Err(CliError::Transport(_))) => {
                self.stream = None;
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
        Ok(())
    }
}

/// What a build's events are about.
fn subjects(detail: &BuildDetail) -> Vec<String> {
    let id = detail.build.id;
    let mut subjects = vec![format!("build/{id}"), format!("request/{}", detail.build.request)];
    subjects.extend(detail.steps.iter().map(|step| format!("step/{}", step.id)));
    subjects
}

/// Returns when something about a build may have changed since it was read.
pub(super) async fn something_happens(
    client: &Client,
    build: i64,
    seen: &BuildDetail,
) -> Result<(), CliError> {
    let place = now(client).await?;
    let again: BuildDetail = client.view(&format!("/builds/{build}")).await?;
    let logs = |detail: &BuildDetail| detail.steps.iter().map(|step| step.logs.len()).sum::<usize>();
    if again.build.result != seen.build.result
        || again.steps.len() != seen.steps.len()
        || logs(&again) != logs(seen)
    {
        return Ok(());
    }
    Bell::new(client, subjects(&again), place).ring().await
}

/// A build to its end, its steps told on stderr as they end.
pub(super) async fn build(client: &Client, id: i64, out: &Out) -> Result<BuildDetail, CliError> {
    let mut told: HashSet<i64> = HashSet::new();
    let mut backoff = Backoff::default();
    let mut place = now_or_later(client, &mut backoff, out).await?;
    let mut begun = false;
    loop {
        let detail: BuildDetail = match client.view(&format!("/builds/{id}")).await {
            Ok(detail) => detail,
            Err(error) => {
                backoff.wait(error, out).await?;
                continue;
            }
        };
        backoff.reset();
        if !std::mem::replace(&mut begun, true) {
            let worker =
                detail.build.worker.as_ref().map_or_else(String::new, |w| format!(" on worker {}", w.name));
            out.note(&format!("{} build {id} of {}{worker}", mark(None), detail.build.builder));
        }
        let width = detail.planned.iter().map(|name| name.chars().count()).max().unwrap_or(8).max(8);
        for step in detail.steps.iter().filter(|step| step.result.is_some()) {
            if told.insert(step.id) {
                out.note(&format!("  {}", step_line(step, width)));
            }
        }
        if let Some(result) = detail.build.result {
            out.note(&format!("{} build {id} {result}  {}", mark(Some(result)), detail.build.summary));
            out.note(&format!("  {DIM}{}{DIM:#}", times(&detail.build.times)));
            if !matches!(result, BuildResult::Success | BuildResult::Warnings) {
                out.note(&format!("{HINT}hint:{HINT:#} rouse logs {id} --failed"));
            }
            return Ok(detail);
        }
        let mut bell = Bell::new(client, subjects(&detail), place);
        bell.ring().await?;
        place = bell.place;
    }
}

/// A request to its end; says why it waits whenever that changes. Gives the exit code of what became of it.
pub(super) async fn request(client: &Client, id: i64, out: &Out) -> Result<Exit, CliError> {
    let mut said = String::new();
    let mut watched: HashSet<i64> = HashSet::new();
    let mut backoff = Backoff::default();
    let mut place = now_or_later(client, &mut backoff, out).await?;
    loop {
        let request: RequestView = match client.get(&format!("/requests/{id}"), &Vec::new()).await {
            Ok(value) => as_view(value)?,
            Err(error) => {
                backoff.wait(error, out).await?;
                continue;
            }
        };
        backoff.reset();
        // Attempts that were lost follow each other under one request.
        if let Some(build_id) = request.build.filter(|build| !watched.contains(build)) {
            build(client, build_id, out).await?;
            watched.insert(build_id);
            continue;
        }
        match request.state {
            RequestState::Done => {
                return Ok(Exit::of_build(request.result.unwrap_or(BuildResult::Exception)));
            }
            RequestState::Queued | RequestState::Unapproved => {
                let answer: ExplanationView = client.view(&format!("/requests/{id}/explain")).await?;
                if answer.primary.code != said {
                    said.clone_from(&answer.primary.code);
                    out.note(&format!("· request {id} of {}: {}", request.builder, answer.primary.sentence));
                    if let Some(help) = answer.primary.help.as_ref().filter(|_| is_unapproved(&answer)) {
                        out.hint(help);
                    }
                }
                if answer.primary.permanent && answer.request.state == RequestState::Queued {
                    if let Some(help) = answer.primary.help {
                        out.hint(&help);
                    }
                    return Ok(Exit::NeverRuns);
                }
            }
            RequestState::Claimed => {}
        }
        // Why a request waits depends on workers too; their events are many and small.
        let mut bell = Bell::new(client, vec![format!("request/{id}")], place);
        tokio::time::timeout(Duration::from_secs(1), bell.ring()).await.unwrap_or(Ok(()))?;
        place = bell.place;
    }
}

fn is_unapproved(answer: &ExplanationView) -> bool {
    answer.request.state == RequestState::Unapproved
}

/// Ids of the requests that a call has made.
pub(super) fn requests_of(made: &Value) -> Vec<i64> {
    let requests = made.get("requests").and_then(Value::as_array).cloned().unwrap_or_default();
    requests.iter().filter_map(|request| request.get("id")?.as_i64()).collect()
}
