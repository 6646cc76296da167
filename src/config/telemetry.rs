//! `server.telemetry`: where traces of builds and the master's metrics are sent, by OTLP over HTTP.

use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::{HeaderName, HeaderValue, Limit, Period, WebUrl, seconds};
use super::tree::Path;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Between two sendings of all metrics, where nothing else is said: what the OpenTelemetry SDKs do.
const METRICS: Period = seconds(60);
/// What the specification adds to the address for each signal.
const SIGNALS: [&str; 2] = ["/v1/traces", "/v1/metrics"];

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Telemetry")]
pub(super) struct RawTelemetry {
    /// Where a collector takes OTLP over HTTP, by https (TLS 1.3) or, within a network of your own, http. `/v1/traces` and `/v1/metrics` are added to it.
    endpoint: WebUrl,
    /// Sent with each request: text, or `secret:NAME` for a value that is fetched each time.
    #[serde(default)]
    headers: IndexMap<HeaderName, HeaderValue>,
    /// A file with the certificates of the authorities that may have issued the collector's. Default: those that the host trusts.
    #[schemars(length(min = 1))]
    ca_file: Option<String>,
    /// Whether each request that ended is told as a trace, with its builds and their steps. Default: true.
    #[serde(default = "yes")]
    traces: bool,
    /// How often what `/metrics` says is sent, too; `never`. Default: `60s`.
    metrics: Option<Limit>,
}

fn yes() -> bool {
    true
}

/// Where the installation tells of itself, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TelemetryConfig {
    pub endpoint: WebUrl,
    pub headers: IndexMap<HeaderName, HeaderValue>,
    pub ca_file: Option<PathBuf>,
    pub traces: bool,
    /// `None`: never.
    pub metrics: Option<Period>,
}

impl RawTelemetry {
    pub(super) fn check(self, cx: &mut Context<'_>) -> TelemetryConfig {
        let path = Path::of(["server", "telemetry"]);
        check_endpoint(&self.endpoint, cx, &path.join("endpoint"));
        let headers = path.join("headers");
        for (name, value) in &self.headers {
            check_header(name, value, cx, &headers.join(name));
        }
        let metrics = self.metrics.map_or(Some(METRICS), |limit| limit.0);
        cx.at_least(metrics, seconds(1), &path.join("metrics"));
        TelemetryConfig {
            endpoint: self.endpoint,
            headers: self.headers,
            ca_file: self.ca_file.map(|file| cx.absolute(file, &path.join("ca_file"))),
            traces: self.traces,
            metrics,
        }
    }
}

fn check_endpoint(endpoint: &WebUrl, cx: &mut Context<'_>, path: &Path) {
    let text = endpoint.as_str();
    let place = cx.place(&Path::of(["server", "telemetry"]));
    let after = text.find("://").map_or(0, |at| at + 3);
    let rest = &text[after..];
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some((user, _)) = authority.rsplit_once('@') {
        let span = cx.part(path, text, Some(&(after..after + user.len())));
        let fault = Fault::new(Code::SecretInText, span, format!("a login stands in `endpoint` of {place}"));
        cx.push(fault.note("declare it under `secrets:` and write `headers: {authorization: secret:NAME}`"));
        return;
    }
    let refused =
        |why: &str| format!("`{text}` is no address of a collector in `endpoint` of {place}: {why}");
    let signal = SIGNALS.iter().find(|signal| text.trim_end_matches('/').ends_with(**signal));
    if let Some(signal) = signal {
        let fault = Fault::new(Code::BadAddress, cx.value(path), refused(&format!("it ends in `{signal}`")));
        let base = text.trim_end_matches('/').trim_end_matches(signal);
        cx.push(fault.label(format!("Rouse adds that itself: `{base}`")));
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['?', '#']) {
        let fault =
            Fault::new(Code::BadAddress, cx.value(path), refused("it is more or less than an address"));
        cx.push(fault.label("such as `http://127.0.0.1:4318` or `https://collector.example.org/otlp`"));
    }
}

fn check_header(name: &HeaderName, value: &HeaderValue, cx: &mut Context<'_>, path: &Path) {
    if let Some(secret) = value.secret() {
        cx.refer("secrets", secret, path);
        return;
    }
    let name = name.as_str().to_ascii_lowercase();
    if name.contains("authorization")
        || name == "cookie"
        || name.ends_with("-key")
        || name.ends_with("-token")
    {
        let place = cx.place(&Path::of(["server", "telemetry", "headers"]));
        let message = format!("the value of the header `{name}` stands in {place}");
        let fault = Fault::new(Code::SecretInText, cx.value(path), message);
        cx.push(fault.note(
            "declare it under `secrets:` and write `secret:NAME`; it is all of the value, such as `Bearer …`",
        ));
    }
}
