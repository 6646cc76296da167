//! A bucket of an object store that speaks S3: how it is opened, where it is, and what is wrong with it, in words.

use super::http::Connector;
use super::{Answer, Keys, ObjectsError};
use crate::config::ObjectsConfig;
use crate::supervisor::chain;
use async_trait::async_trait;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::client::HttpClient;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, CredentialProvider, Error, ObjectStore, RetryConfig};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Within one request; whoever asks tries again later.
const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(10);
/// Keys are fetched again after this, so that somebody can renew them.
const RENEW: Duration = Duration::from_secs(60);
/// As much of a long-winded error is repeated.
const MAX_SAID: usize = 400;
/// What the library calls the store.
pub(super) const STORE: &str = "S3";

/// Which bucket, and where in it.
#[derive(Debug, Clone)]
pub struct Bucket {
    config: ObjectsConfig,
    /// Signs. Its keys are of the whole bucket.
    pub(super) s3: AmazonS3,
    /// For requests that the library has no name for.
    pub(super) http: HttpClient,
}

impl Bucket {
    /// Opens it. Nothing is asked yet: a store that is away now may come.
    pub(super) fn open(
        config: &ObjectsConfig,
        keys: Arc<dyn Keys>,
    ) -> Result<(Self, Box<dyn ObjectStore>), ObjectsError> {
        let tls = crate::tls_client::client(config.ca_file.as_deref());
        // Within one's own network there may be no authority at all, and none is needed.
        let is_plain = config.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
        let tls = match tls {
            Err(_) if is_plain && config.ca_file.is_none() => crate::tls_client::nobody(),
            tls => tls?,
        };
        let connector = Connector { tls: Arc::new(tls) };
        let http = connector.client();
        let builder = if config.keys.is_some() {
            AmazonS3Builder::new().with_credentials(Arc::new(Renewed { keys, known: Mutex::default() }))
        } else {
            AmazonS3Builder::from_env()
        };
        let mut builder = builder
            .with_bucket_name(config.url.bucket())
            .with_http_connector(connector.clone())
            .with_retry(RetryConfig {
                backoff: BackoffConfig {
                    init_backoff: Duration::from_millis(100),
                    max_backoff: Duration::from_secs(2),
                    base: 2.0,
                },
                max_retries: TRIES,
                retry_timeout: PATIENCE,
            });
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint.as_str()).with_virtual_hosted_style_request(false);
        }
        let failed = |source| ObjectsError::Bucket { url: config.url.to_string(), source };
        let s3: AmazonS3 = builder.build().map_err(failed)?;
        let bucket = Self { config: config.clone(), s3: s3.clone(), http };
        let store: Box<dyn ObjectStore> = match config.url.prefix() {
            "" => Box::new(s3),
            prefix => Box::new(PrefixStore::new(s3, Key::from(prefix))),
        };
        Ok((bucket, store))
    }

    #[must_use]
    pub fn config(&self) -> &ObjectsConfig {
        &self.config
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.config.url)?;
        match &self.config.endpoint {
            Some(endpoint) => write!(f, " at {endpoint}"),
            None => Ok(()),
        }
    }
}

/// Whether the store is at fault, or in the way, and not what was asked of it.
pub(super) fn is_away(error: &Error) -> bool {
    !matches!(
        error,
        Error::NotFound { .. }
            | Error::Precondition { .. }
            | Error::NotModified { .. }
            | Error::InvalidPath { .. }
    )
}

/// To write into a bucket that is not there is no question after a thing that is not there.
pub(super) fn written<T>(done: Answer<T>) -> Answer<T> {
    done.map_err(|error| match error {
        Error::NotFound { source, .. } => Error::Generic { store: STORE, source },
        error => error,
    })
}

/// An error in a few words.
#[must_use]
pub fn said(error: &Error) -> String {
    let whole = chain(error);
    match code(&whole) {
        Some(code) => format!("it answered {code}"),
        None => whole.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect(),
    }
}

/// What the store itself calls it.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    (code.len() < 64 && code.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(code)
}

