//! The master's side for tests: a directory, a socket, an agent process, and a record of all that came.
//!
//! reason for length: one rig for all cases, whose parts know each other's state.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use rouse_agent_protocol::{
    Action, Challenge, Channel, Command, CommandId, Durable, Endpoint, Frame, Hello, JOIN_VERSION,
    JoinDocument, Kill, LINK_PATH, Outcome, OutcomeKind, Program, Run, StreamFrame, StreamId, ToAgent,
    ToMaster, VERSIONS, Welcome, decode_frame, decode_to_master, encode, packable, signing_bytes,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::agents::Agent;
use crate::file_server::{FileServer, serve_file};
use crate::tls::{Authority, Tls};

/// Nothing that is waited for takes so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Rig {
    which: Agent,
    pub dir: tempfile::TempDir,
    /// How it listens; by a Unix socket where there is none.
    tls: Option<Tls>,
    pub join: JoinDocument,
    /// The agent's process.
    pub agent: Option<Child>,
    pub record: Arc<Mutex<Record>>,
    pub files: Arc<Mutex<FileServer>>,
    pub store_epoch: i64,
    pub term: i64,
    /// What the master speaks, and what it spoke last with the agent.
    pub versions: Vec<u32>,
    pub spoken: u32,
    listener: Option<tokio::task::JoinHandle<()>>,
    sockets: mpsc::Receiver<Socket>,
    incoming: mpsc::Sender<Socket>,
    sessions: i64,
}

/// What the master has of each stream, over all connections.
#[derive(Default)]
pub struct Record {
    streams: BTreeMap<StreamId, Vec<u8>>,
    channels: BTreeMap<(StreamId, u8), Vec<u8>>,
    /// Frames that brought bytes that were known already.
    pub repeated: usize,
}

impl Record {
    /// A gap, or other bytes at a known offset, is a fault of the agent.
    fn take(&mut self, frame: StreamFrame) {
        let known = self.streams.entry(frame.stream).or_default();
        let length = known.len() as u64;
        assert!(frame.offset <= length, "gap: frame at {} with {length} bytes known", frame.offset);
        let overlap = frame.end().min(length).saturating_sub(frame.offset) as usize;
        if overlap > 0 {
            self.repeated += 1;
            let at = frame.offset as usize;
            assert!(known[at..at + overlap] == frame.bytes[..overlap], "other bytes at a known offset");
        }
        known.extend_from_slice(&frame.bytes[overlap..]);
        self.channels
            .entry((frame.stream, frame.channel as u8))
            .or_default()
            .extend_from_slice(&frame.bytes[overlap..]);
    }
}

/// What a frame stands for; what it says of itself is checked.
fn plain(frame: Frame) -> StreamFrame {
    match frame {
        Frame::Plain(frame) => frame,
        Frame::Packed(frame) => {
            let bytes = zstd::bulk::decompress(&frame.packed, frame.length as usize).expect("it unpacks");
            assert_eq!(
                packable(&bytes),
                (frame.length as usize, frame.lines),
                "whole lines alone are packed"
            );
            frame.plain(bytes.into())
        }
    }
}

