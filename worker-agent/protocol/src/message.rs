//! Control messages: JSON objects with one key, the kind, each in one WebSocket text frame.
//!
//! Fields and kinds that a reader does not know are ignored, so that either side may learn new words first.

use serde::de::value::Error as ValueError;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Command, CommandId, Hidden, MAX_COMMANDS, MAX_CONTROL_BYTES, MAX_HELLO_TEXT, MAX_HELLO_WORDS,
    MAX_STREAMS, Outcome, StreamId,
};

/// What a master says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToAgent {
    /// The first frame of every connection.
    Challenge(Challenge),
    /// The answer to a hello that is accepted.
    Welcome(Box<Welcome>),
    /// The answer to one that is not; the master closes after it.
    Refused(Refused),
    /// Run this, unless its id is known already.
    Run {
        command: Box<Command>,
    },
    /// The outcomes are stored: drop all that is kept for these commands.
    Forget {
        commands: Vec<CommandId>,
    },
    /// The bytes before `to` are stored.
    Durable(Durable),
    /// Kill it by its ladder; the outcome will be `stopped`. A command that is unknown or over is left as it is.
    Stop {
        command: CommandId,
        reason: String,
    },
    /// On: run what is there, take no new command, say `drained` when nothing is left. Off: as before.
    Drain {
        on: bool,
    },
    /// Kill everything, exit with 0.
    End {
        reason: String,
    },
    /// The dead-man does not strike for so many seconds from now, whatever the expiry says; 0 takes that back.
    Hold {
        until_s: f64,
    },
    /// Since version 2. The master is about to be replaced: the dead-man does not strike for so many seconds, or until the next welcome, and
    /// the agent dials again without its usual pauses.
    Away {
        for_s: f64,
    },
    Heartbeat {},
}

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToMaster {
    /// The answer to the challenge.
    Hello(Box<Hello>),
    /// The process runs (or the transfer has begun). Not repeated after a reconnect: the hello says it.
    Started {
        command: CommandId,
        at_us: u64,
        wall_us: i64,
    },
    /// Sent after the last frame of the command's streams on this connection; repeated by every hello until forgotten.
    Finished {
        command: CommandId,
        outcome: Box<Outcome>,
    },
    /// Draining, and no command is left, running or unforgotten.
    Drained {},
    Heartbeat {},
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Challenge {
    /// The versions of the protocol that the master speaks.
    pub versions: Vec<u32>,
    /// Fresh random text, part of what the agent signs.
    pub nonce: String,
    pub installation: String,
    /// Compared in this order with the highest pair the agent has seen; a lower one is refused.
    pub store_epoch: i64,
    pub term: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The highest version that both speak.
    pub version: u32,
    /// Names this connection in the master's log.
    pub session: i64,
    pub store_epoch: i64,
    pub term: i64,
    /// Where the master's knowledge of each stream of the hello ends. A stream not named here starts at its `from`.
    #[serde(default)]
    pub durable: Vec<Durable>,
    /// Commands to run that the hello did not name.
    #[serde(default)]
    pub run: Vec<Command>,
    /// Commands of the hello that are over and stored.
    #[serde(default)]
    pub forget: Vec<CommandId>,
    #[serde(default)]
    pub drain: bool,
    /// Each side says something at least so often.
    pub heartbeat_s: f64,
    /// A side that heard nothing for so long takes the connection for dead.
    pub grace_s: f64,
    /// Dead-man: with no master heard for so long the agent kills everything and exits.
    pub expiry_s: f64,
    /// Most bytes that the agent keeps on disk for output that is not durable; past it it stops reading. Its own default if absent.
    #[serde(default)]
    pub spool_bytes: Option<u64>,
    /// The master takes packed frames. An agent that knows none goes on with plain ones.
    #[serde(default)]
    pub packed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    pub stream: StreamId,
    pub to: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub code: RefusalCode,
    /// For people.
    pub message: String,
    /// False: the agent exits (3). True: it tries again, at the next endpoint, with its usual pauses.
    pub retry: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The master does not speak the agent's version.
    Version,
    /// No such worker, or it is over.
    UnknownWorker,
    /// Not the token of this worker.
    BadToken,
    /// The token is bound to another key.
    TokenBound,
    /// The signature does not fit key and challenge.
    BadSignature,
    /// Another connection of the same worker with another incarnation is attached.
    OtherIncarnation,
    /// This master cannot serve the worker now; another one may.
    NotHere,
    /// Too many connections.
    Busy,
    /// The hello is malformed or beyond a cap.
    BadHello,
    /// A code of a later version.
    #[serde(other)]
    Other,
}

impl RefusalCode {
    /// The code as it stands on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::UnknownWorker => "unknown_worker",
            Self::BadToken => "bad_token",
            Self::TokenBound => "token_bound",
            Self::BadSignature => "bad_signature",
            Self::OtherIncarnation => "other_incarnation",
            Self::NotHere => "not_here",
            Self::Busy => "busy",
            Self::BadHello => "bad_hello",
            Self::Other => "other",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The one chosen from the challenge.
    pub version: u32,
    /// Name and version of the agent's program, for people.
    pub agent: String,
    pub os: String,
    pub arch: String,
    pub worker: String,
    pub worker_id: i64,
    /// Random for each process of the agent: commands live and die with it.
    pub incarnation: String,
    /// Ed25519, hex (64 digits).
    pub public_key: String,
    /// Over [`crate::signing_bytes`], hex (128 digits).
    pub signature: String,
    pub join_token: Hidden,
    /// The highest (store epoch, term) that welcomed the agent; at first the join document's epoch, and 0.
    pub epoch: i64,
    pub term: i64,
    /// What the agent can do beyond the core: `pty`, `put-range`, …
    #[serde(default)]
    pub features: Vec<String>,
    #[serde(default)]
    pub facts: Facts,
    /// The agent's clocks at this moment, µs: maps the times of frames to wall time.
    #[serde(default)]
    pub monotonic_us: u64,
    #[serde(default)]
    pub wall_us: i64,
    #[serde(default)]
    pub draining: bool,
    #[serde(default)]
    pub commands: Vec<CommandReport>,
    #[serde(default)]
    pub streams: Vec<StreamReport>,
}

impl Hello {
    /// What of it is beyond the caps, in words for the refusal.
    pub fn beyond_caps(&self) -> Option<String> {
        let facts = &self.facts;
        let counted = [
            ("commands", self.commands.len(), MAX_COMMANDS),
            ("streams", self.streams.len(), MAX_STREAMS),
            ("features", self.features.len(), MAX_HELLO_WORDS),
            ("tools", facts.tools.len(), MAX_HELLO_WORDS),
        ];
        let texts = [&self.agent, &self.os, &self.arch, &self.worker, &self.incarnation, &facts.hostname];
        let texts = texts.into_iter().chain(&self.features).chain(&facts.tools);
        let longest = texts.map(String::len).max().unwrap_or(0);
        let beyond = counted.into_iter().find(|(_, have, most)| have > most);
        beyond.map(|(what, have, most)| format!("the hello has {have} {what}, and may have {most}")).or_else(
            || {
                (longest > MAX_HELLO_TEXT).then(|| {
                    format!("a text of the hello has {longest} bytes, and may have {MAX_HELLO_TEXT}")
                })
            },
        )
    }
}

/// What the worker's machine is like, as the agent sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    pub cpus: u32,
    /// What the cgroup allows, or else the machine's.
    pub memory_bytes: u64,
    pub hostname: String,
    pub uid: u32,
    /// Of a short list of tools, those found in `PATH`.
    pub tools: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandReport {
    pub id: CommandId,
    pub state: CommandState,
}

/// An agent may say `running` of a command that is over, if its outcome would make the hello long; `finished` then follows the
/// welcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    Running {},
    Finished(Box<Outcome>),
}

