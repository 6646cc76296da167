//! The REST API as a plain client sees it: JSON in, JSON out.

use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde_json::Value;

use super::wait;

/// One master's API with one token.
#[derive(Clone)]
pub struct Api {
    base: String,
    token: String,
    http: Client,
}

/// An answer that was not what was asked for.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    /// The error envelope, or whatever came.
    pub body: Value,
}

impl Api {
    /// `base` is the master's address, as `http://127.0.0.1:PORT`.
    pub fn new(base: &str, token: &str) -> Self {
        let http = Client::builder()
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .expect("a client can be made");
        Self { base: base.to_string(), token: token.to_string(), http }
    }

    /// The same address with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_string(), ..self.clone() }
    }

    /// GET below `/api/v1`.
    pub fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap_or_else(|refused| panic!("GET {path}: {refused:?}"))
    }

    pub fn try_get(&self, path: &str) -> Result<Value, Refused> {
        self.call(Method::GET, path, None, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.try_post(path, body).unwrap_or_else(|refused| panic!("POST {path}: {refused:?}"))
    }

    pub fn try_post(&self, path: &str, body: &Value) -> Result<Value, Refused> {
        self.call(Method::POST, path, Some(body), None)
    }

    /// With a key by which the same call made again does nothing more.
    pub fn try_post_once(&self, path: &str, body: &Value, key: &str) -> Result<Value, Refused> {
        self.call(Method::POST, path, Some(body), Some(key))
    }

    pub fn delete(&self, path: &str) -> Value {
        self.call(Method::DELETE, path, None, None)
            .unwrap_or_else(|refused| panic!("DELETE {path}: {refused:?}"))
    }

    fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Value, Refused> {
        let mut request = self.http.request(method, self.address(path)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        // A master that has just been killed refuses the connection: no status at all.
        let response = request
            .send()
            .map_err(|error| Refused { status: 0, body: Value::String(format!("{error:?}")) })?;
        let status = response.status();
        let text = response.text().unwrap_or_default();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if status.is_success() { Ok(body) } else { Err(Refused { status: status.as_u16(), body }) }
    }

    /// What is not JSON: logs, artifacts. Read as it comes.
    pub fn open(&self, path: &str) -> Response {
        let sent = self.http.get(self.address(path)).bearer_auth(&self.token).timeout(wait::A_BUILD).send();
        let response = sent.unwrap_or_else(|error| panic!("GET {path}: {error:?}"));
        assert!(response.status().is_success(), "GET {path}: {}", response.status());
        response
    }

    pub fn bytes(&self, path: &str) -> Vec<u8> {
        self.open(path).bytes().unwrap_or_else(|error| panic!("GET {path}: {error:?}")).to_vec()
    }

    /// All items of a list, page after page, newest first.
    pub fn list(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut next = Value::Null;
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let page = match next.as_i64() {
                Some(before) => self.get(&format!("{path}{join}before={before}")),
                None => self.get(path),
            };
            items.extend(page["items"].as_array().expect("a list has items").iter().cloned());
            next = page["next"].clone();
            if next.is_null() {
                return items;
            }
        }
    }

    /// Reads `path` until `look` finds in it what is waited for. A master that is down meanwhile is waited for too.
    pub fn until<T>(
        &self,
        what: &str,
        path: &str,
        patience: Duration,
        look: impl Fn(&Value) -> Option<T>,
    ) -> T {
        let mut last = Value::Null;
        let start = std::time::Instant::now();
        loop {
            match self.try_get(path) {
                Ok(body) => {
                    if let Some(found) = look(&body) {
                        return found;
                    }
                    last = body;
                }
                Err(refused) if refused.status == 0 || refused.status >= 500 || refused.status == 404 => {}
                Err(refused) => panic!("GET {path}: {refused:?}"),
            }
            assert!(
                start.elapsed() < patience,
                "waited {:.0} s in vain: {what}; GET {path} says {last:#}",
                patience.as_secs_f64()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn address(&self, path: &str) -> String {
        if ["/livez", "/readyz", "/metrics"].contains(&path) {
            return format!("{}{path}", self.base);
        }
        format!("{}/api/v1{path}", self.base)
    }
}
