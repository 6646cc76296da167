//! Against a double: there is no Vault to be had from the registries that tests may use. Its answers are those of the HTTP API's documentation
//! (`/secret/data/:path`, and the list of status codes), letter by letter but for the values.

use super::*;
use crate::tls_client::tests::server;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const TOKEN: &str = "hvs.CAESIJlWqkOnZ4";
const VALUE: &str = "p4ss/w0rd+in-vault";

fn found() -> (u16, String) {
    let body = serde_json::json!({
        "request_id": "e345cbbd-9a39-4f0f-8c5c-2b5d8c0c5f12", "lease_id": "", "renewable": false, "lease_duration": 0,
        "data": {
            "data": {"key": VALUE, "number": 7},
            "metadata": {
                "created_time": "2018-03-22T02:24:06.945319214Z", "custom_metadata": null, "deletion_time": "",
                "destroyed": false, "version": 2
            }
        },
        "wrap_info": null, "warnings": null, "auth": null, "mount_type": "kv"
    });
    (200, body.to_string())
}

/// Answers every request alike, and keeps their heads.
struct Double {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Double {
    async fn start(answer: (u16, String), tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => serve(stream, &answer, &kept).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, &answer, &kept).await;
                        }
                    }
                }
            }
        });
        Self { port, heads }
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &(u16, String),
    heads: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    let (status, body) = answer;
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

struct Fixture {
    dir: tempfile::TempDir,
    config: VaultConfig,
    place: VaultPlace,
}

impl Fixture {
    fn new(address: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
        std::fs::set_permissions(&token_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config =
            VaultConfig { address: address.parse().unwrap(), token_file, ca_file: None, namespace: None };
        let place = VaultPlace { mount: "kv".into(), path: "ci/sign ing".into(), field: "key".into() };
        Self { dir, config, place }
    }

    async fn read(&self) -> Result<String, VaultError> {
        read(&self.config, &self.place).await
    }
}

/// What a Vault that answers so makes of a secret.
async fn answered(status: u16, body: &str) -> VaultError {
    let double = Double::start((status, body.to_owned()), None).await;
    Fixture::new(&format!("http://127.0.0.1:{}", double.port)).read().await.unwrap_err()
}

#[tokio::test]
async fn the_newest_version_is_read_with_the_token_of_the_file() {
    let double = Double::start(found(), None).await;
    let mut fixture = Fixture::new(&format!("http://127.0.0.1:{}/", double.port));
    assert_eq!(fixture.read().await.unwrap(), VALUE);
    fixture.config.namespace = Some("team".into());
    fixture.place.field = "number".into();
    assert!(matches!(fixture.read().await.unwrap_err(), VaultError::NoField { .. }));
    let heads = double.heads.lock().unwrap().clone();
    assert!(heads[0].starts_with("GET /v1/kv/data/ci/sign%20ing HTTP/1.1\r\n"), "{}", heads[0]);
    assert!(heads[0].contains(&format!("host: 127.0.0.1:{}\r\n", double.port)), "{}", heads[0]);
    assert!(
        heads[0].contains(&format!("x-vault-token: {TOKEN}\r\nx-vault-request: true\r\n")),
        "{}",
        heads[0]
    );
    assert!(
        !heads[0].contains("namespace") && heads[1].contains("x-vault-namespace: team\r\n"),
        "{}",
        heads[1]
    );
}

#[tokio::test]
async fn an_error_says_what_to_do_and_never_the_token_or_a_value() {
    let denied =
        answered(403, r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#).await.to_string();
    for words in ["permission denied", r#"path "kv/data/ci/sign ing" { capabilities = ["read"] }"#, "/token"]
    {
        assert!(denied.contains(words), "{denied}");
    }
    let missing = answered(404, r#"{"errors":[]}"#).await.to_string();
    assert!(missing.contains("vault kv metadata get -mount=kv ci/sign ing"), "{missing}");
    // Its newest version is deleted.
    let deleted =
        r#"{"data":{"data":null,"metadata":{"deletion_time":"2018-03-22T02:36:43.986212308Z","version":1}}}"#;
    assert!(matches!(answered(404, deleted).await, VaultError::Missing { .. }));
    let odd = answered(400, &format!(r#"{{"errors":["bad token {TOKEN}"]}}"#)).await.to_string();
    assert_eq!(odd, "it answered 400: bad token ***");
    for body in [VALUE.to_owned(), format!(r#"{{"data":{{"key":"{VALUE}"}}}}"#), format!(r#"["{VALUE}"]"#)] {
        let odd = answered(200, &body).await;
        assert!(matches!(odd, VaultError::NoAnswer) && !format!("{odd} {odd:?}").contains(VALUE), "{odd:?}");
        assert_eq!(answered(418, &body).await.to_string(), "it answered 418");
    }
}

#[tokio::test]
async fn who_does_not_answer_is_away_and_nothing_else_is() {
    for (status, body) in [
        (503, r#"{"errors":["Vault is sealed"]}"#),
        (500, r#"{"errors":["internal error"]}"#),
        (429, r#"{"errors":["request path \"kv/data/a\": rate limit quota exceeded"]}"#),
        (412, r#"{"errors":["required index state not present"]}"#),
        (307, ""),
        (502, "<html>a proxy</html>"),
    ] {
        let error = answered(status, body).await;
        assert!(error.is_away(), "{status}: {error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = Fixture::new(&format!("http://{}", closed.local_addr().unwrap()));
    drop(closed);
    assert!(nobody.read().await.unwrap_err().is_away());
    assert!(!answered(403, "").await.is_away() && !answered(404, "").await.is_away());

    std::fs::set_permissions(&nobody.config.token_file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = nobody.read().await.unwrap_err();
    assert!(matches!(error, VaultError::Token { .. }), "{error:?}");
}

#[tokio::test]
async fn its_certificate_is_held_against_the_given_authority() {
    let ((pem, tls), (other, _)) = (server(), server());
    let double = Double::start(found(), Some(tls)).await;
    let mut fixture = Fixture::new(&format!("https://127.0.0.1:{}", double.port));
    let ca_file = fixture.dir.path().join("ca.pem");
    fixture.config.ca_file = Some(ca_file.clone());

    let error = fixture.read().await.unwrap_err();
    assert!(matches!(error, VaultError::Authorities { .. }), "{error}");
    std::fs::write(&ca_file, "nothing").unwrap();
    let error = fixture.read().await.unwrap_err();
    assert!(matches!(error, VaultError::Authorities { .. }), "{error}");
    std::fs::write(&ca_file, other).unwrap();
    let error = fixture.read().await.unwrap_err();
    assert!(matches!(error, VaultError::Certificate(_)), "{error}");
    assert!(error.to_string().contains("server.vault.ca_file"), "{error}");
    assert!(double.heads.lock().unwrap().is_empty(), "the token went nowhere");
    std::fs::write(&ca_file, pem).unwrap();
    assert_eq!(fixture.read().await.unwrap(), VALUE);
}
