//! One request to a collector, and what its answer means: OTLP over HTTP, by the master's own client and roots.

use crate::config::{Config, TelemetryConfig};
use crate::secrets::{SecretError, SecretValue, fetch_for_master};
use crate::tls_client::{AuthoritiesError, Dial, client, nobody};
use axum::body::Body;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

const PROTOBUF: &str = "application/x-protobuf";
/// For the answer, beside the time that what is sent may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a second, at the least, that are sent.
const SLOWEST: u64 = 64 * 1024;
/// A connection that nobody uses is closed before most servers close it.
const IDLE: Duration = Duration::from_secs(20);
/// More is no answer of a collector.
const MAX_ANSWER: usize = 64 * 1024;
/// Of what a server says of its trouble so much is repeated.
const MAX_SAID: usize = 200;

/// Why nothing was taken. Never says a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("the value of the header `{name}` (`server.telemetry.headers`)")]
    Secret {
        name: String,
        #[source]
        source: SecretError,
    },
    #[error(
        "the secret for the header `{0}` is no value of a header: it has line ends or signs that are not of ASCII"
    )]
    Header(String),
    #[error("give the collector's own as `server.telemetry.ca_file`")]
    Authorities(#[from] AuthoritiesError),
    #[error("{0} is no address (`server.telemetry.endpoint`)")]
    Address(String),
    #[error("{to} cannot be reached (is OTLP over HTTP taken there? usually at port 4318)")]
    Away {
        to: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{to} has not answered within {seconds} s")]
    Late { to: String, seconds: u64 },
    #[error("{to} answered {status}{said}")]
    Refused { to: String, status: StatusCode, said: String, after: Option<Duration> },
}

impl PostError {
    /// The word under which it is counted.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Away { .. } | Self::Late { .. } => "away",
            Self::Refused { .. } => "refused",
            Self::Secret { .. } | Self::Header(_) | Self::Authorities(_) | Self::Address(_) => "unsent",
        }
    }

    /// What was sent is refused for what it is: sent again, it would be again.
    pub(super) fn is_about_content(&self) -> bool {
        let of_content =
            [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
        matches!(self, Self::Refused { status, .. } if of_content.contains(status))
    }

    /// For how long the collector wants to be left alone.
    pub(super) fn after(&self) -> Option<Duration> {
        if let Self::Refused { after, .. } = self { *after } else { None }
    }
}

/// What a collector did not take of what it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub count: i64,
    pub said: String,
}

/// Sends to one collector. Made anew where the configuration changes, and after each failure: the roots may have been renewed.
#[derive(Debug)]
pub(super) struct Post {
    config: TelemetryConfig,
    client: Client<Dial, Full<Bytes>>,
}

impl Post {
    pub(super) fn new(config: &TelemetryConfig) -> Result<Self, PostError> {
        let is_tls = config.endpoint.starts_with("https://");
        let tls = if is_tls { client(config.ca_file.as_deref())? } else { nobody() };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(Dial::new(Arc::new(tls)));
        Ok(Self { config: config.clone(), client })
    }

    /// Whether it is for this configuration.
    pub(super) fn is_for(&self, config: &TelemetryConfig) -> bool {
        self.config == *config
    }

    /// Sends a message, below `/v1`.
    pub(super) async fn send(
        &self,
        config: &Config,
        signal: &'static str,
        message: &impl Message,
    ) -> Result<Left, PostError> {
        let to = format!("{}/v1/{signal}", self.config.endpoint.trim_end_matches('/'));
        let body = message.encode_to_vec();
        let seconds = PATIENCE.as_secs() + body.len() as u64 / SLOWEST;
        let mut request = Request::post(to.as_str())
            .header(CONTENT_TYPE, PROTOBUF)
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| PostError::Address(to.clone()))?;
        let mut secrets = Vec::new();
        for (name, value) in &self.config.headers {
            let value = match value.secret() {
                None => value.as_str(),
                Some(secret) => {
                    let fetched = fetch_for_master(config, secret).await;
                    let refused = |source| PostError::Secret { name: name.to_string(), source };
                    secrets.push(fetched.map_err(refused)?);
                    secrets.last().map_or("", SecretValue::reveal)
                }
            };
            let refused = |_| PostError::Header(name.to_string());
            let key =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| PostError::Header(name.to_string()))?;
            request.headers_mut().insert(key, HeaderValue::from_str(value).map_err(refused)?);
        }
        let exchange = async {
            let away = |source| PostError::Away { to: to.clone(), source };
            let answer = self.client.request(request).await.map_err(|error| away(error.into()))?;
            let (parts, body) = answer.into_parts();
            let body = axum::body::to_bytes(Body::new(body), MAX_ANSWER).await;
            let body = body.map_err(|error| away(error.into()))?;
            Ok::<_, PostError>(Response::from_parts(parts, body))
        };
        let answer = tokio::time::timeout(Duration::from_secs(seconds), exchange).await;
        let answer = answer.map_err(|_| PostError::Late { to: to.clone(), seconds })??;
        judge(to, &answer, &secrets)
    }
}

fn judge(to: String, answer: &Response<Bytes>, secrets: &[SecretValue]) -> Result<Left, PostError> {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let is_message = header(CONTENT_TYPE).is_some_and(|of| of.starts_with(PROTOBUF));
    let status = answer.status();
    if status.is_success() {
        if !is_message {
            return Ok(Left::default());
        }
        // The answers of all signals are built alike.
        let said = ExportTraceServiceResponse::decode(answer.body().as_ref()).unwrap_or_default();
        let left = said.partial_success.unwrap_or_default();
        return Ok(Left { count: left.rejected_spans, said: plain(&left.error_message, secrets) });
    }
    let said = if is_message {
        Trouble::decode(answer.body().as_ref()).unwrap_or_default().message
    } else {
        String::from_utf8_lossy(answer.body()).into_owned()
    };
    let said = plain(&said, secrets);
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let after = header(RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    Err(PostError::Refused { to, status, said, after })
}

/// What a server says, in one line and without what it was told in confidence.
fn plain(said: &str, secrets: &[SecretValue]) -> String {
    let said = secrets.iter().fold(said.to_owned(), |said, secret| said.replace(secret.reveal(), "***"));
    let words: Vec<&str> =
        said.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ").chars().take(MAX_SAID).collect()
}

/// The beginning of `google.rpc.Status`, by which a collector says what is wrong.
#[derive(Clone, PartialEq, Message)]
struct Trouble {
    #[prost(string, tag = "2")]
    message: String,
}