impl Rig {
    /// Listening, with no agent yet. Logs of a failed test show the agent's own words.
    pub async fn new(which: Agent) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().file_name().unwrap().to_string_lossy().replace('.', "");
        let (incoming, sockets) = mpsc::channel(16);
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let tls = which.comes_by_tls().then(Tls::new);
        let socket = Endpoint::Unix { path: path("agent.sock") };
        let join = JoinDocument {
            version: JOIN_VERSION,
            installation: "inst-1".into(),
            worker: format!("worker-{name}"),
            worker_id: 7,
            join_token: "token-that-nobody-may-see".into(),
            store_epoch: 1,
            endpoints: vec![tls.as_ref().map_or(socket, Tls::endpoint)],
            work_dir: path("place/work"),
            expiry_s: 60.0,
        };
        fs::create_dir(dir.path().join("place")).unwrap();
        let mut rig = Self {
            which,
            dir,
            tls,
            join,
            agent: None,
            record: Arc::default(),
            files: Arc::default(),
            store_epoch: 1,
            term: 1,
            versions: VERSIONS.to_vec(),
            spoken: VERSIONS[0],
            listener: None,
            sockets,
            incoming,
            sessions: 0,
        };
        rig.listen();
        rig
    }

    /// With an agent that is attached.
    pub async fn attached(agent: Agent) -> (Self, Link) {
        let mut rig = Self::new(agent).await;
        rig.start();
        let link = rig.attach().await;
        (rig, link)
    }

    pub fn work(&self, name: &str) -> PathBuf {
        Path::new(&self.join.work_dir).join(name)
    }

    pub fn socket_path(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    /// A listener at the usual place.
    pub fn listen(&mut self) {
        let (path, incoming, files) = (self.socket_path(), self.incoming.clone(), self.files.clone());
        self.listener = Some(match &self.tls {
            Some(tls) => listen_by_tls(tls, incoming, files),
            None => listen_at(&path, incoming, files),
        });
    }

    /// What the next listener shows.
    pub fn show(&mut self, shown: Arc<rustls::ServerConfig>) {
        self.tls.as_mut().unwrap().shown = shown;
    }

    pub fn shown(&self) -> Arc<rustls::ServerConfig> {
        self.tls.as_ref().unwrap().shown.clone()
    }

    pub fn authority(&self) -> &Authority {
        &self.tls.as_ref().unwrap().authority
    }

    /// No agent has got as far as the link.
    pub fn nobody_came(&mut self) -> bool {
        self.sockets.try_recv().is_err()
    }

    /// A second listener elsewhere, for as long as the test runs.
    pub fn listen_also(&self, path: &Path) {
        drop(listen_at(path, self.incoming.clone(), self.files.clone()));
    }

    /// No master any more: no listener, and no socket.
    pub fn vanish(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
        }
        let _ = fs::remove_file(self.socket_path());
        while self.sockets.try_recv().is_ok() {}
    }

    pub fn join_file(&self) -> PathBuf {
        self.dir.path().join("join.json")
    }

    pub fn start(&mut self) {
        self.start_with(|_| {});
    }

    pub fn start_with(&mut self, adjust: impl FnOnce(&mut Process)) {
        self.start_as(&self.which.command(), adjust);
    }

    /// From a copy that everybody may read.
    pub fn start_copy_with(&mut self, adjust: impl FnOnce(&mut Process)) {
        self.start_as(&self.which.copied_to(self.dir.path()), adjust);
    }

    fn start_as(&mut self, words: &[String], adjust: impl FnOnce(&mut Process)) {
        fs::write(self.join_file(), serde_json::to_string(&self.join).unwrap()).unwrap();
        let mut process = Process::new(&words[0]);
        process.args(&words[1..]).arg("run").arg("--join").arg(self.join_file());
        process
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("OF_THE_IMAGE", "kept")
            .env("USER", "person");
        let stderr =
            fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("stderr")).unwrap();
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).process_group(0);
        adjust(&mut process);
        let started = process.spawn();
        self.agent = Some(started.unwrap_or_else(|error| panic!("start the agent `{}`: {error}", words[0])));
    }

    pub fn pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// The next connection of the agent, before any word was said.
    pub async fn next_socket(&mut self) -> Socket {
        let next = tokio::time::timeout(PATIENCE, self.sockets.recv()).await;
        next.expect("the agent connects").expect("the listener lives as long as the rig")
    }

    pub fn challenge(&mut self) -> Challenge {
        self.sessions += 1;
        Challenge {
            versions: self.versions.clone(),
            nonce: format!("nonce-{}", self.sessions),
            installation: self.join.installation.clone(),
            store_epoch: self.store_epoch,
            term: self.term,
        }
    }

    pub fn welcome(&self) -> Welcome {
        Welcome {
            version: self.spoken,
            session: self.sessions,
            store_epoch: self.store_epoch,
            term: self.term,
            durable: Vec::new(),
            run: Vec::new(),
            forget: Vec::new(),
            drain: false,
            heartbeat_s: 1.0,
            grace_s: 20.0,
            expiry_s: 60.0,
            spool_bytes: None,
            packed: true,
        }
    }

    /// Challenge and hello, checked as a master does it.
    pub async fn greet(&mut self) -> (Socket, Hello) {
        let mut socket = self.next_socket().await;
        let challenge = self.challenge();
        socket.send(&ToAgent::Challenge(challenge.clone())).await;
        let hello = socket.hello().await;
        check_signature(&challenge, &hello);
        self.spoken = hello.version;
        assert_eq!(
            (hello.worker.as_str(), hello.worker_id),
            (self.join.worker.as_str(), self.join.worker_id)
        );
        assert_eq!(hello.join_token, self.join.join_token);
        (socket, hello)
    }

    pub async fn attach(&mut self) -> Link {
        self.attach_with(|_, _| {}).await
    }

    /// A welcome that says what the master has, changed by `adjust`.
    pub async fn attach_with(&mut self, adjust: impl FnOnce(&Hello, &mut Welcome)) -> Link {
        let (mut socket, hello) = self.greet().await;
        let mut welcome = self.welcome();
        {
            let record = self.record.lock().unwrap();
            for stream in &hello.streams {
                let to = record.streams.get(&stream.stream).map_or(0, |bytes| bytes.len() as u64);
                assert!(stream.from <= to, "the agent dropped bytes that were not durable");
                welcome.durable.push(Durable { stream: stream.stream, to });
            }
        }
        adjust(&hello, &mut welcome);
        socket.send(&ToAgent::Welcome(Box::new(welcome))).await;
        Link {
            socket,
            hello,
            record: self.record.clone(),
            durable: true,
            started: Vec::new(),
            finished: BTreeMap::new(),
            drained: false,
            heartbeats: 0,
        }
    }

    pub fn bytes(&self, stream: i64) -> Vec<u8> {
        self.record.lock().unwrap().streams.get(&StreamId(stream)).cloned().unwrap_or_default()
    }

    pub fn text(&self, stream: i64) -> String {
        String::from_utf8(self.bytes(stream)).unwrap()
    }

    pub fn channel(&self, stream: i64, channel: Channel) -> String {
        let record = self.record.lock().unwrap();
        let bytes = record.channels.get(&(StreamId(stream), channel as u8)).cloned().unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    }

    /// The agent's own exit code, once it has ended.
    pub async fn exit_code(&mut self) -> i32 {
        let mut agent = self.agent.take().unwrap();
        let mut status = None;
        until("the agent exits", || {
            status = agent.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.and_then(|s| s.code()).expect("it ends by itself")
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
        }
        if let Some(mut agent) = self.agent.take() {
            let pid = rustix::process::Pid::from_child(&agent);
            // By its own way it takes its children along.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let until = Instant::now() + Duration::from_secs(10);
            while matches!(agent.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
            let _ = agent.kill();
            let _ = agent.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the agent {:?} said:\n{}", self.which.command(), self.stderr());
        }
    }
}

fn check_signature(challenge: &Challenge, hello: &Hello) {
    let key: [u8; 32] = hex::decode(&hello.public_key).unwrap().try_into().unwrap();
    let signature: [u8; 64] = hex::decode(&hello.signature).unwrap().try_into().unwrap();
    let signed = signing_bytes(hello.version, challenge, &hello.worker, &hello.incarnation);
    let key = ed25519_dalek::VerifyingKey::from_bytes(&key).unwrap();
    key.verify_strict(&signed, &ed25519_dalek::Signature::from_bytes(&signature)).unwrap();
}

fn listen_at(
    path: &Path,
    incoming: mpsc::Sender<Socket>,
    files: Arc<Mutex<FileServer>>,
) -> tokio::task::JoinHandle<()> {
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(receive(Box::new(stream), incoming.clone(), files.clone()));
        }
    })
}