/// What is to be done about an error.
#[must_use]
pub fn mend(bucket: &Bucket, error: &Error) -> String {
    let config = bucket.config();
    let (name, place) = (config.url.bucket(), config.url.prefix());
    let below = if place.is_empty() { name.to_owned() } else { format!("{name}/{place}") };
    let text = chain(error);
    match code(&text) {
        Some("NoSuchBucket") => format!("make the bucket {name}, or correct `server.objects.url`"),
        Some("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken") => {
            "correct the secrets that `server.objects.access_key` and `secret_key` name, or the master's environment".into()
        }
        Some("AccessDenied" | "AllAccessDisabled") => format!(
            "allow s3:PutObject, s3:GetObject, s3:DeleteObject and s3:AbortMultipartUpload on {below}/*, and s3:ListBucket on {name}"
        ),
        Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            "correct `server.objects.region`".into()
        }
        Some("RequestTimeTooSkewed") => "set this machine's clock, and let it follow a time server".into(),
        _ if text.contains("certificate") => {
            "give the authority that issued the store's certificate as `server.objects.ca_file`".into()
        }
        _ if text.contains("secret `") => "mend the secret that it names".into(),
        _ => "see that the store runs and that `server.objects.endpoint` is its address; what is to be written waits".into(),
    }
}

/// The pair of keys, as it is now. Whoever keeps it may be away for a while.
#[derive(Debug)]
struct Renewed {
    keys: Arc<dyn Keys>,
    known: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

#[async_trait]
impl CredentialProvider for Renewed {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let known = self.known.lock().expect("nothing panics while it is held").clone();
        if let Some((since, pair)) = &known
            && since.elapsed() < RENEW
        {
            return Ok(Arc::clone(pair));
        }
        let pair = match (self.keys.pair().await, known) {
            (Ok((key_id, secret_key)), _) => Arc::new(AwsCredential {
                key_id: key_id.reveal().trim().to_owned(),
                secret_key: secret_key.reveal().trim().to_owned(),
                token: None,
            }),
            (Err(error), Some((_, pair))) => {
                tracing::warn!(error = chain(&error), "the object store's keys could not be fetched again");
                pair
            }
            (Err(error), None) => return Err(Error::Generic { store: STORE, source: Box::new(error) }),
        };
        *self.known.lock().expect("nothing panics while it is held") =
            Some((Instant::now(), Arc::clone(&pair)));
        Ok(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Transfers;

    fn bucket() -> Bucket {
        let config = ObjectsConfig {
            url: "s3://objects/ci".parse().unwrap(),
            endpoint: Some("http://127.0.0.1:1".parse().unwrap()),
            region: None,
            keys: None,
            ca_file: None,
            transfers: Transfers::default(),
        };
        let keys = super::super::KeysOf { config: crate::config::Config::default(), objects: config.clone() };
        Bucket::open(&config, Arc::new(keys)).unwrap().0
    }

    fn error(text: &str) -> Error {
        Error::Generic { store: STORE, source: text.to_owned().into() }
    }

    #[test]
    fn what_a_store_answers_is_said_with_the_way_to_mend_it() {
        let denied = error("403: <?xml?><Error><Code>AccessDenied</Code><Message>No</Message></Error>");
        assert_eq!(said(&denied), "it answered AccessDenied");
        assert!(mend(&bucket(), &denied).contains("on objects/ci/*, and s3:ListBucket on objects"));
        assert!(mend(&bucket(), &error("<Code>NoSuchBucket</Code>")).starts_with("make the bucket objects"));
        assert!(mend(&bucket(), &error("connection refused")).starts_with("see that the store runs"));
        assert!(said(&error(&"long ".repeat(1000))).len() < 500);
        assert_eq!(code("<Code>a b</Code>"), None);
    }

    #[test]
    fn a_bucket_that_is_not_there_is_away() {
        let missing = || Error::NotFound { path: "a".into(), source: "404".into() };
        assert!(!is_away(&missing()));
        assert!(is_away(&written::<()>(Err(missing())).unwrap_err()));
    }
}
