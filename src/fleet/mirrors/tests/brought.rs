//! Mirrors that are put up on a host, brought up to date and taken away, of a real repository and with the real files of this host.

use super::super::*;
use crate::fleet::tests::lone::Lone;
use crate::fleet::tests::repo::Repo;
use std::path::PathBuf;

const CONFIG: &str = r#"version: 1
projects: {default: {}, other: {}}
codebases:
  app: {git: "$FOLDER/app", poll: never, mirror: always}
  small: {git: "$FOLDER/app", poll: never, mirror: auto}
  lib: {git: "$FOLDER/lib", poll: never, mirror: always}
providers: {here: {local: {folder: "$FOLDER/work", uids: {count: 0}}}, cloud: {fake: {}}}
pools: {here: {local: {on: here}}, far: {fake: {on: cloud, image: "debian:12"}}}
builders: {unit: {pool: here, steps: [{run: make}]}}
"#;

struct Hosted {
    lone: Lone,
    app: Repo,
    lib: Repo,
}

impl Hosted {
    async fn new() -> Self {
        let lone = Lone::of(CONFIG).await;
        let repo = |name: &str| Repo::at(&lone.folder.path().join(name));
        let (app, lib) = (repo("app"), repo("lib"));
        Self { lone, app, lib }
    }

    fn fleet(&self) -> &Arc<Fleet> {
        &self.lone.fleet
    }

    async fn bring(&self, name: &str, revision: Option<&str>) -> Option<String> {
        bring(self.fleet(), "here", name, revision).await.unwrap()
    }

    fn record(&self, name: &str) -> Option<Record> {
        self.fleet().mirrors.records.get("here", name)
    }

    fn put(&self, name: &str, record: Record) {
        self.fleet().mirrors.records.put("here", name, record).unwrap();
    }

    fn shelves(&self) -> PathBuf {
        self.lone.folder.path().join("providers/here/shelves")
    }

    /// What lies on the host, by name, and how many layers of it.
    fn lies(&self) -> Vec<(String, usize)> {
        let Ok(entries) = std::fs::read_dir(self.shelves()) else { return Vec::new() };
        let each = entries.map(|entry| {
            let entry = entry.unwrap();
            let layers = std::fs::read_dir(entry.path()).unwrap().count();
            (entry.file_name().to_string_lossy().into_owned(), layers)
        });
        let mut all: Vec<_> = each.collect();
        all.sort();
        all
    }

    /// The master has a revision, as after a look.
    async fn fetched(&self, name: &str, revision: &str) {
        self.lone.ctx().sources.ensure(name, revision).await.unwrap();
    }

    fn worker(&self, project: &str, trust: Trust) -> Worker {
        Worker { project: project.into(), trust, ..self.lone.worker(1, "here", "here") }
    }
}

#[tokio::test]
async fn a_mirror_is_put_up_for_a_build_and_each_launch_adds_what_is_new() {
    let hosted = Hosted::new().await;
    // Large enough that what comes later is little beside it.
    let large: String =
        (0..2_000).map(|n| format!("{}\n", hex::encode(Sha256::digest(format!("{n}"))))).collect();
    let first = hosted.app.commit("large", &large);
    assert_eq!(hosted.bring("app", None).await, None, "nobody has asked for one");
    assert_eq!((hosted.record("app"), hosted.lies()), (None, vec![]));
    put_up(Arc::clone(hosted.fleet()), "here".into(), "app".into(), first.clone()).await;
    let put = hosted.record("app").expect("it is put up");
    assert_eq!((put.layers, put.more, &put.tips), (1, 0, &vec![first.clone()]));
    assert!(put.base > 0 && put.used <= hosted.lone.now());
    assert!(put.shelf.starts_with(&format!("m{}-", hosted.lone.ctx().me)) && put.shelf.ends_with("-1"));
    assert_eq!(hosted.lies(), [(put.shelf.clone(), 1)]);

    let second = hosted.app.commit("a", "2\n");
    hosted.fetched("app", &second).await;
    let shelf = hosted.bring("app", None).await.expect("it is there");
    let more = hosted.record("app").unwrap();
    assert_eq!((shelf, more.layers, &more.url), (put.shelf.clone(), 2, &put.url));
    assert!(more.tips.contains(&first) && more.tips.contains(&second));
    assert!(more.more > 0 && more.base == put.base && more.used > put.used);
    let third = hosted.app.commit("a", "3\n");
    hosted.fetched("app", &third).await;
    hosted.bring("app", None).await.expect("it is there");
    let most = hosted.record("app").unwrap();
    assert!(most.layers == 3 && most.more > more.more, "{most:?}");
    assert_eq!(hosted.lies(), [(put.shelf.clone(), 3)]);

    // Nothing is new, and it is of use all the same; also where a build asks for it.
    for revision in [None, Some(third.as_str())] {
        assert_eq!(hosted.bring("app", revision).await, Some(put.shelf.clone()));
    }
    let same = hosted.record("app").unwrap();
    assert!(same.used > most.used);
    assert_eq!(Record { used: most.used, ..same }, most);
}

