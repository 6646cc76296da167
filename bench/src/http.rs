//! A small HTTP client: one connection, kept open. The measuring side must cost next to nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

/// One server, with one token or none.
pub struct Http {
    /// `127.0.0.1:PORT`
    address: String,
    token: Option<String>,
    open: Option<BufReader<TcpStream>>,
}

struct Head {
    status: u16,
    length: Option<u64>,
    chunked: bool,
    close: bool,
}

impl Http {
    pub fn new(address: &str, token: Option<String>) -> Self {
        Self { address: address.to_owned(), token, open: None }
    }

    pub fn get(&mut self, path: &str) -> Result<Value> {
        let (status, body) = self.call("GET", path, None)?;
        ensure!(status < 300, "GET {path}: {status}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).with_context(|| format!("GET {path}: no JSON"))
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.call("POST", path, Some(body))?;
        ensure!(status < 300, "POST {path}: {status}: {}", String::from_utf8_lossy(&answer));
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).with_context(|| format!("POST {path}: no JSON"))
    }

    /// The status and the whole body.
    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Vec<u8>)> {
        let mut whole = Vec::new();
        let status = self.stream(method, path, body, &mut |bytes| {
            whole.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok((status, whole))
    }

    /// The same, as it comes.
    pub fn stream(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<u16> {
        // A kept connection may have been closed meanwhile: the second try has a new one.
        let kept = self.open.is_some();
        let head = match self.ask(method, path, body) {
            Err(_) if kept => self.ask(method, path, body)?,
            other => other?,
        };
        let mut reader = self.open.take().context("the connection is there")?;
        if head.chunked {
            read_chunks(&mut reader, sink)?;
        } else if let Some(length) = head.length {
            read_exactly(&mut reader, length, sink)?;
        } else {
            read_exactly(&mut reader, u64::MAX, sink)?;
        }
        if !head.close && (head.chunked || head.length.is_some()) {
            self.open = Some(reader);
        }
        Ok(head.status)
    }

    /// A connection on which the request was sent, and from which nothing is read.
    pub fn hang(&mut self, path: &str) -> Result<TcpStream> {
        self.send("GET", path, None)?;
        Ok(self.open.take().context("the connection is there")?.into_inner())
    }

    fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Head> {
        let answered = self.send(method, path, body).and_then(|()| {
            let reader = self.open.as_mut().context("the connection is there")?;
            read_head(reader)
        });
        if answered.is_err() {
            self.open = None;
        }
        answered.with_context(|| format!("{method} {path}"))
    }

    fn send(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<()> {
        if self.open.is_none() {
            let stream = TcpStream::connect(&self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            self.open = Some(BufReader::with_capacity(256 * 1024, stream));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        if let Some(token) = &self.token {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        if method != "GET" {
            request
                .push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        request.push_str(&body);
        let reader = self.open.as_mut().context("the connection is there")?;
        reader.get_mut().write_all(request.as_bytes())?;
        Ok(())
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Result<Head> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        bail!("the connection was closed");
    }
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).context("no status")?;
    let mut head = Head { status, length: None, chunked: false, close: false };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(head) };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().ok(),
            "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => head.close = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
}

fn read_chunks(reader: &mut BufReader<TcpStream>, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16)
            .with_context(|| format!("no chunk size: {line:?}"))?;
        read_exactly(reader, size, sink)?;
        line.clear();
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Up to `length` bytes; `u64::MAX` reads to the end.
fn read_exactly(
    reader: &mut BufReader<TcpStream>,
    mut length: u64,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    while length > 0 {
        let most = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        let read = reader.read(&mut buffer[..most])?;
        if read == 0 {
            ensure!(length > u64::MAX / 2, "the body was cut short");
            return Ok(());
        }
        sink(&buffer[..read])?;
        length -= read as u64;
    }
    Ok(())
}
