//! Enrolled machines: who one is, and the way of calls to it and of its answers. They come to the listener for many, beside workers' agents.

use super::doors::Entry;
use super::guard::{Guard, Stranger};
use crate::ctx::Ctx;
use crate::machines::{end_workers, tell};
use axum::extract::ws::{Message, WebSocket};
use axum::extract::{ConnectInfo, State, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use rouse_provider_enrolled::wire::{self, Hello, ToMachine, ToMaster};
use rouse_provider_enrolled::{Connected, Numbered};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a connection may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(wire::HEARTBEAT_S);
const QUIET: Duration = Duration::from_secs(wire::QUIET_S);

/// Why a machine is not let in, or not any longer.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("it said nothing of use")]
    Silent,
    #[error("{message}")]
    Refused { message: String, retry: bool },
    #[error("its connection broke")]
    Broke,
    #[error("the same machine has come again")]
    Replaced,
    #[error("this master stops")]
    Stopping,
    #[error("read its enrolment")]
    Read(#[from] rouse_store::ReadError),
}

fn refuse(message: impl Into<String>, retry: bool) -> Ended {
    Ended::Refused { message: message.into(), retry }
}

pub(super) async fn upgrade(
    State(entry): State<Entry>,
    ConnectInfo(stranger): ConnectInfo<Stranger>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Entry::Any { doors, .. } = &entry else { return StatusCode::NOT_FOUND.into_response() };
    let stop = doors.stop();
    upgrade
        .max_message_size(wire::MAX_BYTES)
        .max_frame_size(wire::MAX_BYTES)
        .on_upgrade(move |socket| serve(entry, socket, stranger, stop))
}

async fn serve(entry: Entry, mut socket: WebSocket, stranger: Stranger, stop: CancellationToken) {
    let ctx = entry.ctx();
    let met = tokio::time::timeout(PATIENCE, meet(ctx, &mut socket)).await.unwrap_or(Err(Ended::Silent));
    let met = match met {
        Ok(met) if stranger.is_of(&Guard::new(None)) => met,
        Ok(_) => return,
        Err(ended) => return turn_away(&entry, socket, &ended).await,
    };
    let Hello { account, name, incarnation, system, .. } = &met.hello;
    let connected = match ctx.machines.attach(account, name, incarnation, system, met.open) {
        Ok(connected) => connected,
        Err(error) => {
            // Two with one key: the second has copied it, or the first is not dead yet.
            say(ctx, &met.hello, "refused", &error.to_string()).await;
            return turn_away(&entry, socket, &refuse(error.to_string(), true)).await;
        }
    };
    let session = connected.session;
    say(ctx, &met.hello, "connected", system).await;
    ctx.nudges.fleet.notify_one();
    let (mut sink, stream) = socket.split();
    let ended = attend(ctx, &met, connected, &mut sink, stream, &stop).await;
    if let Ended::Refused { .. } = &ended {
        farewell(&mut sink, &ended).await;
    }
    ctx.machines.detach(account, name, session);
    if !matches!(ended, Ended::Replaced) {
        say(ctx, &met.hello, "away", &crate::supervisor::chain(&ended)).await;
    }
}

/// Puts it where a person looks.
async fn say(ctx: &Ctx, hello: &Hello, what: &str, message: &str) {
    tracing::info!(account = hello.account, machine = hello.name, message, "an enrolled machine is {what}");
    if let Err(error) = tell(ctx, &hello.account, &hello.name, what, message).await {
        tracing::warn!(
            error = crate::supervisor::chain(&error),
            "what became of a machine could not be recorded"
        );
    }
}

async fn turn_away(entry: &Entry, socket: WebSocket, ended: &Ended) {
    if let Ended::Refused { message, .. } = ended {
        entry.refused("machine", message).await;
        let (mut sink, _) = socket.split();
        farewell(&mut sink, ended).await;
    }
}

async fn farewell(sink: &mut SplitSink<WebSocket, Message>, ended: &Ended) {
    if let Ended::Refused { message, retry } = ended {
        let refused = ToMachine::Refused { message: message.clone(), retry: *retry };
        // It may have gone already.
        let _ = sink.send(text(&refused)).await;
        let _ = sink.close().await;
    }
}

fn text(message: &ToMachine) -> Message {
    // Of strings, numbers and maps with strings as keys: it cannot fail.
    Message::Text(serde_json::to_string(message).unwrap_or_default().into())
}

/// Who has proved to be a machine of ours.
struct Met {
    hello: Hello,
    /// With which it did; its name may be given to another one later.
    key: String,
    /// May be launched on.
    open: bool,
}

/// Challenge and hello: whoever holds the key that was enrolled under this name.
async fn meet(ctx: &Ctx, socket: &mut WebSocket) -> Result<Met, Ended> {
    let nonce = hex::encode(rand::random::<[u8; 32]>());
    let installation = ctx.store.facts().installation.clone();
    let challenge = ToMachine::Challenge { nonce: nonce.clone(), installation: installation.clone() };
    socket.send(text(&challenge)).await.map_err(|_| Ended::Broke)?;
    let hello = loop {
        match socket.recv().await {
            Some(Ok(Message::Text(said))) => match serde_json::from_str(&said) {
                Ok(ToMaster::Hello(hello)) => break hello,
                Ok(_) => {}
                Err(error) => return Err(refuse(format!("the hello cannot be understood: {error}"), false)),
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return Err(Ended::Silent),
        }
    };
    if hello.version != wire::VERSION {
        return Err(refuse(format!("this master speaks version {} with machines", wire::VERSION), false));
    }
    let unknown = || refuse("no such machine is enrolled here with this key", false);
    let enrolment = ctx.store.enrolment(&hello.account, &hello.name).await?.ok_or_else(unknown)?;
    if !is_signed(&enrolment.public_key, &hello, &wire::signing_bytes(&nonce, &installation, &hello)) {
        return Err(unknown());
    }
    let mut met = Met { hello, key: enrolment.public_key, open: true };
    met.open = may_stay(ctx, &met).await?;
    socket.send(text(&ToMachine::Welcome {})).await.map_err(|_| Ended::Broke)?;
    Ok(met)
}

fn is_signed(key: &str, hello: &Hello, bytes: &[u8]) -> bool {
    let key = hex::decode(key).ok().and_then(|k| <[u8; 32]>::try_from(k).ok());
    let signature = hex::decode(&hello.signature).ok().and_then(|s| <[u8; 64]>::try_from(s).ok());
    let (Some(key), Some(signature)) = (key, signature) else { return false };
    VerifyingKey::from_bytes(&key)
        .is_ok_and(|key| key.verify(bytes, &Signature::from_bytes(&signature)).is_ok())
}

/// Calls there and answers back, until one side has had enough.
async fn attend(
    ctx: &Ctx,
    met: &Met,
    mut connected: Connected,
    sink: &mut SplitSink<WebSocket, Message>,
    mut stream: futures::stream::SplitStream<WebSocket>,
    stop: &CancellationToken,
) -> Ended {
    let mut beat = tokio::time::interval(HEARTBEAT);
    let mut heard = Instant::now();
    loop {
        let say = tokio::select! {
            () = stop.cancelled() => return Ended::Stopping,
            call = connected.calls.recv() => match call {
                Some(Numbered { id, call }) => ToMachine::Call { id, call: Box::new(call) },
                None => return Ended::Replaced,
            },
            said = stream.next() => {
                heard = Instant::now();
                match said {
                    Some(Ok(Message::Text(said))) => {
                        if let Err(ended) = hear(ctx, &met.hello, connected.session, &said) {
                            return ended;
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ended::Broke,
                    Some(Ok(_)) => {}
                }
                continue;
            }
            _ = beat.tick() => {
                if heard.elapsed() > QUIET {
                    return Ended::Silent;
                }
                match may_stay(ctx, met).await {
                    Ok(true) => {}
                    Ok(false) => ctx.machines.revoke(&met.hello.account, &met.hello.name),
                    Err(ended @ Ended::Refused { .. }) => return ended,
                    // The store is away; it is asked again.
                    Err(error) => tracing::debug!(
                        error = crate::supervisor::chain(&error),
                        "whether a machine may stay could not be looked up"
                    ),
                }
                ToMachine::Heartbeat {}
            }
        };
        // One that does not read what is said to it is as silent as one that says nothing.
        match tokio::time::timeout(QUIET, sink.send(text(&say))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ended::Broke,
            Err(_) => return Ended::Silent,
        }
    }
}

fn hear(ctx: &Ctx, hello: &Hello, session: u64, said: &str) -> Result<(), Ended> {
    let (account, name) = (hello.account.as_str(), hello.name.as_str());
    match serde_json::from_str(said) {
        Ok(ToMaster::Answer { id, answer }) => ctx.machines.answered(account, name, session, id, *answer),
        Ok(ToMaster::Hint { at }) => ctx.machines.hint(account, name, &at),
        Ok(ToMaster::Heartbeat {}) => {}
        Ok(ToMaster::Hello(_)) => return Err(refuse("it said its hello twice", false)),
        Err(error) => return Err(refuse(format!("what it says cannot be understood: {error}"), true)),
    }
    Ok(())
}

/// Whether it may have new workers. One that was revoked may not, and stays until those that it has are gone: nobody else can say that they are.
async fn may_stay(ctx: &Ctx, met: &Met) -> Result<bool, Ended> {
    let (account, name) = (&met.hello.account, &met.hello.name);
    let enrolment = ctx.store.enrolment(account, name).await?;
    if enrolment.as_ref().is_some_and(|row| row.revoked.is_none() && row.public_key == met.key) {
        return Ok(true);
    }
    // It may have been enrolled anew.
    let revoked = enrolment.and_then(|row| row.revoked).unwrap_or_else(|| ctx.now());
    match end_workers(ctx, account, name, revoked).await? {
        0 => Err(refuse("this machine was revoked", false)),
        _ => Ok(false),
    }
}
