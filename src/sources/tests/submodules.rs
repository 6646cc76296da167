//! Submodules: where they may be, and what they are told of who asks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::any;

use super::super::{Class, Key, Opened, Repository, Selection, SourceError, Submodule};
use super::{Fixture, Remote};

/// Serves the files of a folder, of those below `closed` only to whom has the password. What it was asked with is noted.
struct Server {
    base: String,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    async fn start(folder: &Path, closed: &'static str) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, folder) = (asked.clone(), folder.to_owned());
        let answer = move |uri: Uri, headers: HeaderMap| {
            let login = headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
            let path = uri.path().to_owned();
            noted.lock().unwrap().push((path.clone(), login.clone().unwrap_or_default()));
            let file = folder.join(path.trim_start_matches('/'));
            async move {
                if !closed.is_empty() && path.contains(closed) && login.is_none() {
                    return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=x")])
                        .into_response();
                }
                match std::fs::read(file) {
                    Ok(bytes) => bytes.into_response(),
                    Err(_) => StatusCode::NOT_FOUND.into_response(),
                }
            }
        };
        let base = serve(Router::new().fallback(any(answer))).await;
        Self { base, asked }
    }

    fn logins(&self, of: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|(path, login)| path.contains(of) && !login.is_empty())
            .map(|(_, l)| l.clone())
            .collect()
    }
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// A repository with these submodules, path to address and revision, that can be served as files.
fn with(dir: &Path, name: &str, submodules: &[(&str, &str, &str)]) -> (Remote, String) {
    let remote = Remote::new(&dir.join(name));
    let mut modules = String::new();
    for (path, url, revision) in submodules {
        modules.push_str(&format!(
            "[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n\tupdate = !touch canary\n"
        ));
        remote.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{revision},{path}")]);
    }
    std::fs::write(remote.dir.join(".gitmodules"), modules).unwrap();
    std::fs::write(remote.dir.join("file"), name).unwrap();
    remote.git(&["add", ".gitmodules", "file"]);
    remote.git(&["commit", "-q", "-m", "first"]);
    remote.git(&["update-server-info"]);
    let tip = remote.tip("HEAD");
    (remote, tip)
}

async fn named(
    fixture: &Fixture,
    revision: &str,
    recursive: bool,
    keyed: bool,
) -> Result<Vec<Submodule>, SourceError> {
    fixture.sources.submodules("app", revision, &Selection::default(), recursive, keyed).await
}

fn of(submodule: &Submodule, keyed: bool) -> Selection {
    let submodule = Some(Opened { url: submodule.url.clone(), keyed });
    Selection { submodule, ..Selection::default() }
}

#[tokio::test]
async fn submodules_are_found_with_those_within_them() {
    let (fixture, _) = Fixture::new();
    let dir = fixture.dir.path().join("served");
    let (_, deep) = with(&dir, "deep", &[]);
    let (_, lib) = with(&dir, "lib", &[("deep er", "../../deep/.git", &deep)]);
    let (_, app) = with(
        &dir,
        "app",
        &[("libs/one", "../../lib/.git", &lib), ("two", "../../deep/.git/", &deep), ("gone", "./x", &deep)],
    );
    let server = Server::start(&dir, "").await;
    fixture.point("app", &format!("{}/app/.git", server.base), None);
    let all = named(&fixture, &app, true, false).await.unwrap_err();
    assert_eq!(
        (all.class(), all.to_string().contains("submodule `gone`")),
        (Class::NotARepository, true),
        "{all}"
    );
    let own = named(&fixture, &app, false, false).await.unwrap();
    let paths: HashMap<_, _> = own.iter().map(|one| (one.path.as_str(), one.revision.clone())).collect();
    assert_eq!(paths, [("gone", deep.clone()), ("libs/one", lib.clone()), ("two", deep.clone())].into());
    let (_, app) = with(&dir, "other", &[("libs/one", "../../lib/.git", &lib)]);
    fixture.point("app", &format!("{}/other/.git", server.base), None);
    let all = named(&fixture, &app, true, false).await.unwrap();
    let places: Vec<_> = all.iter().map(|one| (one.path.as_str(), one.url.as_str())).collect();
    let (lib_url, deep_url) = (format!("{}/lib/.git", server.base), format!("{}/deep/.git", server.base));
    assert_eq!(places, [("libs/one", lib_url.as_str()), ("libs/one/deep er", &deep_url)]);
    let tree = fixture.sources.tree("app", &deep, &of(&all[1], false), 0).await;
    assert!(tree.is_ok(), "{tree:?}");
    // Of folders that are not asked for there is none.
    let selection = Selection { folders: vec!["src".into()], ..Selection::default() };
    let none = fixture.sources.submodules("app", &app, &selection, true, false).await.unwrap();
    assert_eq!(none, []);
}

