//! The link by TLS: an authority, certificates of its making, and whom an agent must not believe.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::process::Stdio;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519, date_time_ymd,
};
use rouse_agent_protocol::Endpoint;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::agents::Agent;
use crate::rig::{Rig, argv, until};

/// Whom the join document tells to trust.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        // Not the name that what it signs has: that would be taken for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// What a listener of this name shows, until the end of that year.
    pub fn vouch(&self, name: &str, year: i32) -> Arc<ServerConfig> {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.not_after = date_time_ymd(year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into());
        Arc::new(config.unwrap())
    }
}

/// The listener's side of a rig by TLS.
pub struct Tls {
    pub authority: Authority,
    pub address: SocketAddr,
    pub shown: Arc<ServerConfig>,
}

impl Tls {
    pub fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = Authority::new();
        let shown = authority.vouch("127.0.0.1", 9000);
        Self { address: listener.local_addr().unwrap(), shown, authority }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Tls { address: self.address.to_string(), ca: self.authority.pem.clone() }
    }
}

/// Each of these is refused in words of its own, and the right one that comes after them is believed.
pub async fn who_cannot_show_the_right_certificate_is_refused(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    let right = rig.shown();
    let authority = Authority::new();
    let own = &rig.authority();
    let wrong = [
        ("authority", authority.vouch("127.0.0.1", 9000)),
        ("other names", own.vouch("10.9.8.7", 9000)),
        ("by this machine's clock", own.vouch("127.0.0.1", 2024)),
    ];
    let mut started = false;
    for (word, shown) in wrong {
        rig.vanish();
        let known = rig.stderr().len();
        rig.show(shown);
        rig.listen();
        if !started {
            rig.start();
            started = true;
        }
        until("the agent says why it does not believe the master", || {
            let said = rig.stderr();
            let new = &said[known.min(said.len())..];
            if agent.is_ours() {
                new.contains(word)
            } else {
                new.contains("ertificate") || said.contains("ertificate")
            }
        })
        .await;
        assert!(rig.nobody_came(), "an agent joined a master that shows a certificate of a wrong {word}");
    }
    rig.vanish();
    rig.show(right);
    rig.listen();
    let mut link = rig.attach().await;
    link.succeed(argv(1, &["true"])).await;
}

/// Names are looked up without the C library.
pub async fn a_master_is_found_by_its_name(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    rig.vanish();
    let shown = rig.authority().vouch("localhost", 9000);
    rig.show(shown);
    rig.listen();
    let Endpoint::Tls { address, ca } = rig.join.endpoints[0].clone() else { unreachable!("a rig by TLS") };
    let port = address.rsplit_once(':').unwrap().1;
    rig.join.endpoints = vec![Endpoint::Tls { address: format!("localhost:{port}"), ca }];
    rig.start();
    let mut link = rig.attach().await;
    link.succeed(argv(1, &["true"])).await;
}

/// A relay beside the agent, as a master has it run: what the master says is its input, and what it prints is what the master hears.
async fn relay(agent: Agent, socket: &str, address: SocketAddr) -> std::process::Child {
    let mut stream = None;
    until("the master to listen", || {
        stream = std::net::TcpStream::connect(address).ok();
        stream.is_some()
    })
    .await;
    let stream = stream.unwrap();
    let (input, output) = (OwnedFd::from(stream.try_clone().unwrap()), OwnedFd::from(stream));
    let mut command = std::process::Command::new(&agent.command()[0]);
    command.args(["relay", socket]).stdin(Stdio::from(input)).stdout(Stdio::from(output)).spawn().unwrap()
}

/// Whoever else comes to the agent's socket is nobody to it.
pub async fn streams_that_the_master_opens_are_taken(agent: Agent) {
    if !agent.is_ours() {
        return;
    }
    let mut rig = Rig::new(agent).await;
    let Endpoint::Tls { address, ca } = rig.join.endpoints[0].clone() else { unreachable!("a rig by TLS") };
    let socket = format!("rouse-test-{}", std::process::id());
    rig.join.endpoints = vec![Endpoint::Opened { socket: socket.clone(), name: "127.0.0.1".into(), ca }];
    rig.start();
    let name = std::os::unix::net::SocketAddr::from_abstract_name(&socket).unwrap();
    until("the agent to listen", || std::os::unix::net::UnixStream::connect_addr(&name).is_ok()).await;
    let mut rogue = std::os::unix::net::UnixStream::connect_addr(&name).unwrap();
    std::io::Write::write_all(&mut rogue, b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
    let address = address.parse().unwrap();
    let mut relays = [relay(agent, &socket, address).await, relay(agent, &socket, address).await];
    let mut link = rig.attach().await;
    link.succeed(argv(1, &["true"])).await;
    // Each stream ends with its relay, and the next one is taken.
    for relay in &mut relays {
        relay.kill().unwrap();
        relay.wait().unwrap();
    }
    let mut next = relay(agent, &socket, address).await;
    let mut link = rig.attach().await;
    link.succeed(argv(2, &["true"])).await;
    next.kill().unwrap();
    next.wait().unwrap();
}
