//! A bucket of a scenario's own in the run's object store, looked into from outside, and the way there, which can be closed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rouse_testkit::back_ends;

use super::scratch::unique;

pub struct Bucket {
    http: reqwest::blocking::Client,
    server: String,
    pub name: String,
}

impl Bucket {
    /// `None`: the skip has been recorded.
    pub fn fresh() -> Option<Self> {
        let server = back_ends::s3()?;
        // It takes any signature, but wants one.
        let mut headers = reqwest::header::HeaderMap::new();
        let signature = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";
        headers.insert("authorization", signature.parse().expect("a header"));
        let http = reqwest::blocking::Client::builder().no_proxy().default_headers(headers).build();
        let http = http.expect("a client can be made");
        let bucket = Self { http, server, name: unique("bucket").to_lowercase().replace('_', "-") };
        let made = bucket.http.put(bucket.url("")).send().expect("the store answers");
        assert!(made.status().is_success(), "{made:?}");
        Some(bucket)
    }

    /// `HOST:PORT` of the store.
    pub fn server(&self) -> &str {
        self.server.trim_start_matches("http://")
    }

    /// Keys and sizes of all objects.
    pub fn objects(&self) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        let mut after = String::new();
        loop {
            let query = format!("?list-type=2&start-after={after}");
            let answer = self.http.get(self.url(&query)).send().expect("the store answers");
            let page = answer.text().expect("it is text");
            let before = found.len();
            for object in page.split("<Contents>").skip(1) {
                let size = between(object, "Size").parse().expect("a number");
                found.insert(between(object, "Key").to_owned(), size);
            }
            match found.last_key_value() {
                Some((last, _)) if found.len() > before => after = last.clone(),
                _ => return found,
            }
        }
    }

    /// Whether an object came in several parts, as a master sends it.
    pub fn is_of_parts(&self, key: &str) -> bool {
        let answer = self.http.head(self.url(&format!("/{key}"))).send().expect("the store answers");
        answer.headers()["etag"].to_str().expect("it is text").contains('-')
    }

    /// A `PUT` as leave says it, by which it may fail.
    pub fn put(&self, url: &str, headers: &[(String, String)], body: &[u8]) -> u16 {
        // Its signature stands in the address.
        let http = reqwest::blocking::Client::builder().no_proxy().build().expect("a client can be made");
        let mut request = http.put(url).body(body.to_vec());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send().expect("the store answers").status().as_u16()
    }

    pub fn object(&self, key: &str) -> Vec<u8> {
        let answer = self.http.get(self.url(&format!("/{key}"))).send().expect("the store answers");
        assert!(answer.status().is_success(), "{key}: {answer:?}");
        answer.bytes().expect("it has a body").to_vec()
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/{}{rest}", self.server, self.name)
    }
}

fn between<'a>(text: &'a str, tag: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<{tag}>")).expect("the tag is there");
    rest.split_once(&format!("</{tag}>")).expect("it is closed").0
}

/// Passes on what comes to its own address, as long as it is open.
pub struct Gate {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    to: String,
    closed: AtomicBool,
    gone: AtomicBool,
    passed: AtomicU64,
    /// What came with a signature in its address: the method and the path.
    signed: Mutex<Vec<String>>,
    refuses_signed: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Gate {
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port is free");
        let address = listener.local_addr().expect("a port has an address").to_string();
        let shared = Arc::new(Shared {
            to: server.to_owned(),
            closed: AtomicBool::default(),
            gone: AtomicBool::default(),
            passed: AtomicU64::default(),
            signed: Mutex::default(),
            refuses_signed: AtomicBool::default(),
            streams: Mutex::default(),
        });
        let inner = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if inner.gone.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                inner.pass(stream);
            }
        });
        Self { address, shared }
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Every connection breaks, and new ones do at once.
    pub fn close(&self) {
        let mut streams = self.shared.streams.lock().expect("nothing panics while it is held");
        self.shared.closed.store(true, Ordering::SeqCst);
        for stream in streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn open(&self) {
        self.shared.closed.store(false, Ordering::SeqCst);
    }

    /// Requests that came with a signature in their address, as `PUT /bucket/key`.
    pub fn signed(&self) -> Vec<String> {
        self.shared.signed.lock().expect("nothing panics while it is held").clone()
    }

    /// From now on such a request breaks.
    pub fn refuse_signed(&self) {
        self.shared.refuses_signed.store(true, Ordering::SeqCst);
    }

    /// Bytes that went through to the store.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
        self.shared.gone.store(true, Ordering::SeqCst);
        // The listener's thread looks up.
        let _ = TcpStream::connect(&self.address);
    }
}

impl Shared {
    fn pass(self: &Arc<Self>, near: TcpStream) {
        let mut streams = self.streams.lock().expect("nothing panics while it is held");
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(far) = TcpStream::connect(&self.to) else { return };
        for (from, to, counts) in [(&near, &far, true), (&far, &near, false)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.pump(from, to, counts));
        }
        streams.extend([near, far]);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, counts: bool) {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(length) = from.read(&mut piece) {
            if counts && let Some(request) = signed(&piece[..length]) {
                // The master's own looks are not an agent's.
                let is_look = request.starts_with("HEAD ");
                self.signed.lock().expect("nothing panics while it is held").push(request);
                if self.refuses_signed.load(Ordering::SeqCst) && !is_look {
                    break;
                }
            }
            if length == 0 || to.write_all(&piece[..length]).is_err() {
                break;
            }
            if counts {
                self.passed.fetch_add(length as u64, Ordering::SeqCst);
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// A request's line, where these are its first bytes and its address is signed.
fn signed(piece: &[u8]) -> Option<String> {
    let line = piece.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok().filter(|line| line.contains("X-Amz-Signature="))?;
    Some(line.split('?').next()?.to_owned())
}