/// At the same port each time.
fn listen_by_tls(
    tls: &Tls,
    incoming: mpsc::Sender<Socket>,
    files: Arc<Mutex<FileServer>>,
) -> tokio::task::JoinHandle<()> {
    let (address, acceptor) = (tls.address, tokio_rustls::TlsAcceptor::from(tls.shown.clone()));
    tokio::spawn(async move {
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                // The one before is not closed yet.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, incoming, files) = (acceptor.clone(), incoming.clone(), files.clone());
            tokio::spawn(async move {
                // One that does not believe us goes away.
                if let Ok(stream) = acceptor.accept(stream).await {
                    receive(Box::new(stream), incoming, files).await;
                }
            });
        }
    })
}

/// Both directions of one connection, whatever carries it.
pub trait ReadWrite: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ReadWrite for T {}
pub type Wire = Box<dyn ReadWrite>;

/// Tell the link from transfers by the first request.
async fn receive(mut stream: Wire, incoming: mpsc::Sender<Socket>, files: Arc<Mutex<FileServer>>) {
    let mut rest = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut rest).await {
        let Some(key) = head.header("sec-websocket-key") else {
            if serve_file(&mut stream, &head, &mut rest, &files).await.is_none() {
                return;
            }
            continue;
        };
        assert_eq!(head.path, LINK_PATH);
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        if stream.write_all(answer.as_bytes()).await.is_ok() {
            let ws = WebSocketStream::from_partially_read(stream, rest, Role::Server, None).await;
            let _ = incoming.send(Socket { ws }).await;
        }
        return;
    }
}

