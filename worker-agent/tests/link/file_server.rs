//! Files beside the link: what a master's listener does with `PUT`, `HEAD` and `GET`, with faults on demand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rouse_agent_protocol::SHA256_HEADER;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{Head, Wire};

pub const TOKEN: &str = "transfer-token";

#[derive(Default)]
pub struct FileServer {
    /// What was put and is whole.
    pub got: BTreeMap<String, Vec<u8>>,
    /// What was put and broke off.
    pub parts: BTreeMap<String, Vec<u8>>,
    /// What can be fetched.
    pub offered: BTreeMap<String, Vec<u8>>,
    /// Break each of so many connections after some bytes.
    pub breaks: usize,
    /// Answer so many requests with this instead.
    pub refusals: Vec<(u16, &'static str)>,
    /// Never answer.
    pub hang: bool,
    /// Send all of a file whatever range is asked for.
    pub no_ranges: bool,
    /// Method, path and range of each request.
    pub log: Vec<String>,
}

const BREAK_AFTER: usize = 100_000;

/// Answer one request; `None` ends the connection.
pub async fn serve_file(
    stream: &mut Wire,
    head: &Head,
    rest: &mut Vec<u8>,
    files: &Arc<Mutex<FileServer>>,
) -> Option<()> {
    let range = head.header("range").or(head.header("content-range")).unwrap_or_default().to_owned();
    let (refusal, breaking, hang) = {
        let mut files = files.lock().unwrap();
        files.log.push(format!("{} {} {range}", head.method, head.path).trim().to_owned());
        let breaking = head.method != "HEAD" && files.breaks > 0;
        files.breaks -= usize::from(breaking);
        (files.refusals.pop(), breaking, files.hang)
    };
    if hang {
        std::future::pending::<()>().await;
    }
    let length: usize = head.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    if let Some((status, text)) = refusal {
        read_body(stream, rest, length).await;
        return answer(stream, status, "", text.as_bytes()).await;
    }
    if head.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        read_body(stream, rest, length).await;
        return answer(stream, 401, "", b"no token").await;
    }
    match head.method.as_str() {
        "PUT" => put(stream, head, rest, files, length, &range, breaking).await,
        "HEAD" => {
            let received = files.lock().unwrap().parts.get(&head.path).map_or(0, Vec::len);
            answer(stream, 200, &format!("rouse-received: {received}\r\n"), b"").await
        }
        _ => get(stream, head, files, &range, breaking).await,
    }
}

async fn put(
    stream: &mut Wire,
    head: &Head,
    rest: &mut Vec<u8>,
    files: &Arc<Mutex<FileServer>>,
    length: usize,
    range: &str,
    breaking: bool,
) -> Option<()> {
    let take = if breaking { length.min(BREAK_AFTER) } else { length };
    let body = read_body(stream, rest, take).await;
    let (path, from) = (head.path.clone(), range_start(range));
    let mut whole = files.lock().unwrap().parts.remove(&path).unwrap_or_default();
    whole.truncate(from);
    assert_eq!(whole.len(), from, "a range that begins past what is there");
    whole.extend(body);
    if breaking {
        files.lock().unwrap().parts.insert(path, whole);
        return None;
    }
    if head.header(SHA256_HEADER) != Some(&hex::encode(Sha256::digest(&whole))) {
        return answer(stream, 422, "", b"checksum").await;
    }
    files.lock().unwrap().got.insert(path, whole);
    answer(stream, 201, "", b"").await
}

async fn get(
    stream: &mut Wire,
    head: &Head,
    files: &Arc<Mutex<FileServer>>,
    range: &str,
    breaking: bool,
) -> Option<()> {
    let (offered, ranges) = {
        let files = files.lock().unwrap();
        (files.offered.get(&head.path).cloned(), !files.no_ranges)
    };
    let Some(body) = offered else { return answer(stream, 404, "", b"no such file").await };
    let from = if ranges { range_start(range) } else { 0 };
    let (status, extra) = match from {
        0 => (200, String::new()),
        from => (206, format!("content-range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len())),
    };
    let part = &body[from..];
    let head = format!("HTTP/1.1 {status} X\r\n{extra}content-length: {}\r\n\r\n", part.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    let send = if breaking { part.len().min(BREAK_AFTER) } else { part.len() };
    stream.write_all(&part[..send]).await.ok()?;
    (!breaking).then_some(())
}

/// `bytes=5-` or `bytes 5-9/10` or `bytes */10`, which is its end.
fn range_start(range: &str) -> usize {
    let range = range.trim_start_matches("bytes").trim_start_matches(['=', ' ']);
    match range.strip_prefix("*/") {
        Some(end) => end.parse().unwrap(),
        None => range.split('-').next().and_then(|from| from.parse().ok()).unwrap_or(0),
    }
}

async fn read_body(stream: &mut Wire, rest: &mut Vec<u8>, length: usize) -> Vec<u8> {
    while rest.len() < length && stream.read_buf(rest).await.is_ok_and(|n| n > 0) {}
    rest.drain(..length.min(rest.len())).collect()
}

async fn answer(stream: &mut Wire, status: u16, extra: &str, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 {status} X\r\n{extra}content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()
}
