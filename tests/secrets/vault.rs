//! Values that a Vault keeps. A double stands in for it, as no real one is to be had from the registries that tests may use: it answers as the
//! documentation of the HTTP API has it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{secret_file, sum};
use crate::harness::{Bench, GitRepo, Options, Scratch, wait};

const VALUE: &str = "kept-in/the+vault=9c1f";
const TOKEN: &str = "hvs.CAESIJlWqkOnZ4u7b";

type Answers = Arc<Mutex<BTreeMap<String, (u16, String)>>>;

/// Answers by path, and keeps what it was asked.
struct Double {
    port: u16,
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Double {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let double = Self { port, answers: Answers::default(), asked: Arc::default() };
        let (answers, asked) = (Arc::clone(&double.answers), Arc::clone(&double.asked));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let found = answers.lock().expect("nobody panics").get(&path).cloned();
                let (status, body) = found.unwrap_or((404, r#"{"errors":[]}"#.into()));
                asked.lock().expect("nobody panics").push(head);
                let length = body.len();
                let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
            }
        });
        double
    }

    fn answer(&self, path: &str, status: u16, body: &serde_json::Value) {
        self.answers.lock().expect("nobody panics").insert(path.to_owned(), (status, body.to_string()));
    }

    fn keeps(&self, path: &str, field: &str, value: &str) {
        let metadata = json!({
            "created_time": "2018-03-22T02:24:06.945319214Z", "custom_metadata": null, "deletion_time": "", "destroyed": false,
            "version": 2
        });
        self.answer(path, 200, &json!({"data": {"data": {field: value}, "metadata": metadata}}));
    }

    fn asked_for(&self, path: &str) -> usize {
        let all = self.asked.lock().expect("nobody panics");
        all.iter().filter(|head| head.starts_with(&format!("GET {path} "))).count()
    }
}

#[test]
fn a_vault_gives_its_values_and_one_that_is_away_makes_nothing_red() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "text\n")]);
    repo.branch("stranger");
    repo.push("stranger");
    let vault = Double::start();
    let (sign, deploy, gone) = ("/v1/secret/data/ci/sign", "/v1/kv/data/deploy", "/v1/secret/data/ci/gone");
    vault.answer(sign, 503, &json!({"errors": ["Vault is sealed"]}));
    vault.keeps(deploy, "key", "a-key-for-git");
    let config = format!(
        "server:\n  vault: {{address: 'http://127.0.0.1:{}', token_file: {}}}\nsecrets:\n  \
         sign: {{vault: {{path: ci/sign, field: key}}}}\n  gone: {{vault: {{path: ci/gone, field: key}}}}\n  \
         deploy: {{vault: {{mount: kv, path: deploy, field: key}}}}\n\
         codebases:\n  app: {{git: '{}', branches: main, key: secret:deploy}}\npools:\n  here: {{local: {{}}, accepts: any}}\nbuilders:\n  \
         signs: {{steps: [{{checkout: app}}, {{name: use, run: 'printf %s \"$A\" | sha256sum; echo \"$A\"', env: {{A: secret:sign}}}}]}}\n  \
         lacks: {{steps: [{{name: use, run: 'true', env: {{A: secret:gone}}}}]}}\n",
        vault.port,
        secret_file(scratch.path(), "vault.token", &format!("{TOKEN}\n")),
        repo.url(),
    );
    let bench = Bench::within(scratch, &config, Options::default());

    // Sealed: an attempt that is nobody's failure, and then another.
    let request = bench.start("signs");
    let path = format!("/builds?request={request}");
    bench.api.until("an attempt in vain", &path, wait::A_BUILD, |builds| {
        let first = builds["items"].as_array()?.last()?.clone();
        (first["result"] == "retry").then_some(())
    });
    vault.keeps(sign, "key", VALUE);
    let build = bench.ended(request);
    build.must_be("success");
    assert_eq!(build.text("use"), format!("{}{}\n", sum(VALUE), "*".repeat(VALUE.len())));
    let mut results = Vec::new();
    for attempt in bench.api.list(&path) {
        let attempt = bench.build(attempt["id"].as_i64().expect("a number"));
        if attempt.result() != "success" {
            let said = attempt.end_of("use").1.to_owned();
            assert!(said.contains("secret `sign`: `ci/sign` in `secret`"), "{said}");
            assert!(said.contains("503: Vault is sealed"), "{said}");
            assert_eq!(attempt.step("use")["class"], "master");
        }
        results.push(attempt.result().to_owned());
    }
    assert!(results[1..].iter().all(|result| result == "retry") && results.len() > 1, "{results:?}");
    assert!(vault.asked_for(deploy) > 0, "the key of a codebase comes from there, too");

    // What it refuses, or does not have, somebody has to mend.
    let lacks = bench.run("lacks");
    lacks.must_be("exception");
    assert!(
        lacks.end_of("use").1.contains("vault kv metadata get -mount=secret ci/gone"),
        "{:#}",
        lacks.detail
    );
    vault.answer(gone, 403, &json!({"errors": ["1 error occurred:\n\t* permission denied\n\n"]}));
    let lacks = bench.run("lacks");
    lacks.must_be("exception");
    assert_eq!(lacks.step("use")["class"], "auth");
    let said = lacks.end_of("use").1;
    assert!(said.contains("permission denied") && said.contains(r#"path "secret/data/ci/gone""#), "{said}");

    // An untrusted build's wish does not even come so far.
    let before = vault.asked_for(sign);
    let wish = json!({"sources": [{"codebase": "app", "branch": "stranger"}]});
    let untrusted = bench.ended(bench.start_with("signs", &wish));
    untrusted.must_be("failure");
    assert!(untrusted.end_of("use").1.contains("trusted builds only"), "{:#}", untrusted.detail);
    assert_eq!(vault.asked_for(sign), before);
    for text in
        [bench.master.log(), bench.api.get("/events/list").to_string(), bench.api.get("/config").to_string()]
    {
        assert!(!text.contains(VALUE) && !text.contains(TOKEN), "{text}");
    }
}
