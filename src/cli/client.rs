//! A thin client of the API: paths in, JSON out. It repeats nothing by itself but the reading of streams.

use super::error::CliError;
use super::sse::Stream;
use crate::api::BASE;
use crate::api::views::{ErrorEnvelope, Listing};
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// A master that does not answer in this time is away. Streams have no such limit.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The API's own limit of a page.
const PAGE: usize = 500;

/// Parts of a query.
pub(super) type Query<'a> = Vec<(&'a str, String)>;

pub(super) struct Client {
    http: reqwest::Client,
    server: String,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(server: String, token: Option<String>) -> Result<Self, CliError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("rouse/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            // A proxy of the environment has no business between a CLI and its master.
            .no_proxy()
            .build()
            .map_err(CliError::Transport)?;
        Ok(Self { http, server, token })
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) async fn get(&self, path: &str, query: &Query<'_>) -> Result<Value, CliError> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    /// An answer as one of the API's views.
    pub(super) async fn view<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        as_view(self.get(path, &Query::new()).await?)
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// A call that may be repeated without harm: the same key makes the same thing once.
    pub(super) async fn post_once(&self, path: &str, body: &Value, key: &str) -> Result<Value, CliError> {
        self.json(self.request(Method::POST, path).header("idempotency-key", key).json(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), CliError> {
        self.send(self.request(Method::DELETE, path)).await.map(drop)
    }

    /// Items of a list, page by page, until there are so many.
    pub(super) async fn list(
        &self,
        path: &str,
        query: &Query<'_>,
        limit: usize,
    ) -> Result<Vec<Value>, CliError> {
        let mut items = Vec::new();
        let mut before: Option<i64> = None;
        while items.len() < limit {
            let mut query = query.clone();
            query.push(("limit", (limit - items.len()).min(PAGE).to_string()));
            query.extend(before.map(|id| ("before", id.to_string())));
            let page: Listing<Value> = as_view(self.get(path, &query).await?)?;
            items.extend(page.items);
            match page.next {
                Some(next) => before = Some(next),
                None => break,
            }
        }
        items.truncate(limit);
        Ok(items)
    }

    /// Items of a list that is not paged.
    pub(super) async fn whole(&self, path: &str, query: &Query<'_>) -> Result<Vec<Value>, CliError> {
        let page: Listing<Value> = as_view(self.get(path, query).await?)?;
        Ok(page.items)
    }

    /// A body of any length, as it comes.
    pub(super) async fn body(&self, path: &str, query: &Query<'_>) -> Result<Response, CliError> {
        self.send(self.request(Method::GET, path).query(query)).await
    }

    /// Server-sent events; `after` is where to go on from.
    pub(super) async fn events(
        &self,
        path: &str,
        query: &Query<'_>,
        after: Option<&str>,
    ) -> Result<Stream, CliError> {
        let mut request = self.request(Method::GET, path).query(query).header("accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        self.send(request).await.map(Stream::new)
    }

    /// Any call, for `rouse api`.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response, CliError> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        self.send(request).await
    }

    /// `/livez` and its like stand at the root; all else below the API's base.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let root = path.starts_with(BASE) || matches!(path, "/livez" | "/readyz");
        let base = if root { "" } else { BASE };
        let request = self.http.request(method, format!("{}{base}{path}", self.server));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let response = self.send(request.timeout(ANSWER_WITHIN)).await?;
        let bytes = response.bytes().await.map_err(CliError::Transport)?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(CliError::Answer)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|source| {
            if source.is_connect() || source.is_timeout() {
                CliError::Connect { url: self.server.clone(), source }
            } else {
                CliError::Transport(source)
            }
        })?;
        let status = response.status();
        if status.is_success() || status.as_u16() == 101 {
            return Ok(response);
        }
        let bytes = response.bytes().await.map_err(CliError::Transport)?;
        match serde_json::from_slice::<ErrorEnvelope>(&bytes) {
            Ok(envelope) => Err(CliError::Api(Box::new(envelope.error))),
            Err(_) => Err(CliError::NotAMaster { url: self.server.clone(), what: status.to_string() }),
        }
    }
}

/// JSON as a view.
pub(super) fn as_view<T: DeserializeOwned>(value: Value) -> Result<T, CliError> {
    serde_json::from_value(value).map_err(CliError::Answer)
}

/// A name as one part of a path.
pub(super) fn part(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn names_become_parts_of_paths() {
        assert_eq!(part("unit (gcc12)"), "unit%20%28gcc12%29");
        assert_eq!(part("a/b"), "a%2Fb");
        assert_eq!(part("x-1_y.z~"), "x-1_y.z~");
    }
}