#[tokio::test]
async fn what_goes_on_without_end_is_ended() {
    let (fixture, _) = Fixture::new();
    let dir = fixture.dir.path().join("served");
    let (_, mut tip) = with(&dir, "r0", &[]);
    for n in 1..=11 {
        let url = format!("../../r{}/.git", n - 1);
        tip = with(&dir, &format!("r{n}"), &[("s", &url, &tip)]).1;
    }
    let server = Server::start(&dir, "").await;
    fixture.point("app", &format!("{}/r11/.git", server.base), None);
    let error = named(&fixture, &tip, true, false).await.unwrap_err();
    let said = crate::supervisor::chain(&error);
    assert!(said.contains("submodule `s/s/s/s/s/s/s/s/s/s`") && said.contains("10 levels deep"), "{said}");
    assert_eq!(error.class(), Class::Refused);
    // One that is within itself is not there at all: a commit cannot have its own id in it.
    let (_, own) = with(&dir, "own", &[("s", "../../own/.git", &"1".repeat(40))]);
    fixture.point("app", &format!("{}/own/.git", server.base), None);
    let error = named(&fixture, &own, true, false).await.unwrap_err();
    assert!(error.to_string().contains("submodule `s`"), "{error}");
}

#[tokio::test]
async fn addresses_that_run_or_read_something_are_refused_with_what_to_do() {
    let (fixture, _) = Fixture::new();
    let dir = fixture.dir.path().join("served");
    let (private, secret) = with(&dir, "private", &[]);
    let server = Server::start(&dir, "").await;
    let canary = fixture.dir.path().join("canary");
    let disk = private.dir.display().to_string();
    let touch = format!("ext::touch% {}", canary.display());
    let port = server.base.rsplit_once(':').unwrap().1.to_owned();
    for (n, (url, said)) in [
        (touch.as_str(), "`name::` would run a program"),
        (&format!("file://{disk}"), "submodules come by http, https, ssh or git alone"),
        (&disk, "submodules come by http, https, ssh or git alone"),
        ("-oProxyCommand=id:x", "starts with `-`"),
        ("--upload-pack=id", "starts with `-`"),
        ("ssh://-oProxyCommand=id/x", "its host starts with `-`"),
        (
            "https://elsewhere.example/x.git",
            "may not be on the host `elsewhere.example`; it can be allowed by `submodule_hosts`",
        ),
        ("https://127.0.0.1@elsewhere.example/x", "may not be on the host `elsewhere.example`"),
        ("https://elsewhere.example?@127.0.0.1/x", "submodules come by"),
        ("../../../../elsewhere.example/x", "may not be on the host"),
        ("git@elsewhere.example:x", "may not be on the host `elsewhere.example`"),
        (&format!("http://localhost:{port}/private/.git"), "may not be on the host `localhost`"),
    ]
    .into_iter()
    .enumerate()
    {
        let (_, tip) = with(&dir, &format!("app{n}"), &[("libs/x", url, &secret)]);
        fixture.point("app", &format!("{}/app{n}/.git", server.base), None);
        let error = named(&fixture, &tip, true, true).await.unwrap_err();
        let words = crate::supervisor::chain(&error);
        assert!(words.starts_with("submodule `libs/x` (") && words.contains(said), "{url}: {words}");
        assert_eq!(error.class(), Class::Refused);
        // Nor for somebody who asks for its tree without having looked.
        let submodule = Submodule {
            name: String::new(),
            path: String::new(),
            url: url.to_owned(),
            revision: secret.clone(),
        };
        let tree = fixture.sources.tree("app", &secret, &of(&submodule, true), 0).await.unwrap_err();
        assert_eq!(tree.class(), Class::Refused, "{url}: {tree}");
        assert!(!canary.exists(), "{url} was run");
    }
}

