//! What speaks for the agents in the cloud: it attaches those that have booted, runs what they are told, and loses its connection now and then. It
//! stands where a session of the agent link does; what an agent has run stays with its instance, whichever master asks, and clones share it.

use crate::ctx::Ctx;
use crate::switchboard::{Mailbox, ToDriver, ToSession};
use crate::workers;
use futures::FutureExt;
use rouse_agent_protocol::{CommandId, Outcome, OutcomeKind, StreamEnd, StreamId};
use rouse_model::worker::{LaunchToken, Link, Worker, WorkerEvent};
use rouse_model::{BuildId, Timestamp, WorkerId};
use rouse_provider_fake::Cloud;
use rouse_testkit::chance::Dice;
use rouse_testkit::clock::SimClock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LOOK: Duration = Duration::from_secs(2);
/// The longest that a command runs.
const LONGEST: u64 = 20;
/// The longest that a cut connection stays away: below the grace period.
const AWAY: u64 = 40;

/// Commands by the token of the instance that runs them.
type Machines = BTreeMap<String, BTreeMap<i64, Run>>;

#[derive(Debug, Default, Clone)]
pub(super) struct Agents {
    machines: Arc<Mutex<Machines>>,
    sessions: Arc<AtomicU64>,
    cuts: Arc<AtomicUsize>,
    /// How long each command runs; at random where nothing is said.
    pub lasts: Option<Duration>,
    /// They speak on where their cloud says that their instance has ended.
    pub speak_on: bool,
}

#[derive(Debug)]
struct Run {
    build: BuildId,
    stream: Option<StreamId>,
    ends: Timestamp,
    stopped: Option<String>,
}

#[derive(Debug)]
struct Session {
    token: LaunchToken,
    number: u64,
    mailbox: Mailbox,
}

