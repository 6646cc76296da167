//! An agent under a test's hands: it speaks the protocol, and keeps the promises that the test lets it keep.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use futures::{SinkExt, StreamExt};
use rouse_agent_protocol::{
    Challenge, Channel, Command, Facts, Hello, JoinDocument, LINK_PATH, Outcome, OutcomeKind, RefusalCode,
    StreamEnd, StreamFrame, StreamId, ToAgent, ToMaster, VERSION, Welcome, decode_to_agent, encode,
    encode_frame, signing_bytes,
};
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::harness::master::ROUSE;
use crate::harness::{Options, Scratch, wait};

/// The shipped master, beside which another agent lies: one that hands over what it was given, and waits.
pub struct Ground {
    loot: PathBuf,
    binary: PathBuf,
}

impl Ground {
    pub fn new(scratch: &Scratch) -> Self {
        let loot = scratch.folder("loot");
        fs::set_permissions(&loot, fs::Permissions::from_mode(0o777)).expect("the folder is ours");
        let folder = scratch.folder(&format!("bin/agents/linux-{}", std::env::consts::ARCH));
        let script = format!(
            "#!/bin/sh\nto={}/$ROUSE_WORKER_ID\ncp \"$3\" $to.next\ndirname \"$3\" > $to.folder\nmv $to.next $to.json\nexec sleep 3600\n",
            loot.display()
        );
        let agent = folder.join("rouse-agent");
        fs::write(&agent, script).expect("the folder is ours");
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        let binary = scratch.path().join("bin/rouse");
        // The same file where that can be; it is large.
        fs::hard_link(ROUSE, &binary).or_else(|_| fs::copy(ROUSE, &binary).map(drop)).expect("a second name");
        Self { loot, binary }
    }

    pub fn options(&self, flags: &[&str]) -> Options {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Options { binary: Some(self.binary.clone()), flags, ..Options::default() }
    }

    /// An agent for a worker, as soon as that was launched; each one with a key of its own.
    pub fn agent(&self, worker: i64) -> Agent {
        let of = |ending: &str| self.loot.join(format!("{worker}.{ending}"));
        let text = wait::until("a join document", wait::A_BUILD, || fs::read_to_string(of("json")).ok());
        let folder = fs::read_to_string(of("folder")).expect("it was written before");
        let seed: [u8; 32] = Sha256::digest(format!("{:?}", std::time::Instant::now())).into();
        Agent {
            join: serde_json::from_str(&text).expect("a join document"),
            socket: Path::new(folder.trim()).join("sock"),
            key: SigningKey::from_bytes(&seed),
            runtime: Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"),
            link: None,
        }
    }
}

/// What came over the link.
enum Heard {
    Said(ToAgent),
    Closed(u16),
}

struct Link {
    say: UnboundedSender<Message>,
    heard: mpsc::Receiver<Heard>,
}

pub struct Agent {
    pub join: JoinDocument,
    pub socket: PathBuf,
    key: SigningKey,
    runtime: Runtime,
    link: Option<Link>,
}

impl Agent {
    /// Comes as far as the welcome, or not: the refusal's code, or `closed`. `twist` makes of an honest hello whatever it likes.
    pub fn join(&mut self, twist: impl FnOnce(&mut Hello)) -> Result<Welcome, String> {
        let (mut socket, challenge) = self.challenged();
        let mut hello = self.hello(&challenge);
        twist(&mut hello);
        let answer = self.runtime.block_on(async {
            let sent = socket.send(Message::text(encode(&ToMaster::Hello(Box::new(hello))))).await;
            sent.map_err(|_| "closed".to_owned())?;
            match hear(&mut socket).await {
                Heard::Said(ToAgent::Welcome(welcome)) => Ok(*welcome),
                Heard::Said(ToAgent::Refused(refused)) => Err(word(refused.code)),
                Heard::Said(other) => panic!("neither welcome nor refused: {other:?}"),
                Heard::Closed(_) => Err("closed".to_owned()),
            }
        });
        if answer.is_ok() {
            self.link = Some(self.pump(socket));
        }
        answer
    }

    /// Answers the challenge by closing, as an agent does that will have none of this master.
    pub fn decline(&self, code: u16) {
        let (mut socket, _) = self.challenged();
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.runtime.block_on(socket.close(Some(frame))).expect("it was open");
    }

    fn challenged(&self) -> (WebSocketStream<UnixStream>, Challenge) {
        wait::until("the worker's socket", wait::A_BUILD, || {
            self.runtime.block_on(async {
                let stream = UnixStream::connect(&self.socket).await.ok()?;
                let url = format!("ws://rouse{LINK_PATH}");
                let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.ok()?;
                match hear(&mut socket).await {
                    Heard::Said(ToAgent::Challenge(challenge)) => Some((socket, challenge)),
                    Heard::Said(other) => panic!("no challenge but {other:?}"),
                    Heard::Closed(_) => None,
                }
            })
        })
    }

