//! A container that did not exist when the request came: from the request's acceptance to the end of its build.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::ground::Ground;
use crate::master::{Master, Options};
use crate::report::{Row, Samples};

pub fn run(ground: &Ground) -> Result<Row> {
    let Some(host) = Ground::lent("ROUSE_TEST_DOCKER_HOST") else {
        return Ok(Row::new("docker", "ms").note(
            "skipped: needs a Docker daemon (ROUSE_TEST_DOCKER_HOST is not set; `cargo xtask bench` sets it)",
        ));
    };
    let image = Image::make(ground, &host)?;
    let config = format!(
        "version: 1\npools: {{cold: {{docker: {{image: '{}', pull: never}}, max: 1}}}}\nbuilders: {{one: {{steps: [{{run: ['true']}}]}}}}\n\
         schedulers: {{one: {{force: {{}}, builders: one}}}}\n",
        image.name
    );
    let master =
        Master::start(ground, "docker", &config, Options { docker: Some(host), ..Options::default() })?;
    let (mut took, mut bare) = (Samples::default(), Samples::default());
    // The first fills the agent's volume, which is made once for each installation.
    build(ground, &master)?;
    let cpu = master.cpu()?;
    let runs = ground.size.of(1, 9, 25);
    for _ in 0..runs {
        bare.push(image.bare()?);
        took.push(build(ground, &master)?);
    }
    let cpu_ms = (master.cpu()? - cpu).as_secs_f64() * 1e3 / f64::from(runs);
    master.stop();
    let mut row = Row::new("docker", "ms").rouse(&took);
    row.bare = bare.median();
    row.cpu_ms = Some(cpu_ms);
    Ok(row.note("bare: `docker run --rm IMAGE true` on the same daemon; the peer is not measured here"))
}

/// Milliseconds from acceptance to the end of the build; then the worker's container is waited away.
fn build(ground: &Ground, master: &Master) -> Result<f64> {
    let made = master.http().post("/api/v1/schedulers/one/force", &json!({}))?;
    let request = made["requests"][0]["id"].as_i64().context("a request was made")?;
    let ended = format!("SELECT COUNT(*) FROM builds WHERE request = {request} AND result = 0");
    ground.wait("the build to end", Duration::from_secs(90), || Ok(master.database.number(&ended)? == 1))?;
    ground.wait("its container to go", Duration::from_secs(90), || {
        Ok(master.database.number("SELECT COUNT(*) FROM workers WHERE gone IS NULL")? == 0)
    })?;
    let times = master
        .database
        .numbers(&format!("SELECT r.created, b.finished FROM requests r JOIN builds b ON b.request = r.id WHERE r.id = {request}"))?;
    Ok((times[1] - times[0]) as f64 / 1e3)
}

/// An image of one static program, ours while this lives.
pub struct Image {
    host: String,
    name: String,
}

impl Image {
    pub fn make(ground: &Ground, host: &str) -> Result<Self> {
        let folder = ground.folder("image")?;
        let bin = folder.join("bin");
        std::fs::create_dir_all(&bin)?;
        std::fs::create_dir_all(folder.join("tmp"))?;
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| std::path::Path::new(p).exists());
        std::fs::copy(
            busybox.context("busybox is not installed (Debian: busybox-static)")?,
            bin.join("busybox"),
        )?;
        for name in ["sh", "true"] {
            let _ = std::os::unix::fs::symlink("busybox", bin.join(name));
        }
        let image = Self { host: host.to_owned(), name: format!("rouse-bench-{}:1", std::process::id()) };
        let mut tar =
            Command::new("tar").arg("-C").arg(&folder).args(["-c", "."]).stdout(Stdio::piped()).spawn()?;
        let content = tar.stdout.take().context("tar has an output")?;
        let import = image.docker(&["import", "-", &image.name]).stdin(content).output()?;
        tar.wait()?;
        ensure!(import.status.success(), "docker import: {}", String::from_utf8_lossy(&import.stderr).trim());
        Ok(image)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.host]).args(arguments).stdin(Stdio::null());
        command
    }

    fn bare(&self) -> Result<f64> {
        let began = Instant::now();
        let output = self.docker(&["run", "--rm", &self.name, "true"]).output()?;
        ensure!(output.status.success(), "docker run: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = self.docker(&["image", "rm", "--force", &self.name]).output();
    }
}