impl Agents {
    /// How often a connection was lost.
    pub(super) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }

    /// Serves one master, for as long as it lives: those of the workers that it drives.
    pub(super) async fn serve(
        &self,
        ctx: &Ctx,
        (clock, cloud): (&SimClock, &Cloud),
        dice: &mut Dice,
        calm: Timestamp,
    ) {
        forget_sessions(ctx).await;
        let mut sessions: BTreeMap<WorkerId, Session> = BTreeMap::new();
        let mut away: BTreeMap<WorkerId, Timestamp> = BTreeMap::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = clock.steady();
            let up: BTreeMap<WorkerId, LaunchToken> = match self.speak_on {
                true => cloud.agents_that_speak(),
                false => cloud.agents(),
            }
            .into_iter()
            .collect();
            for worker in sessions.keys().copied().collect::<Vec<_>>() {
                let cut = now < calm && dice.below(100) == 0;
                if cut {
                    away.insert(worker, now + Duration::from_secs(dice.below(AWAY)));
                    self.cuts.fetch_add(1, Ordering::Relaxed);
                }
                if cut || !up.contains_key(&worker) {
                    self.detach(ctx, worker, &mut sessions).await;
                }
            }
            let is_away = |worker: &WorkerId| away.get(worker).is_some_and(|until| *until > now);
            let is_here = |worker: &WorkerId| sessions.contains_key(worker);
            let mut comes: Vec<_> =
                up.iter().filter(|(worker, _)| !is_here(worker) && !is_away(worker)).collect();
            // Alone, a master drives all of them.
            if !comes.is_empty() && ctx.roles.has_company() {
                let ours = of_master(ctx).await;
                comes.retain(|(worker, _)| ours.contains_key(worker));
            }
            for (worker, token) in comes {
                self.attach(ctx, *worker, token, &mut sessions).await;
            }
            for session in sessions.values_mut() {
                while let Some(Some(message)) = session.mailbox.recv().now_or_never() {
                    if self.obey(&session.token, message, now, dice) {
                        cloud.kill(&session.token, "told to end");
                    }
                }
                self.report(ctx, &session.token, now);
            }
        }
    }

    async fn attach(
        &self,
        ctx: &Ctx,
        worker: WorkerId,
        token: &LaunchToken,
        sessions: &mut BTreeMap<WorkerId, Session>,
    ) {
        let (number, incarnation) = (1 + self.sessions.fetch_add(1, Ordering::Relaxed), token.0.clone());
        let event = WorkerEvent::Attached { session: number.to_string(), incarnation };
        // One that is not wanted any more tries again until it is taken away.
        if workers::apply(ctx, worker, "worker.attach", &event, |_, _| {}).await.is_ok() {
            let mailbox = ctx.switchboard.attach(worker, number);
            sessions.insert(worker, Session { token: token.clone(), number, mailbox });
            ctx.switchboard.look_at_worker(worker);
            ctx.nudges.matching.notify_one();
        }
    }

    async fn detach(&self, ctx: &Ctx, worker: WorkerId, sessions: &mut BTreeMap<WorkerId, Session>) {
        let Some(session) = sessions.remove(&worker) else { return };
        ctx.switchboard.detach(worker, session.number);
        let event = WorkerEvent::Detached { session: session.number.to_string() };
        // What has been written since says more.
        let _ = workers::apply(ctx, worker, "worker.silent", &event, |_, _| {}).await;
    }

    /// Whether it is to end.
    fn obey(&self, token: &LaunchToken, message: ToSession, now: Timestamp, dice: &mut Dice) -> bool {
        let mut machines = self.machines.lock().unwrap();
        let machine = machines.entry(token.0.clone()).or_default();
        match message {
            ToSession::Run(command) => {
                machine.entry(command.id.0).or_insert_with(|| Run {
                    build: BuildId(command.build),
                    stream: command.stream(),
                    ends: now + self.lasts.unwrap_or_else(|| Duration::from_secs(dice.below(LONGEST))),
                    stopped: None,
                });
            }
            ToSession::Stop { command, reason } => {
                if let Some(run) = machine.get_mut(&command.0).filter(|run| run.ends > now) {
                    (run.ends, run.stopped) = (now, Some(reason));
                }
            }
            ToSession::End { .. } => return true,
            // What it has run it remembers, so that nothing runs twice; it repeats it at each look anyway.
            ToSession::Forget(_)
            | ToSession::Report(_)
            | ToSession::Durable { .. }
            | ToSession::Drain { .. } => {}
        }
        false
    }

    /// Says what has finished, until the build has heard of it.
    fn report(&self, ctx: &Ctx, token: &LaunchToken, now: Timestamp) {
        let machines = self.machines.lock().unwrap();
        let Some(machine) = machines.get(&token.0) else { return };
        for (id, run) in machine.iter().filter(|(_, run)| run.ends <= now) {
            let kind = match &run.stopped {
                Some(reason) => OutcomeKind::Stopped { reason: reason.clone() },
                None => OutcomeKind::Exited { code: 0 },
            };
            let outcome = Outcome {
                kind,
                started_us: 0,
                finished_us: 0,
                started_wall_us: now.0,
                finished_wall_us: now.0,
                streams: run
                    .stream
                    .into_iter()
                    .map(|stream| StreamEnd { stream, to: 0, note: None })
                    .collect(),
                max_rss_bytes: None,
                cpu_us: None,
                oom_killed: false,
                leftovers: 0,
                no_room: None,
            };
            let (command, outcome) = (CommandId(*id), Box::new(outcome));
            ctx.switchboard.to_driver(run.build, ToDriver::Finished { command, outcome });
        }
    }
}

/// What the agent link does when a master begins: the sessions of the one before it are over.
async fn forget_sessions(ctx: &Ctx) {
    for worker in of_master(ctx).await.into_values() {
        if let Link::Attached { session, .. } = &worker.link {
            let event = WorkerEvent::Detached { session: session.clone() };
            let _ = workers::apply(ctx, worker.id, "worker.silent", &event, |_, _| {}).await;
        }
    }
}

async fn of_master(ctx: &Ctx) -> BTreeMap<WorkerId, Worker> {
    let live = ctx.store.live_workers().await.unwrap();
    live.into_iter().filter(|worker| worker.master == ctx.me).map(|worker| (worker.id, worker)).collect()
}
