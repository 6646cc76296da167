//! Who is there: challenge, hello, and the checks that bind a join token to one key and one worker.

use super::doors::{Door, Entry};
use super::guard::Stranger;
use super::{HEARTBEAT, QUIET};
use axum::extract::ws::{Message, WebSocket};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use rouse_agent_protocol::{
    Challenge, Durable, Hello, MAX_CONNECTIONS, MAX_HELLO_SECONDS, RefusalCode, Refused, ToAgent, ToMaster,
    VERSIONS, Welcome, close, decode_to_master, encode, signing_bytes,
};
use rouse_model::WorkerId;
use rouse_model::worker::{Wanted, Worker, WorkerEvent};
use std::time::Duration;

/// How long a connection may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(MAX_HELLO_SECONDS);

/// What a challenge says that is not one worker's yet. Every reader of JSON keeps it whole.
const HIGHEST_TERM: i64 = (1 << 53) - 1;

/// Somebody who proved to be the worker's agent.
#[derive(Debug)]
pub(super) struct Attached {
    pub door: Door,
    pub worker: Worker,
    pub hello: Hello,
}

/// Why a connection did not become a session.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the connection ended or was silent before its hello")]
    Silent,
    #[error("refused: {}", .0.message)]
    Refused(Refused),
    /// The agent would have none of this master.
    #[error("the agent closed with {0}: {why}", why = declined(*.0))]
    Declined(u16),
    #[error("the agent's hello could not be recorded")]
    Record(#[from] crate::workers::WorkerError),
    #[error("the worker could not be read")]
    Read(#[from] rouse_store::ReadError),
    #[error("send to the agent")]
    Send(#[from] axum::Error),
}

fn declined(code: u16) -> &'static str {
    match code {
        close::OLDER_MASTER => "it has seen a master of a higher store epoch or term than this one",
        close::NO_COMMON_VERSION => "it does not speak this master's version of the protocol",
        close::WRONG_INSTALLATION => "it belongs to another installation",
        close::PROTOCOL => "it takes this master's messages for faulty",
        _ => "no reason that is known",
    }
}

fn refuse(code: RefusalCode, message: impl Into<String>, retry: bool) -> HandshakeError {
    HandshakeError::Refused(Refused { code, message: message.into(), retry })
}

/// Challenge and hello; on success the worker's row says that it is attached under this session. What was refused is said where a person
/// looks.
pub(super) async fn greet(
    entry: &Entry,
    socket: &mut WebSocket,
    session: u64,
    stranger: &Stranger,
) -> Result<Attached, HandshakeError> {
    let mut door = None;
    let met = meet(entry, socket, session, stranger, &mut door).await;
    let (code, message) = match &met {
        Err(HandshakeError::Refused(refused)) => (refused.code.word(), refused.message.clone()),
        Err(error @ HandshakeError::Declined(_)) => ("declined", error.to_string()),
        Ok(_) | Err(_) => return met,
    };
    match &door {
        Some(door) => door.refused(code, &message).await,
        None => entry.refused(code, &message).await,
    }
    met
}

/// `at` becomes the door of the worker that the hello is for, as soon as one is named that has a door.
async fn meet(
    entry: &Entry,
    socket: &mut WebSocket,
    session: u64,
    stranger: &Stranger,
    at: &mut Option<Door>,
) -> Result<Attached, HandshakeError> {
    let facts = entry.ctx().store.facts();
    let term = match entry {
        Entry::One(door) => owned(door).await?.term,
        // Not known before somebody has said which worker's: the welcome says it, and is judged by it.
        Entry::Any { .. } => HIGHEST_TERM,
    };
    let challenge = Challenge {
        versions: VERSIONS.to_vec(),
        nonce: hex::encode(rand::random::<[u8; 32]>()),
        installation: facts.installation.clone(),
        store_epoch: facts.store_epoch,
        term,
    };
    socket.send(Message::Text(encode(&ToAgent::Challenge(challenge.clone())).into())).await?;
    let hello =
        tokio::time::timeout(PATIENCE, hear_hello(socket)).await.map_err(|_| HandshakeError::Silent)??;
    let named = WorkerId(hello.worker_id);
    let door = match entry.door(named).await? {
        Some(door) => at.insert(door).clone(),
        None => return Err(elsewhere(entry, named).await?),
    };
    let worker = check(&door, &hello, &challenge).await?;
    if !stranger.is_of(&door.guard) {
        return Err(refuse(RefusalCode::Busy, too_many(), true));
    }
    super::doors::remove_join_document(entry, &worker).await;
    let event =
        WorkerEvent::Attached { session: session.to_string(), incarnation: hello.incarnation.clone() };
    let facts_text =
        serde_json::to_string(&Known { facts: &hello.facts, features: &hello.features }).unwrap_or_default();
    let applied = crate::workers::apply(&door.ctx, door.worker, "worker.attach", &event, |next, _| {
        next.agent_key = Some(hello.public_key.clone());
        next.facts = Some(facts_text.clone());
    })
    .await
    .map_err(|error| match error {
        crate::workers::WorkerError::Conflict { reason, .. } => {
            refuse(RefusalCode::UnknownWorker, reason, false)
        }
        other => other.into(),
    })?;
    if applied.changed && worker.attached.is_none() {
        door.ctx.metrics.attached(&applied.worker);
    }
    Ok(Attached { door, worker: applied.worker, hello })
}

pub(super) fn too_many() -> String {
    format!("more than {MAX_CONNECTIONS} connections at a time")
}

/// A worker that is somebody's is not sent away for good.
async fn elsewhere(entry: &Entry, worker: WorkerId) -> Result<HandshakeError, rouse_store::ReadError> {
    let ctx = entry.ctx();
    let of_another = ctx.store.worker(worker).await?.is_some_and(|w| w.gone.is_none() && w.master != ctx.me);
    Ok(match (of_another, entry) {
        (true, Entry::Any { .. }) => {
            refuse(RefusalCode::NotHere, "another master has this worker; try again", true)
        }
        _ => unknown(),
    })
}

fn unknown() -> HandshakeError {
    refuse(RefusalCode::UnknownWorker, "no such worker here", false)
}

/// The worker's row, as long as this master owns it.
async fn owned(door: &Door) -> Result<Worker, HandshakeError> {
    let worker = door.ctx.store.worker(door.worker).await?.ok_or_else(unknown)?;
    if worker.master == door.ctx.me {
        Ok(worker)
    } else {
        Err(refuse(RefusalCode::NotHere, "another master has taken this worker over", true))
    }
}

async fn hear_hello(socket: &mut WebSocket) -> Result<Hello, HandshakeError> {
    loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => match decode_to_master(&text) {
                Ok(Some(ToMaster::Hello(hello))) => return Ok(*hello),
                Ok(_) => {}
                Err(error) => return Err(refuse(RefusalCode::BadHello, error.to_string(), false)),
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(Some(frame)))) if (4000..4004).contains(&frame.code) => {
                return Err(HandshakeError::Declined(frame.code));
            }
            Some(Ok(Message::Binary(_) | Message::Close(_)) | Err(_)) | None => {
                return Err(HandshakeError::Silent);
            }
        }
    }
}

