//! Registries with a login: what a pool is given to log in with, where it is used, and that nobody else sees it.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use rouse_testkit::back_ends;

use crate::harness::builds::{explained, printed, run, run_green, start};
use crate::harness::scratch::unique;
use crate::harness::{Api, Docker, Gate, Manner, Master, Options, Registry, Scratch, wait};

const SAYS: &str = "[{run: 'echo $SAYS'}]";
const WRONG: &str = "not-the-sesame-77";

/// With a mode that lets only us read it.
fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).expect("a file can be written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the file is ours");
}

fn options(docker: &Docker) -> Options {
    Options { docker: Some(docker.clone()), ..Options::default() }
}

/// The name by which a daemon knows what it has of a repository goes, with whatever it stands for.
fn forget(docker: &Docker, repository: &str) {
    let _ = docker.try_run(&["image", "rm", &format!("{repository}:1")]);
    let listed = docker.run(&["image", "ls", "--quiet", "--no-trunc", repository]);
    for id in listed.lines() {
        let digests = docker.run(&["image", "inspect", "--format", "{{join .RepoDigests \"\\n\"}}", id]);
        for name in digests.lines().filter(|name| name.starts_with(&format!("{repository}@"))) {
            let _ = docker.try_run(&["image", "rm", name]);
        }
    }
}

/// All files below a folder in which a text stands.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if memchr::memmem::find(&std::fs::read(&path).unwrap_or_default(), text.as_bytes()).is_some() {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_pools_login_is_used_where_its_image_is_and_seen_nowhere() {
    let (Some(docker), Some(open), Some(login)) =
        (Docker::of_this_run(), back_ends::registry(), back_ends::registry_with_login())
    else {
        return;
    };
    let name = unique("private");
    docker.busybox(&["ENV SAYS=private"]).push_as(&format!("{open}/{name}:1"));
    let (scratch, keys) = (Scratch::new(), Scratch::new());
    let file = |name: &str, text: &str| {
        let path = keys.path().join(name);
        write(&path, text, 0o600);
        path.display().to_string()
    };
    let wrong = file("wrong", WRONG);
    let host = &login.address;
    let pool = |name: &str, login: &str| {
        format!(
            "  {name}: {{docker: {{image: '{host}/{{{{ props.name }}}}:1', pull: always, network: none{login}}}}}\n"
        )
    };
    let with = |user: &str, secret: &str| {
        format!(", registry: {{'{host}': {{user: {user}, password: 'secret:{secret}'}}}}")
    };
    let config = format!(
        "version: 1\nprojects: {{shop: {{}}}}\nsecrets:\n  right: {{file: '{right}'}}\n  wrong: {{file: '{wrong}'}}\n  shops: {{file: '{right}', projects: [shop]}}\n  \
         gone: {{file: '{gone}'}}\npools:\n{pools}builders:\n{builders}",
        right = file("right", &format!("{}\n", login.password)),
        gone = keys.path().join("gone").display(),
        pools = [
            pool("good", &with(&login.user, "right")),
            pool("none", ""),
            pool(
                "elsewhere",
                &format!(
                    ", registry: {{'other.example.org': {{user: '{}', password: 'secret:right'}}}}",
                    login.user
                )
            ),
            pool("bad", &with(&login.user, "wrong")),
            pool("shop", &with(&login.user, "shops")),
            pool("gone", &with(&login.user, "gone")),
        ]
        .concat(),
        builders = ["good", "none", "elsewhere", "bad", "shop", "gone"]
            .map(|pool| format!("  {pool}: {{pool: {pool}, properties: {{name: {name}}}, steps: {SAYS}}}\n"))
            .concat()
            + &format!(
                "  of-shop: {{project: shop, pool: shop, properties: {{name: {name}}}, steps: {SAYS}}}\n"
            ),
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    let refused = |builder: &str| {
        let build = run(&api, builder, json!({}));
        let said = build["summary"].as_str().unwrap_or_default().to_owned();
        assert_eq!((&build["result"], &build["class"]), (&json!("exception"), &json!("image")), "{build:#}");
        assert!(said.contains(&format!("pool `{builder}`")), "{said}");
        said
    };
    // Without a login, with one for another registry, with a wrong one; with one that is not there, or for others.
    for builder in ["none", "elsewhere"] {
        let said = refused(builder);
        assert!(said.contains(&format!("registry {host} wants a login")), "{said}");
    }
    let said = refused("bad");
    let told = [format!("registry {host}"), format!("user `{}`", login.user), "secret:wrong".into()];
    assert!(told.iter().all(|part| said.contains(part)), "{said}");
    let said = refused("gone");
    assert!(said.contains("secret `gone`") && said.contains("cannot be read"), "{said}");
    let said = refused("shop");
    assert!(said.contains("secret `shops` is not for project `default`"), "{said}");
    assert_eq!(run_green(&api, "of-shop", json!({})), "private\n");
    let build = run(&api, "good", json!({}));
    assert_eq!(
        (&build["result"], printed(&api, &build)),
        (&json!("success"), "private\n".into()),
        "{build:#}"
    );
    // What is built once more is launched by the digest; where the daemon has lost it, it is pulled with the login as well.
    let repository = format!("{host}/{name}");
    let _ = docker.try_run(&["image", "rm", &format!("{repository}:1")]);
    forget(&docker, &repository);
    let again = api.post(&format!("/builds/{}/rebuild", build["id"]), &json!({}));
    let again = api.until_built(again["requests"][0]["id"].as_i64().expect("a request"));
    assert_eq!(printed(&api, &again), "private\n", "{again:#}");
    // A new value is taken up as it is.
    file("wrong", &login.password);
    assert_eq!(run_green(&api, "bad", json!({})), "private\n");
    // Nobody has kept or said what the passwords are.
    let mut said: Vec<(String, String)> = vec![("the log".into(), master.log())];
    let of_requests =
        api.list("/requests").iter().map(|r| format!("/requests/{}/explain", r["id"])).collect::<Vec<_>>();
    let paths = ["/config", "/requests", "/builds", "/pools", "/workers"].map(str::to_owned);
    said.extend(paths.into_iter().chain(of_requests).map(|path| (path.clone(), api.get(&path).to_string())));
    said.extend(pages_of_events(&api).into_iter().map(|page| ("events".to_owned(), page.to_string())));
    let workers = docker.run(&["ps", "--all", "--quiet"]);
    for id in workers.split_whitespace() {
        said.extend(docker.try_run(&["inspect", id]).ok().map(|text| (id.to_owned(), text)));
    }
    assert!(said.iter().any(|(_, text)| text.contains("secret:wrong")), "what is looked at is not empty");
    for password in [WRONG, &login.password] {
        let found: Vec<_> =
            said.iter().filter(|(_, text)| text.contains(password)).map(|(at, _)| at).collect();
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(files_with(scratch.path(), password), Vec::<String>::new());
    }
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
    forget(&docker, &repository);
}

