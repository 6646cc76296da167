//! `rouse worker drain` and `kill`.

use crate::api::views::WorkerView;
use crate::cli::client::{Client, part};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::Out;
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};

#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// Its name or number
    worker: String,
    /// Take a drain back
    #[arg(long)]
    cancel: bool,
    /// Why, for whoever looks at it later
    #[arg(short, long)]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KillArgs {
    /// Its name or number
    worker: String,
    /// Why, for whoever looks at it later
    #[arg(short, long)]
    reason: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn drain(args: &DrainArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let worker = part(&args.worker);
    let (value, does) = if args.cancel {
        (client.post(&format!("/workers/{worker}/cancel-drain"), &json!({})).await?, "takes builds again")
    } else {
        let body = json!({"reason": args.reason});
        (
            client.post(&format!("/workers/{worker}/drain"), &body).await?,
            "takes no new builds, and ends once it is free",
        )
    };
    out.show(value, |worker: &WorkerView| format!("worker {} {does}\n", worker.name))?;
    Ok(Exit::Success)
}

pub(super) async fn kill(args: &KillArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    if !args.yes {
        let worker: WorkerView = client.view(&format!("/workers/{}", part(&args.worker))).await?;
        confirm(&worker, client)?;
    }
    let body = json!({"reason": args.reason});
    let value = client.post(&format!("/workers/{}/terminate", part(&args.worker)), &body).await?;
    out.show(value, |worker: &WorkerView| format!("worker {} is being ended\n", worker.name))?;
    Ok(Exit::Success)
}

/// What runs on it is lost, so somebody must say so.
fn confirm(worker: &WorkerView, client: &Client) -> Result<(), CliError> {
    let declined = |message: &str, help: Option<&str>| {
        Err(CliError::Declined { message: message.to_owned(), help: help.map(str::to_owned) })
    };
    if !std::io::stdin().is_terminal() {
        return declined("nobody can be asked here", Some("say --yes"));
    }
    let loses = match worker.running.len() {
        0 => "it runs no build".to_owned(),
        n => format!("it runs {n} build(s), which start again elsewhere"),
    };
    let mut stderr = anstream::stderr().lock();
    let _ = write!(stderr, "end worker {} at {} ({loses})? [y/N] ", worker.name, client.server());
    let _ = stderr.flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| CliError::Io { what: "read the answer".into(), source })?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        declined("nothing was done", None)
    }
}
