//! Which of several hosts is chosen for the mirror that it has.

mod brought;

use super::records::Record;
use crate::accounts::Accounts;
use crate::api::tests::world::{ADMIN, World};
use crate::fleet::Fleet;
use crate::fleet::choosing::Left;
use crate::placing::Taken;
use axum::http::{Method, StatusCode};
use rouse_contract::Installation;
use rouse_model::matching::ReuseClass;
use rouse_model::{Timestamp, Trust};
use serde_json::json;
use std::sync::Arc;

const CONFIG: &str = "version: 1
projects: {default: {}, other: {}}
codebases: {app: {git: 'ssh://git@git.example.org/app.git'}, tool: {git: 'https://git.example.org/tool.git', project: other}}
providers: {one: {docker: {}}, two: {docker: {}}, three: {docker: {}}}
pools: {boxes: {docker: {on: [one, two, three], image: 'debian:12'}}}
builders: {build: {steps: [{run: make}]}}
";

#[tokio::test]
async fn a_host_with_the_mirror_of_its_project_is_preferred() {
    let world = World::new().await;
    std::fs::write(world.folder.path().join("rouse.yaml"), CONFIG).unwrap();
    let (status, said) = world.call(ADMIN, Method::POST, "/config/reload", Some(json!({}))).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let folder = world.folder.path();
    let installation = Installation {
        id: "i".into(),
        store_epoch: 1,
        agents: folder.join("agents"),
        state: folder.join("providers"),
        many_masters: false,
    };
    let accounts = Accounts::new(crate::boot::provider_kinds(), installation);
    let fleet = Fleet::new(Arc::clone(&world.ctx), Arc::new(accounts));
    let mirror = |account: &str, codebase: &str, url: &str| {
        let record = Record {
            shelf: "m1-1".into(),
            made: "then".into(),
            url: url.into(),
            tips: Vec::new(),
            layers: 1,
            base: 1,
            more: 0,
            used: Timestamp(1),
        };
        fleet.mirrors.records.put(account, codebase, record).unwrap();
    };
    let active = world.ctx.config();
    let (_, pool) = active.config.pools.iter().next().unwrap();
    let place = |trust| {
        let class =
            ReuseClass { pool: "boxes".into(), spec_digest: "none".into(), trust, project: "default".into() };
        let placed = fleet.place(&active.config, pool, &class, &Taken::default(), Left::of(None));
        placed.ok().map(|placed| placed.account)
    };
    assert_eq!(place(Trust::Trusted).as_deref(), Some("one"));
    mirror("two", "tool", "https://git.example.org/tool.git");
    assert_eq!(place(Trust::Trusted).as_deref(), Some("one"), "it is another project's");
    mirror("two", "app", "ssh://git@git.example.org/moved.git");
    assert_eq!(place(Trust::Trusted).as_deref(), Some("one"), "it is of another repository");
    mirror("three", "app", "ssh://git@git.example.org/app.git");
    assert_eq!(place(Trust::Trusted).as_deref(), Some("three"));
    assert_eq!(place(Trust::Untrusted).as_deref(), Some("one"), "it is not theirs to read");
}