/// The agent holds the bytes `[from, to)` of a stream; more may come if its command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    pub stream: StreamId,
    pub from: u64,
    pub to: u64,
}

#[derive(Debug, Error)]
pub enum DecodeError {
    #[error("control message of {0} bytes is longer than {MAX_CONTROL_BYTES}")]
    TooLong(usize),
    #[error("control message is malformed")]
    Malformed(#[source] serde_json::Error),
}

/// One control message as text.
pub fn encode<T: Serialize>(message: &T) -> String {
    serde_json::to_string(message)
        .expect("messages have string keys only, and serde_json writes every number")
}

/// What a master said; `None` for a kind that this version does not know.
pub fn decode_to_agent(text: &str) -> Result<Option<ToAgent>, DecodeError> {
    decode(text)
}

/// What an agent said; `None` for a kind that this version does not know.
pub fn decode_to_master(text: &str) -> Result<Option<ToMaster>, DecodeError> {
    decode(text)
}

/// The kinds of messages that a master sends, as they stand on the wire.
pub fn kinds_to_agent() -> &'static [&'static str] {
    kinds::<ToAgent>()
}

/// The kinds of messages that an agent sends.
pub fn kinds_to_master() -> &'static [&'static str] {
    kinds::<ToMaster>()
}

fn decode<T: DeserializeOwned>(text: &str) -> Result<Option<T>, DecodeError> {
    if text.len() > MAX_CONTROL_BYTES {
        return Err(DecodeError::TooLong(text.len()));
    }
    let error = match serde_json::from_str(text) {
        Ok(message) => return Ok(Some(message)),
        Err(error) => error,
    };
    match kind_of(text) {
        Some(kind) if !kinds::<T>().contains(&kind.as_str()) => Ok(None),
        _ => Err(DecodeError::Malformed(error)),
    }
}

