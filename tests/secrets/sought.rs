//! Secrets are sought, after builds that used them, printed them and wrote them in every other way, wherever a master keeps or shows something.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use sha2::{Digest, Sha256};

use super::{secret_file, sum};
use crate::harness::bench::Build;
use crate::harness::docker::Image;
use crate::harness::master::ROUSE;
use crate::harness::{Bench, Docker, Options, Scratch, processes, wait};

const TOKEN: &str = "tok/5f1e+9a77=c0?d4";
const CREDENTIAL: &str = "cred&61aa0e/77+b2c4";
/// No secret: what shows that the search finds.
const PUBLIC: &str = "known-to-everybody-4b1d";

/// A key as it looks, of no use.
fn pem() -> String {
    let line = |i: u8| STANDARD.encode([&Sha256::digest([i])[..], &Sha256::digest([i, i])[..16]].concat());
    let lines: Vec<String> = (0..12).map(line).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", lines.join("\n"))
}

/// What a build does with secrets.
const STEPS: &str = r#"
    steps:
      - name: use
        env: &all {TOKEN: secret:token, PEM: secret:pem, CRED: secret:credential}
        run: |
          printf %s "$TOKEN" | sha256sum; printf %s "$PEM" | sha256sum; printf %s "$CRED" | sha256sum
          printf '%s\n' "$TOKEN" "$PEM" "$CRED" > kept
      - name: print
        env: *all
        run: |
          echo "PUBLIC $TOKEN <$CRED>"; echo "$PEM"; echo "$PEM" >&2; printf '%s\n' "$PEM" | sed 's/^/  | /; s/$/\r/'
          set -x; : "$TOKEN"
      - name: split
        env: *all
        run: |
          printf '%s %s' "$TOKEN" "$CRED" | fold -w 1 | while IFS= read -r letter; do printf %s "$letter"; done; echo
          printf '%s\n' "$PEM" | fold -w 50 | while IFS= read -r part; do printf %s "$part"; [ ${#part} = 50 ] || echo; done
      - name: much
        env: *all
        run: 'i=0; while [ $i -lt 2000 ]; do echo "PUBLIC $i $TOKEN $CRED"; i=$((i + 1)); done; echo "$PEM"'
      - name: base64
        env: *all
        run: |
          for before in '' x xy 'user:'; do
            printf %s "$before$TOKEN" | base64; printf %s "$before$CRED@host" | base64 | tr +/ -_
            printf %s "$before$PEM" | base64 | tr -d '\n'; echo
          done
          echo "$TOKEN" | base64; echo "$PEM" | base64; printf %s "$PEM" | base64
      - name: address
        env: *all
        run: |
          for text in "$TOKEN" "$CRED" "$PEM"; do
            printf '%s\n' "$text" | sed 's/%/%25/g; s,/,%2F,g; s/+/%2B/g; s/=/%3D/g; s/?/%3F/g; s/&/%26/g; s/ /%20/g'
          done
      # It was given none itself.
      - {name: later, run: 'cat kept; base64 < kept > /dev/null'}
      - {name: property, env: *all, properties: {output: 'printf %s "$TOKEN"', as: from_output}}
      - {name: write, env: *all, run: 'printf "{\"from_file\": \"<%s>\"}" "$CRED" > p.json; echo PUBLIC > report'}
      - {name: read, properties: {from: p.json}}
      - {name: repeat, run: 'echo "{{ props.from_output }} {{ props.from_file }}"'}
      - {name: keep, upload: {paths: report, as: report}}
      - {name: fails, env: *all, run: 'exec "$TOKEN"'}
"#;

/// Texts, each with where it stood.
type Found = Vec<(String, Vec<u8>)>;

/// All forms of all parts of the secrets; the public text is none of them.
struct Needles(Vec<String>);

impl Needles {
    fn new() -> Self {
        let pem = pem();
        let parts: Vec<&str> =
            pem.lines().filter(|line| line.len() == 64).chain([TOKEN, CREDENTIAL]).collect();
        assert_eq!(parts.len(), 14);
        let mut all = Vec::new();
        for part in parts {
            all.push(part.to_owned());
            let escaped = |byte: u8| match byte {
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            };
            all.push(part.bytes().map(escaped).collect());
            for engine in [&STANDARD, &URL_SAFE] {
                for before in ["", "x", "xy"] {
                    // What the part alone decides: no letter that its neighbours have a share in.
                    let text = engine.encode(format!("{before}{part}"));
                    let end = (before.len() + part.len()) * 8 / 6;
                    all.push(text[(before.len() * 8).div_ceil(6)..end].to_owned());
                }
            }
        }
        Self(all)
    }

    fn within(&self, bytes: &[u8]) -> Option<&str> {
        self.0.iter().map(String::as_str).find(|needle| has(bytes, needle))
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// The bytes, and what is packed in them.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    for at in memchr::memmem::find_iter(bytes, &[0x28, 0xb5, 0x2f, 0xfd]) {
        let Ok(decoder) = zstd::stream::read::Decoder::new(&bytes[at..]) else { continue };
        let _ = std::io::Read::read_to_end(&mut decoder.single_frame(), &mut all);
    }
    all
}

/// Every value of every row of a database.
fn rows(file: &Path) -> Vec<u8> {
    let database = rusqlite::Connection::open(file).expect("it is there");
    let mut tables =
        database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").expect("it is a database");
    let tables: Vec<String> = tables
        .query_map([], |row| row.get(0))
        .expect("there are tables")
        .map(|name| name.expect("a name"))
        .collect();
    let mut all = Vec::new();
    for table in tables {
        let mut statement = database.prepare(&format!("SELECT * FROM \"{table}\"")).expect("a table");
        let columns = statement.column_count();
        let mut rows = statement.query([]).expect("its rows");
        while let Some(row) = rows.next().expect("a row") {
            for column in 0..columns {
                if let Ok(bytes) = row.get_ref(column).expect("a column").as_bytes() {
                    all.extend(unpacked(bytes));
                    all.push(b'\n');
                }
            }
        }
    }
    all
}

/// What a folder's files hold, each with its name. A worker's own folder is the build's affair.
fn files(folder: &Path, found: &mut Found) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if !path.to_string_lossy().contains("/build/") {
            found.push((path.display().to_string(), unpacked(&std::fs::read(&path).unwrap_or_default())));
        }
    }
}