async fn check(door: &Door, hello: &Hello, challenge: &Challenge) -> Result<Worker, HandshakeError> {
    let ctx = &door.ctx;
    if !VERSIONS.contains(&hello.version) {
        let message = format!("this master speaks versions {VERSIONS:?} of the protocol");
        return Err(refuse(RefusalCode::Version, message, false));
    }
    if let Some(why) = hello.beyond_caps() {
        return Err(refuse(RefusalCode::BadHello, why, false));
    }
    let worker = owned(door).await?;
    if hello.worker_id != worker.id.0 || hello.worker != worker.name {
        return Err(unknown());
    }
    let facts = ctx.store.facts();
    let token = hello.join_token.reveal();
    if !ctx.key.is_join_token(facts, &worker, token) {
        return Err(refuse(RefusalCode::BadToken, "not this worker's token", false));
    }
    let signed = signing_bytes(hello.version, challenge, &worker.name, &hello.incarnation);
    if !is_signed(hello, &signed) {
        return Err(refuse(RefusalCode::BadSignature, "the signature does not fit the key", false));
    }
    if worker.agent_key.as_ref().is_some_and(|key| *key != hello.public_key) {
        tracing::error!(
            worker = worker.name,
            "a second key presented this worker's join token; somebody has copied it"
        );
        return Err(refuse(RefusalCode::TokenBound, "the token is bound to another key", false));
    }
    Ok(worker)
}

fn is_signed(hello: &Hello, bytes: &[u8]) -> bool {
    let key = hex::decode(&hello.public_key).ok().and_then(|k| <[u8; 32]>::try_from(k).ok());
    let signature = hex::decode(&hello.signature).ok().and_then(|s| <[u8; 64]>::try_from(s).ok());
    let (Some(key), Some(signature)) = (key, signature) else { return false };
    VerifyingKey::from_bytes(&key)
        .is_ok_and(|key| key.verify(bytes, &Signature::from_bytes(&signature)).is_ok())
}

/// What stands in a worker's row of what its agent says of itself.
#[derive(serde::Serialize)]
struct Known<'a> {
    #[serde(flatten)]
    facts: &'a rouse_agent_protocol::Facts,
    features: &'a [String],
}

/// The answer to an accepted hello.
pub(super) fn welcome(
    door: &Door,
    attached: &Attached,
    session: u64,
    durable: Vec<Durable>,
    forget: Vec<rouse_agent_protocol::CommandId>,
) -> ToAgent {
    let facts = door.ctx.store.facts();
    ToAgent::Welcome(Box::new(Welcome {
        version: attached.hello.version,
        session: i64::try_from(session).unwrap_or(i64::MAX),
        store_epoch: facts.store_epoch,
        term: attached.worker.term,
        durable,
        // Commands to run come from their builds' drivers, once they know of this session.
        run: vec![],
        forget,
        drain: matches!(attached.worker.wanted, Wanted::Drain { .. }),
        heartbeat_s: HEARTBEAT.as_secs_f64(),
        grace_s: QUIET.as_secs_f64(),
        expiry_s: rouse_model::worker::DEAD_MAN.as_secs_f64(),
        spool_bytes: None,
        packed: true,
    }))
}
