//! `rouse worker enroll`, `revoke` and `machines`.

use crate::api::views::{EnrolmentView, MachineView};
use crate::cli::client::{Client, part};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{BAD, Cell, DIM, Format, GOOD, Out, Table, human};
use rouse_model::Timestamp;
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct EnrollArgs {
    /// The machine's name, unique in its account
    name: String,
    /// The account whose machine it is, of kind `enrolled`
    #[arg(long, value_name = "ACCOUNT")]
    on: String,
    /// How the machine sees the master's listener for agents. Default: as workers of the account's pools do
    #[arg(long, value_name = "HOST:PORT")]
    at: Option<String>,
    /// A new file for what the machine must be given, which only its owner can read. Default: stdout
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// The machine's name
    name: String,
    /// Its account
    #[arg(long, value_name = "ACCOUNT")]
    on: String,
}

pub(super) async fn enroll(args: &EnrollArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    // Made before anything is enrolled: a key that cannot be written down is lost.
    let file = args.to.as_deref().map(|path| create(path).map(|file| (path, file))).transpose()?;
    let body = json!({"account": args.on, "name": args.name, "address": args.at});
    let made = client.post("/machines", &body).await;
    match (made, file) {
        (Ok(value), Some((path, mut file))) => {
            let text = format!("{value:#}\n");
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(|e| io("write", path, e))?;
            out.note(&format!("machine {} is enrolled; on it: rouse host {}", args.name, path.display()));
        }
        (Ok(value), None) => {
            out.show(value, |made: &EnrolmentView| {
                format!("{}\n", serde_json::to_string_pretty(made).unwrap_or_default())
            })?;
            if out.format() == Format::Table {
                out.hint("it is not shown again; on the machine: rouse host FILE");
            }
        }
        (Err(error), file) => {
            if let Some((path, _)) = file {
                let _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
    }
    Ok(Exit::Success)
}

fn create(path: &Path) -> Result<std::fs::File, CliError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path).map_err(|e| io("make", path, e))
}

fn io(doing: &str, path: &Path, source: std::io::Error) -> CliError {
    CliError::Io { what: format!("{doing} {}", path.display()), source }
}

pub(super) async fn revoke(args: &RevokeArgs, client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    client.delete(&format!("/machines/{}/{}", part(&args.on), part(&args.name))).await?;
    out.note(&format!("machine {} is revoked, and its workers end", args.name));
    Ok(Exit::Success)
}

pub(super) async fn list(client: &Client, out: &mut Out) -> Result<Exit, CliError> {
    let items = client.whole("/machines", &Vec::new()).await?;
    out.list(items, "no machine is enrolled", table)?;
    Ok(Exit::Success)
}

fn table(machines: &[MachineView], now: Timestamp) -> Table {
    let mut table = Table::new(&["machine", "account", "state", "system", "enrolled", "by"]);
    for machine in machines {
        let state = match (machine.revoked, machine.connected) {
            (Some(_), _) => Cell::styled("revoked", DIM),
            (None, true) => Cell::styled("connected", GOOD),
            (None, false) => Cell::styled("away", BAD),
        };
        table.row(vec![
            machine.name.clone().into(),
            machine.account.clone().into(),
            state,
            machine.system.clone().unwrap_or_default().into(),
            Cell::styled(human::ago(machine.enrolled, now), DIM),
            machine.by.clone().into(),
        ]);
    }
    table
}