fn pages_of_events(api: &Api) -> Vec<Value> {
    let (mut pages, mut after) = (Vec::new(), 0);
    loop {
        let page = api.get(&format!("/events/list?after={after}"));
        let Some(seq) = page["items"].as_array().and_then(|items| items.last()?["seq"].as_i64()) else {
            return pages;
        };
        after = seq;
        pages.push(page);
    }
}

/// Two logins of one user, one after the other: `user:HASH`.
const LOGINS: [(&str, &str); 2] = [
    ("first-of-june", "ci:$2b$05$AeadOIZ.uq.HJ3WUrIruOeIQYYwG0L8djDJyEzKnPLdp26CPTfrEi\n"),
    ("second-of-june", "ci:$2b$05$AeadOIZ.uq.HJ3WUrIruOeQbYZSSs3pEbDDkWjDkX9xs8EUKDc3d2\n"),
];

#[test]
fn a_credential_helper_is_asked_for_logins_that_end() {
    let Some(docker) = Docker::of_this_run() else { return };
    let (scratch, keys) = (Scratch::new(), Scratch::new());
    let registry = Registry::with_login(Ipv4Addr::LOCALHOST, LOGINS[0].1);
    let host = registry.address().to_owned();
    let (now, asked) = (keys.path().join("now"), keys.path().join("asked"));
    write(&now, LOGINS[0].0, 0o600);
    let helper = keys.path().join("docker-credential-june");
    let script = format!(
        "#!/bin/sh\nread -r server\necho \"$1 $server\" >> '{}'\nprintf '{{\"ServerURL\":\"%s\",\"Username\":\"ci\",\"Secret\":\"%s\"}}' \"$server\" \"$(cat '{}')\"\n",
        asked.display(),
        now.display()
    );
    write(&helper, &script, 0o700);
    // By the client, with a configuration of its own: nobody else's logins are touched.
    let client = keys.folder("client");
    let image = docker.busybox(&["ENV SAYS=june"]);
    let name = format!("{host}/app:1");
    docker.run(&["tag", image.name(), &name]);
    let config = client.display().to_string();
    docker.run(&["--config", &config, "login", "--username", "ci", "--password", LOGINS[0].0, &host]);
    docker.run(&["--config", &config, "push", "--quiet", &name]);
    docker.run(&["image", "rm", &name]);
    let pool = |helper: &str| {
        format!(
            "{{docker: {{image: '{name}', pull: always, network: none, registry: {{'{host}': {{helper: {helper}}}}}}}}}"
        )
    };
    let text = format!(
        "version: 1\npools:\n  by-name: {}\n  by-path: {}\n  broken: {}\nbuilders:\n{}",
        pool("june"),
        pool(&format!("'{}'", helper.display())),
        pool("no-such"),
        ["by-name", "by-path", "broken"]
            .map(|pool| format!("  {pool}: {{pool: {pool}, steps: {SAYS}}}\n"))
            .concat(),
    );
    let path = format!("{}:{}", keys.path().display(), std::env::var("PATH").unwrap_or_default());
    let options = Options { environment: vec![("PATH".into(), path)], ..options(&docker) };
    let master = Master::start(scratch.path(), &text, options);
    let api = master.api();
    let times = || std::fs::read_to_string(&asked).unwrap_or_default().lines().count();
    assert_eq!(run_green(&api, "by-name", json!({})), "june\n");
    assert_eq!(std::fs::read_to_string(&asked).unwrap_or_default(), format!("get {host}\n"));
    assert_eq!(run_green(&api, "by-path", json!({})), "june\n");
    // The login ends: what was said before is of no use any more, so the helper is asked again.
    let before = times();
    registry.change_logins(LOGINS[1].1);
    write(&now, LOGINS[1].0, 0o600);
    assert_eq!(run_green(&api, "by-path", json!({})), "june\n");
    assert_eq!(times(), before + 1);
    // A helper that says what the registry does not take; one that is not there.
    write(&now, LOGINS[0].0, 0o600);
    registry.change_logins(&LOGINS[1].1.replace("ci:", "other:"));
    let build = run(&api, "by-name", json!({}));
    let said = build["summary"].as_str().unwrap_or_default();
    assert_eq!((&build["result"], &build["class"]), (&json!("exception"), &json!("image")), "{build:#}");
    assert!(said.contains(&format!("registry {host}")) && said.contains("helper `june`"), "{said}");
    let build = run(&api, "broken", json!({}));
    let said = build["summary"].as_str().unwrap_or_default();
    assert!(said.contains("docker-credential-no-such") && said.contains("cannot be run"), "{said}");
    for (password, _) in LOGINS {
        assert!(!master.log().contains(password));
        assert_eq!(files_with(scratch.path(), password), Vec::<String>::new());
    }
    forget(&docker, &format!("{host}/app"));
}

