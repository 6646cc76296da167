//! The tutorials, and other pages with something to do: their blocks are run as they stand, one after the other in one shell, and what they print is compared.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::master::free_port;
use crate::harness::{Dockerd, Lan, Registry, Scratch, Sshd, processes};

/// One block, and what it shall print; `…` in it is any text of a line.
struct Block {
    line: usize,
    text: String,
    prints: String,
}

/// The blocks of a page that are for the shell, each with the text that follows it. One without a language is for the reader to fill in.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<&str> = None;
    for (number, line) in (1..).zip(page.lines()) {
        match (open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(language);
                if language == "sh" {
                    blocks.push(Block { line: number, text: String::new(), prints: String::new() });
                }
            }
            (Some(_), Some(_)) => open = None,
            (Some("sh"), None) => {
                let block = blocks.last_mut().expect("it has begun");
                writeln!(block.text, "{line}").expect("written");
            }
            (Some("text"), None) => {
                let block = blocks.last_mut().expect("a text follows its block");
                writeln!(block.prints, "{line}").expect("written");
            }
            _ => {}
        }
    }
    blocks
}

/// Whether a text is as the page says.
fn is_as_said(printed: &str, said: &str) -> bool {
    let quoted: Vec<String> = said.split('…').map(regex::escape).collect();
    let pattern = format!("(?s)^{}$", quoted.join("[^\n]*"));
    regex::Regex::new(&pattern).expect("it is made of quoted text").is_match(printed)
}

/// A page of the docs.
fn page(name: &str) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name));
    text.expect("the page is there")
}

/// What comes first of all in a page for the shell that has a configuration and leaves it to its reader to start a master.
const MASTER: &str = r#"
rouse serve --agents-listen "$MASTER" > master.log 2>&1 &
until rouse builder list --quiet > builders 2> /dev/null; do sleep 0.2; done
"#;

/// Runs a page in a folder of its own, after what the reader is to have done before.
fn run(page: &str, before: &str, folder: &Path, environment: &[(&str, String)]) {
    let blocks = blocks(&self::page(page));
    assert!(!blocks.is_empty());
    let mark = |n: usize| format!("== after block {n}");
    let mut script = format!("set -eu\n{before}");
    for (n, block) in blocks.iter().enumerate() {
        writeln!(script, "{}echo '{}'", block.text, mark(n)).expect("written");
    }
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(folder).env("HOME", folder).process_group(0);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    for (name, value) in [("NAME", "Ada Example"), ("EMAIL", "ada@example.org")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("there is a shell");
    let group = child.id();
    let ended = child.wait_with_output().expect("it ends");
    // What it has started and not ended.
    processes::kill_group(group);
    let (printed, said) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    let log = std::fs::read_to_string(folder.join("master.log")).unwrap_or_default();
    let whole = format!("{printed}\n-- it said\n{said}\n-- the master\n{log}");
    let mut rest = &*printed;
    for (n, block) in blocks.iter().enumerate() {
        let Some((of_block, after)) = rest.split_once(&format!("{}\n", mark(n))) else {
            panic!("{page}:{}: the block did not come to its end\n{whole}", block.line);
        };
        assert!(
            is_as_said(of_block, &block.prints),
            "{page}:{}: it printed\n{of_block}\n{whole}",
            block.line
        );
        rest = after;
    }
    assert!(ended.status.success(), "{whole}");
}

/// With the command line that is tested in front.
fn path() -> String {
    let rouse = Path::new(env!("CARGO_BIN_EXE_rouse")).parent().expect("it is in a folder");
    format!("{}:{}", rouse.display(), std::env::var("PATH").expect("there is one"))
}

#[test]
fn docker_images() {
    let Some(mut lan) = Lan::new() else { return };
    let registry = Registry::start(lan.here());
    let scratch = Scratch::new();
    let hosts: Vec<Dockerd> =
        (0..2).map(|_| Dockerd::on(&mut lan, registry.address(), scratch.path())).collect();
    let sshds: Vec<Sshd> = hosts.iter().map(|host| Sshd::on(host.host(), host.docker().host())).collect();
    let base = format!("{}/base:1", registry.address());
    hosts[0].docker().busybox(&[]).push_as(&base);
    let bin = scratch.folder("bin");
    let settings: String = sshds.iter().map(Sshd::settings).collect();
    let settings = scratch.file("ssh.conf", &settings);
    let ssh = scratch
        .file("bin/ssh", &format!("#!/bin/sh\nexec /usr/bin/ssh -F '{}' \"$@\"\n", settings.display()));
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    sshds.iter().for_each(Sshd::introduce);
    let address = |n: usize| format!("ssh://root@{}", hosts[n].host().address);
    let folder = scratch.folder("tutorial");
    run(
        "tutorials/docker-images.md",
        "",
        &folder,
        &[
            ("B1", address(0)),
            ("B2", address(1)),
            ("REGISTRY", registry.address().to_owned()),
            ("MASTER", lan.free_address()),
            ("BASE", base),
            // The reader has one master, and here there are many.
            ("ROUSE_LISTEN", "127.0.0.1:0".to_owned()),
            ("PATH", format!("{}:{}", bin.display(), path())),
        ],
    );
}

#[test]
fn tuning() {
    let scratch = Scratch::new();
    run("tutorials/tuning.md", "", &scratch.folder("tutorial"), &[("PATH", path())]);
}

#[test]
fn enrolled_machines() {
    const PAGE: &str = "providers/enrolled.md";
    const ADVERTISED: &str = "ci.example.org:9443";
    let scratch = Scratch::new();
    let folder = scratch.folder("master");
    let master = format!("127.0.0.1:{}", free_port());
    let page = page(PAGE);
    let config = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let config = config.expect("the page begins with a configuration");
    assert!(config.contains(ADVERTISED), "{config}");
    std::fs::write(folder.join("rouse.yaml"), config.replace(ADVERTISED, &master)).expect("it is ours");
    let environment = [("MASTER", master), ("ROUSE_LISTEN", "127.0.0.1:0".to_owned()), ("PATH", path())];
    run(PAGE, MASTER, &folder, &environment);
}
