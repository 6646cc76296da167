//! A master without its loops: the store, the services, the API.

use crate::api::auth::fingerprint;
use crate::api::host::Hosts;
use crate::api::{AppState, assemble};
use crate::ctx::{Clock, Ctx, Nudges, Roles};
use crate::keys::InstallationKey;
use crate::revisions::Revisions;
use crate::switchboard::Switchboard;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use rouse_model::config_revision::ApiToken;
use rouse_model::{Timestamp, TokenId};
use rouse_store::{Batch, Location, Store};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// The moment at which all tests happen: 2025-11-25, one o'clock.
pub(crate) const NOW: Timestamp = Timestamp(1_764_032_400_000_000);

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
}

pub(crate) const CONFIG: &str = r#"version: 1
secrets:
  deploy: {file: /etc/rouse/deploy.key}
  signing: {env: SIGNING, builders: [unit, docs]}
  site: {credential: site, projects: default}
projects:
  shop: {share: 2}
codebases:
  app: {git: "https://git.example.org/shop/app.git", project: shop, branches: [main, "release/*"], poll: 30s}
  lib: {git: "https://git.example.org/shop/lib.git", project: shop, poll: never}
  site: {git: "https://git.example.org/site.git"}
pools:
  here:
    local: {}
    max: 2
    reuse: {builds: 5, idle: 10m}
    price: 0.17 USD/h
    budget: 30 USD/day
  open: {local: {}, accepts: any, max: 1}
builders:
  unit:
    project: shop
    pool: here
    steps:
      - checkout: app
      - run: make test
        name: test
  docs:
    env: {TOKEN: secret:site}
    steps:
      - checkout: site
      - run: make
schedulers:
  push: {changes: {app: {branch: main}}, builders: [unit]}
  nightly: {cron: "0 3 * * *", builders: [docs]}
  release:
    force:
      parameters:
        version: {string: {required: true, pattern: "[0-9.]+", help: "as in the tag"}}
        sign: {bool: {default: false}}
        level: {int: {min: 1, max: 9, default: 3}}
        target: {choice: {of: [debian, alpine]}}
    builders: [unit]
    properties: {kind: release}
    priority: 5
"#;

/// Tokens by role; each is its own name.
pub(crate) const ADMIN: &str = "admin-token";
pub(crate) const OPERATE: &str = "operate-token";
pub(crate) const READ: &str = "read-token";
/// Reads project `shop` alone.
pub(crate) const SHOP: &str = "shop-token";
/// The same, and may start builds there.
pub(crate) const OPERATE_SHOP: &str = "operate-shop-token";