/// What a request that waits for its image is told.
fn without_image(api: &Api, request: i64, names: &[&str]) -> String {
    explained(api, request, "an image that cannot be had", |e| {
        let said = e["primary"]["sentence"].as_str()?;
        let told =
            e["primary"]["code"] == "image_backing_off" && names.iter().all(|name| said.contains(name));
        told.then(|| said.to_owned())
    })
}

#[test]
fn an_image_that_cannot_be_had_holds_up_no_other() {
    let (Some(docker), Some(open)) = (Docker::of_this_run(), back_ends::registry()) else { return };
    let gate = Gate::before(&open);
    let scratch = Scratch::new();
    let [busy, fine, slow, down] = [unique("busy"), unique("fine"), unique("slow"), unique("down")];
    for name in [&busy, &fine, &slow] {
        docker.busybox(&[&format!("ENV SAYS={name}")]).push_as(&format!("{open}/{name}:1"));
    }
    let image = format!("image: '{}/{{{{ props.name }}}}:1', pull: always, network: none", gate.address());
    let config = format!(
        "version: 1\npools:\n  boxes: {{docker: {{{image}}}, max: 4}}\n  short: {{docker: {{{image}}}, deadlines: {{launch: 4s}}}}\n  \
         arm: {{docker: {{{image}, platform: linux/arm64}}}}\nbuilders:\n{}",
        ["boxes", "short", "arm"].map(|pool| format!("  {pool}: {{pool: {pool}, steps: {SAYS}}}\n")).concat()
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    let named = |name: &str| json!({"name": name});
    // One hangs, from the beginning; ten builds that want it leave room for others.
    gate.set(&slow, Manner::Hangs);
    let hanging: Vec<i64> = (0..10).map(|_| start(&api, "boxes", named(&slow))).collect();
    gate.set(&busy, Manner::Enough(8));
    let mut waiting = vec![start(&api, "boxes", named(&busy))];
    let said = without_image(&api, waiting[0], &[&format!("{}/{busy}:1", gate.address()), "pool `boxes`"]);
    assert!(said.to_ascii_lowercase().contains("toomanyrequests"), "{said}");
    let first = gate.asked(&busy);
    // Who comes later is told the same, without a question to the registry; another image of the pool goes on.
    waiting.extend((0..2).map(|_| start(&api, "boxes", named(&busy))));
    for request in &waiting[1..] {
        without_image(&api, *request, &[&busy]);
    }
    assert_eq!(run_green(&api, "boxes", named(&fine)), format!("{fine}\n"));
    // The next question comes when the registry said, and it is one for all.
    wait::until_true("the next question", wait::A_BUILD, || gate.asked(&busy).len() >= 2 * first.len());
    without_image(&api, waiting[2], &[&busy]);
    let asked = gate.asked(&busy);
    let begun: Vec<_> = asked.iter().step_by(first.len()).collect();
    for pair in begun.windows(2) {
        let pause = pair[1].duration_since(*pair[0]);
        assert!(pause.as_secs_f64() >= 7.9, "{pause:?} between two of {} questions", begun.len());
    }
    gate.set(&busy, Manner::Fine);
    for request in waiting {
        let build = api.until_built(request);
        assert_eq!(
            (&build["result"], printed(&api, &build)),
            (&json!("success"), format!("{busy}\n")),
            "{build:#}"
        );
    }
    // A registry that breaks off: when the pool's time is over, the build ends, and is not red.
    gate.set(&down, Manner::Cuts);
    let build = run(&api, "short", named(&down));
    let said = build["summary"].as_str().unwrap_or_default();
    assert_eq!((&build["result"], &build["class"]), (&json!("exception"), &json!("image")), "{build:#}");
    assert!(
        said.contains("pool `short`") && said.contains(&format!("{}/{down}:1", gate.address())),
        "{said}"
    );
    // An image of another platform, which time does not mend.
    let build = run(&api, "arm", named(&fine));
    let said = build["summary"].as_str().unwrap_or_default();
    assert_eq!((&build["result"], &build["class"]), (&json!("exception"), &json!("image")), "{build:#}");
    assert!(said.contains("linux/arm64"), "{said}");
    // The one that hangs is found out at last, and had when it answers.
    for request in &hanging {
        explained(&api, *request, "the registry that hangs", |e| {
            let failed = e["failures"].as_array()?.last()?["message"].as_str()?;
            (failed.contains("has sent nothing for 45 s") && failed.contains(&slow)).then_some(())
        });
    }
    gate.set(&slow, Manner::Fine);
    for request in hanging {
        assert_eq!(api.until_built(request)["result"], "success");
    }
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
    for name in [&busy, &fine, &slow] {
        let repository = format!("{}/{name}", gate.address());
        let _ = docker.try_run(&["image", "rm", &format!("{repository}:1")]);
        forget(&docker, &repository);
    }
}