/// The single key of the object, whatever its value.
fn kind_of(text: &str) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let mut keys = object.into_iter();
    let (kind, _) = keys.next()?;
    keys.next().is_none().then_some(kind)
}

/// The kinds of a message enum, asked of serde's own derived code so that there is one list only.
fn kinds<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Ask<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = ValueError;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ValueError> {
            Err(ValueError::custom("only an enum is asked"))
        }
        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            variants: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, ValueError> {
            *self.0 = variants;
            Err(ValueError::custom("only the names were wanted"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }
    let mut kinds: &'static [&'static str] = &[];
    let _ = T::deserialize(Ask(&mut kinds));
    kinds
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unknown_kinds_and_fields_are_ignored() {
        assert!(matches!(decode_to_agent(r#"{"sing":{"song":1}}"#), Ok(None)));
        let known = decode_to_agent(r#"{"durable":{"stream":4,"to":9,"mood":"good"}}"#).unwrap();
        assert_eq!(known, Some(ToAgent::Durable(Durable { stream: StreamId(4), to: 9 })));
        assert_eq!(decode_to_master(r#"{"heartbeat":{"x":1}}"#).unwrap(), Some(ToMaster::Heartbeat {}));
    }

    #[test]
    fn a_known_kind_that_is_malformed_is_an_error() {
        for text in [r#"{"durable":{"stream":"x"}}"#, r#"{"a":1,"b":2}"#, "[]", "", "{", "{}", "7"] {
            assert!(matches!(decode_to_agent(text), Err(DecodeError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn messages_read_as_one_key_with_an_object() {
        assert_eq!(encode(&ToMaster::Heartbeat {}), r#"{"heartbeat":{}}"#);
        assert_eq!(
            encode(&ToAgent::Stop { command: CommandId(5), reason: "cancelled".into() }),
            r#"{"stop":{"command":5,"reason":"cancelled"}}"#
        );
    }

    #[test]
    fn an_unknown_refusal_code_is_kept_as_other() {
        let text = r#"{"refused":{"code":"full_moon","message":"no","retry":true}}"#;
        let Some(ToAgent::Refused(refused)) = decode_to_agent(text).unwrap() else { panic!("not refused") };
        assert_eq!(refused.code, RefusalCode::Other);
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = r#"{"run":{"command":{"id":1,"epoch":1,"build":1,"step":1,"seq":1,"masks":["hunter2"],"action":{"run":
            {"program":{"argv":["true"]},"env":{"PW":"hunter2"},"stream":1}}}}}"#;
        let message = decode_to_agent(text).unwrap().unwrap();
        assert!(!format!("{message:?}").contains("hunter2"));
        assert!(encode(&message).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "\\PC{0,60}") {
            let _ = decode_to_agent(&text);
            let _ = decode_to_master(&text);
        }
    }
}
