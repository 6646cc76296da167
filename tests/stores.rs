//! Logs and artifacts in a bucket: they are there to the byte, outlive a killed master, wait for a store that is away, and go when they are
//! no longer kept.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::master::ROUSE;
use crate::harness::s3::{Bucket, Gate};
use crate::harness::{Bench, Build, Options, Scratch, wait};

/// More than one part of an upload, and more than one segment of a log.
const FILE: usize = 7_000_000;

/// The builders write beside what they send, in a folder that every worker's user may write to.
fn outside(scratch: &Scratch) -> PathBuf {
    let folder = scratch.folder("outside");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("the folder is ours");
    folder
}

fn secret(scratch: &Scratch, name: &str, value: &str) -> String {
    let path = scratch.file(name, value);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
    path.display().to_string()
}

/// The sections of a configuration that has its objects there.
pub fn objects(scratch: &Scratch, bucket: &str, server: &str, more: &str) -> String {
    let (id, key) = (secret(scratch, "id", "AKIDEXAMPLE"), secret(scratch, "key", "the-key-of-the-store"));
    format!(
        "server:\n  objects: {{url: 's3://{bucket}/ci', endpoint: 'http://{server}', region: eu-central-1, access_key: secret:id, \
         secret_key: secret:key}}\n{more}secrets: {{id: {{file: {id}}}, key: {{file: {key}}}}}\n"
    )
}

fn builders(out: &Path) -> String {
    format!(
        "pools: {{here: {{local: {{}}, max: 2}}}}\nbuilders:\n  unit:\n    steps:\n      \
         - {{name: print, run: 'rm -f {out}/printed; head -c {FILE} /dev/urandom | base64 | tee {out}/printed'}}\n      \
         - {{name: make, run: 'rm -f {out}/sent; head -c {FILE} /dev/urandom | tee {out}/sent > file'}}\n      - {{upload: {{paths: file, as: file}}}}\n      \
         - {{name: fetch, download: {{artifact: file, to: back}}}}\n      - {{name: compare, run: 'cmp file back/file'}}\n  \
         halves:\n    steps:\n      - name: print\n        run: |\n          head -c 1000000 /dev/urandom | base64 | tee {out}/first\n          \
         until [ -e {out}/go ]; do sleep 0.1; done\n          head -c 1000000 /dev/urandom | base64 | tee {out}/second\n",
        out = out.display()
    )
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("the build has written it")
}

/// The build's log and its file are what it has made, through the API.
fn is_whole(bench: &Bench, build: &Build, out: &Path) {
    assert!(build.bytes("print") == read(&out.join("printed")), "the log is another");
    let artifact = &build.detail["artifacts"][0];
    let kept = bench.api.bytes(&format!("/artifacts/{}/content", artifact["id"]));
    assert!(kept == read(&out.join("sent")), "the file is another");
}

