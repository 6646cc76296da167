//! A server over http with a repository and its large files: git's own files as they lie there, and the batch API of Git LFS beside them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::git::GitRepo;

/// Closes when dropped.
pub struct LfsServer {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    /// Below it lie bare repositories, in each large files as `lfs/objects/aa/bb/OID`, which is where `git lfs push` to a path puts them.
    base: PathBuf,
    address: String,
    asked: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl LfsServer {
    pub fn of(repo: &GitRepo) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port is free");
        let address = listener.local_addr().expect("a port has an address").to_string();
        let base = repo.bare().parent().expect("a repository lies in a folder").to_owned();
        let shared =
            Shared { base, address: address.clone(), asked: Mutex::default(), ended: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        let server = Self { address, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, shared.clone()) else { continue };
                std::thread::spawn(move || shared.answer(stream));
            }
        });
        server
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked for so far: method and path.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for LfsServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}

impl Shared {
    /// One request, whose answer ends the connection. Whoever asks nonsense or goes away is none of our business.
    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let (method, path) = line.trim_end().rsplit_once(' ')?.0.split_once(' ')?;
        let (method, path) = (method.to_owned(), path.split('?').next()?.to_owned());
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            if line.trim_end().is_empty() {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {path}"));
        let (kind, answer) = match path.strip_suffix("/info/lfs/objects/batch") {
            Some(repository) => ("application/vnd.git-lfs+json", self.batch(repository, &body)),
            None => ("application/octet-stream", file(&self.base, &path)),
        };
        let status = if answer.is_some() { "200 OK" } else { "404 Not Found" };
        let answer = answer.unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            answer.len()
        );
        let mut stream = stream;
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(&answer).ok()?;
        stream.shutdown(Shutdown::Write).ok()
    }

    fn batch(&self, repository: &str, body: &[u8]) -> Option<Vec<u8>> {
        let asked: Value = serde_json::from_slice(body).ok()?;
        let object = |object: &Value| {
            let oid = object["oid"].as_str().unwrap_or_default();
            let path = format!("{repository}/lfs/objects/{}/{}/{oid}", oid.get(..2)?, oid.get(2..4)?);
            let there = file(&self.base, &path).is_some();
            let href = format!("http://{}{path}", self.address);
            Some(match there {
                true => json!({"oid": oid, "size": object["size"], "actions": {"download": {"href": href}}}),
                false => {
                    json!({"oid": oid, "size": object["size"], "error": {"code": 404, "message": "not here"}})
                }
            })
        };
        let objects: Option<Vec<Value>> = asked["objects"].as_array()?.iter().map(object).collect();
        serde_json::to_vec(&json!({"transfer": "basic", "objects": objects?})).ok()
    }
}

fn file(base: &Path, path: &str) -> Option<Vec<u8>> {
    if path.contains("..") {
        return None;
    }
    std::fs::read(base.join(path.trim_start_matches('/'))).ok()
}
