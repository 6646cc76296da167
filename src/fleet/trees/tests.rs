//! Trees of a real repository.

use super::*;
use crate::fleet::tests::lone::Lone;
use crate::fleet::tests::repo::Repo;
use rouse_model::source::Head;
use rouse_store::Batch;

const CONFIG: &str = r#"version: 1
codebases:
  another: {git: "$FOLDER/another", poll: never, branches: never}
  app: {git: "$FOLDER/app", poll: never, branches: main}
providers: {cloud: {fake: {}}}
pools: {p: {fake: {on: cloud, image: "debian:12"}}}
builders: {unit: {pool: p, steps: [{run: make}]}}
"#;

async fn head(lone: &Lone, branch: &str, revision: &str) {
    let head = Head {
        codebase: "app".into(),
        branch: branch.into(),
        revision: Some(revision.to_owned()),
        seen_at: lone.now(),
        generation: 0,
    };
    let mut batch = Batch::new("test.head");
    batch.insert(&head);
    lone.ctx().store.commit(batch).await.unwrap();
}

#[tokio::test]
async fn what_a_stranger_asks_for_is_trusted_where_a_watched_branch_has_the_same() {
    let lone = Lone::of(CONFIG).await;
    let app = Repo::at(&lone.folder.path().join("app"));
    let main = app.commit("image/Dockerfile", "FROM debian:12\n");
    app.git(&["checkout", "-q", "-b", "side"]);
    let side = app.commit("image/Dockerfile", "FROM debian:13\n");
    app.git(&["checkout", "-q", "-b", "change", "main"]);
    let same = app.commit("other", "1\n");
    let changed = app.commit("image/Dockerfile", "FROM debian:11\n");
    head(&lone, "main", &main).await;
    head(&lone, "side", &side).await;
    let tree = |revision: &str, trust| Tree {
        codebase: "app".into(),
        revision: revision.to_owned(),
        folder: "image".into(),
        trust,
        reader: reader(Arc::clone(&lone.fleet.ctx)),
    };
    let look = async |revision: &str, trust| tree(revision, trust).look().await.unwrap();
    let of_main = look(&main, Trust::Trusted).await;
    assert!(of_main.trusted);
    assert_eq!(look(&same, Trust::Untrusted).await, of_main, "it is the same folder");
    let of_change = look(&changed, Trust::Untrusted).await;
    assert!(!of_change.trusted && of_change.word != of_main.word);
    assert!(look(&changed, Trust::Trusted).await.trusted);
    assert!(!look(&side, Trust::Untrusted).await.trusted, "that branch is not watched");

    let packed = tree(&changed, Trust::Untrusted).pack().await.unwrap();
    let packed: Vec<u8> = packed
        .try_fold(Vec::new(), async |mut all, piece| {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
        .unwrap();
    assert!(packed.starts_with(b"Dockerfile") && packed.windows(9).any(|text| text == b"debian:11"));
    let error = Tree { folder: "none".into(), ..tree(&main, Trust::Trusted) }.look().await.unwrap_err();
    assert_eq!((error.class, error.retry_after), (FailureClass::Image, None), "{error}");
}
