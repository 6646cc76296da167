//! One connection of one agent, from its hello to its end.
//!
//! Output goes to the log service as it comes and is acknowledged once durable. Outcomes are kept here until the build's driver has
//! recorded them; what the connection loses, the next hello brings again.

use super::doors::{Door, Entry};
use super::guard::Stranger;
use super::handshake::{self, HandshakeError};
use super::{HEARTBEAT, QUIET};
use crate::logs::{AgentClock, Progress};
use crate::switchboard::{Mailbox, ToDriver, ToSession};
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use rouse_agent_protocol::{
    CommandId, CommandState, Durable, Outcome, StreamId, StreamReport, ToAgent, ToMaster, close,
    decode_frame, decode_to_master, encode,
};
use rouse_model::build::CommandState as RowState;
use rouse_model::worker::WorkerEvent;
use rouse_model::{BuildId, LogId};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Numbers sessions within this process; a worker's row names the current one.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// How long an agent may take to hear that its master goes.
const GOODBYE: Duration = Duration::from_secs(1);

/// All of a session. It may wait for months, and there are thousands: so what it begins and ends with, a hello, a worker's row and changes of
/// it, is on the heap for as long as it takes.
pub(super) fn serve(entry: Entry, socket: WebSocket, stranger: Stranger) -> impl Future<Output = ()> + Send {
    let begin = Box::pin(begin(entry, socket, stranger));
    async move {
        let Some(mut open) = begin.await else { return };
        let reason = match &mut open.way {
            Ok(way) => open.session.attend(way).await,
            Err(reason) => *reason,
        };
        Box::pin(open.end(reason)).await;
    }
}

/// From the first word to the welcome; none where it did not become a session.
async fn begin(entry: Entry, mut socket: WebSocket, stranger: Stranger) -> Option<Box<Open>> {
    // The process id keeps a restarted master's sessions apart from the ones before.
    let number = (u64::from(std::process::id()) << 32) | SESSIONS.fetch_add(1, Ordering::Relaxed);
    entry.turn().await;
    let attached = match handshake::greet(&entry, &mut socket, number, &stranger).await {
        Ok(attached) => attached,
        Err(HandshakeError::Refused(refused)) => {
            let _ = socket.send(Message::Text(encode(&ToAgent::Refused(refused)).into())).await;
            let _ = socket.send(Message::Close(None)).await;
            return None;
        }
        Err(error) => {
            tracing::debug!(%error, "a connection did not become a session");
            return None;
        }
    };
    let door = attached.door.clone();
    let mailbox = door.ctx.switchboard.attach(door.worker, number);
    tracing::info!(worker = attached.worker.name, "agent attached");
    let clock = AgentClock::at_hello(attached.hello.monotonic_us, door.ctx.now());
    let mut session = Session {
        door,
        held: HashMap::new(),
        late: HashMap::new(),
        builds: HashMap::new(),
        streams: HashMap::new(),
        progress: Progress::default(),
        clock,
    };
    let (write, read) = socket.split();
    let mut way = Way { write, read, mailbox, version: attached.hello.version };
    let way = session.welcome(&attached, number, &mut way).await.map(|()| way);
    Some(Box::new(Open { session, way, number }))
}

/// A session that is on record, until its end is.
struct Open {
    session: Session,
    /// Or why it ended before it could be used.
    way: Result<Way, &'static str>,
    number: u64,
}

impl Open {
    /// The connection goes first, as it does where it broke.
    async fn end(self: Box<Self>, reason: &'static str) {
        let Self { session, way, number } = *self;
        drop(way);
        let Door { ctx, worker, .. } = &session.door;
        ctx.switchboard.detach(*worker, number);
        tracing::debug!(%worker, reason, "an agent's session ended");
        let event = WorkerEvent::Detached { session: number.to_string() };
        if let Err(error) = crate::workers::apply(ctx, *worker, "worker.silent", &event, |_, _| {}).await {
            tracing::debug!(%error, %worker, "the end of a session could not be recorded");
        }
    }
}

/// What a session hears and speaks by.
struct Way {
    write: SplitSink<WebSocket, Message>,
    read: SplitStream<WebSocket>,
    mailbox: Mailbox,
    /// Of the protocol.
    version: u32,
}

/// An agent that takes nothing any more is cut off.
async fn send(write: &mut SplitSink<WebSocket, Message>, said: &ToAgent) -> Result<(), &'static str> {
    let message = Message::Text(encode(said).into());
    // What is forgotten nobody waits for: it goes with what is said next.
    let waits = matches!(said, ToAgent::Forget { .. });
    let sending = async { if waits { write.feed(message).await } else { write.send(message).await } };
    match tokio::time::timeout(QUIET, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("the connection broke"),
        Err(_) => Err("the agent takes nothing"),
    }
}

