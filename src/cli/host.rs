//! `rouse host`: this machine, on which a master elsewhere runs workers. It comes to its master by itself, as often as it has to; workers outlive it, and it
//! finds them again.

use super::error::CliError;
use super::exit::Exit;
use crate::boot;
use crate::tls_client;
use ed25519_dalek::{Signer, SigningKey};
use futures::{SinkExt, StreamExt};
use rouse_provider_enrolled::serving::Serving;
use rouse_provider_enrolled::wire::{self, Enrolment, Hello, ToMachine, ToMaster};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// For each step until the welcome.
const PATIENCE: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(wire::HEARTBEAT_S);
const QUIET: Duration = Duration::from_secs(wire::QUIET_S);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Answers that wait to be sent.
const WAITING: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What `rouse worker enroll` has written
    enrolment: PathBuf,
    /// A folder of this machine's own, for its workers. Default: rouse-host beside the file
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Connect(String),
    #[error("the master refused: {message}")]
    Refused { message: String, retry: bool },
    #[error("the master is of installation {0}, this machine of another one")]
    WrongInstallation(String),
    #[error("the master said something that cannot be understood: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the master was silent")]
    Silent,
    #[error("the connection broke")]
    Broke,
}

impl Ended {
    fn is_for_good(&self) -> bool {
        matches!(self, Self::Refused { retry: false, .. } | Self::WrongInstallation(_))
    }
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

pub(super) async fn run(args: &Args) -> Result<Exit, CliError> {
    let enrolment = read(&args.enrolment)?;
    let beside = || args.enrolment.parent().unwrap_or(Path::new("")).join("rouse-host");
    let folder = args.folder.clone().unwrap_or_else(beside);
    let folder = std::path::absolute(&folder)
        .map_err(|source| CliError::Io { what: format!("find {}", folder.display()), source })?;
    let machine = boot::machine(&enrolment.installation, &enrolment.account, &enrolment.name, &folder)?;
    let serving = Arc::new(Serving::new(Arc::clone(&machine.provider)));
    let key = key(&enrolment).ok_or_else(|| CliError::usage("the key of the enrolment is not one"))?;
    let tls = tls_client::only(&enrolment.ca).map_err(anyhow::Error::from)?;
    let me = Me { enrolment, key, incarnation: hex::encode(rand::random::<[u8; 16]>()), tls: Arc::new(tls) };
    let failed = |source| CliError::Io { what: "listen to signals".into(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        ended = me.serve(&serving) => Err(CliError::Other(ended.into())),
        // Workers go on, for the next one of us.
        _ = terminate.recv() => Ok(Exit::Success),
        _ = interrupt.recv() => Ok(Exit::Success),
    }
}

/// The document, which nobody else can read.
fn read(path: &Path) -> Result<Enrolment, CliError> {
    let io = |source| CliError::Io { what: format!("read {}", path.display()), source };
    let mode = std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CliError::Usage {
            message: format!("{} holds a key, and others can read it (mode {mode:o})", path.display()),
            help: Some(format!("chmod 600 {}", path.display())),
        });
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    let enrolment: Enrolment = serde_json::from_str(&text)
        .map_err(|error| CliError::usage(format!("{} is no enrolment: {error}", path.display())))?;
    if enrolment.version != wire::VERSION {
        let message = format!(
            "{} is of version {}, and this reads {}",
            path.display(),
            enrolment.version,
            wire::VERSION
        );
        return Err(CliError::usage(message));
    }
    Ok(enrolment)
}

fn key(enrolment: &Enrolment) -> Option<SigningKey> {
    let seed = hex::decode(&enrolment.key.0).ok()?;
    Some(SigningKey::from_bytes(&seed.try_into().ok()?))
}

/// Who this machine is.
struct Me {
    enrolment: Enrolment,
    key: SigningKey,
    incarnation: String,
    tls: Arc<rustls::ClientConfig>,
}

impl Me {
    /// Comes to its master again and again, until that wants none of it.
    async fn serve(&self, serving: &Arc<Serving>) -> Ended {
        let (mut pause, mut complaint) = (FIRST_PAUSE, String::new());
        loop {
            let began = Instant::now();
            let ended = match self.session(serving).await {
                Ok(never) => match never {},
                Err(ended) if ended.is_for_good() => return ended,
                Err(ended) => ended.to_string(),
            };
            if began.elapsed() > QUIET {
                (pause, complaint) = (FIRST_PAUSE, String::new());
            }
            // The same trouble is told once.
            if ended != complaint {
                eprintln!("rouse host: {ended}; trying again");
                complaint = ended;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn session(&self, serving: &Arc<Serving>) -> Result<std::convert::Infallible, Ended> {
        let mut socket = self.connect().await?;
        let ToMachine::Challenge { nonce, installation } = hear(&mut socket).await? else {
            return Err(Ended::Connect("the master did not begin with a challenge".into()));
        };
        if installation != self.enrolment.installation {
            return Err(Ended::WrongInstallation(installation));
        }
        let mut hello = Hello {
            version: wire::VERSION,
            account: self.enrolment.account.clone(),
            name: self.enrolment.name.clone(),
            incarnation: self.incarnation.clone(),
            signature: String::new(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        };
        let bytes = wire::signing_bytes(&nonce, &installation, &hello);
        hello.signature = hex::encode(self.key.sign(&bytes).to_bytes());
        say(&mut socket, &ToMaster::Hello(hello)).await?;
        match hear(&mut socket).await? {
            ToMachine::Welcome {} => {}
            ToMachine::Refused { message, retry } => return Err(Ended::Refused { message, retry }),
            _ => return Err(Ended::Connect("the master did not welcome this machine".into())),
        }
        eprintln!("rouse host: machine {} serves {}", self.enrolment.name, self.enrolment.address);
        attend(socket, serving).await
    }

    async fn connect(&self) -> Result<Socket, Ended> {
        let address = &self.enrolment.address;
        let failed = |why: String| Ended::Connect(format!("connect to {address}: {why}"));
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = rustls::pki_types::ServerName::try_from(host).map_err(|e| failed(e.to_string()))?;
        let connecting = async {
            let stream = TcpStream::connect(address).await.map_err(|e| failed(e.to_string()))?;
            // Calls and answers are small, and wait for nothing.
            let _ = stream.set_nodelay(true);
            let tls = TlsConnector::from(Arc::clone(&self.tls));
            let stream = tls.connect(name, stream).await.map_err(|e| failed(e.to_string()))?;
            let config = WebSocketConfig::default()
                .max_message_size(Some(wire::MAX_BYTES))
                .max_frame_size(Some(wire::MAX_BYTES));
            let request = format!("ws://rouse{}", wire::PATH);
            let shaken = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
            shaken.map(|(socket, _)| socket).map_err(|e| failed(e.to_string()))
        };
        timeout(PATIENCE, connecting).await.map_err(|_| failed("no answer".into()))?
    }
}

/// Each call is carried out beside the others.
async fn attend(socket: Socket, serving: &Arc<Serving>) -> Result<std::convert::Infallible, Ended> {
    let (mut sink, mut stream) = socket.split();
    let (tell, mut told) = mpsc::channel(WAITING);
    let mut beat = tokio::time::interval(HEARTBEAT);
    let mut heard = Instant::now();
    loop {
        let said = tokio::select! {
            message = stream.next() => {
                heard = Instant::now();
                match message.ok_or(Ended::Broke)?.map_err(|_| Ended::Broke)? {
                    Message::Text(text) => match serde_json::from_str(&text)? {
                        ToMachine::Call { id, call } => {
                            let (serving, tell) = (Arc::clone(serving), tell.clone());
                            tokio::spawn(async move {
                                let answer = Box::new(serving.carry_out(*call).await);
                                // The connection may be over.
                                let _ = tell.send(ToMaster::Answer { id, answer }).await;
                            });
                        }
                        ToMachine::Refused { message, retry } => return Err(Ended::Refused { message, retry }),
                        _ => {}
                    },
                    Message::Close(_) => return Err(Ended::Broke),
                    _ => {}
                }
                continue;
            }
            Some(answer) = told.recv() => answer,
            at = serving.next_hint() => ToMaster::Hint { at },
            _ = beat.tick() => {
                if heard.elapsed() > QUIET {
                    return Err(Ended::Silent);
                }
                ToMaster::Heartbeat {}
            }
        };
        let text = serde_json::to_string(&said)?;
        // One that does not read what is said to it is as silent as one that says nothing.
        let sent = timeout(QUIET, sink.send(Message::Text(text.into()))).await.map_err(|_| Ended::Silent)?;
        sent.map_err(|_| Ended::Broke)?;
    }
}

async fn say(socket: &mut Socket, said: &ToMaster) -> Result<(), Ended> {
    let text = serde_json::to_string(said)?;
    socket.send(Message::Text(text.into())).await.map_err(|_| Ended::Broke)
}

async fn hear(socket: &mut Socket) -> Result<ToMachine, Ended> {
    loop {
        match timeout(PATIENCE, socket.next()).await.map_err(|_| Ended::Silent)? {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text)?),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return Err(Ended::Broke),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str, mode: u32) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        match read(&path) {
            Ok(enrolment) => {
                format!("taken, and its key {}", key(&enrolment).map_or("is none", |_| "is one"))
            }
            Err(error) => error.to_string().replace(&*path.to_string_lossy(), "FILE"),
        }
    }

    #[test]
    fn a_document_that_is_none_is_told() {
        let document = |version: u32, key: &str| {
            serde_json::json!({"version": version, "installation": "i", "account": "rack", "name": "a", "key": key,
                "address": "ci.example.org:9443", "ca": ""})
            .to_string()
        };
        let good = document(1, &"0".repeat(64));
        assert_eq!(refusal(&good, 0o600), "taken, and its key is one");
        assert_eq!(refusal(&document(1, "00"), 0o600), "taken, and its key is none");
        assert_eq!(refusal(&good, 0o640), "FILE holds a key, and others can read it (mode 640)");
        assert_eq!(refusal(&document(2, ""), 0o600), "FILE is of version 2, and this reads 1");
        assert!(refusal("{}", 0o600).starts_with("FILE is no enrolment: missing field"));
    }
}
