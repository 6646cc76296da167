//! Against a server with TLS that answers every request alike: what is behind it is shown by `tests/stores.rs`.

use crate::config::{Config, KeyPair, ObjectsConfig, Reach, SecretConfig, SecretSource, Transfers};
use crate::objects::{KeysOf, Objects, bucket, mend, said};
use crate::tls_client::tests::server;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt, PutPayload};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Takes one request of a connection, keeps it, and answers.
async fn answer(
    listener: TcpListener,
    tls: TlsAcceptor,
    status: &'static str,
    kept: Arc<Mutex<Vec<String>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut stream) = tls.accept(stream).await else { continue };
        let mut request = Vec::new();
        while !request.ends_with(b"whole body")
            && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0)
        {}
        kept.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
        let head =
            format!("HTTP/1.1 {status}\r\netag: \"1\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

struct Store {
    objects: Arc<Objects>,
    requests: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl Store {
    /// One that trusts its server, or somebody else.
    async fn new(status: &'static str, trusts: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ((ours, tls), (theirs, _)) = (server(), server());
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, if trusts { ours } else { theirs }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let requests = Arc::default();
        tokio::spawn(answer(listener, tls, status, Arc::clone(&requests)));
        let config = ObjectsConfig {
            url: "s3://objects/ci".parse().unwrap(),
            endpoint: Some(endpoint.parse().unwrap()),
            region: Some("eu-central-1".into()),
            keys: Some(KeyPair { access_key: "id".parse().unwrap(), secret_key: "key".parse().unwrap() }),
            ca_file: Some(ca_file),
            transfers: Transfers::default(),
        };
        let mut secrets = Config::default();
        for (name, value) in [("id", "AKIDEXAMPLE\n"), ("key", "the key\n")] {
            let path = dir.path().join(name);
            std::fs::write(&path, value).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let secret = SecretConfig { source: SecretSource::File(path), reach: Reach::default() };
            secrets.secrets.insert(name.parse().unwrap(), secret);
        }
        let keys = KeysOf { config: secrets, objects: config.clone() };
        Self { objects: bucket(&config, Arc::new(keys)).unwrap(), requests, _dir: dir }
    }

    async fn put(&self) -> Result<(), Error> {
        let body = PutPayload::from_iter([
            bytes::Bytes::from_static(b"a whole "),
            bytes::Bytes::from_static(b"body"),
        ]);
        self.objects.put(&Key::from("logs/a"), body).await.map(drop)
    }
}

#[tokio::test]
async fn a_store_is_spoken_to_by_tls_and_signed() {
    let store = Store::new("200 OK", true).await;
    store.put().await.unwrap();
    assert_eq!(store.objects.trouble(), None);
    assert!(!store.objects.is_direct(), "an agent speaks TLS to its master alone");
    let requests = store.requests.lock().unwrap().clone();
    let [request] = requests.as_slice() else { panic!("one request: {requests:?}") };
    assert!(request.starts_with("PUT /objects/ci/logs/a HTTP/1.1\r\n"), "{request}");
    let scope = "Credential=AKIDEXAMPLE/";
    assert!(request.contains(scope) && request.contains("/eu-central-1/s3/aws4_request"), "{request}");
    assert!(request.contains("content-length: 12\r\n") && request.ends_with("a whole body"), "{request}");
}

#[tokio::test]
async fn who_is_not_trusted_gets_nothing_and_that_is_said() {
    let store = Store::new("200 OK", false).await;
    let error = store.put().await.unwrap_err();
    assert!(said(&error).contains("certificate"), "{error:?}");
    assert!(mend(store.objects.bucket().unwrap(), &error).contains("server.objects.ca_file"));
    assert_eq!(store.objects.trouble().unwrap().kind, "away");
    assert!(store.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_trouble() {
    let store = Store::new("404 Not Found", true).await;
    assert!(matches!(store.put().await, Err(Error::Generic { .. })), "not: the object is not there");
    assert_eq!(store.objects.trouble().unwrap().kind, "away");
}
