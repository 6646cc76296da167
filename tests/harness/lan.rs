//! Hosts with addresses of their own on this machine: network namespaces on one bridge, on which this host is `10.N.0.1`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rouse_testkit::back_ends;
use serde_json::{Value, json};

use super::Scratch;

/// Taken away when dropped, after what runs on its hosts.
pub struct Lan {
    number: u8,
    hosts: Vec<String>,
    authority: Issuer<'static, KeyPair>,
    folder: Scratch,
}

/// A network namespace with one address on the bridge; containers on it get theirs from a block that is reached through it.
#[derive(Clone, Debug)]
pub struct Host {
    pub namespace: String,
    pub address: Ipv4Addr,
    /// The address of its containers' bridge.
    pub containers: Ipv4Addr,
}

impl Lan {
    /// `None`: the skip has been recorded.
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            back_ends::skip("needs network namespaces, and so root");
            return None;
        }
        let routes = ip(&["-4", "route", "show", "table", "all"]).expect("routes can be read");
        // Making the bridge is what takes the block.
        let free = |number: &u8| {
            !routes.contains(&format!("10.{number}."))
                && ip(&["link", "add", &bridge(*number), "type", "bridge"]).is_ok()
        };
        let number = (100..200).find(free).expect("a block of addresses is free");
        let folder = Scratch::new();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("written");
        let lan = Self { number, hosts: Vec::new(), authority: Issuer::new(params, key), folder };
        must(&["addr", "add", &format!("{}/24", lan.here()), "dev", &bridge(number)]);
        must(&["link", "set", &bridge(number), "up"]);
        lan.certify("client", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth);
        Some(lan)
    }

    /// This host, as the others see it.
    pub fn here(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.number, 0, 1)
    }

    /// An address of this host's on the network that nobody listens on.
    pub fn free_address(&self) -> String {
        let free = TcpListener::bind((self.here(), 0)).expect("a port is free");
        free.local_addr().expect("an address").to_string()
    }

    /// One more host.
    pub fn host(&mut self) -> Host {
        let n = u8::try_from(self.hosts.len() + 1).expect("few hosts");
        let host = Host {
            namespace: format!("{}-{n}", bridge(self.number)),
            address: Ipv4Addr::new(10, self.number, 0, 10 + n),
            containers: Ipv4Addr::new(10, self.number, n, 1),
        };
        let Host { namespace, address, .. } = &host;
        let (near, far) = (namespace.as_str(), "eth0");
        must(&["netns", "add", namespace]);
        self.hosts.push(namespace.clone());
        must(&["link", "add", near, "type", "veth", "peer", "name", far, "netns", namespace]);
        must(&["link", "set", near, "master", &bridge(self.number), "up"]);
        must(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", far]);
        must(&["-n", namespace, "link", "set", far, "up"]);
        must(&["-n", namespace, "link", "set", "lo", "up"]);
        must(&["-n", namespace, "route", "add", "default", "via", &self.here().to_string()]);
        let behind = format!("10.{}.{n}.0/24", self.number);
        must(&["route", "add", &behind, "via", &address.to_string()]);
        let forward = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
        let done = within(namespace).args(forward).status().expect("nsenter runs");
        assert!(done.success(), "packets can be forwarded in {namespace}");
        self.certify(namespace, vec![address.to_string()], ExtendedKeyUsagePurpose::ServerAuth);
        host
    }

    /// Files in PEM: the authority's certificate, and that and the key of `client` or of a host by its namespace.
    pub fn certificate(&self, of: &str) -> [PathBuf; 3] {
        let below = |name: String| self.folder.path().join(name);
        [below("ca.pem".into()), below(format!("{of}.pem")), below(format!("{of}.key"))]
    }

    /// What an account says of TLS.
    pub fn tls(&self) -> Value {
        let [ca, cert, key] = self.certificate("client");
        json!({"ca": ca, "cert": cert, "key": key})
    }

    fn certify(&self, name: &str, names: Vec<String>, usage: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new(names).expect("good names");
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("signed");
        let [_, cert, secret] = self.certificate(name);
        std::fs::write(cert, certificate.pem()).expect("written");
        std::fs::write(secret, key.serialize_pem()).expect("written");
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for namespace in &self.hosts {
            let _ = ip(&["link", "delete", namespace]);
            let _ = ip(&["netns", "delete", namespace]);
        }
        let _ = ip(&["link", "delete", &bridge(self.number)]);
    }
}

/// A program within a host's network, and otherwise where we are.
pub fn within(namespace: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", Path::new("/run/netns").join(namespace).display()));
    command
}

fn bridge(number: u8) -> String {
    format!("rt-lan{number}")
}

fn must(arguments: &[&str]) {
    ip(arguments).unwrap_or_else(|complaint| panic!("ip {}: {complaint}", arguments.join(" ")));
}

fn ip(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