/// The head of one request.
pub struct Head {
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

async fn read_head(stream: &mut Wire, rest: &mut Vec<u8>) -> Option<Head> {
    loop {
        if let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
            let text = String::from_utf8(rest.drain(..end + 4).collect()).ok()?;
            let mut lines = text.lines();
            let mut first = lines.next()?.split(' ');
            let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
            let header =
                |line: &str| line.split_once(':').map(|(n, v)| (n.to_lowercase(), v.trim().to_owned()));
            return Some(Head { method, path, headers: lines.filter_map(header).collect() });
        }
        if stream.read_buf(rest).await.ok()? == 0 {
            return None;
        }
    }
}

/// One connection, word by word.
pub struct Socket {
    ws: WebSocketStream<Wire>,
}

#[derive(Debug)]
pub enum Event {
    Said(ToMaster),
    Frame(StreamFrame),
    Closed(Option<u16>),
}

impl Socket {
    pub async fn send(&mut self, message: &ToAgent) {
        self.send_text(encode(message)).await;
    }

    pub async fn send_text(&mut self, text: String) {
        // The agent may be gone already; what is then waited for tells.
        let _ = self.ws.send(Message::Text(text.into())).await;
    }

    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        let _ = self.ws.send(Message::Binary(bytes.into())).await;
    }

    pub async fn next(&mut self) -> Event {
        loop {
            let next =
                tokio::time::timeout(PATIENCE, self.ws.next()).await.expect("the agent says something");
            match next {
                Some(Ok(Message::Text(text))) => {
                    return Event::Said(decode_to_master(&text).unwrap().expect("a known kind"));
                }
                Some(Ok(Message::Binary(bytes))) => return Event::Frame(plain(decode_frame(bytes).unwrap())),
                Some(Ok(Message::Close(frame))) => return Event::Closed(frame.map(|f| f.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Event::Closed(None),
            }
        }
    }

    pub async fn hello(&mut self) -> Hello {
        match self.next().await {
            Event::Said(ToMaster::Hello(hello)) => *hello,
            other => panic!("expected a hello, got {other:?}"),
        }
    }

    /// The code with which the agent closes.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Event::Closed(code) = self.next().await {
                return code;
            }
        }
    }
}

/// A connection after the welcome.
pub struct Link {
    pub socket: Socket,
    pub hello: Hello,
    record: Arc<Mutex<Record>>,
    /// Say of everything at once that it is durable.
    pub durable: bool,
    pub started: Vec<CommandId>,
    pub finished: BTreeMap<CommandId, Outcome>,
    pub drained: bool,
    pub heartbeats: usize,
}

impl Link {
    pub async fn run(&mut self, command: Command) {
        self.socket.send(&ToAgent::Run { command: Box::new(command) }).await;
    }

    pub async fn send(&mut self, message: ToAgent) {
        self.socket.send(&message).await;
    }

