//! Who is there: challenge, hello, and the checks that bind a join token to one key and one worker.

use super::{HEARTBEAT, QUIET, listener::Door};
use axum::extract::ws::{Message, WebSocket};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use rouse_agent_protocol::{
    Challenge, Durable, Hello, RefusalCode, Refused, ToAgent, ToMaster, VERSION, Welcome, decode_to_master,
    encode, signing_bytes,
};
use rouse_model::worker::{Wanted, Worker, WorkerEvent};
use std::time::Duration;

/// How long a connection may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody who proved to be the worker's agent.
#[derive(Debug)]
pub(super) struct Attached {
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
    #[error("the agent's hello could not be recorded")]
    Record(#[from] crate::workers::WorkerError),
    #[error("the worker could not be read")]
    Read(#[from] rouse_store::ReadError),
    #[error("send to the agent")]
    Send(#[from] axum::Error),
}

fn refuse(code: RefusalCode, message: impl Into<String>, retry: bool) -> HandshakeError {
    HandshakeError::Refused(Refused { code, message: message.into(), retry })
}

/// Challenge and hello; on success the worker's row says that it is attached under this session.
pub(super) async fn greet(
    door: &Door,
    socket: &mut WebSocket,
    session: u64,
) -> Result<Attached, HandshakeError> {
    let facts = door.ctx.store.facts();
    let term = owned(door).await?.term;
    let nonce = hex::encode(rand::random::<[u8; 32]>());
    let challenge = Challenge {
        versions: vec![VERSION],
        nonce: nonce.clone(),
        installation: facts.installation.clone(),
        store_epoch: facts.store_epoch,
        term,
    };
    socket.send(Message::Text(encode(&ToAgent::Challenge(challenge)).into())).await?;
    let hello =
        tokio::time::timeout(PATIENCE, hear_hello(socket)).await.map_err(|_| HandshakeError::Silent)??;
    check(door, &hello, &nonce).await?;
    let event =
        WorkerEvent::Attached { session: session.to_string(), incarnation: hello.incarnation.clone() };
    let facts_text = serde_json::to_string(&hello.facts).unwrap_or_default();
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
    Ok(Attached { worker: applied.worker, hello })
}

/// The worker's row, as long as this master owns it.
async fn owned(door: &Door) -> Result<Worker, HandshakeError> {
    let unknown = || refuse(RefusalCode::UnknownWorker, "no such worker here", false);
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
            Some(Ok(Message::Binary(_) | Message::Close(_)) | Err(_)) | None => {
                return Err(HandshakeError::Silent);
            }
        }
    }
}

async fn check(door: &Door, hello: &Hello, nonce: &str) -> Result<(), HandshakeError> {
    let ctx = &door.ctx;
    if hello.version != VERSION {
        return Err(refuse(RefusalCode::Version, format!("this master speaks version {VERSION}"), false));
    }
    let unknown = || refuse(RefusalCode::UnknownWorker, "no such worker here", false);
    let worker = owned(door).await?;
    if hello.worker_id != worker.id.0 || hello.worker != worker.name {
        return Err(unknown());
    }
    let facts = ctx.store.facts();
    let token = hello.join_token.reveal();
    if !ctx.key.is_join_token(&facts.installation, facts.store_epoch, worker.id, worker.attempt, token) {
        return Err(refuse(RefusalCode::BadToken, "not this worker's token", false));
    }
    let signed = signing_bytes(nonce, &facts.installation, &worker.name, &hello.incarnation);
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
    Ok(())
}

fn is_signed(hello: &Hello, bytes: &[u8]) -> bool {
    let key = hex::decode(&hello.public_key).ok().and_then(|k| <[u8; 32]>::try_from(k).ok());
    let signature = hex::decode(&hello.signature).ok().and_then(|s| <[u8; 64]>::try_from(s).ok());
    let (Some(key), Some(signature)) = (key, signature) else { return false };
    VerifyingKey::from_bytes(&key)
        .is_ok_and(|key| key.verify(bytes, &Signature::from_bytes(&signature)).is_ok())
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
        version: VERSION,
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
    }))
}
