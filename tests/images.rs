//! The image of a build: named by its properties, settled once for all builds of a buildset, and had from where the pool says.

use serde_json::{Value, json};

use rouse_testkit::back_ends;

use crate::harness::builds::{printed, run, run_green, start};
use crate::harness::docker::Image;
use crate::harness::scratch::unique;
use crate::harness::{Docker, GitRepo, Master, Options, Scratch, wait};

/// An image that says which one it is.
fn saying(docker: &Docker, text: &str) -> Image {
    docker.busybox(&[&format!("ENV SAYS={text}")])
}

/// A name that goes from image to image. Removed when dropped.
struct Name<'a> {
    docker: &'a Docker,
    name: String,
}

impl<'a> Name<'a> {
    fn of(docker: &'a Docker, name: String, image: &Image) -> Self {
        let name = Self { docker, name };
        name.moves_to(image);
        name
    }

    fn moves_to(&self, image: &Image) {
        self.docker.run(&["tag", image.name(), &self.name]);
    }
}

impl Drop for Name<'_> {
    fn drop(&mut self) {
        let _ = self.docker.try_run(&["image", "rm", &self.name]);
    }
}

fn options(docker: &Docker) -> Options {
    Options { docker: Some(docker.clone()), ..Options::default() }
}

const SAYS: &str = "[{run: 'echo $SAYS'}]";

#[test]
fn it_is_named_by_what_is_built_and_the_first_that_exists_is_taken() {
    let Some(docker) = Docker::of_this_run() else { return };
    let (main, feature) = (saying(&docker, "main"), saying(&docker, "feature"));
    let base = unique("named");
    let _main = Name::of(&docker, format!("{base}:main"), &main);
    let _feature = Name::of(&docker, format!("{base}:feature-one"), &feature);
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "text\n")]);
    repo.git(&["push", "--quiet", "origin", "main:feature/one", "main:other"]);
    let config = format!(
        "version: 1\ncodebases:\n  app: {{git: '{}', poll: never}}\npools:\n  \
         boxes: {{docker: {{image: ['{base}:{{{{ branch | tag }}}}', '{base}:main'], pull: never, network: none}}, max: 4}}\n  \
         strict: {{docker: {{image: '{base}:{{{{ props.flavour }}}}', pull: never, network: none}}}}\n\
         builders:\n  says:\n    pool: boxes\n    steps: [{{checkout: app}}, {{run: 'echo $SAYS'}}]\n  \
         strict: {{pool: strict, steps: {SAYS}}}\n",
        repo.url()
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    let of_branch = |branch: &str| {
        let body = json!({"sources": [{"codebase": "app", "branch": branch}]});
        let made = api.post("/builders/says/build", &body);
        let build = api.until_built(made["requests"][0]["id"].as_i64().expect("a request"));
        assert_eq!(build["result"], "success", "{build:#}");
        printed(&api, &build)
    };
    assert_eq!(of_branch("feature/one"), "feature\n");
    assert_eq!(of_branch("main"), "main\n");
    assert_eq!(of_branch("other"), "main\n");
    assert_eq!(run_green(&api, "strict", json!({"flavour": "feature-one"})), "feature\n");
    // What is not there is an error with its name, not an empty text.
    let build = run(&api, "strict", json!({}));
    assert_eq!(build["result"], "exception", "{build:#}");
    let said = build["summary"].as_str().unwrap_or_default();
    assert!(said.contains("flavour") && said.contains("pool `strict`"), "{said}");
    // None that exists: both are named, and why.
    let build = run(&api, "strict", json!({"flavour": "no-such"}));
    assert_eq!(build["result"], "exception", "{build:#}");
    let said = build["summary"].as_str().unwrap_or_default();
    assert!(said.contains(&format!("{base}:no-such")) && said.contains("does not have it"), "{said}");
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}

