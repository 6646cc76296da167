//! A repository of 500 MB checked out by a worker that did not exist before: first on a host that has nothing of it, then on one that has its mirror.
//!
//! What is measured is the checkout's step alone. In containers where a daemon is lent, and by local workers; each has a folder of its own that goes with it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::docker::Image;
use crate::ground::Ground;
use crate::master::{Master, Options, free_port};
use crate::report::{Row, Samples};

const MIB: usize = 1 << 20;
/// Files of the tree, each of a mebibyte that no compression makes smaller.
const FILES: usize = 50;
/// Files that each further commit replaces.
const EACH: usize = 2;
const PATIENCE: Duration = Duration::from_secs(600);

pub fn run(ground: &Ground) -> Result<Row> {
    let folder = ground.folder("repository")?;
    let commits = ground.size.of(2, 225, 225);
    make(&folder, commits)?;
    let origin = Origin::serve(&folder)?;
    let lent = Ground::lent("ROUSE_TEST_DOCKER_HOST");
    let mut row = Row::new("cache", "s");
    let (first, second, trees) = checkouts(ground, &origin, "local", None)?;
    row = row.with("local_first_s", Some(first)).with("local_second_s", second.median());
    let (first, second, trees) = match lent {
        Some(host) => checkouts(ground, &origin, "docker", Some(host))?,
        None => (first, second, trees),
    };
    row = row.rouse(&second).with("tree_shipped_s", Some(trees.0)).with("tree_second_s", Some(trees.1));
    row.bare = Some(first);
    let megabytes = (FILES + EACH * commits) * MIB / 1_000_000;
    Ok(row.note(format!(
        "bare: the first checkout on a host, rouse: those after it, each by a new worker; {megabytes} MB of history, {FILES} MiB of files, fetched over loopback"
    )))
}

/// The first checkout, those after it, and the same files as a tree without history: shipped by the master, and from the mirror.
fn checkouts(
    ground: &Ground,
    origin: &Origin,
    kind: &str,
    host: Option<String>,
) -> Result<(f64, Samples, (f64, f64))> {
    let image = host.as_ref().map(|host| Image::make(ground, host)).transpose()?;
    let mounts =
        ["/usr", "/lib", "/lib64"].map(|path| format!("{{source: {path}, target: {path}, readonly: true}}"));
    let options = match &image {
        Some(image) => format!(
            "{{image: '{}', pull: never, network: host, mounts: [{}]}}",
            image.name(),
            mounts.join(", ")
        ),
        None => "{}".to_owned(),
    };
    let config = format!(
        "version: 1\ncodebases: {{app: {{git: '{}', poll: never, mirror: always}}}}\npools: {{here: {{{kind}: {options}}}}}\nbuilders:\n  \
         shipped: {{steps: [{{checkout: {{app: {{by: master}}}}}}]}}\n  tree: {{steps: [{{checkout: app}}]}}\n  history: {{steps: [{{checkout: {{app: {{by: worker}}}}}}]}}\n",
        origin.url
    );
    let master = Master::start(ground, kind, &config, Options { docker: host, ..Options::default() })?;
    let first = checkout(ground, &master, "history")?;
    let file = master.folder.join("state/host-mirrors.json");
    ground.wait("the mirror on the host", PATIENCE, || {
        let all =
            std::fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        Ok(all.is_some_and(|all| all[kind]["app"].is_object()))
    })?;
    let mut second = Samples::default();
    for _ in 0..ground.size.of(1, 5, 9) {
        second.push(checkout(ground, &master, "history")?);
    }
    let trees = (checkout(ground, &master, "shipped")?, checkout(ground, &master, "tree")?);
    master.stop();
    Ok((first, second, trees))
}

/// Seconds of one build's checkout.
fn checkout(ground: &Ground, master: &Master, builder: &str) -> Result<f64> {
    let made = master.http().post(&format!("/api/v1/builders/{builder}/build"), &json!({}))?;
    let request = made["requests"][0]["id"].as_i64().context("a request was made")?;
    let ended = format!("SELECT COUNT(*) FROM builds WHERE request = {request} AND result IS NOT NULL");
    ground.wait("the build to end", PATIENCE, || Ok(master.database.number(&ended)? == 1))?;
    let good = format!("SELECT COUNT(*) FROM builds WHERE request = {request} AND result = 0");
    ensure!(master.database.number(&good)? == 1, "a checkout by `{builder}` did not work");
    ground.wait("its worker to go", PATIENCE, || {
        Ok(master.database.number("SELECT COUNT(*) FROM workers WHERE gone IS NULL")? == 0)
    })?;
    let times = master.database.numbers(&format!(
        "SELECT s.started, s.finished FROM steps s JOIN builds b ON s.build = b.id WHERE b.request = {request}"
    ))?;
    Ok((times[1] - times[0]) as f64 / 1e6)
}

/// A bare repository of so many commits, with what git writes fastest.
fn make(folder: &Path, commits: usize) -> Result<()> {
    let repository = folder.join("app.git");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command
    };
    let path = repository.display().to_string();
    let made = git(&["init", "--quiet", "--bare", "--initial-branch=main", &path]).status()?;
    ensure!(made.success(), "git init failed");
    let mut import = git(&["-C", &path, "-c", "core.compression=0", "fast-import", "--quiet", "--depth=0"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut to = std::io::BufWriter::with_capacity(MIB, import.stdin.take().context("it reads")?);
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = 0;
    for commit in 0..=commits {
        writeln!(
            to,
            "commit refs/heads/main\ncommitter Ada <ada@example.org> {} +0000",
            1_700_000_000 + commit
        )?;
        writeln!(to, "data <<END\nnumber {commit}\nEND")?;
        for _ in 0..if commit == 0 { FILES } else { EACH } {
            writeln!(to, "M 100644 inline folder-{}/file-{next}\ndata {MIB}", next % 10)?;
            for _ in 0..MIB / 8 {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                to.write_all(&noise.to_ne_bytes())?;
            }
            writeln!(to)?;
            next = (next + 1) % FILES;
        }
    }
    drop(to);
    ensure!(import.wait()?.success(), "git fast-import failed");
    Ok(())
}

/// `git daemon` over the repository. Ends when dropped.
struct Origin {
    url: String,
    child: Child,
}

impl Origin {
    fn serve(folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let child = Command::new("git")
            .args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", folder.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { url: format!("git://127.0.0.1:{port}/app.git"), child })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Git starts the daemon proper as a child.
        crate::process::kill_group(self.child.id() as i32);
        let _ = self.child.wait();
    }
}
