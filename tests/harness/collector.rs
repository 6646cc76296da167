//! A collector of OpenTelemetry as far as a master can tell: takes OTLP over HTTP, answers what it is told to, and keeps what came.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::master::free_port;
use super::wait;

/// One request that came.
#[derive(Clone)]
pub struct Received {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What was answered.
    pub status: u16,
}

/// Judges a request by its path and body: the status that it is answered with.
type Judge = Box<dyn Fn(&str, &[u8]) -> u16 + Send + Sync>;

struct Shared {
    came: Mutex<Vec<Received>>,
    judge: Mutex<Judge>,
    ends: AtomicBool,
}

pub struct Collector {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Collector {
    pub fn start() -> Self {
        Self::at(free_port())
    }

    /// At an address that a master knows already.
    pub fn at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is ours");
        let judge: Judge = Box::new(|_, _| 200);
        let shared = Arc::new(Shared {
            came: Mutex::default(),
            judge: Mutex::new(judge),
            ends: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if theirs.ends.load(Ordering::Relaxed) {
                    return;
                }
                let _ = answer(stream, &theirs);
            }
        });
        Self { port, shared, thread: Some(thread) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on.
    pub fn judge(&self, judge: impl Fn(&str, &[u8]) -> u16 + Send + Sync + 'static) {
        *self.shared.judge.lock().expect("nobody panics") = Box::new(judge);
    }

    pub fn came(&self) -> Vec<Received> {
        self.shared.came.lock().expect("nobody panics").clone()
    }

    /// All spans that were taken, in the order in which they came.
    pub fn spans(&self) -> Vec<Span> {
        let taken = self.came().into_iter().filter(|one| one.path == "/v1/traces" && one.status == 200);
        taken.flat_map(|one| spans_of(&one.body)).collect()
    }

    /// Waits for a trace of which all parents are there, told by an attribute of its root; all its spans.
    pub fn trace_of(&self, request: i64) -> Vec<Span> {
        wait::until(&format!("the trace of request {request}"), wait::A_BUILD, || {
            let all = self.spans();
            let root = all.iter().find(|span| int(&span.attributes, "rouse.request.id") == Some(request))?;
            Some(all.iter().filter(|span| span.trace_id == root.trace_id).cloned().collect())
        })
    }

    /// Each sending of metrics that was taken.
    pub fn metrics(&self) -> Vec<Vec<Metric>> {
        let taken = self.came().into_iter().filter(|one| one.path == "/v1/metrics" && one.status == 200);
        let decoded =
            taken.map(|one| ExportMetricsServiceRequest::decode(&*one.body).expect("it is one of OTLP"));
        let scopes = decoded.map(|one| one.resource_metrics.into_iter().flat_map(|of| of.scope_metrics));
        scopes.map(|scopes| scopes.flat_map(|scope| scope.metrics).collect()).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn spans_of(body: &[u8]) -> Vec<Span> {
    let decoded = ExportTraceServiceRequest::decode(body).expect("it is one of OTLP");
    decoded.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn value<'a>(of: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    of.iter().find(|pair| pair.key == key).and_then(|pair| match &pair.value {
        Some(AnyValue { value }) => value.as_ref(),
        None => None,
    })
}

pub fn text<'a>(of: &'a [KeyValue], key: &str) -> Option<&'a str> {
    if let Some(Value::StringValue(text)) = value(of, key) { Some(text) } else { None }
}

pub fn int(of: &[KeyValue], key: &str) -> Option<i64> {
    if let Some(Value::IntValue(number)) = value(of, key) { Some(*number) } else { None }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, n)| n.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let status = (shared.judge.lock().expect("nobody panics"))(&path, &body);
    shared.came.lock().expect("nobody panics").push(Received { path, headers, body, status });
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
}
