//! `rouse backup` beside a master that runs, and `rouse restore`: what was made in between clashes with nothing, and nothing of it is left.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::docker::Image;
use crate::harness::master::ROUSE;
use crate::harness::{Api, Database, Docker, Master, Options, Scratch, processes, wait};

const SECRET: &str = "hunter2-of-the-backup";

fn config(folder: &Path, image: Option<&Image>) -> String {
    let far = image.map_or_else(
        || "local: {}".to_owned(),
        |image| format!("docker: {{image: '{}', pull: never, network: none}}", image.name()),
    );
    format!(
        "version: 1\nsecrets: {{word: {{file: {folder}/word}}}}\npools:\n  here: {{local: {{}}, max: 3}}\n  far: {{{far}, max: 3}}\nbuilders:\n  \
         unit:\n    pool: here\n    env: {{WORD: secret:word}}\n    steps:\n      - {{name: print, run: 'echo $WORD; seq 1 5000'}}\n      \
         - {{name: make, run: 'date +%s%N > made'}}\n      - {{name: keep, upload: {{paths: made, as: made}}}}\n  \
         long: {{pool: far, steps: [{{run: 'echo begun; exec sleep 601'}}]}}\n",
        folder = folder.display()
    )
}

fn start(api: &Api, builder: &str) -> i64 {
    let made = api.post(&format!("/builders/{builder}/build"), &json!({}));
    made["requests"][0]["id"].as_i64().unwrap_or_else(|| panic!("no request was made: {made}"))
}

/// So many green builds.
fn builds(api: &Api, count: usize) {
    let requests: Vec<i64> = (0..count).map(|_| start(api, "unit")).collect();
    for request in requests {
        assert_eq!(api.until_built(request)["result"], "success");
    }
}

/// Its step has printed something, in this attempt.
fn until_it_runs(api: &Api, request: i64, attempt: i64) {
    api.until("the long build to run", &format!("/builds?request={request}"), wait::A_BUILD, |found| {
        let newest = &found["items"][0];
        if newest["attempt"] != attempt {
            return None;
        }
        let build = api.get(&format!("/builds/{}", newest["id"].as_i64()?));
        let log = build["steps"][0]["logs"][0]["id"].as_i64()?;
        (!api.bytes(&format!("/logs/{log}/raw")).is_empty()).then_some(())
    });
}

fn ids(api: &Api, path: &str) -> BTreeSet<i64> {
    api.list(path).iter().map(|item| item["id"].as_i64().expect("a number")).collect()
}

fn newest_event(api: &Api) -> i64 {
    api.get("/master")["newest_event"].as_i64().expect("a number")
}

/// What the log and the file of each green build are.
fn contents(api: &Api) -> BTreeMap<i64, (Vec<u8>, Vec<u8>)> {
    let green = api.list("/builds?builder=unit").into_iter().filter(|build| build["result"] == "success");
    green
        .map(|build| {
            let build = api.get(&format!("/builds/{}", build["id"]));
            let log = api.bytes(&format!("/logs/{}/raw", build["steps"][0]["logs"][0]["id"]));
            let file = api.bytes(&format!("/artifacts/{}/content", build["artifacts"][0]["id"]));
            (build["id"].as_i64().expect("a number"), (log, file))
        })
        .collect()
}

/// Files below a folder, by their paths within it.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.insert(path.strip_prefix(root).expect("below it").to_path_buf());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(folder, folder, &mut found);
    found
}

fn rouse(arguments: &[&str], master: &Master, database: &Database) -> Output {
    let mut command = std::process::Command::new(ROUSE);
    command.args(arguments).arg("--state").arg(master.state()).args(["-o", "json"]);
    if let Some(url) = database.url() {
        command.args(["--database", &url]);
    }
    command.output().expect("the binary starts")
}

fn good(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(why), "{:?}: {said}", output.status);
}

/// What a reader gets that comes back with a number.
fn goes_on(api: &Api, after: i64) -> bool {
    match api.try_get(&format!("/events/list?after={after}")) {
        Ok(_) => true,
        Err(refused) => {
            assert_eq!((refused.status, &refused.body["error"]["code"]), (410, &json!("gone")));
            false
        }
    }
}

#[test]
fn what_came_after_a_backup_clashes_with_nothing_once_it_is_restored() {
    story(&Database::File, None);
}

#[test]
fn nor_does_it_on_postgresql_with_containers() {
    if let (Some(database), Some(docker)) = (Database::fresh_postgres(), Docker::of_this_run()) {
        story(&database, Some(&docker));
    }
}