#[tokio::test]
async fn there_is_none_where_it_is_of_no_use() {
    let hosted = Hosted::new().await;
    let first = hosted.app.commit("a", "1\n");
    assert_eq!(hosted.bring("small", Some(&first)).await, None, "it is as quickly fetched");
    assert_eq!(hosted.bring("none", Some(&first)).await, None);
    let far = bring(hosted.fleet(), "cloud", "app", Some(&first)).await.unwrap();
    assert_eq!(far, None, "it has no host");
    assert_eq!((hosted.fleet().mirrors.records.all(), hosted.lies()), (vec![], vec![]));
}

#[tokio::test]
async fn one_that_is_worn_or_was_taken_away_is_put_up_anew_for_the_next_build() {
    let hosted = Hosted::new().await;
    let first = hosted.app.commit("a", "1\n");
    let shelf = hosted.bring("app", Some(&first)).await.expect("it is put up");
    let foreign = hosted.shelves().join("other-1");
    std::fs::create_dir(&foreign).unwrap();
    let lib = hosted.lib.commit("l", "1\n");
    let beside = hosted.bring("lib", Some(&lib)).await.expect("it is put up");
    let put = hosted.record("app").unwrap();
    let mut expected = shelf.clone();
    for (layers, more, worn) in [(LAYERS - 1, put.base, false), (LAYERS, 0, true), (1, put.base + 1, true)] {
        let before = hosted.record("app").unwrap();
        hosted.put("app", Record { layers, more, base: put.base, ..before });
        assert_eq!(
            hosted.bring("app", None).await,
            Some(expected.clone()),
            "a launch does not wait for that"
        );
        let now = hosted.bring("app", Some(&first)).await.expect("it is there");
        assert_eq!(now != expected, worn, "{layers} layers, {more} bytes");
        let record = hosted.record("app").unwrap();
        assert_eq!((record.layers == 1 && record.more == 0, &record.shelf), (worn, &now));
        // What is under another name, or another codebase's, stays.
        let mut lies = vec![(now.clone(), 1), (beside.clone(), 1), ("other-1".to_owned(), 0)];
        lies.sort();
        assert_eq!(hosted.lies(), lies);
        assert!(now.ends_with("-1") || now.ends_with("-2"), "{now}");
        expected = now;
    }
    assert_eq!(expected, shelf, "a name that is free is used again");
    std::fs::remove_dir_all(hosted.shelves().join(&expected)).unwrap();
    assert_eq!(hosted.bring("app", None).await, None);
    assert_eq!(hosted.bring("app", Some(&first)).await, Some(shelf.clone()));
    assert!(hosted.lies().contains(&(shelf, 1)));
}

#[tokio::test]
async fn one_of_another_repository_is_none_and_a_tip_that_is_gone_stands_in_nobodys_way() {
    let hosted = Hosted::new().await;
    let first = hosted.app.commit("a", "1\n");
    hosted.bring("app", Some(&first)).await.expect("it is put up");
    let put = hosted.record("app").unwrap();
    hosted.put("app", Record { url: "elsewhere".into(), ..put.clone() });
    assert_eq!(hosted.bring("app", None).await, None);
    assert!(for_worker(hosted.fleet(), &hosted.worker("default", Trust::Trusted)).await.is_empty());
    assert!(hosted.bring("app", Some(&first)).await.is_some());
    assert_eq!(hosted.record("app").unwrap().url, put.url);

    let again = hosted.record("app").unwrap();
    hosted.put("app", Record { tips: vec!["1".repeat(40)], ..again });
    let second = hosted.app.commit("a", "2\n");
    hosted.fetched("app", &second).await;
    bring(hosted.fleet(), "here", "app", None).await.unwrap_err();
    assert_eq!(hosted.record("app"), None, "the next build puts it up anew");
    assert!(hosted.bring("app", Some(&second)).await.is_some());
}

