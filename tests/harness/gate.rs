//! Stands before a registry and misbehaves for one image and not for another: has enough of whoever asks, never answers, or breaks off. What it
//! lets through is the real registry's.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How a connection by TLS begins.
const TLS: u8 = 0x16;

/// What it does with questions about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Fine,
    /// 429, with so many seconds to wait, in the header and in words.
    Enough(u32),
    /// Until it behaves otherwise, when it breaks off.
    Hangs,
    /// The connection ends without an answer.
    Cuts,
}

/// Closes when dropped.
pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    registry: String,
    /// By the name of the repository; fine where nothing is said.
    manners: Mutex<HashMap<String, Manner>>,
    /// When somebody asked what a name means, and of which repository.
    asked: Mutex<Vec<(Instant, String)>>,
    ended: AtomicBool,
}

impl Gate {
    /// Before the registry at an address.
    pub fn before(registry: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let shared = Arc::new(Shared {
            registry: registry.to_owned(),
            manners: Mutex::default(),
            asked: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                if serving.ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || drop(shared.serve(caller)));
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn set(&self, repository: &str, manner: Manner) {
        let mut manners = self.shared.manners.lock().unwrap_or_else(PoisonError::into_inner);
        manners.insert(repository.to_owned(), manner);
    }

    /// When somebody asked what a name of a repository means.
    pub fn asked(&self, repository: &str) -> Vec<Instant> {
        let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|(_, of)| of == repository).map(|(at, _)| *at).collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // So that the one that listens sees it.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    /// One question for each connection.
    fn serve(&self, mut caller: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            // A daemon tries TLS first, and takes the other way at once where nobody speaks it.
            if caller.read(&mut byte)? == 0 || (head.is_empty() && byte[0] == TLS) {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches("/v2/");
        let repository = path.split_once('/').map_or("", |(name, _)| name).to_owned();
        if path.contains("/manifests/") {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push((Instant::now(), repository.clone()));
        }
        let manner = || {
            let manners = self.manners.lock().unwrap_or_else(PoisonError::into_inner);
            manners.get(&repository).copied().unwrap_or(Manner::Fine)
        };
        match manner() {
            Manner::Cuts => Ok(()),
            Manner::Hangs => {
                let hangs = || manner() == Manner::Hangs && !self.ended.load(Ordering::Relaxed);
                while hangs() && !is_gone(&caller) {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(())
            }
            Manner::Enough(seconds) => {
                let body = format!(
                    r#"{{"errors":[{{"code":"TOOMANYREQUESTS","message":"retry-after: {seconds}s, allowed: 1/minute"}}]}}"#
                );
                write!(
                    caller,
                    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {seconds}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
                    body.len(),
                    if head.starts_with("HEAD") { "" } else { &body }
                )
            }
            Manner::Fine => {
                let mut registry = TcpStream::connect(&self.registry)?;
                registry.write_all(head.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
                std::io::copy(&mut registry, &mut caller)?;
                caller.shutdown(Shutdown::Both)
            }
        }
    }
}

/// Whether whoever asked has hung up.
fn is_gone(caller: &TcpStream) -> bool {
    caller.set_nonblocking(true).is_err() || matches!(caller.peek(&mut [0]), Ok(0))
}
