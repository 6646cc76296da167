//! The agent inside a worker. See `docs/reference/agent-protocol.md` for what it says and does; here only the command line.

mod agent;
mod clock;
mod control;
mod disk;
mod facts;
mod files;
mod host;
mod install;
mod link;
mod oom;
mod paths;
mod pool;
mod process;
mod random;
mod relay;
mod runner;
mod spool;
mod state;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use rouse_agent_protocol::exit;

const USAGE: &str = "\
usage: rouse-agent run --join FILE [--work DIR] [--state DIR]
                                   join a master and serve it
       rouse-agent relay SOCKET    pass standard input and output on to the agent at SOCKET
       rouse-agent install DIR     copy this binary to DIR/rouse-agent
       rouse-agent version
";

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    std::process::exit(dispatch(&arguments));
}

fn dispatch(arguments: &[OsString]) -> i32 {
    let words: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let verb = words.first().and_then(|word| word.to_str());
    match (verb, words.get(1..).unwrap_or_default()) {
        (Some("run"), flags) => match run_flags(flags) {
            Some(flags) => match agent::run(&flags) {
                Ok(code) => code,
                Err(error) => fail(&error, error.exit_code()),
            },
            None => usage(),
        },
        (Some("install"), [dir]) => match install::install(Path::new(dir)) {
            Ok(()) => 0,
            Err(error) => fail(&error, exit::INTERNAL),
        },
        (Some("relay"), [socket]) => match relay::run(&socket.to_string_lossy()) {
            Ok(()) => 0,
            Err(error) => fail(&error, exit::INTERNAL),
        },
        (Some("version" | "--version"), []) => {
            println!(
                "rouse-agent {} (protocol {:?})",
                env!("CARGO_PKG_VERSION"),
                rouse_agent_protocol::VERSIONS
            );
            0
        }
        (Some("help" | "--help" | "-h"), []) => {
            print!("{USAGE}");
            0
        }
        _ => usage(),
    }
}

fn run_flags<'a>(mut flags: &[&'a OsStr]) -> Option<agent::Flags<'a>> {
    let (mut join, mut work, mut state) = (None, None, None);
    while let [flag, value, rest @ ..] = flags {
        let slot = match flag.to_str() {
            Some("--join") => &mut join,
            Some("--work") => &mut work,
            Some("--state") => &mut state,
            _ => return None,
        };
        *slot = Some(Path::new(*value));
        flags = rest;
    }
    if flags.is_empty() { Some(agent::Flags { join: join?, work, state }) } else { None }
}

fn usage() -> i32 {
    eprint!("{USAGE}");
    exit::USAGE
}

/// The error and what caused it, in one line.
fn fail(error: &dyn std::error::Error, code: i32) -> i32 {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        source = cause.source();
    }
    eprintln!("rouse-agent: {line}");
    code
}