/// Runs something, and watches all command lines meanwhile.
fn watched<T>(needles: &Needles, run: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut looks, mut seen) = (0, BTreeSet::new());
            while !done.load(Ordering::Relaxed) {
                seen.extend(
                    processes::all()
                        .filter(|p| needles.within(p.command.as_bytes()).is_some())
                        .map(|p| p.command),
                );
                looks += 1;
            }
            (looks, seen)
        });
        let result = run();
        done.store(true, Ordering::Relaxed);
        let (looks, seen) = watcher.join().expect("it only looks");
        assert!(looks > 3 && seen.is_empty(), "{looks} looks: {seen:?}");
        result
    })
}

/// All that the API and the CLI say.
fn answers(bench: &Bench, build: &Build, request: i64) -> Found {
    let mut all = vec![("the build".to_owned(), build.detail.to_string().into_bytes())];
    let explain = format!("/requests/{request}/explain");
    for path in ["/config", "/requests", &explain, "/builders", "/workers", "/master"] {
        all.push((path.to_owned(), bench.api.get(path).to_string().into_bytes()));
    }
    let mut after = 0;
    loop {
        let page = bench.api.get(&format!("/events/list?after={after}"));
        let Some(last) = page["items"].as_array().and_then(|items| items.last()) else { break };
        after = last["seq"].as_i64().expect("an event has a number");
        all.push(("events".to_owned(), page.to_string().into_bytes()));
    }
    assert!(after > 10, "there are events");
    for step in build.steps().iter().filter(|step| step["logs"][0].is_object()) {
        let log = &step["logs"][0]["id"];
        all.push((format!("log of {}", step["name"]), bench.api.bytes(&format!("/logs/{log}/raw"))));
        all.push((
            format!("lines of {}", step["name"]),
            bench.api.get(&format!("/logs/{log}/lines")).to_string().into_bytes(),
        ));
    }
    let (build, request) = (build.id().to_string(), request.to_string());
    for arguments in [&["explain", "request", &request][..], &["build", "show", &build], &["logs", &build]] {
        all.push((format!("rouse {}", arguments.join(" ")), bench.cli(arguments).into_bytes()));
    }
    all.push(("the master's log".to_owned(), bench.master.log().into_bytes()));
    all
}

#[test]
fn no_secret_is_found_after_builds_in_processes() {
    story(None);
}

#[test]
fn no_secret_is_found_after_builds_in_containers() {
    if let Some(docker) = Docker::of_this_run() {
        story(Some(&docker));
    }
}

#[test]
fn the_search_finds_what_it_is_for() {
    let needles = Needles::new();
    let key = pem();
    for (before, after) in [("", ""), ("user:", "@host"), ("xy", "\n")] {
        for part in key.lines().filter(|line| line.len() == 64).chain([TOKEN, CREDENTIAL]) {
            let text = format!("{before}{part}{after}");
            let escaped = part.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
            let escaped = escaped.replace('?', "%3F").replace('&', "%26");
            for form in [STANDARD.encode(&text), URL_SAFE.encode(&text), escaped, text] {
                let packed = zstd::encode_all(form.as_bytes(), 1).expect("it is small");
                let within = [&[0; 9][..], &packed, b"end"].concat();
                assert!(needles.within(&unpacked(&within)).is_some(), "{form}");
            }
        }
    }
    assert_eq!(needles.within(PUBLIC.as_bytes()), None);
}

