//! Against rebinding of names: a page of a stranger must not reach a master on loopback by a name of the stranger's own.
//!
//! Every call needs a token that such a page does not have; this refuses it a step earlier.

use super::AppState;
use super::error::{ApiError, ErrorCode};
use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;

/// Under which names the server may be addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hosts {
    /// It listens on loopback only: its loopback names, and the host of `server.url` for a proxy in front.
    Loopback,
    /// It listens to others, under names that it cannot know.
    Any,
}

impl Hosts {
    pub(super) fn for_listener(address: SocketAddr) -> Self {
        if address.ip().is_loopback() { Self::Loopback } else { Self::Any }
    }
}

pub(super) async fn check(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let named = request.uri().host().map(str::to_owned);
    let named = named.or_else(|| Some(bare(request.headers().get(HOST)?.to_str().ok()?).to_owned()));
    if state.hosts == Hosts::Any || named.as_deref().is_some_and(|host| is_ours(&state, host)) {
        return next.run(request).await;
    }
    let message = format!("this server is not called `{}`", named.unwrap_or_default());
    ApiError::new(ErrorCode::Misdirected, message)
        .help("use 127.0.0.1 or localhost; behind a proxy, set `server.url` in the configuration to the public address")
        .into_response()
}

fn is_ours(state: &AppState, host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") || matches!(host, "127.0.0.1" | "::1" | "[::1]") {
        return true;
    }
    let active = state.ctx.config();
    let configured = active.config.server.url.as_ref().and_then(|url| host_of(url.as_str()));
    configured.or_else(|| host_of(&state.ctx.url)).is_some_and(|ours| ours.eq_ignore_ascii_case(host))
}

/// A host without its port.
fn bare(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn host_of(url: &str) -> Option<String> {
    let uri: axum::http::Uri = url.parse().ok()?;
    uri.host().map(|host| bare_v6(host).to_owned())
}

fn bare_v6(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_brackets_do_not_matter() {
        assert_eq!(bare("localhost:8010"), "localhost");
        assert_eq!(bare("localhost"), "localhost");
        assert_eq!(bare("[::1]:8010"), "::1");
        assert_eq!(host_of("https://ci.example.org/x").as_deref(), Some("ci.example.org"));
    }
}
