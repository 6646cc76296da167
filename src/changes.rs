//! Pollers: what moved in the repositories becomes change sets, in the very commit that moves the stored head. A hook or a posted change only
//! makes a poller look sooner; what counts is what the mirror shows.

mod look;
mod seen;

use crate::config::CodebaseConfig;
use crate::ctx::{Active, Ctx, Hint};
use look::Looked;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_secs(5);
/// The longest pause after looks that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often a look is repeated for a revision that somebody says was pushed: about half a minute in all.
const MOST_TRIES: u32 = 6;
/// So long, in ticks, a hint for another master's poller is kept: should that one be dead, its role comes here before that.
const MOST_ELSEWHERE: u32 = 8;

/// One codebase's poller, in this process.
#[derive(Debug, Default)]
struct Poller {
    /// When the next look is due; `None`: now. By a clock that nobody sets.
    due: Option<Instant>,
    /// The configuration that `due` follows from: with another one, a look is due at once.
    config: Option<CodebaseConfig>,
    busy: bool,
    failures: u32,
    /// Hints that no look has served yet, and how many have tried to.
    hints: Vec<Hint>,
    tries: u32,
    /// Another master had the role when it was asked for last: it is asked for again.
    elsewhere: bool,
}

type Pollers = Arc<Mutex<HashMap<String, Poller>>>;

/// Polls until told to stop.
pub async fn run(ctx: Arc<Ctx>, stop: CancellationToken) {
    let pollers = Pollers::default();
    loop {
        let active = ctx.config();
        let mut next: Option<Instant> = None;
        for (name, codebase) in &active.config.codebases {
            match turn(&ctx, &pollers, name.as_str(), codebase) {
                Turn::Look(hints) => start(&ctx, &active, &pollers, name.as_str(), codebase, hints, &stop),
                Turn::Wait(due) => next = [next, due].into_iter().flatten().min(),
            }
        }
        let until = |at: Instant| at.saturating_duration_since(Instant::now());
        let wait = next.map_or(TICK, |at| until(at).clamp(Duration::from_millis(5), TICK));
        tokio::select! {
            () = stop.cancelled() => return,
            () = ctx.nudges.changes.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What a codebase's poller does now.
enum Turn {
    Look(Vec<Hint>),
    /// Until then; `None`: until somebody says something.
    Wait(Option<Instant>),
}

fn turn(ctx: &Ctx, pollers: &Pollers, name: &str, codebase: &CodebaseConfig) -> Turn {
    let mut all = pollers.lock().expect("nothing panics while it is held");
    let poller = all.entry(name.to_owned()).or_default();
    // What is said during a look waits for the next one: that look may have been too early for it.
    if poller.busy {
        return Turn::Wait(None);
    }
    let fresh = ctx.hurry.take(name);
    let changed = poller.config.as_ref() != Some(codebase);
    let due = poller.due.is_none_or(|due| due <= Instant::now());
    // Without polling, a look follows one that failed or was too early, and nothing else.
    let waits =
        codebase.poll.is_some() || poller.failures > 0 || poller.elsewhere || !poller.hints.is_empty();
    if fresh.is_empty() && !changed && !(due && waits) {
        return Turn::Wait(poller.due.filter(|_| waits));
    }
    if !fresh.is_empty() {
        poller.tries = 0;
    }
    poller.config = Some(codebase.clone());
    poller.busy = true;
    let mut hints = std::mem::take(&mut poller.hints);
    hints.extend(fresh);
    Turn::Look(hints)
}

fn start(
    ctx: &Arc<Ctx>,
    active: &Arc<Active>,
    pollers: &Pollers,
    name: &str,
    codebase: &CodebaseConfig,
    hints: Vec<Hint>,
    stop: &CancellationToken,
) {
    let (ctx, pollers, active) = (Arc::clone(ctx), Arc::clone(pollers), Arc::clone(active));
    let (name, every, stop) = (name.to_owned(), codebase.poll.map(|p| p.0), stop.clone());
    crate::supervisor::spawn("poller", async move {
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = look::look(&ctx, &active, &name, hints) => looked,
        };
        {
            let mut all = pollers.lock().expect("nothing panics while it is held");
            let poller = all.entry(name.clone()).or_default();
            poller.busy = false;
            poller.due = Some(Instant::now() + poller.pause(&name, looked, every));
        }
        ctx.nudges.changes.notify_one();
    });
}

impl Poller {
    /// Takes in what a look came to, and gives the pause until the next one.
    fn pause(&mut self, name: &str, looked: Looked, every: Option<Duration>) -> Duration {
        let usual = every.unwrap_or(LONGEST_PAUSE);
        let elsewhere = matches!(looked, Looked::Elsewhere { .. });
        if std::mem::replace(&mut self.elsewhere, elsewhere) && !elsewhere {
            self.tries = 0;
        }
        match looked {
            Looked::Elsewhere { hints } => {
                self.tries += 1;
                self.hints = if self.tries > MOST_ELSEWHERE { Vec::new() } else { hints };
                TICK
            }
            Looked::Failed { unserved } => {
                self.failures += 1;
                self.hints = unserved;
                Duration::from_secs(1 << self.failures.min(8)).min(LONGEST_PAUSE)
            }
            Looked::Well { unserved } => {
                self.failures = 0;
                if unserved.is_empty() {
                    self.tries = 0;
                    return usual;
                }
                self.tries += 1;
                if self.tries > MOST_TRIES {
                    for hint in unserved {
                        let (branch, revision) = (hint.branch.as_deref(), hint.revision.as_deref());
                        tracing::warn!(
                            codebase = name,
                            by = hint.by,
                            branch,
                            revision,
                            "what was said to be pushed is not in the repository"
                        );
                    }
                    self.tries = 0;
                    return usual;
                }
                self.hints = unserved;
                Duration::from_secs(1 << (self.tries - 1)).min(usual)
            }
        }
    }
}