#[test]
fn it_is_settled_once_for_a_buildset() {
    let Some(docker) = Docker::of_this_run() else { return };
    let (old, new) = (saying(&docker, "old"), saying(&docker, "new"));
    let name = Name::of(&docker, format!("{}:1", unique("settled")), &old);
    let scratch = Scratch::new();
    let go = scratch.folder("go");
    let config = format!(
        "version: 1\npools:\n  boxes: {{docker: {{image: '{}', pull: never, network: none, mounts: [{{source: '{}', target: /go}}]}}, max: 1}}\n\
         builders:\n  first: {{pool: boxes, steps: [{{run: 'until [ -e /go/on ]; do sleep 0.05; done; echo $SAYS'}}]}}\n  \
         second: {{pool: boxes, steps: {SAYS}}}\n  third: {{pool: boxes, steps: {SAYS}}}\n\
         schedulers:\n  all: {{force: {{}}, builders: [first, second, third]}}\n",
        name.name,
        go.display()
    );
    let mut master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    let force = || -> Vec<i64> {
        let made = api.post("/schedulers/all/force", &json!({}));
        made["requests"]
            .as_array()
            .expect("requests")
            .iter()
            .map(|r| r["id"].as_i64().expect("an id"))
            .collect()
    };
    let requests = force();
    api.until("the first to run", "/builds", wait::A_BUILD, |b| {
        (b["items"][0]["phase"] == "running").then_some(())
    });
    // The others have no build yet when the name moves on, nor when another process takes over.
    name.moves_to(&new);
    master.kill9();
    master.run();
    std::fs::write(go.join("on"), "").expect("written");
    let mut built = Vec::new();
    for request in requests {
        let build = api.until_built(request);
        assert_eq!(build["result"], "success", "{build:#}");
        assert_eq!(printed(&api, &build), "old\n", "{build:#}");
        built.push(build["id"].as_i64().expect("an id"));
    }
    for request in force() {
        assert_eq!(printed(&api, &api.until_built(request)), "new\n");
    }
    // What is built once more is built in what it was built in.
    let again = api.post(&format!("/builds/{}/rebuild", built[1]), &json!({}));
    let again = again["requests"][0]["id"].as_i64().expect("an id");
    assert_eq!(printed(&api, &api.until_built(again)), "old\n");
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}