    /// Take in one event. False once the connection is closed.
    pub async fn pump(&mut self) -> bool {
        match self.socket.next().await {
            Event::Said(ToMaster::Started { command, .. }) => self.started.push(command),
            Event::Said(ToMaster::Finished { command, outcome }) => {
                let record = self.record.lock().unwrap();
                for end in &outcome.streams {
                    let length = record.streams.get(&end.stream).map_or(0, Vec::len) as u64;
                    assert_eq!(end.to, length, "the end of a command is said after its last byte");
                }
                drop(record);
                self.finished.insert(command, *outcome);
            }
            Event::Said(ToMaster::Drained {}) => self.drained = true,
            Event::Said(ToMaster::Heartbeat {}) => self.heartbeats += 1,
            Event::Said(ToMaster::Hello(_)) => panic!("a second hello"),
            Event::Frame(frame) => {
                let durable = Durable { stream: frame.stream, to: frame.end() };
                self.record.lock().unwrap().take(frame);
                if self.durable {
                    self.socket.send(&ToAgent::Durable(durable)).await;
                }
            }
            Event::Closed(_) => return false,
        }
        true
    }

    /// Take in events until a condition holds.
    pub async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(self.pump().await, "the link closed while waiting: {what}");
            assert!(Instant::now() < limit, "waited too long: {what}");
        }
    }

    /// Until so much of a stream came.
    pub async fn received(&mut self, stream: i64, bytes: usize) {
        let record = self.record.clone();
        self.until("bytes of a stream", |_| {
            record.lock().unwrap().streams.get(&StreamId(stream)).map_or(0, Vec::len) >= bytes
        })
        .await;
    }

    pub async fn finished(&mut self, id: i64) -> Outcome {
        self.until("a command finishes", |link| link.finished.contains_key(&CommandId(id))).await;
        self.finished[&CommandId(id)].clone()
    }

    /// Run it to its end.
    pub async fn outcome(&mut self, command: Command) -> Outcome {
        let id = command.id.0;
        self.run(command).await;
        self.finished(id).await
    }

    /// Run it; it must exit with 0.
    pub async fn succeed(&mut self, command: Command) -> Outcome {
        let outcome = self.outcome(command).await;
        assert_eq!(outcome.kind, OutcomeKind::Exited { code: 0 });
        outcome
    }
}

/// Wait for a condition of the outside world.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < limit, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Is the process there, and not just a zombie that nobody has collected yet?
pub fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// A number that a command wrote to a file.
pub async fn number_in(file: &Path) -> u32 {
    let mut number = None;
    until("a command writes a number", || {
        number =
            fs::read_to_string(file).ok().filter(|t| t.ends_with('\n')).and_then(|t| t.trim().parse().ok());
        number.is_some()
    })
    .await;
    number.unwrap()
}

pub fn command(id: i64, action: Action) -> Command {
    Command { id: CommandId(id), epoch: 1, build: 1, step: 1, seq: id, action, masks: Vec::new() }
}

/// A program whose output is the stream of the same number.
pub fn run(id: i64, program: Program, adjust: impl FnOnce(&mut Run)) -> Command {
    let mut run = Run {
        program,
        env: BTreeMap::new(),
        cwd: String::new(),
        tty: false,
        timeout_s: None,
        silence_s: None,
        kill: Kill { interrupt_s: 5.0, terminate_s: 5.0 },
        stream: StreamId(id),
        logs: Vec::new(),
    };
    adjust(&mut run);
    command(id, Action::Run(run))
}

pub fn argv(id: i64, words: &[&str]) -> Command {
    run(id, Program::Argv(words.iter().map(|w| (*w).to_owned()).collect()), |_| {})
}

pub fn sh(id: i64, text: &str) -> Command {
    sh_with(id, text, |_| {})
}

pub fn sh_with(id: i64, text: &str, adjust: impl FnOnce(&mut Run)) -> Command {
    let interpreter = ["sh", "-e"].map(str::to_owned).to_vec();
    run(id, Program::Script { interpreter, text: text.to_owned() }, adjust)
}
