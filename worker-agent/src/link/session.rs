//! One connection: challenge, hello, welcome, and then both directions at once until it breaks.

use std::io;
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use rouse_agent_protocol::{
    Challenge, DecodeError, Endpoint, LINK_PATH, MAX_CONTROL_BYTES, MAX_FRAME_BYTES, Refused, ToAgent,
    ToMaster, VERSIONS, Welcome, close, decode_to_agent, encode,
};
use thiserror::Error;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::Link;
use super::connect::{ConnectError, Stream, connect};
use super::identity::Standing;
use super::packer::Packer;
use crate::clock::duration;
use crate::state::Say;

/// For each step until the welcome; a master may ask its store before it answers.
const PATIENCE: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<Stream>;

/// Why a connection is over.
#[derive(Debug, Error)]
pub enum SessionError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the link broke: {0}")]
    Socket(#[from] WsError),
    #[error("the master closed the link")]
    Closed,
    #[error("the master was silent for {0:?}")]
    Silent(Duration),
    #[error("the master said something that cannot be understood: {0}")]
    Malformed(#[from] DecodeError),
    #[error("the master spoke out of turn")]
    OutOfTurn,
    #[error("the master is of installation {got}, this worker of {own}")]
    WrongInstallation { own: String, got: String },
    #[error("the master is older (store epoch, term) than one seen before: {got:?} < {seen:?}")]
    OlderMaster { seen: (i64, i64), got: (i64, i64) },
    #[error("the master speaks versions {0:?} of the protocol, this agent {VERSIONS:?}")]
    NoCommonVersion(Vec<u32>),
    #[error("the master refused: {}", .0.message)]
    Refused(Refused),
    #[error("spooled output cannot be read back: {0}")]
    Spool(#[source] io::Error),
}

impl SessionError {
    /// How the master is told.
    fn close_code(&self) -> Option<u16> {
        match self {
            Self::Malformed(_) | Self::OutOfTurn => Some(close::PROTOCOL),
            Self::WrongInstallation { .. } => Some(close::WRONG_INSTALLATION),
            Self::OlderMaster { .. } => Some(close::OLDER_MASTER),
            Self::NoCommonVersion(_) => Some(close::NO_COMMON_VERSION),
            _ => None,
        }
    }
}

impl Link {
    /// Attend one connection. Returns the reason when the master said `end`.
    pub(super) async fn session(&mut self, endpoint: &Endpoint) -> Result<String, SessionError> {
        let stream = connect(endpoint).await?;
        // Small buffers: a read buffer is filled with zeroes at each read, and what is written is at hand in large pieces anyway.
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(64 * 1024)
            .max_write_buffer_size(4 * MAX_FRAME_BYTES)
            .max_message_size(Some(MAX_CONTROL_BYTES))
            .max_frame_size(Some(MAX_CONTROL_BYTES));
        let request = format!("ws://rouse{LINK_PATH}");
        let handshake = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        let (socket, _) =
            timeout(PATIENCE, handshake).await.map_err(|_| SessionError::Silent(PATIENCE))??;
        let (mut sink, mut stream) = socket.split();
        let result = self.attend(&mut sink, &mut stream).await;
        let farewell = match &result {
            Ok(_) => Some((close::ENDING, "ending".to_owned())),
            Err(error) => error.close_code().map(|code| (code, error.to_string())),
        };
        if let Some((code, reason)) = farewell {
            // A close frame holds 123 bytes of reason.
            let reason: String = reason.chars().filter(char::is_ascii).take(120).collect();
            let message = Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }));
            // It may be broken already, or full.
            let _ = timeout(Duration::from_millis(500), sink.send(message)).await;
        }
        result
    }

    async fn attend(
        &mut self,
        sink: &mut SplitSink<Socket, Message>,
        stream: &mut SplitStream<Socket>,
    ) -> Result<String, SessionError> {
        let ToAgent::Challenge(challenge) = hear(stream, PATIENCE).await? else {
            return Err(SessionError::OutOfTurn);
        };
        let version = self.check(&challenge)?;
        let standing = {
            let mut state = self.shared.lock();
            let commands = state.report();
            Standing { seen: self.seen, draining: state.draining(), commands, streams: state.spool.reports() }
        };
        let hello = ToMaster::Hello(Box::new(self.identity.hello(version, &challenge, standing)));
        timeout(PATIENCE, sink.send(text(&hello))).await.map_err(|_| SessionError::Silent(PATIENCE))??;
        let welcome = match hear(stream, PATIENCE).await? {
            ToAgent::Welcome(welcome) => *welcome,
            ToAgent::Refused(refused) => return Err(SessionError::Refused(refused)),
            _ => return Err(SessionError::OutOfTurn),
        };
        let (heartbeat, grace) = (duration(welcome.heartbeat_s), duration(welcome.grace_s));
        self.accept(welcome)?;
        tokio::select! {
            ended = self.listen(stream, grace) => ended,
            broken = self.speak(sink, heartbeat) => Err(broken),
        }
    }

    /// Whether it may be our master; the version to speak with it.
    fn check(&self, challenge: &Challenge) -> Result<u32, SessionError> {
        let own = &self.identity.installation;
        if challenge.installation != *own {
            return Err(SessionError::WrongInstallation {
                own: own.clone(),
                got: challenge.installation.clone(),
            });
        }
        self.check_age((challenge.store_epoch, challenge.term))?;
        let common = VERSIONS.into_iter().find(|version| challenge.versions.contains(version));
        common.ok_or_else(|| SessionError::NoCommonVersion(challenge.versions.clone()))
    }

    fn check_age(&self, got: (i64, i64)) -> Result<(), SessionError> {
        if got < self.seen { Err(SessionError::OlderMaster { seen: self.seen, got }) } else { Ok(()) }
    }

    /// Bring everything to where the welcome says it is.
    fn accept(&mut self, welcome: Welcome) -> Result<(), SessionError> {
        let age = (welcome.store_epoch, welcome.term);
        self.check_age(age)?;
        self.seen = age;
        self.welcomed = true;
        self.dead_man.heard();
        self.dead_man.set_expiry(duration(welcome.expiry_s));
        if self.away.replace(false) {
            self.dead_man.hold(Duration::ZERO);
        }
        self.shared.update(|state| {
            for durable in &welcome.durable {
                state.durable(durable.stream, durable.to);
            }
            state.set_disk_bytes(welcome.spool_bytes);
            state.spool.set_packed(welcome.packed);
            state.drain(welcome.drain);
            state.forget(&welcome.forget);
        });
        for command in welcome.run {
            self.runner.run(command);
        }
        Ok(())
    }

    /// Everything the master says, until the link breaks or the master says `end`.
    async fn listen(
        &self,
        stream: &mut SplitStream<Socket>,
        grace: Duration,
    ) -> Result<String, SessionError> {
        loop {
            let message = match timeout(grace, stream.next()).await {
                Err(_) => return Err(SessionError::Silent(grace)),
                Ok(None) => return Err(SessionError::Closed),
                Ok(Some(message)) => message?,
            };
            self.dead_man.heard();
            match message {
                Message::Text(text) => match decode_to_agent(&text)? {
                    Some(ToAgent::End { reason }) => return Ok(reason),
                    Some(told) => self.obey(told)?,
                    None => {}
                },
                Message::Close(_) => return Err(SessionError::Closed),
                // No kind of binary frame goes this way yet; pings are answered below us.
                _ => {}
            }
        }
    }

    fn obey(&self, told: ToAgent) -> Result<(), SessionError> {
        match told {
            ToAgent::Run { command } => self.runner.run(*command),
            ToAgent::Forget { commands } => self.shared.update(|state| state.forget(&commands)),
            ToAgent::Durable(durable) => {
                self.shared.update(|state| state.durable(durable.stream, durable.to))
            }
            ToAgent::Stop { command, reason } => self.shared.lock().stop(command, reason),
            ToAgent::Drain { on } => self.shared.update(|state| state.drain(on)),
            ToAgent::Hold { until_s } => self.dead_man.hold(duration(until_s)),
            ToAgent::Away { for_s } => {
                self.away.set(true);
                self.dead_man.hold(duration(for_s));
            }
            ToAgent::Heartbeat {} | ToAgent::End { .. } => {}
            ToAgent::Challenge(_) | ToAgent::Welcome(_) | ToAgent::Refused(_) => {
                return Err(SessionError::OutOfTurn);
            }
        }
        Ok(())
    }

    /// Everything there is to say, and a heartbeat when there was nothing.
    async fn speak(&self, sink: &mut SplitSink<Socket, Message>, heartbeat: Duration) -> SessionError {
        let mut spoke = Instant::now();
        let mut packer = Packer::default();
        loop {
            let next = self.shared.lock().next();
            let message = match next {
                Ok(Some(Say::Control(message))) => text(&message),
                Ok(Some(Say::Output(output))) => Message::Binary(packer.frame(output)),
                Ok(None) => {
                    if let Err(error) = sink.flush().await {
                        return error.into();
                    }
                    tokio::select! {
                        () = self.shared.changed.notified() => continue,
                        () = tokio::time::sleep_until(spoke + heartbeat) => text(&ToMaster::Heartbeat {}),
                    }
                }
                Err(error) => return SessionError::Spool(error),
            };
            spoke = Instant::now();
            if let Err(error) = sink.feed(message).await {
                return error.into();
            }
        }
    }
}

fn text(message: &ToMaster) -> Message {
    Message::Text(encode(message).into())
}

/// The next control message that is understood.
async fn hear(stream: &mut SplitStream<Socket>, patience: Duration) -> Result<ToAgent, SessionError> {
    loop {
        let message = timeout(patience, stream.next()).await.map_err(|_| SessionError::Silent(patience))?;
        match message.ok_or(SessionError::Closed)?? {
            Message::Text(text) => {
                if let Some(told) = decode_to_agent(&text)? {
                    return Ok(told);
                }
            }
            Message::Close(_) => return Err(SessionError::Closed),
            _ => {}
        }
    }
}