#[test]
fn two_projects_with_two_images_share_the_host_and_a_warm_worker_serves_its_own_class_only() {
    let Some(docker) = Docker::of_this_run() else { return };
    let (shop, board) = (docker.busybox(&["ENV WHOSE=shop"]), docker.busybox(&["ENV WHOSE=board"]));
    let scratch = Scratch::new();
    let meet = scratch.folder("meet");
    let names = [unique("both"), unique("both")];
    let _shop = Name::of(&docker, format!("{}:main", names[0]), &shop);
    let _board = Name::of(&docker, format!("{}:main", names[1]), &board);
    let config = format!(
        "version: 1\nprojects: {{shop: {{}}, board: {{}}}}\npools:\n  \
         boxes: {{docker: {{image: '{{{{ props.image }}}}', pull: never, network: none, mounts: [{{source: '{meet}', target: /meet}}]}}, max: 4, reuse: {{builds: 20, idle: 5m}}}}\n\
         builders:\n  shop: {{project: shop, properties: {{image: '{shop}:main', other: board}}, steps: [{{run: 'touch /meet/$WHOSE; until [ -e /meet/{{{{ props.other }}}} ]; do sleep 0.05; done; echo $WHOSE'}}]}}\n  \
         board: {{project: board, properties: {{image: '{board}:main', other: shop}}, steps: [{{run: 'touch /meet/$WHOSE; until [ -e /meet/{{{{ props.other }}}} ]; do sleep 0.05; done; echo $WHOSE'}}]}}\n  \
         same: {{project: shop, properties: {{image: '{shop}:main'}}, steps: [{{run: 'echo $WHOSE'}}]}}\n  \
         stranger: {{project: board, properties: {{image: '{shop}:main'}}, steps: [{{run: 'echo $WHOSE'}}]}}\n",
        meet = meet.display(),
        shop = names[0],
        board = names[1],
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    // Each waits for the other: neither ends unless both run at once.
    let requests = [start(&api, "shop", json!({})), start(&api, "board", json!({}))];
    let both = requests.map(|request| api.until_built(request));
    assert_eq!(both.each_ref().map(|b| printed(&api, b)), ["shop\n", "board\n"], "{both:#?}");
    let worker = |build: &Value| build["worker"].clone();
    // Warm: the same image for the same project again; the same image for another project has a worker of its own.
    let same = run(&api, "same", json!({}));
    assert_eq!((worker(&same), &same["result"]), (worker(&both[0]), &json!("success")), "{same:#}");
    let stranger = run(&api, "stranger", json!({}));
    assert_eq!(stranger["result"], "success", "{stranger:#}");
    assert!(worker(&stranger) != worker(&both[0]) && worker(&stranger) != worker(&both[1]), "{stranger:#}");
    // The same image under another name is the same image.
    let alias = Name::of(&docker, format!("{}:alias", names[0]), &shop);
    let aliased = run(&api, "same", json!({"image": alias.name}));
    assert_eq!(worker(&aliased), worker(&both[0]), "{aliased:#}");
    // Another image is another class; and what moved is another image.
    let moved = Name::of(&docker, format!("{}:main", names[0]), &board);
    assert_eq!(run_green(&api, "same", json!({})), "board\n");
    drop(moved);
}

#[test]
fn it_is_pulled_as_the_pool_says() {
    let (Some(docker), Some(registry)) = (Docker::of_this_run(), back_ends::registry()) else { return };
    let (one, two) = (saying(&docker, "one"), saying(&docker, "two"));
    let name = format!("{registry}/{}:1", unique("pulled"));
    one.push_as(&name);
    let scratch = Scratch::new();
    let mut pools = String::new();
    let mut builders = String::new();
    for pull in ["never", "missing", "newer", "always"] {
        pools.push_str(&format!(
            "  {pull}: {{docker: {{image: '{{{{ props.image }}}}', pull: {pull}, network: none}}}}\n"
        ));
        builders.push_str(&format!(
            "  {pull}: {{pool: {pull}, properties: {{image: '{name}'}}, steps: {SAYS}}}\n"
        ));
    }
    let config = format!("version: 1\npools:\n{pools}builders:\n{builders}");
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    let refused = |builder: &str, image: &str| {
        let build = run(&api, builder, json!({"image": image}));
        assert_eq!(build["result"], "exception", "{build:#}");
        build["summary"].as_str().unwrap_or_default().to_owned()
    };
    let said = refused("never", &name);
    assert!(said.contains(&name) && said.contains("not to be pulled"), "{said}");
    assert_eq!(run_green(&api, "missing", json!({})), "one\n");
    assert_eq!(run_green(&api, "never", json!({})), "one\n");
    // The registry has moved on; whoever does not ask stays where he is.
    two.push_as(&format!("{name}-next"));
    docker.run(&["tag", two.name(), &format!("{name}-kept")]);
    let kept = docker.run(&["image", "inspect", "--format", "{{.Id}}", &name]);
    docker.run(&["tag", two.name(), &name]);
    docker.run(&["push", "--quiet", &name]);
    docker.run(&["tag", kept.trim(), &name]);
    assert_eq!(run_green(&api, "missing", json!({})), "one\n");
    assert_eq!(run_green(&api, "newer", json!({})), "two\n");
    docker.run(&["tag", kept.trim(), &name]);
    assert_eq!(run_green(&api, "always", json!({})), "two\n");
    // Nobody there to ask: newer takes what there is, always does not.
    let away = format!("127.0.0.1:1/{}:1", unique("away"));
    docker.run(&["tag", one.name(), &away]);
    assert_eq!(run_green(&api, "newer", json!({"image": away})), "one\n");
    let request = start(&api, "always", json!({"image": away}));
    let said = crate::harness::builds::explained(&api, request, "the registry that is away", |e| {
        let said = e["primary"]["sentence"].as_str()?;
        (e["primary"]["code"] == "image_backing_off").then(|| said.to_owned())
    });
    assert!(said.contains("127.0.0.1:1"), "{said}");
    api.post(&format!("/requests/{request}/cancel"), &json!({"reason": "seen"}));
    // A tag that nobody has pushed.
    let none = format!("{registry}/{}:none", unique("missing"));
    let said = refused("missing", &none);
    assert!(
        said.contains(&none) && (said.contains("manifest unknown") || said.contains("not found")),
        "{said}"
    );
    for name in [name.as_str(), &format!("{name}-kept"), &away] {
        let _ = docker.try_run(&["image", "rm", name]);
    }
    // What was pulled and has lost its name still has its digest's.
    let (repository, _) = name.rsplit_once(':').expect("a tag");
    for id in docker.run(&["image", "ls", "--quiet", "--no-trunc", repository]).lines() {
        let _ = docker.try_run(&["image", "rm", "--force", id]);
    }
}
