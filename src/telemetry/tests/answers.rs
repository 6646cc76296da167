//! What a collector may answer, over TLS; and one that is nobody's.

use crate::config::leaf::{HeaderName, HeaderValue};
use crate::config::{Config, Reach, SecretConfig, SecretSource, TelemetryConfig};
use crate::supervisor::chain;
use crate::telemetry::post::{Left, Post, PostError};
use crate::tls_client::tests::server;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SECRET: &str = "Bearer 0f9c-kept";

/// Answers each connection's request alike, as text or as protobuf.
struct Answering {
    config: Config,
    to: TelemetryConfig,
    asked: Arc<Mutex<String>>,
    _folder: tempfile::TempDir,
}

impl Answering {
    async fn with(status: &'static str, kind: &'static str, body: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, tls) = server();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}/otlp/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = tls.accept(stream).await else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n")
                    && stream.read_buf(&mut head).await.is_ok_and(|read| read > 0)
                {}
                *kept.lock().unwrap() = String::from_utf8_lossy(&head).into_owned();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nretry-after: 7\r\ncontent-length: {length}\r\n\r\n"
                );
                let _ = stream.write_all(&[answer.as_bytes(), &body].concat()).await;
            }
        });
        let (to, config) = configured(&endpoint, &ca_file, &secret_file(folder.path()));
        Self { config, to, asked, _folder: folder }
    }

    async fn sent(&self) -> Result<Left, PostError> {
        Post::new(&self.to)?.send(&self.config, "traces", &ExportTraceServiceRequest::default()).await
    }
}

fn secret_file(folder: &Path) -> PathBuf {
    let path = folder.join("secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn configured(endpoint: &str, ca_file: &Path, secret: &Path) -> (TelemetryConfig, Config) {
    let name: HeaderName = "Authorization".parse().unwrap();
    let value: HeaderValue = "secret:collector".parse().unwrap();
    let to = TelemetryConfig {
        endpoint: endpoint.parse().unwrap(),
        headers: [(name, value)].into_iter().collect(),
        ca_file: Some(ca_file.to_owned()),
        traces: true,
        metrics: None,
    };
    let mut config = Config::default();
    let secret = SecretConfig { source: SecretSource::File(secret.to_owned()), reach: Reach::default() };
    config.secrets.insert("collector".parse().unwrap(), secret);
    (to, config)
}

#[derive(Clone, PartialEq, Message)]
struct Said {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

#[tokio::test]
async fn what_is_taken_is_taken_and_what_is_left_out_is_said() {
    let all = Answering::with("200 OK", "application/x-protobuf", Vec::new()).await;
    assert_eq!(all.sent().await.unwrap(), Left::default());
    let asked = all.asked.lock().unwrap().to_lowercase();
    assert!(asked.starts_with("post /otlp/v1/traces http/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("authorization: {}\r\n", SECRET.to_lowercase())), "{asked}");
    let left = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too\n old".to_owned() };
    let answer = ExportTraceServiceResponse { partial_success: Some(left) };
    let part = Answering::with("200 OK", "application/x-protobuf", answer.encode_to_vec()).await;
    assert_eq!(part.sent().await.unwrap(), Left { count: 2, said: "too old".to_owned() });
    // Some answer in another tongue that they have taken it.
    let other = Answering::with("202 Accepted", "application/json", b"{}".to_vec()).await;
    assert_eq!(other.sent().await.unwrap(), Left::default());
}

#[tokio::test]
async fn a_refusal_is_repeated_without_what_is_secret() {
    let message = format!("no such\ttoken: {SECRET}");
    let body = Said { code: 16, message }.encode_to_vec();
    let refused =
        Answering::with("401 Unauthorized", "application/x-protobuf", body).await.sent().await.unwrap_err();
    let said = refused.to_string();
    assert!(said.ends_with("answered 401 Unauthorized: no such token: ***"), "{said}");
    assert!(!refused.is_about_content() && refused.outcome() == "refused");
    assert_eq!(refused.after(), Some(Duration::from_secs(7)));
    let bad = Answering::with("400 Bad Request", "text/plain", b"what is that?".to_vec()).await;
    let bad = bad.sent().await.unwrap_err();
    assert!(bad.is_about_content() && bad.to_string().ends_with("400 Bad Request: what is that?"), "{bad}");
}

#[tokio::test]
async fn what_keeps_it_from_being_sent_is_said_with_what_mends_it() {
    let mut strange = Answering::with("200 OK", "text/plain", Vec::new()).await;
    // An authority that has not issued the collector's certificate.
    std::fs::write(strange.to.ca_file.as_ref().unwrap(), server().0).unwrap();
    let untrusted = strange.sent().await.unwrap_err();
    assert!(
        untrusted.outcome() == "away" && chain(&untrusted).contains("invalid peer certificate"),
        "{}",
        chain(&untrusted)
    );
    strange.to.ca_file = Some("/nonexistent/ca.pem".into());
    let none = chain(&strange.sent().await.unwrap_err());
    assert!(none.contains("server.telemetry.ca_file") && none.contains("/nonexistent/ca.pem"), "{none}");
    // Nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    strange.to.endpoint = format!("http://{free}").parse().unwrap();
    let away = strange.sent().await.unwrap_err();
    assert!(away.outcome() == "away" && chain(&away).contains("refused"), "{}", chain(&away));
    assert!(away.to_string().contains("usually at port 4318"), "{away}");
    strange.config.secrets.clear();
    let secret = strange.sent().await.unwrap_err();
    assert_eq!(secret.outcome(), "unsent");
    assert!(secret.to_string().contains("header `Authorization`"), "{secret}");
}