fn story(docker: Option<&Docker>) {
    let needles = Needles::new();
    let image = docker.map(|docker| docker.busybox(&[]));
    let bench = bench(docker, image.as_ref());
    let request = bench.start("leaks");
    let build = watched(&needles, || bench.ended(request));

    build.must_be("failure");
    let bad = build.steps().iter().filter(|step| step["result"] != "success");
    assert!(bad.into_iter().all(|step| step["name"] == "fails"), "{:#}", build.detail);
    assert_eq!(build.text("use"), format!("{}{}{}", sum(TOKEN), sum(&pem()), sum(CREDENTIAL)));
    for step in ["print", "split", "much", "base64", "address", "later", "repeat"] {
        assert!(build.text(step).matches('*').count() >= TOKEN.len(), "{step}: {}", build.text(step));
    }

    let mut found = answers(&bench, &build, request);
    assert!(
        found.iter().any(|(name, text)| name == "log of \"print\"" && has(text, PUBLIC)),
        "logs are read"
    );
    if let (Some(docker), Some(image)) = (docker, &image) {
        of_containers(docker, image, &mut found);
    }
    of_disk(&bench, &mut found);
    for (name, text) in &found {
        assert_eq!(needles.within(text), None, "in {name}");
    }
}

fn bench(docker: Option<&Docker>, image: Option<&Image>) -> Bench {
    let scratch = Scratch::new();
    let credentials = scratch.folder("credentials");
    secret_file(&credentials, "cred", CREDENTIAL);
    // As systemd leaves it.
    std::fs::set_permissions(credentials.join("cred"), std::fs::Permissions::from_mode(0o400))
        .expect("it is ours");
    let pool = match image {
        Some(image) => format!("docker: {{image: '{}', pull: never, network: none}}", image.name()),
        None => "local: {}".to_owned(),
    };
    let key = secret_file(scratch.path(), "key.pem", &format!("{}\n", pem()));
    let config = format!(
        "secrets:\n  token: {{env: TEST_TOKEN}}\n  pem: {{file: {key}, builders: leaks}}\n  credential: {{credential: cred}}\n\
         pools:\n  here: {{{pool}, reuse: {{builds: 100, idle: 5m}}}}\nbuilders:\n  leaks:{}",
        STEPS.replace("PUBLIC", PUBLIC)
    );
    let environment = vec![
        ("TEST_TOKEN".to_owned(), TOKEN.to_owned()),
        ("CREDENTIALS_DIRECTORY".to_owned(), credentials.display().to_string()),
    ];
    Bench::within(scratch, &config, Options { environment, docker: docker.cloned(), ..Options::default() })
}

/// What the daemon shows of the worker, which is kept for its next build.
fn of_containers(docker: &Docker, image: &Image, found: &mut Found) {
    let filter = format!("ancestor={}", image.name());
    let containers = docker.run(&["ps", "--all", "--quiet", "--filter", &filter]);
    assert!(containers.lines().count() >= 1, "the worker is there");
    for container in containers.lines() {
        found.push(("docker inspect".into(), docker.run(&["container", "inspect", container]).into_bytes()));
        found.push(("docker logs".into(), docker.run(&["logs", container]).into_bytes()));
    }
}

/// What the master keeps: its files, its database row by row, and a backup.
fn of_disk(bench: &Bench, found: &mut Found) {
    let state = bench.master.state();
    let mut kept = Vec::new();
    wait::until_true("the file of properties to go once it is read", wait::SOON, || {
        kept.clear();
        files(&state, &mut kept);
        !kept.iter().any(|(name, text)| name.contains("/artifacts/") && has(text, "from_file"))
    });
    for kind in ["/logs/", "/artifacts/"] {
        assert!(
            kept.iter().any(|(name, text)| name.contains(kind) && has(text, PUBLIC)),
            "{kind} is searched"
        );
    }
    let backup = bench.scratch.path().join("backup");
    let mut command = Command::new(ROUSE);
    let made =
        command.arg("backup").arg(&backup).arg("--state").arg(&state).output().expect("the binary starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    files(&backup, &mut kept);
    for database in [state.join("rouse.db"), backup.join("database.sqlite")] {
        let rows = rows(&database);
        assert!(has(&rows, PUBLIC), "{} is searched", database.display());
        kept.push((format!("the rows of {}", database.display()), rows));
    }
    found.extend(kept);
}
