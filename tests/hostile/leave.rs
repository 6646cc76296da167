//! Leave to go to the object store past the master: it is for one file of one step at a new place, and what is put there is believed by nobody.

use rouse_agent_protocol::{Action, OutcomeKind, TransferredFile};
use sha2::{Digest, Sha256};

use super::agent::{Agent, Ground};
use super::must_say;
use crate::harness::s3::Bucket;
use crate::harness::{Bench, Scratch, wait};
use crate::stores::objects;

const BUILDERS: &str = "pools: {here: {local: {}, reuse: {builds: 100, idle: 10m}}}\nbuilders: {keep: {steps: [{name: keep, upload: {paths: '*', as: debs}}]}}\n";
const SIZE: usize = 2 << 20;

/// What a master says of where a file may be put.
struct Leave {
    id: String,
    url: String,
    headers: Vec<(String, String)>,
}

/// What an agent says of a file.
fn said(bytes: u64, body: &[u8]) -> String {
    format!("Rouse-Size: {bytes}\r\nRouse-Sha256: {}\r\n", hex::encode(Sha256::digest(body)))
}

fn leave(agent: &Agent, path: &str, token: &str, body: &[u8]) -> Leave {
    let (status, text) = agent.post(path, token, &said(body.len() as u64, body));
    assert_eq!(status, 200, "{text}");
    let mut lines = text.lines();
    let mut next = || lines.next().expect("a line").to_owned();
    let (id, url) = (next(), next());
    let headers = lines.map(|line| line.split_once(": ").expect("a header"));
    Leave { id, url, headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
}

#[test]
fn leave_is_for_one_file_and_what_is_put_there_is_looked_at() {
    let Some(bucket) = Bucket::fresh() else { return };
    let scratch = Scratch::new();
    let ground = Ground::new(&scratch);
    let config = objects(&scratch, &bucket.name, bucket.server(), "") + BUILDERS;
    let bench = Bench::within(scratch, &config, ground.options(&[]));
    let request = bench.start("keep");
    let worker =
        bench.api.until("a worker", "/workers", wait::A_BUILD, |workers| workers["items"][0]["id"].as_i64());
    let mut agent = ground.agent(worker);
    agent.join(|_| {}).expect("it is the worker's own");
    let command = agent.command();
    let Action::Upload(upload) = &command.action else { panic!("no upload: {command:?}") };
    assert!(upload.direct);
    let (place, token) = (upload.url_path.clone(), upload.token.reveal().to_owned());
    let kept = |path: &str, id: &str| agent.post(path, &token, &format!("Rouse-Kept: {id}\r\n"));
    let (file, other) = (vec![b'x'; SIZE], vec![b'y'; SIZE - 1]);
    let a = format!("{place}/a.deb");

    // Only for what could be sent here, too.
    assert_eq!(agent.post(&a, "no token", &said(SIZE as u64, &file)).0, 403);
    assert_eq!(agent.post(&format!("{place}/../x"), &token, &said(SIZE as u64, &file)).0, 422);
    assert_eq!(
        agent.post(&a, &token, &said(u64::from(u32::MAX) << 8, &file)).0,
        422,
        "more than a step may keep"
    );
    assert_eq!(agent.post(&a, &token, "").0, 400);
    assert_eq!(agent.post(&a, &token, &said(10, &file)).0, 204, "small files are sent here");

    // Nothing is there, another name, an id that nobody gave.
    let first = leave(&agent, &a, &token, &file);
    assert_eq!(kept(&a, &first.id).0, 409);
    assert_eq!(kept(&format!("{place}/b.deb"), &first.id).0, 409);
    assert_eq!(kept(&a, "999999").0, 409);
    // The store of the tests does not hold anybody to what is signed; so the master has to see it.
    assert_eq!(bucket.put(&first.url, &[], &other), 200);
    let (status, why) = kept(&a, &first.id);
    assert!(status == 422 && why.contains("another file than was said"), "{status} {why}");
    assert_eq!(bucket.objects().keys().filter(|key| key.contains("artifacts/")).count(), 0, "it is removed");

    // Each leave is for a place of its own, where nothing is put twice.
    let second = leave(&agent, &a, &token, &file);
    let path = |url: &str| url.split('?').next().expect("a part").to_owned();
    assert_ne!(path(&first.url), path(&second.url));
    for name in ["if-none-match", "x-amz-checksum-sha256"] {
        let signed = second.url.split("X-Amz-SignedHeaders=").nth(1).expect("they are named");
        assert!(signed.split('&').next().is_some_and(|list| list.contains(name)), "{name}: {signed}");
    }
    assert_eq!(bucket.put(&second.url, &second.headers, &file), 200);
    assert_eq!(kept(&a, &second.id).0, 201);
    assert_eq!(kept(&a, &second.id).0, 201, "said twice it is kept once");
    assert_eq!(bucket.put(&second.url, &second.headers, &other), 412, "what is there stays");

    agent.finish(
        &command,
        OutcomeKind::Transferred {
            files: vec![TransferredFile {
                path: "a.deb".into(),
                size: SIZE as u64,
                sha256: hex::encode(Sha256::digest(&file)),
            }],
        },
        0,
    );
    let build = bench.ended(request);
    build.must_be("success");
    assert_eq!(build.detail["artifacts"].as_array().map(Vec::len), Some(1));
    let artifact = &build.detail["artifacts"][0];
    assert!(bench.api.bytes(&format!("/artifacts/{}/content", artifact["id"])) == file);
    assert_eq!(agent.post(&a, &token, &said(SIZE as u64, &file)).0, 422, "the step is over");
    must_say(&bench.api, worker, &["upload", "transfer_token"]);
}