/// What an agent is told whose master makes room for another one.
fn goodbye(version: u32, away: Duration) -> Message {
    let for_s = away.as_secs_f64();
    let said = if version >= 2 { ToAgent::Away { for_s } } else { ToAgent::Hold { until_s: for_s } };
    Message::Text(encode(&said).into())
}

struct Session {
    door: Door,
    /// Finished and not forgotten.
    held: HashMap<CommandId, Outcome>,
    /// Finished while there was no connection; the rest of their output is still to come.
    late: HashMap<CommandId, Outcome>,
    /// Which build a command belongs to.
    builds: HashMap<CommandId, BuildId>,
    /// The logs that this agent's commands write: it may write no other.
    streams: HashMap<LogId, CommandId>,
    /// Where the log service says how far each stream is durable.
    progress: Progress,
    clock: AgentClock,
}

impl Session {
    /// Compares the agent's report with the record, and answers its hello.
    async fn welcome(
        &mut self,
        attached: &handshake::Attached,
        number: u64,
        way: &mut Way,
    ) -> Result<(), &'static str> {
        let (known, forget) = self.take_report(attached).await.map_err(|error| {
            tracing::warn!(%error, "an agent's report could not be compared with the record");
            "the store could not be read"
        })?;
        let welcome = handshake::welcome(&self.door, attached, number, known, forget);
        let said = way.write.send(Message::Text(encode(&welcome).into())).await;
        said.map_err(|_| "the connection broke")
    }

    /// Hears and obeys until the connection or its worker ends; answers why.
    async fn attend(&mut self, way: &mut Way) -> &'static str {
        let Way { write, read, mailbox, version } = way;
        // A driver that began before this session asked for a report in vain; one that begins later asks again.
        for build in self.builds.values() {
            self.report(*build);
            self.door.ctx.switchboard.to_driver(*build, ToDriver::Look);
        }
        self.door.ctx.switchboard.look_at_worker(self.door.worker);
        self.door.ctx.nudges.matching.notify_one();
        let mut beat = tokio::time::interval(HEARTBEAT);
        let mut heard = Instant::now();
        // What takes room while it lasts is boxed: this waits most of the time.
        loop {
            let said = tokio::select! {
                () = self.door.stop.cancelled() => {
                    Box::pin(self.leave(write, *version)).await;
                    return "the listener closed";
                }
                message = read.next() => {
                    heard = Instant::now();
                    let taken = match message {
                        Some(Ok(Message::Text(text))) => Box::pin(self.hear(&text)).await.map(|()| None),
                        Some(Ok(Message::Binary(bytes))) => {
                            let taken = Box::pin(self.take_in(bytes, write)).await;
                            // It may have said more meanwhile, which nobody has read yet.
                            heard = Instant::now();
                            taken
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return "the agent closed",
                    };
                    match taken {
                        Ok(Some(said)) => said,
                        Ok(None) => continue,
                        Err(reason) => {
                            let frame = CloseFrame { code: close::PROTOCOL, reason: reason.into() };
                            let _ = write.send(Message::Close(Some(frame))).await;
                            return reason;
                        }
                    }
                }
                message = mailbox.recv() => match message {
                    None => return "another session took over",
                    Some(message) => match self.obey(message) {
                        Some(said) => said,
                        None => continue,
                    },
                },
                (log, to) = self.progress.next() => ToAgent::Durable(Durable { stream: StreamId(log.0), to }),
                _ = beat.tick() => {
                    if heard.elapsed() > QUIET {
                        return "the agent was silent";
                    }
                    ToAgent::Heartbeat {}
                }
            };
            if let Err(reason) = Box::pin(send(write, &said)).await {
                return reason;
            }
        }
    }

    /// Says goodbye, as far as the agent listens.
    async fn leave(&self, write: &mut SplitSink<WebSocket, Message>, version: u32) {
        if let Some(away) = self.door.ctx.away.get() {
            let message = goodbye(version, *away);
            let _ = tokio::time::timeout(GOODBYE, write.send(message)).await;
        }
        let _ = tokio::time::timeout(GOODBYE, write.send(Message::Close(None))).await;
    }

    /// Takes output in. It may have to wait for room, for as long as a disk is full: meanwhile the agent hears that we are here.
    async fn take_in(
        &mut self,
        bytes: bytes::Bytes,
        write: &mut SplitSink<WebSocket, Message>,
    ) -> Result<Option<ToAgent>, &'static str> {
        let stop = self.door.stop.clone();
        let taken = {
            let taking = self.take_output(bytes);
            tokio::pin!(taking);
            loop {
                tokio::select! {
                    biased;
                    taken = &mut taking => break taken?,
                    () = stop.cancelled() => return Err("the listener closed"),
                    () = tokio::time::sleep(HEARTBEAT) => send(write, &ToAgent::Heartbeat {}).await?,
                }
            }
        };
        self.hand_over_late().await?;
        Ok(taken)
    }

    /// Compares what the agent has with what is on record: how far streams are known, and which commands are over.
    async fn take_report(
        &mut self,
        attached: &handshake::Attached,
    ) -> Result<(Vec<Durable>, Vec<CommandId>), crate::logs::LogError> {
        let ctx = &self.door.ctx;
        let (mut forget, mut rows) = (Vec::new(), Vec::new());
        for report in &attached.hello.commands {
            let row = ctx.store.command(rouse_model::CommandId(report.id.0)).await?;
            match row {
                Some(row) if row.state == RowState::Wanted && row.worker == self.door.worker => {
                    self.builds.insert(report.id, row.build);
                    self.streams.insert(row.log, report.id);
                    rows.push((report.id, row.build, row.step));
                    if let CommandState::Finished(outcome) = &report.state {
                        self.late.insert(report.id, (**outcome).clone().capped());
                    }
                }
                _ => forget.push(report.id),
            }
        }
        let known = |stream: &StreamReport| self.streams.contains_key(&LogId(stream.stream.0));
        if !attached.hello.streams.iter().all(known) {
            self.streams.extend(super::files_of(&ctx.store, &rows).await?);
        }
        let mut durable = Vec::new();
        for stream in &attached.hello.streams {
            let log = LogId(stream.stream.0);
            let to = match self.streams.contains_key(&log) {
                true => ctx.logs.resume(log, &self.progress).await?,
                false => None,
            };
            // A log that is closed, unknown or another worker's wants no more of it.
            durable.push(Durable { stream: stream.stream, to: to.unwrap_or(stream.to) });
        }
        // An outcome is believed once all of its output is here. Of what the agent does not have any more, nothing will come.
        let unsent = |id: StreamId| attached.hello.streams.iter().any(|s| s.stream == id && s.from < s.to);
        for (id, outcome) in std::mem::take(&mut self.late) {
            let comes = outcome.streams.iter().any(|end| unsent(end.stream));
            if comes && !self.has_all_of(&outcome).await? {
                self.late.insert(id, outcome);
            } else {
                self.held.insert(id, outcome);
            }
        }
        Ok((durable, forget))
    }

    /// Whether all output that an outcome speaks of has come in.
    async fn has_all_of(&self, outcome: &Outcome) -> Result<bool, crate::logs::LogError> {
        for end in &outcome.streams {
            if self.door.ctx.logs.received(LogId(end.stream.0)).await? < end.to {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Outcomes that came before their output, as far as that is here now.
    async fn hand_over_late(&mut self) -> Result<(), &'static str> {
        for (command, outcome) in std::mem::take(&mut self.late) {
            let whole = self.has_all_of(&outcome).await.map_err(|error| {
                tracing::warn!(%error, worker = %self.door.worker, "a log could not be looked at");
                "output could not be taken"
            })?;
            if !whole {
                self.late.insert(command, outcome);
            } else if let Some(build) = self.builds.get(&command) {
                self.held.insert(command, outcome.clone());
                let outcome = Box::new(outcome);
                self.door.ctx.switchboard.to_driver(*build, ToDriver::Finished { command, outcome });
            }
        }
        Ok(())
    }

    async fn hear(&mut self, text: &str) -> Result<(), &'static str> {
        let message = match decode_to_master(text) {
            Ok(message) => message,
            Err(error) => {
                self.door.refused("protocol", &crate::supervisor::chain(&error)).await;
                return Err("a message could not be read");
            }
        };
        match message {
            Some(ToMaster::Finished { command, outcome }) => {
                // What is not asked for is not kept: an agent cannot fill the master's memory.
                // What it said first holds: there is one outcome, and no flood of them.
                if self.held.contains_key(&command) {
                    return Ok(());
                }
                if let Some(build) = self.builds.get(&command) {
                    let outcome = Box::new(outcome.capped());
                    self.held.insert(command, (*outcome).clone());
                    self.door.ctx.switchboard.to_driver(*build, ToDriver::Finished { command, outcome });
                }
            }
            Some(ToMaster::Hello(_)) => return Err("a second hello"),
            // That a command has started, its outcome says as well.
            Some(ToMaster::Started { .. } | ToMaster::Drained {} | ToMaster::Heartbeat {}) | None => {}
        }
        Ok(())
    }

    async fn take_output(&mut self, bytes: bytes::Bytes) -> Result<Option<ToAgent>, &'static str> {
        let frame = match decode_frame(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                self.door.refused("protocol", &error.to_string()).await;
                return Err("a frame could not be read");
            }
        };
        let stream = frame.stream();
        if !self.streams.contains_key(&LogId(stream.0)) {
            return self.take_foreign(stream).await;
        }
        match self.door.ctx.logs.accept(LogId(stream.0), self.clock, frame).await {
            Ok(()) => Ok(None),
            // Closed, or never ours: the agent may drop what it has.
            Err(crate::logs::AcceptError::Closed { .. }) => {
                Ok(Some(ToAgent::Durable(Durable { stream, to: u64::MAX })))
            }
            Err(error @ crate::logs::AcceptError::Gap { .. }) => {
                self.door.refused("protocol", &error.to_string()).await;
                Err("output with a gap")
            }
            Err(error @ crate::logs::AcceptError::Damaged { .. }) => {
                self.door.refused("protocol", &error.to_string()).await;
                Err("output that does not unpack")
            }
            Err(error) => {
                tracing::warn!(%error, worker = %self.door.worker, "output could not be taken");
                Err("output could not be taken")
            }
        }
    }

    /// Output for a log that no command of this session writes: a late piece of one that is over, or somebody else's.
    async fn take_foreign(&self, stream: StreamId) -> Result<Option<ToAgent>, &'static str> {
        let store = &self.door.ctx.store;
        let owner = async {
            let Some(log) = store.log(LogId(stream.0)).await? else { return Ok(None) };
            Ok::<_, rouse_store::ReadError>(store.build(log.build).await?.and_then(|build| build.worker))
        };
        match owner.await {
            Ok(Some(owner)) if owner != self.door.worker => {
                self.door.refused("foreign_stream", "output for the log of another worker's build").await;
                Err("output for a log that is not this worker's")
            }
            Ok(_) => Ok(Some(ToAgent::Durable(Durable { stream, to: u64::MAX }))),
            Err(error) => {
                tracing::warn!(%error, worker = %self.door.worker, "a log's owner could not be read");
                Err("output could not be taken")
            }
        }
    }

    /// Repeats to a build's driver what is finished and not forgotten.
    fn report(&self, build: BuildId) {
        let of_build: BTreeMap<CommandId, &Outcome> = self
            .held
            .iter()
            .filter(|(id, _)| self.builds.get(id) == Some(&build))
            .map(|(id, outcome)| (*id, outcome))
            .collect();
        for (command, outcome) in of_build {
            let outcome = Box::new(outcome.clone());
            self.door.ctx.switchboard.to_driver(build, ToDriver::Finished { command, outcome });
        }
    }

    /// An agent that has nothing to do may be kept for long; a map that was emptied keeps its room.
    fn take_no_room(&mut self) {
        self.held.shrink_to_fit();
        self.late.shrink_to_fit();
        self.builds.shrink_to_fit();
        self.streams.shrink_to_fit();
    }

    /// Turns a wish into a message, where there is one to send.
    fn obey(&mut self, wish: ToSession) -> Option<ToAgent> {
        match wish {
            ToSession::Run(command) => {
                self.builds.insert(command.id, BuildId(command.build));
                for log in command.action.streams().into_iter().map(|stream| LogId(stream.0)) {
                    self.streams.insert(log, command.id);
                    self.door.ctx.logs.watch(log, &self.progress);
                }
                Some(ToAgent::Run { command })
            }
            ToSession::Stop { command, reason } => Some(ToAgent::Stop { command, reason }),
            ToSession::Forget(commands) => {
                for command in &commands {
                    self.held.remove(command);
                    self.late.remove(command);
                    self.builds.remove(command);
                }
                self.streams.retain(|_, command| !commands.contains(command));
                self.take_no_room();
                Some(ToAgent::Forget { commands })
            }
            ToSession::Durable { stream, to } => Some(ToAgent::Durable(Durable { stream, to })),
            ToSession::Report(build) => {
                self.report(build);
                None
            }
            ToSession::Drain { on } => Some(ToAgent::Drain { on }),
            ToSession::End { reason } => Some(ToAgent::End { reason }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room_for<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// It is what the runtime keeps for each connection, whatever the session does at the time.
    #[test]
    fn a_session_that_waits_takes_little_room() {
        let room = room_for(serve);
        assert!(room <= 2048, "{room} bytes");
    }
}
