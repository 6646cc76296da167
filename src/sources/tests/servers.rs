//! Servers that refuse, hang, lie or are not there.

use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::any;

use super::super::{Class, Limits, Selection};
use super::Fixture;

/// Serves one answer to everything; the address of a repository there.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/app.git")
}

#[tokio::test]
async fn trouble_has_a_class_and_git_s_own_words() {
    let (fixture, _) = Fixture::new();
    // Bound and not listening: nobody else is given the port meanwhile.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = held.local_addr().unwrap();
    let wants_name = Router::new().fallback(any(|| async {
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=x")], "no")
    }));
    let status = |status: StatusCode| Router::new().fallback(any(move || async move { status }));
    let html = Router::new()
        .fallback(any(|| async { "<!doctype html>\n<title>Welcome</title>\n<p>This is no repository.\n" }));
    let missing = fixture.dir.path().join("nothing-here").display().to_string();
    let empty = fixture.dir.path().join("folder");
    std::fs::create_dir(&empty).unwrap();
    let cases = [
        (Class::Auth, serve(wants_name).await),
        (Class::Auth, serve(status(StatusCode::FORBIDDEN)).await),
        (Class::NotARepository, serve(status(StatusCode::NOT_FOUND)).await),
        (Class::NotARepository, serve(html).await),
        (Class::Network, serve(status(StatusCode::BAD_GATEWAY)).await),
        (Class::Network, format!("http://{closed}/x.git")),
        (Class::Network, format!("git://{closed}/x.git")),
        (Class::Network, format!("ssh://git@{closed}/x.git")),
        (Class::Network, "http://does-not-exist.invalid/x.git".to_owned()),
        (Class::NotARepository, missing),
        (Class::NotARepository, empty.display().to_string()),
    ];
    for (class, url) in cases {
        fixture.point("app", &url, None);
        let error = fixture.sources.look("app").await.unwrap_err();
        assert_eq!(error.class(), class, "{url}: {error}");
        assert!(error.to_string().contains("git said: "), "{error}");
        let tree = fixture.sources.tree("app", &"0".repeat(40), &Selection::default(), 0).await.unwrap_err();
        assert_eq!(tree.class(), class, "{url}: {tree}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_left_at_the_deadline_with_all_its_processes() {
    let limits =
        Limits { look: Duration::from_millis(300), fetch: Duration::from_millis(300), ..Limits::default() };
    let (fixture, _) = Fixture::limited(limits);
    let hangs = Router::new().fallback(any(|| async {
        std::future::pending::<()>().await;
        StatusCode::OK
    }));
    let url = serve(hangs).await;
    fixture.point("app", &url, None);
    let start = Instant::now();
    let error = fixture.sources.look("app").await.unwrap_err();
    assert_eq!(error.class(), Class::Timeout);
    let refs = [("main".to_owned(), "0".repeat(40))].into();
    assert_eq!(fixture.sources.fetch("app", &refs).await.unwrap_err().class(), Class::Timeout);
    assert!(start.elapsed() < Duration::from_secs(20));
    // killed processes disappear once init has seen them; nothing may still speak to the server
    let alive = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&url)
        })
    };
    while alive() {
        assert!(start.elapsed() < Duration::from_secs(30), "a git is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_password_reaches_the_server_and_no_error() {
    let (fixture, _) = Fixture::new();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = seen.clone();
    let router = Router::new().fallback(any(move |headers: HeaderMap| {
        let given = headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
        let known = given.is_some();
        noted.lock().unwrap().extend(given);
        async move {
            match known {
                true => StatusCode::FORBIDDEN.into_response(),
                false => {
                    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=x")]).into_response()
                }
            }
        }
    }));
    let url = serve(router).await;
    fixture.point("app", &url, Some("hunter2\n"));
    let error = fixture.sources.look("app").await.unwrap_err();
    use base64::Engine;
    let expected = base64::engine::general_purpose::STANDARD.encode("git:hunter2");
    assert_eq!(seen.lock().unwrap().as_slice(), [format!("Basic {expected}")]);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

/// Asks everybody for a name and a password, and refuses them; says what it was given.
fn asking() -> (Router, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let given = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = given.clone();
    let router = Router::new().fallback(any(move |headers: HeaderMap| {
        let value = headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
        noted.lock().unwrap().push(value.unwrap_or_default());
        async { (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=x")]) }
    }));
    (router, given)
}

#[tokio::test]
async fn a_server_that_sends_git_elsewhere_does_not_send_the_password_there() {
    use base64::Engine;
    let (fixture, _) = Fixture::new();
    let (router, given) = asking();
    let elsewhere = serve(router).await;
    let target = elsewhere.strip_suffix("/app.git").unwrap().to_owned();
    let sends_away = Router::new().fallback(any(move |uri: axum::http::Uri| {
        let to = format!("{target}{uri}");
        async move { (StatusCode::FOUND, [(header::LOCATION, to)]) }
    }));
    let url = serve(sends_away).await;
    for url in [url.clone(), url.replace("://", "://ann@")] {
        fixture.point("app", &url, Some("hunter2"));
        let error = fixture.sources.look("app").await.unwrap_err();
        assert_eq!(error.class(), Class::Auth, "{error}");
        let asked = std::mem::take(&mut *given.lock().unwrap());
        assert!(!asked.is_empty() && asked.iter().all(String::is_empty), "{url}: {asked:?}");
    }
    // Where the key is for, it is given, by the name that the address says.
    for (url, login) in [
        (elsewhere.clone(), "git:hunter2"),
        (elsewhere.replace("://", "://ann@"), "ann:hunter2"),
        (elsewhere.replace("://", "://ann%40example.org@"), "ann@example.org:hunter2"),
    ] {
        fixture.point("app", &url, Some("hunter2"));
        assert_eq!(fixture.sources.look("app").await.unwrap_err().class(), Class::Auth);
        let login = base64::engine::general_purpose::STANDARD.encode(login);
        let asked = std::mem::take(&mut *given.lock().unwrap());
        assert!(asked.contains(&format!("Basic {login}")), "{url}: {asked:?}");
    }
}

#[tokio::test]
async fn a_server_cannot_send_git_to_the_master_s_disk_or_to_a_program() {
    let (fixture, remote) = Fixture::new();
    remote.commit("a", "1", "first");
    remote.git(&["update-server-info"]);
    let canary = fixture.dir.path().join("canary");
    let git_dir = remote.dir.join(".git").display().to_string();
    for target in [format!("file://{git_dir}"), format!("ext::touch {}", canary.display())] {
        let sends_away = Router::new().fallback(any(move |uri: axum::http::Uri| {
            let tail = uri.to_string().replacen("/app.git", "", 1);
            let to = format!("{target}{tail}");
            async move { (StatusCode::FOUND, [(header::LOCATION, to)]) }
        }));
        fixture.point("app", &serve(sends_away).await, None);
        let look = fixture.sources.look("app").await;
        assert!(look.is_err(), "{look:?}");
        assert!(!canary.exists());
    }
}

#[tokio::test]
async fn a_key_for_ssh_is_a_file_of_the_master_alone_and_gone_afterwards() {
    let (fixture, _) = Fixture::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ssh://git@{}/app.git", listener.local_addr().unwrap());
    fixture.point("app", &url, Some("-----BEGIN KEY-----\nx\n-----END KEY-----"));
    let keys = fixture.dir.path().join("state/sources/keys");
    let look = fixture.sources.look("app");
    let meanwhile = async {
        // ssh has connected, so git runs and the key is there
        let (_stream, _) = listener.accept().await.unwrap();
        let file = std::fs::read_dir(&keys).unwrap().next().unwrap().unwrap();
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(file.path()).unwrap().ends_with("KEY-----\n"));
    };
    let (result, ()) = tokio::join!(look, meanwhile);
    assert_eq!(result.unwrap_err().class(), Class::Network);
    assert_eq!(std::fs::read_dir(&keys).unwrap().count(), 0);
}