fn rouse(bench: &Bench, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(ROUSE);
    command.args(arguments).arg("--state").arg(bench.master.state());
    command
        .env_remove("ROUSE_SERVER")
        .env_remove("ROUSE_TOKEN")
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let output = command.output().expect("the binary starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// What the doctor says of the objects: the status, what was found, the way to mend it.
fn doctor(bench: &Bench, config: &Path) -> [String; 3] {
    let mut command = Command::new(ROUSE);
    command.args(["doctor", "-o", "json", "--config"]).arg(config).arg("--state").arg(bench.master.state());
    command
        .env_remove("ROUSE_SERVER")
        .env_remove("ROUSE_TOKEN")
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let output = command.output().expect("the binary starts");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let found = said["checks"].as_array().expect("a list").iter().find(|one| one["check"] == "objects");
    let found = found.unwrap_or_else(|| panic!("nothing of the objects: {said:#}"));
    ["status", "found", "mend"].map(|key| found[key].as_str().unwrap_or_default().to_owned())
}

#[test]
fn logs_and_artifacts_lie_in_the_bucket_and_outlive_a_killed_master() {
    let Some(bucket) = Bucket::fresh() else { return };
    let scratch = Scratch::new();
    let out = outside(&scratch);
    let config = |more: &str| objects(&scratch, &bucket.name, bucket.server(), more) + &builders(&out);
    let (plain, keeping) = (config(""), config("  keep: {per_builder: 1}\n"));
    let mut bench = Bench::within(scratch, &plain, Options::default());
    let build = bench.run("unit");
    build.must_be("success");
    is_whole(&bench, &build, &out);
    let there = bucket.objects();
    let of = |what: &str| there.keys().filter(|key| key.starts_with(what)).cloned().collect::<Vec<_>>();
    assert_eq!(of("ci/logs/").len() + of("ci/artifacts/").len(), there.len(), "nothing else: {there:?}");
    let [file] = of("ci/artifacts/").try_into().expect("one file");
    assert!(bucket.object(&file) == read(&out.join("sent")), "the file is in the bucket");
    assert!(!of("ci/logs/").is_empty() && !bench.master.state().join("objects").exists());
    // Whatever it is, no browser makes a page of it.
    let shown = bench.api.open(&format!("/artifacts/{}/content", build.detail["artifacts"][0]["id"]));
    let header =
        |name: &str| shown.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!(
        (header("content-type"), header("x-content-type-options")),
        ("application/octet-stream", "nosniff")
    );
    assert_eq!(header("content-security-policy"), "sandbox; default-src 'none'");
    assert_eq!(header("cross-origin-resource-policy"), "same-origin");
    assert_eq!(header("content-disposition"), "attachment; filename=\"file\"");
    let to = bench.scratch.path().join("fetched");
    bench.cli(&["build", "artifacts", &build.id().to_string(), "--to", &to.display().to_string()]);
    assert!(read(&to.join("file/file")) == read(&out.join("sent")), "the CLI fetches it");

    // In the middle of a build.
    let halves = bench.start("halves");
    let first = || std::fs::read(out.join("first")).map_or(0, |bytes| bytes.len());
    wait::until_true("the first half", wait::A_BUILD, || first() > 1_300_000);
    bench.master.kill9();
    std::fs::write(out.join("go"), "").expect("the folder is ours");
    bench.master.run();
    let halves = bench.ended(halves);
    halves.must_be("success");
    let whole = [read(&out.join("first")), read(&out.join("second"))].concat();
    assert!(halves.bytes("print") == whole && halves.detail["attempt"] == 1, "nothing of the log is lost");

    let [status, found, _] = doctor(&bench, &bench.master.config_file());
    assert!(
        status == "ok" && found.contains("are all there") && found.contains(&bucket.name),
        "{status}: {found}"
    );
    backed_up(&mut bench, &bucket);
    is_whole(&bench, &bench.build(build.id()), &out);

    // What is no longer kept goes, and what is stays.
    let newest = bench.run("unit");
    newest.must_be("success");
    bench.master.write_config(&format!("version: 1\n{keeping}"));
    bench.master.reload();
    wait::until_true("the old file to be gone", wait::A_BUILD, || !bucket.objects().contains_key(&file));
    is_whole(&bench, &newest, &out);
}

/// A backup leaves the bucket alone and says so; so does its return.
fn backed_up(bench: &mut Bench, bucket: &Bucket) {
    let to = bench.scratch.path().join("kept");
    let to = to.display().to_string();
    let before = bucket.objects();
    let (well, said) = rouse(bench, &["backup", &to]);
    assert!(
        well && said.contains(&format!("are in s3://{}/ci and not in the backup", bucket.name)),
        "{said}"
    );
    let manifest: Value = serde_json::from_slice(&read(&Path::new(&to).join("manifest.json"))).expect("JSON");
    assert_eq!(
        (&manifest["objects"], manifest["bucket"].as_str()),
        (&0.into(), Some(&*format!("s3://{}/ci", bucket.name)))
    );
    bench.master.stop();
    let (well, said) = rouse(bench, &["restore", &to, "--replace", "--keep-tokens"]);
    assert!(well && said.contains("which is left as it is"), "{said}");
    bench.master.run();
    let after = bucket.objects();
    assert!(before.keys().all(|key| after.contains_key(key)), "a return takes nothing away");
}

#[test]
fn a_store_that_is_away_is_waited_for() {
    let Some(bucket) = Bucket::fresh() else { return };
    let scratch = Scratch::new();
    let out = outside(&scratch);
    let gate = Gate::to(bucket.server());
    let config = objects(&scratch, &bucket.name, gate.address(), "") + &builders(&out);
    let nowhere = objects(&scratch, "no-such-bucket", bucket.server(), "") + &builders(&out);
    let nowhere = scratch.file("nowhere.yaml", &format!("version: 1\n{nowhere}"));
    gate.close();
    // A master does not need it to begin.
    let bench = Bench::within(scratch, &config, Options::default());
    let said =
        || bench.api.try_get("/readyz").err().map(|refused| refused.body["error"]["message"].to_string());
    let told =
        format!("the log store (s3://{}/ci at http://{}) cannot be written", bucket.name, gate.address());
    wait::until_true("the master to say so", wait::A_BUILD, || {
        said().is_some_and(|said| said.contains(&told))
    });
    let [status, found, mend] = doctor(&bench, &bench.master.config_file());
    assert!(
        status == "fail" && !found.is_empty() && mend.contains("see that the store runs"),
        "{status} {found} {mend}"
    );
    let [status, found, mend] = doctor(&bench, &nowhere);
    assert!(status == "fail" && found.contains("NoSuchBucket"), "{status} {found}");
    assert_eq!(mend, "make the bucket no-such-bucket, or correct `server.objects.url`");

    let request = bench.start("unit");
    wait::until_true("output that cannot be stored", wait::A_BUILD, || {
        bench.master.log().contains("output could not be stored yet")
    });
    let open = bench.api.get(&format!("/builds?request={request}&open=true"));
    assert_eq!(open["items"].as_array().map(Vec::len), Some(1), "it waits: {open:#}");
    gate.open();
    wait::until_true("the master to be ready again", wait::A_BUILD, || said().is_none());
    wait::until_true("the log to say so", wait::SOON, || {
        bench.master.log().contains("the trouble with the log store is over")
    });
    let build = bench.ended(request);
    build.must_be("success");
    assert_eq!(build.detail["attempt"], 1);
    is_whole(&bench, &build, &out);

    // Away in the middle of all.
    std::fs::remove_file(out.join("sent")).expect("it was there");
    let request = bench.start("unit");
    wait::until_true("the file to be made", wait::A_BUILD, || out.join("sent").exists());
    gate.close();
    wait::until_true("the master to say so", wait::A_BUILD, || {
        said().is_some_and(|said| said.contains(&told))
    });
    // Who asks for a file meanwhile is told that it is not lost.
    let kept = build.detail["artifacts"][0]["id"].as_i64().expect("a file");
    let refused = bench.api.try_get(&format!("/artifacts/{kept}/content")).expect_err("the store is away");
    assert_eq!((refused.status, &refused.body["error"]["code"]), (503, &"unavailable".into()));
    gate.open();
    let build = bench.ended(request);
    build.must_be("success");
    assert_eq!(build.detail["attempt"], 1);
    is_whole(&bench, &build, &out);
    assert!(gate.passed() > 2 * FILE as u64);
}

#[test]
fn large_files_go_past_the_master_by_its_leave() {
    let Some(bucket) = Bucket::fresh() else { return };
    let scratch = Scratch::new();
    let out = outside(&scratch);
    let gate = Gate::to(bucket.server());
    let config = objects(&scratch, &bucket.name, gate.address(), "") + &builders(&out);
    let by_master = config.replace("region:", "transfers: master, region:");
    let mut bench = Bench::within(scratch, &config, Options::default());
    let mut known = bucket.objects();
    // The file of a build, and the requests that its agent made of the store.
    let mut run = |bench: &Bench| {
        let before = gate.signed().len();
        let build = bench.run("unit");
        build.must_be("success");
        is_whole(bench, &build, &out);
        let now = bucket.objects();
        let new: Vec<String> = now.keys().filter(|key| !known.contains_key(*key)).cloned().collect();
        known = now;
        let files: Vec<String> = new.into_iter().filter(|key| key.starts_with("ci/artifacts/")).collect();
        let [file] = files.try_into().expect("one file");
        let path = format!("/{}/{file}", bucket.name);
        (file, gate.signed()[before..].iter().map(|request| request.replace(&path, "it")).collect::<Vec<_>>())
    };
    let (file, asked) = run(&bench);
    assert_eq!(asked, ["PUT it", "HEAD it", "GET it"]);
    assert!(!bucket.is_of_parts(&file));

    // A store that does not let agents in is no trouble.
    gate.refuse_signed();
    let (file, asked) = run(&bench);
    assert_eq!(asked, ["PUT it".replace("it", &asked[0][4..]), "GET it".to_owned()], "each is tried once");
    assert!(bucket.is_of_parts(&file), "it went by the master");

    bench.master.stop();
    bench.master.write_config(&format!("version: 1\n{by_master}"));
    bench.master.run();
    let (file, asked) = run(&bench);
    assert!(bucket.is_of_parts(&file) && asked.is_empty(), "{asked:?}");
}

#[test]
fn caches_go_past_the_master_too() {
    let Some(bucket) = Bucket::fresh() else { return };
    let scratch = Scratch::new();
    let out = outside(&scratch);
    let gate = Gate::to(bucket.server());
    let config = objects(&scratch, &bucket.name, gate.address(), "")
        + &format!(
            "pools: {{here: {{local: {{}}}}}}\nbuilders:\n  unit:\n    caches: {{made: {{path: made}}}}\n    steps:\n      \
             - run: |\n          if [ -e made/file ]; then cmp made/file {out}/file\n          \
             else mkdir made; head -c {FILE} /dev/urandom | tee {out}/file > made/file; fi\n",
            out = out.display()
        );
    let bench = Bench::within(scratch, &config, Options::default());
    let run = || {
        let before = gate.signed().len();
        bench.run("unit").must_be("success");
        let asked = gate.signed().split_off(before);
        asked.iter().map(|request| request[..4].trim().to_owned()).collect::<Vec<String>>()
    };
    assert_eq!(run(), ["PUT", "HEAD"]);
    // The same archive once more is not sent.
    assert_eq!(run(), ["GET"]);
    let id = bench.api.get("/caches")["items"][0]["id"].to_string();
    bench.cli(&["cache", "remove", &id]);
    std::fs::remove_file(out.join("file")).expect("the folder is ours");
    assert_eq!(run(), ["PUT", "HEAD"]);
}