    /// As an agent of ours would say it.
    pub fn hello(&self, challenge: &Challenge) -> Hello {
        let join = &self.join;
        let incarnation = hex::encode(&self.key.verifying_key().as_bytes()[..8]);
        let signed = signing_bytes(VERSION, challenge, &join.worker, &incarnation);
        Hello {
            version: VERSION,
            agent: "hostile 1".into(),
            os: "linux".into(),
            arch: "x86_64".into(),
            worker: join.worker.clone(),
            worker_id: join.worker_id,
            incarnation,
            public_key: hex::encode(self.key.verifying_key().as_bytes()),
            signature: hex::encode(self.key.sign(&signed).to_bytes()),
            join_token: join.join_token.clone(),
            epoch: join.store_epoch,
            term: 0,
            features: vec![],
            facts: Facts::default(),
            monotonic_us: 1_000_000,
            wall_us: 0,
            draining: false,
            commands: vec![],
            streams: vec![],
        }
    }

    /// Keeps the connection alive, and what comes for whoever asks.
    fn pump(&self, socket: WebSocketStream<UnixStream>) -> Link {
        let (say, mut to_say) = unbounded_channel::<Message>();
        let (keep, heard) = mpsc::channel();
        let (mut write, mut read) = socket.split();
        self.runtime.spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_secs(2));
            loop {
                let message = tokio::select! {
                    message = to_say.recv() => match message {
                        Some(message) => message,
                        None => return,
                    },
                    _ = beat.tick() => Message::text(encode(&ToMaster::Heartbeat {})),
                };
                // What comes back tells of the end.
                let _ = write.send(message).await;
            }
        });
        self.runtime.spawn(async move {
            loop {
                let next = hear(&mut read).await;
                let closed = matches!(next, Heard::Closed(_));
                if keep.send(next).is_err() || closed {
                    return;
                }
            }
        });
        Link { say, heard }
    }

    fn link(&self) -> &Link {
        self.link.as_ref().expect("it has joined")
    }

    pub fn say(&self, message: &ToMaster) {
        self.send(Message::text(encode(message)));
    }

    pub fn send(&self, message: Message) {
        self.link().say.send(message).expect("the runtime lives");
    }

    /// Waits for a message that `look` wants; the others are dropped.
    pub fn hear<T>(&self, what: &str, mut look: impl FnMut(ToAgent) -> Option<T>) -> T {
        loop {
            match self.link().heard.recv_timeout(wait::A_BUILD) {
                Ok(Heard::Said(message)) => {
                    if let Some(found) = look(message) {
                        return found;
                    }
                }
                Ok(Heard::Closed(code)) => panic!("closed with {code} before {what}"),
                Err(_) => panic!("waited in vain: {what}"),
            }
        }
    }

    /// Waits for the end of the connection; the code with which the master closed it.
    pub fn closed(&mut self) -> u16 {
        let link = self.link.take().expect("it has joined");
        loop {
            match link.heard.recv_timeout(wait::A_BUILD) {
                Ok(Heard::Said(_)) => {}
                Ok(Heard::Closed(code)) => return code,
                Err(_) => panic!("the master did not close"),
            }
        }
    }

    /// The next command that it is to run.
    pub fn command(&self) -> Command {
        self.hear("a command", |message| match message {
            ToAgent::Run { command } => Some(*command),
            _ => None,
        })
    }

    pub fn print(&self, stream: StreamId, offset: u64, at_us: u64, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        let frame = StreamFrame { stream, channel: Channel::Out, offset, at_us, bytes };
        self.send(Message::binary(encode_frame(&frame)));
    }

    pub fn finish(&self, command: &Command, kind: OutcomeKind, to: u64) {
        let stream = command.stream().map(|stream| StreamEnd { stream, to, note: None });
        self.say(&ToMaster::Finished { command: command.id, outcome: Box::new(outcome(kind, stream)) });
    }

    /// A file by HTTP on the worker's socket: the answer's status and its text.
    pub fn put(&self, path: &str, token: &str, body: &[u8]) -> (u16, String) {
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: rouse\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\
             Rouse-Sha256: {}\r\n\r\n",
            body.len(),
            hex::encode(Sha256::digest(body))
        );
        self.http(&[head.as_bytes(), body].concat())
    }

    pub fn post(&self, path: &str, token: &str, headers: &str) -> (u16, String) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: rouse\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n{headers}\r\n"
        );
        self.http(head.as_bytes())
    }

    pub fn get(&self, path: &str, token: &str) -> (u16, String) {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: rouse\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        self.http(head.as_bytes())
    }

    fn http(&self, request: &[u8]) -> (u16, String) {
        let mut stream = std::os::unix::net::UnixStream::connect(&self.socket).expect("the socket is there");
        stream.set_read_timeout(Some(wait::A_BUILD)).expect("a timeout");
        stream.write_all(request).expect("it is read");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status in {head:?}")), body.to_owned())
    }
}

pub fn outcome(kind: OutcomeKind, stream: Option<StreamEnd>) -> Outcome {
    Outcome {
        kind,
        started_us: 1,
        finished_us: 2,
        started_wall_us: 1,
        finished_wall_us: 2,
        streams: stream.into_iter().collect(),
        max_rss_bytes: None,
        cpu_us: None,
        oom_killed: false,
        leftovers: 0,
        no_room: None,
    }
}

fn word(code: RefusalCode) -> String {
    serde_json::to_value(code).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

async fn hear<S>(socket: &mut S) -> Heard
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => match decode_to_agent(&text).expect("the master speaks well") {
                Some(ToAgent::Heartbeat {}) | None => {}
                Some(message) => return Heard::Said(message),
            },
            Some(Ok(Message::Close(frame))) => {
                return Heard::Closed(frame.map_or(1005, |frame| frame.code.into()));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Heard::Closed(1006),
        }
    }
}
