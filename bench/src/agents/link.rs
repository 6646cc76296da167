//! One simulated agent's side of the protocol (`docs/reference/agent-protocol.md`): as much as an idle worker needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use ed25519_dalek::{Signer, SigningKey};
use futures::{SinkExt, StreamExt};
use rouse_agent_protocol::{
    Action, Challenge, CommandId, CommandReport, CommandState, Endpoint, Facts, Hello, JoinDocument,
    LINK_PATH, Outcome, OutcomeKind, StreamEnd, ToAgent, ToMaster, VERSION, Welcome, decode_to_agent, encode,
    signing_bytes,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::{Shared, Told};

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

type Socket = WebSocketStream<Box<dyn Both>>;

enum Way {
    Unix(PathBuf),
    Tls { address: String, ca: String },
}

pub(super) struct Link {
    join: JoinDocument,
    way: Way,
    key: SigningKey,
    incarnation: String,
    began: Instant,
    commands: Vec<Held>,
    welcomed: (i64, i64),
}

struct Held {
    id: CommandId,
    streams: Vec<StreamEnd>,
    finished: bool,
}

impl Link {
    pub(super) fn new(join: JoinDocument, folder: &Path) -> Result<Self> {
        let way = match join.endpoints.first().context("the join document names no endpoint")? {
            Endpoint::Unix { path } => Way::Unix(folder.join(path)),
            Endpoint::Tls { address, ca } => Way::Tls { address: address.clone(), ca: ca.clone() },
            Endpoint::Opened { .. } => anyhow::bail!("agents of a bench come by themselves"),
        };
        let mut seed = [0; 32];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut seed)?;
        let welcomed = (join.store_epoch, 0);
        Ok(Self {
            way,
            key: SigningKey::from_bytes(&seed),
            incarnation: hex::encode(&seed[..16]).chars().rev().collect(),
            began: Instant::now(),
            commands: Vec::new(),
            welcomed,
            join,
        })
    }

    /// Connects again and again; each time until it is told to connect anew, or the connection breaks.
    pub(super) async fn run(&mut self, mut told: watch::Receiver<Told>, shared: Arc<Shared>) -> Result<()> {
        let mut pause = Duration::from_millis(50);
        loop {
            let generation = told.borrow().generation;
            match self.connect(&shared).await {
                Ok((socket, welcome)) => {
                    pause = Duration::from_millis(50);
                    shared.attached.fetch_add(1, Ordering::SeqCst);
                    if self.serve(socket, welcome, &mut told, generation).await? {
                        continue;
                    }
                    // Broken: it counts again only once it is back, which nobody waits for then.
                    shared.attached.fetch_sub(1, Ordering::SeqCst);
                }
                Err(error) if error.to_string().starts_with("refused") => return Err(error),
                Err(_) => {}
            }
            let share = 0.5 + f64::from(self.key.to_bytes()[0]) / 512.0;
            tokio::time::sleep(pause.mul_f64(share)).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn dial(&self, shared: &Shared) -> Result<Box<dyn Both>> {
        let (address, ca) = match &self.way {
            Way::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Way::Tls { address, ca } => (address, ca),
        };
        let connector = match shared.tls.get() {
            Some(connector) => connector,
            None => {
                let made = connector(ca)?;
                shared.tls.get_or_init(|| made)
            }
        };
        let (host, _) = address.rsplit_once(':').context("HOST:PORT")?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(connector.connect(ServerName::try_from(host.to_owned())?, stream).await?))
    }

    async fn connect(&mut self, shared: &Shared) -> Result<(Socket, Welcome)> {
        let stream = self.dial(shared).await?;
        let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0);
        let url = format!("ws://rouse{LINK_PATH}");
        let (mut socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
        let ToAgent::Challenge(challenge) = hear(&mut socket).await? else { bail!("no challenge") };
        let hello = self.hello(&challenge);
        socket.send(Message::text(encode(&ToMaster::Hello(Box::new(hello))))).await?;
        match hear(&mut socket).await? {
            ToAgent::Welcome(welcome) => {
                self.welcomed = (welcome.store_epoch, welcome.term);
                Ok((socket, *welcome))
            }
            ToAgent::Refused(refused) if refused.retry => bail!("not now: {}", refused.message),
            ToAgent::Refused(refused) => bail!("refused: {}", refused.message),
            other => bail!("no welcome but {other:?}"),
        }
    }

    fn hello(&self, challenge: &Challenge) -> Hello {
        let join = &self.join;
        let signed = signing_bytes(VERSION, challenge, &join.worker, &self.incarnation);
        let reports = self.commands.iter().map(|held| CommandReport {
            id: held.id,
            state: if held.finished {
                CommandState::Finished(Box::new(self.outcome(held)))
            } else {
                CommandState::Running {}
            },
        });
        Hello {
            version: VERSION,
            agent: "rouse-bench".into(),
            os: "linux".into(),
            arch: std::env::consts::ARCH.into(),
            worker: join.worker.clone(),
            worker_id: join.worker_id,
            incarnation: self.incarnation.clone(),
            public_key: hex::encode(self.key.verifying_key().to_bytes()),
            signature: hex::encode(self.key.sign(&signed).to_bytes()),
            join_token: join.join_token.clone(),
            epoch: self.welcomed.0,
            term: self.welcomed.1,
            features: Vec::new(),
            facts: Facts { cpus: 1, hostname: "simulated".into(), ..Facts::default() },
            monotonic_us: self.clock(),
            wall_us: wall(),
            draining: false,
            commands: reports.collect(),
            streams: Vec::new(),
        }
    }

    /// Whether it is to connect anew at once.
    async fn serve(
        &mut self,
        mut socket: Socket,
        welcome: Welcome,
        told: &mut watch::Receiver<Told>,
        generation: u64,
    ) -> Result<bool> {
        self.commands.retain(|held| !welcome.forget.contains(&held.id));
        let mut beat = tokio::time::interval(Duration::from_secs_f64(welcome.heartbeat_s * 0.8));
        loop {
            let (go, now) = {
                let told = told.borrow();
                (told.go, told.generation)
            };
            if now != generation {
                return Ok(true);
            }
            if go {
                for message in self.finish() {
                    if socket.send(Message::text(encode(&message))).await.is_err() {
                        return Ok(false);
                    }
                }
            }
            tokio::select! {
                changed = told.changed() => changed.context("the simulator ends")?,
                _ = beat.tick() => {
                    if socket.send(Message::text(encode(&ToMaster::Heartbeat {}))).await.is_err() {
                        return Ok(false);
                    }
                }
                heard = hear(&mut socket) => match heard {
                    Ok(ToAgent::Run { command }) => {
                        let started = self.take(command.id, &command.action);
                        if socket.send(Message::text(encode(&started))).await.is_err() {
                            return Ok(false);
                        }
                    }
                    Ok(ToAgent::Forget { commands }) => self.commands.retain(|held| !commands.contains(&held.id)),
                    Ok(ToAgent::End { .. }) => bail!("the master ends it"),
                    Ok(_) => {}
                    Err(_) => return Ok(false),
                }
            }
        }
    }

    fn take(&mut self, id: CommandId, action: &Action) -> ToMaster {
        let streams = match action {
            Action::Run(run) => vec![StreamEnd { stream: run.stream, to: 0, note: None }],
            _ => Vec::new(),
        };
        if !self.commands.iter().any(|held| held.id == id) {
            self.commands.push(Held { id, streams, finished: false });
        }
        ToMaster::Started { command: id, at_us: self.clock(), wall_us: wall() }
    }

    fn finish(&mut self) -> Vec<ToMaster> {
        let mut said = Vec::new();
        for place in 0..self.commands.len() {
            if !self.commands[place].finished {
                self.commands[place].finished = true;
                let held = &self.commands[place];
                said.push(ToMaster::Finished { command: held.id, outcome: Box::new(self.outcome(held)) });
            }
        }
        said
    }

    fn outcome(&self, held: &Held) -> Outcome {
        Outcome {
            kind: OutcomeKind::Exited { code: 0 },
            started_us: self.clock(),
            finished_us: self.clock(),
            started_wall_us: wall(),
            finished_wall_us: wall(),
            streams: held.streams.clone(),
            max_rss_bytes: None,
            cpu_us: None,
            oom_killed: false,
            leftovers: 0,
            no_room: None,
        }
    }

    fn clock(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

fn connector(ca: &str) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate?)?;
    }
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn hear(socket: &mut Socket) -> Result<ToAgent> {
    loop {
        match socket.next().await.context("the connection ended")?? {
            Message::Text(text) => {
                if let Some(message) = decode_to_agent(&text)? {
                    return Ok(message);
                }
            }
            Message::Close(_) => bail!("the connection was closed"),
            _ => {}
        }
    }
}

fn wall() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}
