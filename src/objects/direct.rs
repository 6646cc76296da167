//! Leave to go to a bucket past the master: signed addresses, each good for one request about one object, and a look at what has come of it.

use super::bucket::{Bucket, STORE};
use super::{Answer, Objects, Place};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use object_store::Error;
use object_store::client::HttpRequestBody;
use object_store::path::Path as Key;
use object_store::signer::{SignedUrlOptions, Signer};
use std::collections::BTreeMap;
use std::time::Duration;

/// A request may begin for so long.
pub const GOOD_FOR: Duration = Duration::from_secs(15 * 60);
/// For a request of our own.
const AT_ONCE: Duration = Duration::from_secs(60);
/// The store's own limit of what comes in one request.
pub const MOST: u64 = 5 << 30;
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// A signed address, with the headers that are signed along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub url: String,
    pub headers: BTreeMap<String, String>,
}

/// What a store says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub bytes: u64,
    /// Hex. Not every store says it.
    pub sha256: Option<String>,
}

impl Objects {
    /// Whether whoever works for the master may come to the store by itself.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.bucket().is_some_and(|bucket| bucket.config().is_direct())
    }

    /// Leave to put just these bytes where nothing is yet. The store itself holds who comes to both, since they are signed.
    ///
    /// # Errors
    /// Where it cannot be signed.
    pub async fn leave_to_put(&self, key: &str, sha256: &[u8]) -> Answer<Signed> {
        let headers = BTreeMap::from([
            ("if-none-match".to_owned(), "*".to_owned()),
            ("x-amz-sdk-checksum-algorithm".to_owned(), "SHA256".to_owned()),
            (CHECKSUM.to_owned(), STANDARD.encode(sha256)),
        ]);
        self.signed(Method::PUT, key, GOOD_FOR, headers).await
    }

    /// Leave to read an object.
    ///
    /// # Errors
    /// Where it cannot be signed.
    pub async fn leave_to_get(&self, key: &str) -> Answer<Signed> {
        self.signed(Method::GET, key, GOOD_FOR, BTreeMap::new()).await
    }

    /// What the store says of an object.
    ///
    /// # Errors
    /// Where there is none, or the store does not answer.
    pub async fn stored(&self, key: &str) -> Answer<Stored> {
        let mode = BTreeMap::from([("x-amz-checksum-mode".to_owned(), "ENABLED".to_owned())]);
        let signed = self.signed(Method::HEAD, key, AT_ONCE, mode).await?;
        let mut request = Request::head(&signed.url);
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        let request = request.body(HttpRequestBody::empty()).map_err(|error| odd(error.to_string()))?;
        let answer = self.ours()?.http.execute(request).await.map_err(|error| odd(error.to_string()))?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        match answer.status() {
            StatusCode::OK => Ok(Stored {
                bytes: header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0),
                sha256: header(CHECKSUM).and_then(|sum| STANDARD.decode(sum).ok()).map(hex::encode),
            }),
            StatusCode::NOT_FOUND => {
                Err(Error::NotFound { path: key.to_owned(), source: "nothing is there".into() })
            }
            status => Err(odd(format!("the store answered {status}"))),
        }
    }

    fn ours(&self) -> Answer<&Bucket> {
        match &self.place {
            Place::Bucket(bucket) => Ok(bucket),
            Place::Folder(_) => Err(odd("a folder gives nobody leave".into())),
        }
    }

    async fn signed(
        &self,
        method: Method,
        key: &str,
        good_for: Duration,
        headers: BTreeMap<String, String>,
    ) -> Answer<Signed> {
        let bucket = self.ours()?;
        let mut options = SignedUrlOptions::default();
        for (name, value) in &headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|error| odd(error.to_string()))?;
            let value = HeaderValue::from_str(value).map_err(|error| odd(error.to_string()))?;
            options = options.with_signed_header(name, value);
        }
        let key = match bucket.config().url.prefix() {
            "" => Key::from(key),
            prefix => Key::from(format!("{prefix}/{key}")),
        };
        let url = bucket.s3.signed_url_opts(method, &key, good_for, &options).await?;
        Ok(Signed { url: url.to_string(), headers })
    }
}

fn odd(what: String) -> Error {
    Error::Generic { store: STORE, source: what.into() }
}