#[tokio::test]
async fn a_key_is_for_its_own_server_and_for_who_may_have_what_it_opens() {
    let (fixture, _) = Fixture::new();
    let dir = fixture.dir.path().join("served");
    let (_, closed) = with(&dir, "closed", &[]);
    let server = Server::start(&dir, "closed").await;
    let other = Server::start(&dir, "closed").await;
    let (_, same) = with(&dir, "same", &[("s", "../../closed/.git", &closed)]);
    let (_, elsewhere) = with(&dir, "elsewhere", &[("s", &format!("{}/closed/.git", other.base), &closed)]);
    let point = |name: &str| {
        let repository =
            Repository::new(format!("{}/{name}/.git", server.base), Some(Key::new("hunter2")), vec![]);
        fixture.addresses.0.lock().unwrap().insert("app".to_owned(), repository);
    };
    point("same");
    let found = named(&fixture, &same, false, true).await.unwrap();
    let refused = fixture.sources.tree("app", &closed, &of(&found[0], false), 0).await.unwrap_err();
    assert_eq!((refused.class(), server.logins("closed").len()), (Class::Auth, 0), "{refused}");
    fixture.sources.tree("app", &closed, &of(&found[0], true), 0).await.unwrap();
    assert!(!server.logins("closed").is_empty());
    // That it lies here by now changes nothing for who may not have it.
    let refused = fixture.sources.tree("app", &closed, &of(&found[0], false), 0).await.unwrap_err();
    assert_eq!(refused.class(), Class::Auth, "{refused}");
    point("elsewhere");
    let found = named(&fixture, &elsewhere, false, true).await.unwrap();
    let refused = fixture.sources.tree("app", &closed, &of(&found[0], true), 0).await.unwrap_err();
    assert_eq!(refused.class(), Class::Auth, "{refused}");
    assert!(!other.asked.lock().unwrap().is_empty() && other.logins("").is_empty());
}

#[tokio::test]
async fn a_host_that_is_allowed_cannot_send_git_to_one_that_is_not() {
    let (fixture, _) = Fixture::new();
    let dir = fixture.dir.path().join("served");
    let (_, inside) = with(&dir, "inside", &[]);
    let within = Server::start(&dir, "").await;
    let target = within.base.clone();
    let sends_on = move |uri: Uri| {
        let to = format!("{target}{uri}");
        async move { (StatusCode::FOUND, [(header::LOCATION, to)]) }
    };
    let away: String = serve(Router::new().fallback(any(sends_on))).await;
    let (_, app) = with(&dir, "app", &[("s", &format!("{away}/inside/.git"), &inside)]);
    let server = Server::start(&dir, "").await;
    fixture.point("app", &format!("{}/app/.git", server.base), None);
    let found = named(&fixture, &app, false, false).await.unwrap();
    let error = fixture.sources.tree("app", &inside, &of(&found[0], false), 0).await.unwrap_err();
    assert!(within.asked.lock().unwrap().is_empty(), "it was followed: {error}");
    // A codebase's own address, which the configuration says, may be one that sends on.
    fixture.point("app", &format!("{away}/inside/.git"), None);
    fixture.sources.tree("app", &inside, &Selection::default(), 0).await.unwrap();
}