pub(crate) struct World {
    pub ctx: Arc<Ctx>,
    pub router: Router,
    pub stopping: CancellationToken,
    pub folder: tempfile::TempDir,
    /// The log service writes as long as this lives.
    _logs: tokio_util::sync::DropGuard,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("rouse.yaml");
        std::fs::write(&config, CONFIG).unwrap();
        let store = Store::open(&Location::Sqlite(folder.path().join("rouse.db"))).await.unwrap();
        let master = store.enter("one", "machine", NOW).await.unwrap();
        // The seeded rows have numbers of their own: fresh ones begin above them.
        for _ in 0..200 {
            store.next_id::<rouse_model::BuildsetId>().await.unwrap();
            store.next_id::<rouse_model::RequestId>().await.unwrap();
        }
        let clock: Arc<dyn Clock> = Arc::new(Still);
        let kinds = crate::boot::provider_kinds();
        let revisions = Revisions::open(store.clone(), Arc::clone(&clock), kinds, &config).await.unwrap();
        let (ctx, logs) = context(store, clock, master.id, revisions, folder.path().to_owned(), None);
        let stopping = CancellationToken::new();
        let state = AppState { ctx: Arc::clone(&ctx), hosts: Hosts::Loopback, stopping: stopping.clone() };
        let world = Self { ctx, router: assemble(state), stopping, folder, _logs: logs };
        for (name, role, project) in [
            (ADMIN, "admin", ""),
            (OPERATE, "operate", ""),
            (READ, "read", ""),
            (SHOP, "read", "shop"),
            (OPERATE_SHOP, "operate", "shop"),
        ] {
            world.token(name, role, project).await;
        }
        world
    }

    /// With a past to look at.
    pub(crate) async fn seeded() -> Self {
        let world = Self::new().await;
        super::seed::seed(&world).await;
        world
    }

    async fn token(&self, name: &str, role: &str, project: &str) {
        let token = ApiToken {
            id: self.ctx.store.next_id::<TokenId>().await.unwrap(),
            name: name.trim_end_matches("-token").into(),
            sha256: fingerprint(name),
            role: role.into(),
            project: project.into(),
            created: NOW,
        };
        let mut batch = Batch::new("test.token");
        batch.insert(&token);
        self.ctx.store.commit(batch).await.unwrap();
    }

    pub(crate) async fn commit(&self, batch: Batch) {
        self.ctx.store.commit(batch).await.unwrap();
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Any call with a token; `path` is below the API's base.
    pub(crate) async fn call(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let request = request(token, method, path, body);
        answer(self.send(request).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(READ, Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "GET {path}: {body:#}");
        body
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(OPERATE, Method::POST, path, Some(body)).await
    }
}

pub(crate) fn request(token: &str, method: Method, path: &str, body: Option<Value>) -> Request<Body> {
    let at_root = matches!(path, "/livez" | "/readyz" | "/metrics");
    let uri = if at_root { path.to_owned() } else { format!("{}{path}", crate::api::BASE) };
    let mut request = Request::builder().method(method).uri(uri).header(header::HOST, "localhost:8010");
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    match body {
        Some(body) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap(),
        None => request.body(Body::empty()).unwrap(),
    }
}

/// Status and body; a body that is no JSON comes as text.
pub(crate) async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 16 << 20).await.unwrap();
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
    (status, body)
}

/// What the loops and handlers of a master are given; agents come to `agents_port` of this host, where there is one.
pub(crate) fn context(
    store: Store,
    clock: Arc<dyn Clock>,
    me: rouse_model::MasterId,
    revisions: Revisions,
    state: PathBuf,
    agents_port: Option<u16>,
) -> (Arc<Ctx>, tokio_util::sync::DropGuard) {
    let objects = crate::objects::directory(&state.join("objects")).unwrap();
    let logs = crate::logs::Logs::new(store.clone(), objects.clone(), crate::logs::Limits::default());
    let repositories = crate::boot::configured(revisions.subscribe());
    let sources =
        crate::sources::Sources::open(state.join("mirrors"), repositories, crate::sources::Limits::default())
            .unwrap();
    let stop = CancellationToken::new();
    let (running, token) = (logs.clone(), stop.clone());
    tokio::spawn(async move { running.run(token).await });
    let installation = rouse_contract::Installation {
        id: "i".into(),
        store_epoch: 1,
        agents: state.join("agents"),
        state: state.join("providers"),
        many_masters: false,
    };
    let ctx = Ctx {
        accounts: Arc::new(crate::accounts::Accounts::new(Vec::new(), installation)),
        machines: Arc::default(),
        metrics: Arc::default(),
        roles: Roles::new(store.clone(), me, crate::peers::LEASE),
        sources,
        logs,
        artifacts: crate::artifacts::Artifacts::new(store.clone(), objects.clone(), Arc::clone(&clock)),
        objects,
        me,
        machine: "machine".into(),
        url: "http://127.0.0.1:8010".into(),
        key: InstallationKey::from_bytes([7; 32]),
        authority: crate::authority::Authority::derive([7; 32], "i").unwrap(),
        agents: agents_port.map(|port| ([127, 0, 0, 1], port).into()),
        active: revisions.subscribe(),
        revisions,
        nudges: Nudges::default(),
        hurry: crate::ctx::Hurry::default(),
        mirrors: crate::ctx::MirrorsWanted::default(),
        coming: crate::ctx::Coming::default(),
        turnstile: crate::requests::Turnstile::default(),
        switchboard: Switchboard::default(),
        away: std::sync::OnceLock::new(),
        clock,
        state,
        store,
    };
    (Arc::new(ctx), stop.drop_guard())
}
