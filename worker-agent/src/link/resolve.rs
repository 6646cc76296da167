//! From a host's name to its addresses, without the C library: linked in statically it would load modules of the image that it runs in.
//!
//! `/etc/hosts`, then the servers of `/etc/resolv.conf` by UDP. What a container or a machine on a network has there is all that is
//! understood; no options, no TCP.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::random;

const HOSTS: &str = "/etc/hosts";
const CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// For one answer; the next server is asked then.
const PATIENCE: Duration = Duration::from_secs(2);
const A: u16 = 1;
const AAAA: u16 = 28;

/// All addresses of a name, of version 4 first.
pub async fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    let known = in_hosts(&fs::read_to_string(HOSTS).unwrap_or_default(), host);
    if !known.is_empty() {
        return Ok(known);
    }
    let (servers, domains) = conf(&fs::read_to_string(CONF).unwrap_or_default());
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("no name server in {CONF} knows it"));
    for name in names(host, &domains) {
        for server in &servers {
            match ask(*server, &name).await {
                Ok(found) if found.is_empty() => break,
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    });
    lines.collect()
}

/// Servers and search domains.
fn conf(text: &str) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut servers, mut domains) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                servers.extend(address.map(|address| SocketAddr::new(address, PORT)));
            }
            Some("search" | "domain") => domains = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    if servers.is_empty() {
        servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
    }
    (servers, domains)
}

/// A name with dots is whole, and tried first.
fn names(host: &str, domains: &[String]) -> Vec<String> {
    let within = domains.iter().map(|domain| format!("{host}.{domain}"));
    let itself = host.trim_end_matches('.').to_owned();
    if host.ends_with('.') {
        vec![itself]
    } else if host.contains('.') {
        std::iter::once(itself).chain(within).collect()
    } else {
        within.chain(std::iter::once(itself)).collect()
    }
}

async fn ask(server: SocketAddr, name: &str) -> io::Result<Vec<IpAddr>> {
    let local: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut found = Vec::new();
    for kind in [A, AAAA] {
        let socket = UdpSocket::bind(SocketAddr::new(local, 0)).await?;
        socket.connect(server).await?;
        let id = u16::from_be_bytes(random::bytes::<2>());
        let question = question(id, name, kind)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is no host's name"))?;
        socket.send(&question).await?;
        let mut buffer = [0; 1500];
        let answer = timeout(PATIENCE, async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                // Somebody else's answer to another question is not ours.
                if buffer[..length].starts_with(&id.to_be_bytes()) {
                    return Ok::<usize, io::Error>(length);
                }
            }
        });
        let length = answer.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        found.extend(answers(&buffer[..length], kind).unwrap_or_default());
    }
    Ok(found)
}

/// A query with recursion (RFC 1035, 4.1).
fn question(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        out.push(length);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    (out.len() <= 300).then_some(out)
}

/// Addresses in an answer; what stands between the question and them, aliases for instance, is passed over.
fn answers(message: &[u8], kind: u16) -> Option<Vec<IpAddr>> {
    let number = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let (questions, records) = (number(4)?, number(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..records {
        at = after_name(message, at)?;
        let (of, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        match (of == kind, kind) {
            (true, A) => found.extend(<[u8; 4]>::try_from(data).ok().map(IpAddr::from)),
            (true, AAAA) => found.extend(<[u8; 16]>::try_from(data).ok().map(IpAddr::from)),
            _ => {}
        }
        at += 10 + length;
    }
    Some(found)
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_container_are_read() {
        let hosts = "127.0.0.1 localhost\n# 1.1.1.1 master\n10.0.0.7\tMaster m # old\n::1 localhost\n";
        assert_eq!(in_hosts(hosts, "master"), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(in_hosts(hosts, "localhost").len(), 2);
        assert!(in_hosts(hosts, "old").is_empty());
        let (servers, domains) = conf("search a.example b.example\nnameserver 10.0.0.1\noptions ndots:5\n");
        assert_eq!(servers, ["10.0.0.1:53".parse::<SocketAddr>().unwrap()]);
        assert_eq!(names("ci", &domains), ["ci.a.example", "ci.b.example", "ci"]);
        assert_eq!(names("ci.x", &domains)[0], "ci.x");
        assert_eq!(names("ci.x.", &domains), ["ci.x"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_server_is_asked_and_its_aliases_passed_over() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        let serving = async {
            for _ in 0..2 {
                let mut buffer = [0; 512];
                let (length, from) = server.recv_from(&mut buffer).await.unwrap();
                let asked = &buffer[..length];
                let v4 = asked[length - 3] == 1;
                let mut out = asked[..2].to_vec();
                out.extend([0x81, 0x80, 0, 1, 0, if v4 { 2 } else { 0 }, 0, 0, 0, 0]);
                out.extend(&asked[12..]);
                if v4 {
                    // An alias to a name that is told by reference, then its address.
                    out.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
                    out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 1, 2, 3]);
                }
                server.send_to(&out, from).await.unwrap();
            }
        };
        let (found, ()) = tokio::join!(ask(at, "ci.example.org"), serving);
        assert_eq!(found.unwrap(), ["10.1.2.3".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for length in 0..40 {
            answers(&vec![0xff; length], A);
            answers(&vec![1; length], AAAA);
        }
        assert!(question(1, "a..b", A).is_none() && question(1, &"x".repeat(64), A).is_none());
    }
}
