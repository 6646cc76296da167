//! Pollers: what moved in the repositories becomes change sets, in the very commit that moves the stored head. A hook or a posted change only
//! makes a poller look sooner; what counts is what the mirror shows.

mod look;

use crate::ctx::Ctx;
use rouse_model::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_secs(5);
/// The longest pause after looks that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Looks again soon, on behalf of a hook or a posted change. What is found is what counts.
pub fn nudge(ctx: &Ctx, codebase: &str, by: &str) {
    ctx.hurry.say(codebase, by);
    ctx.nudges.changes.notify_one();
}

/// One codebase's poller, in this process.
#[derive(Debug, Default)]
struct Poller {
    due: Option<Timestamp>,
    failures: u32,
}

/// Polls until told to stop.
pub async fn run(ctx: Arc<Ctx>, stop: CancellationToken) {
    let pollers: Arc<Mutex<HashMap<String, Poller>>> = Arc::default();
    let busy: Arc<Mutex<std::collections::HashSet<String>>> = Arc::default();
    loop {
        let active = ctx.config();
        let mut next: Option<Timestamp> = None;
        for (name, codebase) in &active.config.codebases {
            let name = name.to_string();
            let now = ctx.now();
            let mut all = pollers.lock().expect("nothing panics while it is held");
            let poller = all.entry(name.clone()).or_default();
            let due = poller.due.unwrap_or(now);
            let hurried = ctx.hurry.take(&name);
            if hurried.is_none() && (due > now || (codebase.poll.is_none() && poller.due.is_some())) {
                next = [next, codebase.poll.map(|_| due)].into_iter().flatten().min();
                continue;
            }
            drop(all);
            if !busy.lock().expect("nothing panics while it is held").insert(name.clone()) {
                // Looked at right now; what was said meanwhile is looked at after that.
                if let Some(by) = hurried {
                    ctx.hurry.say(&name, &by);
                }
                continue;
            }
            let (ctx, pollers, busy) = (Arc::clone(&ctx), Arc::clone(&pollers), Arc::clone(&busy));
            let (active, stop) = (Arc::clone(&active), stop.clone());
            let every = codebase.poll.map(|p| p.0);
            crate::supervisor::spawn("poller", async move {
                let looked = tokio::select! {
                    () = stop.cancelled() => return,
                    looked = look::look(&ctx, &active, &name, hurried.as_deref()) => looked,
                };
                let mut all = pollers.lock().expect("nothing panics while it is held");
                let poller = all.entry(name.clone()).or_default();
                poller.failures = if looked { 0 } else { poller.failures + 1 };
                let pause = if looked {
                    every.unwrap_or(LONGEST_PAUSE)
                } else {
                    Duration::from_secs(1 << poller.failures.min(8)).min(LONGEST_PAUSE)
                };
                poller.due = Some(ctx.now() + pause);
                drop(all);
                busy.lock().expect("nothing panics while it is held").remove(&name);
                ctx.nudges.changes.notify_one();
            });
        }
        let wait = next.map_or(TICK, |at| at.since(ctx.now()).clamp(Duration::from_millis(5), TICK));
        tokio::select! {
            () = stop.cancelled() => return,
            () = ctx.nudges.changes.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}