#[tokio::test]
async fn a_worker_is_given_what_it_may_read_as_new_as_the_master_has_it() {
    let hosted = Hosted::new().await;
    let first = hosted.app.commit("a", "1\n");
    let shelf = hosted.bring("app", Some(&first)).await.expect("it is put up");
    let mut given = Vec::new();
    // A launch waits for it a moment alone, which on a busy machine may be too short now and then.
    let mut is_new = false;
    for n in 2..12 {
        let next = hosted.app.commit("a", &format!("{n}\n"));
        hosted.fetched("app", &next).await;
        given = for_worker(hosted.fleet(), &hosted.worker("default", Trust::Trusted)).await;
        assert_eq!(given, [Shelf { name: shelf.clone(), at: "app".into() }]);
        is_new |= hosted.record("app").is_some_and(|record| record.tips.contains(&next));
        if is_new {
            break;
        }
    }
    assert!(is_new, "it is as new as the master has it: {:?}", hosted.record("app"));
    assert!(for_worker(hosted.fleet(), &hosted.worker("other", Trust::Trusted)).await.is_empty());
    assert!(for_worker(hosted.fleet(), &hosted.worker("default", Trust::Untrusted)).await.is_empty());

    let spec = r#"{"pool":"here","project":"default","trust":"trusted","image":null,"options":{}}"#;
    let mut worker = Worker { spec: spec.into(), ..hosted.worker("default", Trust::Trusted) };
    note(&mut worker, &[]);
    assert_eq!(worker.spec, spec);
    note(&mut worker, &given);
    let noted: LaunchSpec = serde_json::from_str(&worker.spec).unwrap();
    assert_eq!(noted.shelves, given);
}

#[tokio::test]
async fn what_a_build_asks_for_is_put_up_behind_its_back() {
    let hosted = Hosted::new().await;
    let first = hosted.app.commit("a", "1\n");
    let stop = CancellationToken::new();
    let runs = tokio::spawn(run(Arc::clone(hosted.fleet()), stop.clone()));
    hosted.lone.ctx().mirrors.say("here", "app", &first);
    let put_up = async {
        while hosted.record("app").is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), put_up).await.expect("it is put up");
    stop.cancel();
    runs.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn mirrors_that_nobody_uses_or_may_use_are_taken_away() {
    let hosted = Hosted::new().await;
    let now = hosted.lone.now();
    let url = |name: &str| hosted.lone.folder.path().join(name).display().to_string();
    let record = |shelf: &str, url: String, unused: Duration| Record {
        shelf: format!("m{}-{shelf}", hosted.lone.ctx().me),
        made: "here".into(),
        url,
        tips: Vec::new(),
        layers: 1,
        base: 1,
        more: 0,
        used: now - unused,
    };
    let second = Duration::from_secs(1);
    let all = [
        ("app", record("used", url("app"), UNUSED)),
        ("lib", record("unused", url("lib"), UNUSED + second)),
        ("small", record("moved", url("moved"), Duration::ZERO)),
        ("gone", record("gone", url("app"), Duration::ZERO)),
    ];
    for (name, record) in &all {
        hosted.put(name, record.clone());
        std::fs::create_dir_all(hosted.shelves().join(&record.shelf)).unwrap();
    }
    std::fs::create_dir_all(hosted.shelves().join("other-1")).unwrap();
    let left = async || {
        sweep(hosted.fleet()).await;
        let records = hosted.fleet().mirrors.records.all().into_iter();
        let records: Vec<String> = records.map(|(_, name, _)| name).collect();
        (records, hosted.lies().into_iter().map(|(name, _)| name).collect::<Vec<_>>())
    };
    let kept = all[0].1.shelf.clone();
    assert_eq!(left().await, (vec!["app".to_owned()], vec![kept, "other-1".to_owned()]));
    let never = CONFIG.replace("app\", poll: never, mirror: always", "app\", poll: never, mirror: never");
    hosted.lone.reload(&never).await;
    assert_eq!(left().await, (vec![], vec!["other-1".to_owned()]));
}
