//! The harness itself: a count of leftovers that sees none, or sees too many, would make every scenario worthless.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::docker::Kind;
use crate::harness::{Database, Docker, GitRepo, Leftovers, Scratch, processes, wait};

#[test]
fn processes_are_counted_by_folder_environment_and_command_and_zombies_are_not() {
    let scratch = Scratch::new();
    let left = Leftovers::watch(scratch.path(), None);
    assert_eq!(left.now(), Vec::<String>::new());

    let mut by_folder = Command::new("sleep").arg("600").current_dir(scratch.path()).spawn().unwrap();
    let mark = format!("{}/x", scratch.path().display());
    let mut by_environment = Command::new("sleep").arg("600").env("SOME_MARK", &mark).spawn().unwrap();
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    wait::until_true("both to be seen", wait::SOON, || left.now().len() == 2);

    left.clear();
    // Both are zombies now: their parent, this test, has not asked for them yet.
    left.assert_none(wait::SOON);
    assert!(processes::is_alive(stranger.id() as i32), "a stranger was killed");
    for child in [&mut by_folder, &mut by_environment, &mut stranger] {
        let _ = child.kill();
        child.wait().unwrap();
    }
}

#[test]
fn files_and_sockets_are_counted_at_any_depth() {
    let scratch = Scratch::new();
    let watched = scratch.folder("watched/deep");
    scratch.file("watched/before", "");
    let mut left = Leftovers::watch(scratch.path(), None);
    left.files_below(&scratch.folder("watched"));
    assert_eq!(left.now(), Vec::<String>::new());
    let _socket = std::os::unix::net::UnixListener::bind(watched.join("socket")).unwrap();
    assert_eq!(left.now(), [format!("file {}", watched.join("socket").display())]);
}

#[test]
fn a_repository_takes_commits_branches_tags_and_forced_pushes() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("test.sh", "#!/bin/sh\nexit 0\n")]);
    let first = repo.head();
    let second = repo.land("main", "second", &[("deep/file", "text\n")]);
    assert_ne!(first, second);
    repo.branch("topic");
    repo.push("topic");
    repo.push_tag("v1");
    repo.git(&["reset", "--quiet", "--hard", &first]);
    repo.force_push("main");
    let refs = repo.git(&["ls-remote", "origin"]);
    for wanted in [
        format!("{first}\trefs/heads/main"),
        format!("{second}\trefs/heads/topic"),
        format!("{second}\trefs/tags/v1"),
    ] {
        assert!(refs.contains(&wanted), "{wanted} is not in\n{refs}");
    }
    repo.delete_branch("topic");
    assert!(!repo.git(&["ls-remote", "origin"]).contains("topic"));
}

#[test]
fn a_repository_is_served_goes_away_and_comes_back() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "text\n")]);
    let mut daemon = repo.serve();
    let read = |url: &str| {
        let mut command = Command::new("git");
        command.args(["ls-remote", url]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    };
    assert!(read(&daemon.url()));
    daemon.stop();
    assert!(!read(&daemon.url()));
    daemon.start();
    assert!(read(&daemon.url()));
}

#[test]
fn an_image_of_ours_runs_and_its_container_is_counted() {
    let Some(docker) = Docker::of_this_run() else { return };
    let scratch = Scratch::new();
    let image = docker.busybox(&["USER 1000"]);
    assert_eq!(
        docker.run(&["run", "--rm", image.name(), "sh", "-c", "id -u; echo hello | wc -c"]).trim(),
        "1000\n6"
    );

    let left = Leftovers::watch(scratch.path(), Some(&docker));
    let mount = format!("{}:/mnt:ro", scratch.path().display());
    docker.run(&["run", "--detach", "--volume", &mount, image.name(), "sleep", "600"]);
    docker.run(&["run", "--detach", image.name(), "true"]);
    let found: Vec<String> = left.now().into_iter().filter(|left| left.starts_with("container ")).collect();
    assert_eq!(found.len(), 1, "only the one that mentions the folder is ours: {found:?}");
    left.clear();
    left.assert_none(wait::SOON);
    for object in docker.objects() {
        if object.kind == Kind::Container && docker.mentions(&object, image.name()) {
            docker.remove(&object);
        }
    }
}

#[test]
fn an_image_is_pushed_to_the_registry_and_pulled_again() {
    let Some(docker) = Docker::of_this_run() else { return };
    let Some(registry) = rouse_testkit::back_ends::registry() else { return };
    let image = docker.busybox(&[]);
    let name = format!("{registry}/{}", image.name());
    image.push_as(&name);
    assert!(docker.try_run(&["image", "inspect", &name]).is_err(), "it must not be here any more");
    docker.run(&["pull", "--quiet", &name]);
    docker.run(&["rmi", &name]);
    let login = rouse_testkit::back_ends::registry_with_login().expect("both doors are there");
    let refused = docker.try_run(&["pull", &format!("{}/{}", login.address, image.name())]).unwrap_err();
    assert!(refused.contains("credentials"), "{refused}");
}

#[test]
fn a_fresh_database_is_empty_and_goes_with_its_last_user() {
    let Some(database) = Database::fresh_postgres() else { return };
    let Database::Postgres(fresh) = &database else { unreachable!("it was asked for PostgreSQL") };
    fresh.query("CREATE TABLE t (x int)");
    fresh.query("INSERT INTO t VALUES (42)");
    assert_eq!(fresh.query("SELECT x FROM t"), "42");
    let url = fresh.url();
    drop(database);
    let gone = Command::new("psql").args([&url, "--command", "SELECT 1"]).output().unwrap();
    assert!(!gone.status.success());
}

#[test]
#[should_panic(expected = "waited 0 s in vain: pigs to fly")]
fn waiting_in_vain_says_for_what() {
    wait::until_true("pigs to fly", Duration::ZERO, || false);
}