fn story(database: &Database, docker: Option<&Docker>) {
    let scratch = Scratch::new();
    let word = scratch.path().join("word");
    std::fs::write(&word, SECRET).expect("written");
    std::fs::set_permissions(&word, std::fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    let image = docker.map(|docker| docker.busybox(&[]));
    let options = Options { database: database.clone(), docker: docker.cloned(), ..Options::default() };
    let mut master = Master::start(scratch.path(), &config(scratch.path(), image.as_ref()), options);
    let api = master.api();
    builds(&api, 5);
    let long = start(&api, "long");
    until_it_runs(&api, long, 1);
    let (before, known) = (contents(&api), newest_event(&api));
    // Logs are written, sealed and made smaller meanwhile.
    let meanwhile: Vec<i64> = (0..10).map(|_| start(&api, "unit")).collect();
    let to = scratch.path().join("backup");
    let backup = to.to_str().expect("text");
    let made = good(&rouse(&["backup", backup], &master, database));
    assert_eq!(made["missing"], json!([]), "{made:#}");
    assert_eq!(made["store_epoch"], 1);
    assert!(made["objects"].as_u64().expect("a number") >= 10, "{made:#}");
    refused(&rouse(&["backup", backup], &master, database), "is not empty");
    whole_and_without(&to);

    let at_backup = files(&to.join("objects"));
    for request in meanwhile {
        assert_eq!(api.until_built(request)["result"], "success");
    }
    builds(&api, 20);
    let later = start(&api, "long");
    until_it_runs(&api, later, 1);
    let (lost_builds, lost_requests) = (ids(&api, "/builds"), ids(&api, "/requests"));
    let lost_workers = ids(&api, "/workers");
    let (lost_objects, lost_event) = (files(&master.state().join("objects")), newest_event(&api));
    refused(&rouse(&["restore", backup, "--replace"], &master, database), "run");
    // Its workers outlive it.
    master.kill9();

    refused(&rouse(&["restore", backup], &master, database), "--replace");
    broken_ones_are_refused(&scratch, &master, database, &to);
    let first = good(&rouse(&["restore", backup, "--replace"], &master, database));
    let second = good(&rouse(&["restore", backup, "--replace"], &master, database));
    let epoch = |restored: &Value| restored["store_epoch"].as_i64().expect("a number");
    assert!(1 < epoch(&first) && epoch(&first) < epoch(&second), "{first} {second}");
    let old = api;
    std::fs::remove_file(master.state().join("admin.token")).expect("the old token was there");
    master.run();
    let api = master.api();
    assert_eq!(old.try_get("/builds").expect_err("its token is of the lost time").status, 401);
    assert!(goes_on(&api, known) && !goes_on(&api, lost_event));

    // What was there is as it was; what was made since then has none of the names that were given out before.
    let now = contents(&api);
    for (build, content) in &before {
        assert_eq!(now.get(build), Some(content), "build {build}");
    }
    builds(&api, 20);
    assert!(goes_on(&api, known) && !goes_on(&api, lost_event));
    let new = |path: &str, known: &BTreeSet<i64>| {
        ids(&api, path).difference(known).copied().filter(|id| *id > 1_000_000).count()
    };
    assert!(new("/builds", &lost_builds) >= 20 && new("/requests", &lost_requests) >= 20);
    assert!(new("/workers", &lost_workers) >= 20);
    let made: BTreeSet<PathBuf> =
        files(&master.state().join("objects")).difference(&at_backup).cloned().collect();
    assert!(made.len() >= 40, "{made:#?}");
    assert_eq!(made.intersection(&lost_objects).collect::<Vec<_>>(), Vec::<&PathBuf>::new());

    // The build that ran at the backup was lost and runs again; the one that came later was never asked for. Their workers are gone.
    until_it_runs(&api, long, 2);
    let gone = api.try_get(&format!("/requests/{later}")).expect_err("nobody has asked for it");
    assert_eq!(gone.status, 404);
    api.post(&format!("/requests/{long}/cancel"), &json!({}));
    assert_eq!(api.until_built(long)["result"], "cancelled");
    master.leftovers().assert_no_workers(wait::A_BUILD, master.pid());
    let left = processes::mentioning(&scratch.path().display().to_string());
    assert!(!left.iter().any(|seen| seen.command.contains("sleep 601")), "{left:#?}");
    wait::until_true("no worker on record", wait::A_BUILD, || api.list("/workers?live=true").is_empty());
}

/// Its checksums are right, told by another program; no secret and no key is in it.
fn whole_and_without(backup: &Path) {
    let check = std::process::Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(backup)
        .output()
        .expect("sha256sum is there");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    for file in files(backup) {
        let bytes = std::fs::read(backup.join(&file)).expect("it can be read");
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "the secret is in {}", file.display());
        assert!(!file.ends_with("installation.key") && !file.ends_with("admin.token"), "{}", file.display());
    }
}

/// A byte that has changed, a file that is not there: said, and nothing is touched.
fn broken_ones_are_refused(scratch: &Scratch, master: &Master, database: &Database, backup: &Path) {
    // Whoever looks into a database takes over what its write-ahead log holds.
    let lasting = || -> BTreeSet<PathBuf> {
        let log = |path: &PathBuf| ["rouse.db-wal", "rouse.db-shm"].map(PathBuf::from).contains(path);
        files(&master.state()).into_iter().filter(|path| !log(path)).collect()
    };
    let before = lasting();
    let copy = scratch.path().join("broken");
    let cp = std::process::Command::new("cp").arg("-r").arg(backup).arg(&copy).status();
    assert!(cp.expect("cp is there").success());
    let victim = files(&copy.join("objects")).pop_last().expect("there are some");
    let victim = copy.join("objects").join(victim);
    let kept = std::fs::read(&victim).expect("it can be read");
    let restore = || rouse(&["restore", copy.to_str().expect("text"), "--replace"], master, database);
    let mut changed = kept.clone();
    *changed.last_mut().expect("it is not empty") ^= 1;
    std::fs::write(&victim, &changed).expect("written");
    refused(&restore(), "is not as it was written");
    std::fs::remove_file(&victim).expect("it was there");
    refused(&restore(), "open");
    std::fs::write(&victim, &kept).expect("written");
    std::fs::remove_file(copy.join("manifest.json")).expect("it was there");
    refused(&restore(), "manifest.json");
    assert_eq!(lasting(), before);
}
