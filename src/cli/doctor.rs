//! `rouse doctor`: on the machine of a master, whether it runs or not.

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{BAD, DIM, Format, GOOD, HINT, ODD, Out};
use super::settings::{config_file, database, default_state, state_at_hand};
use crate::api::views::MasterView;
use crate::boot;
use crate::ctx::{Clock, SystemClock};
use crate::upkeep::doctor::{Finding, Patient, Status, examine};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// A master answers at once, or stands still.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The master's configuration: a file, or a folder with a rouse.yaml
    #[arg(short, long, env = "ROUSE_CONFIG", value_name = "PATH", default_value = "rouse.yaml")]
    config: PathBuf,
    /// The master's database. Default: rouse.db in the state folder
    #[arg(long, env = "ROUSE_DATABASE", value_name = "URL|FILE")]
    database: Option<String>,
    /// The folder of logs and artifacts. Default: the bucket of `server.objects`, or objects in the state folder
    #[arg(long, env = "ROUSE_OBJECTS", value_name = "DIR")]
    objects: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let named = connect.state();
    let state =
        state_at_hand(named).unwrap_or_else(|_| named.map_or_else(default_state, std::path::Path::to_owned));
    let patient = Patient {
        config: config_file(&args.config),
        database: database(args.database.as_deref(), &state),
        objects: args.objects.clone(),
        agents: boot::agents_place()?,
        kinds: boot::provider_kinds(),
        now: SystemClock.now().0,
        state,
    };
    let mut findings = examine(&patient).await;
    findings.push(master(&patient, connect).await);
    let well = findings.iter().all(|finding| finding.status != Status::Fail);
    if out.format() == Format::Table {
        out.print(&findings.iter().map(line).collect::<String>())?;
    } else {
        out.data(&json!({"ok": well, "checks": findings}))?;
    }
    Ok(if well { Exit::Success } else { Exit::Error })
}

fn line(finding: &Finding) -> String {
    let (style, mark) = match finding.status {
        Status::Ok => (GOOD, "ok  "),
        Status::Warn => (ODD, "warn"),
        Status::Fail => (BAD, "FAIL"),
        Status::Skip => (DIM, "skip"),
    };
    let mend =
        finding.mend.as_ref().map_or_else(String::new, |mend| format!("      {HINT}mend:{HINT:#} {mend}\n"));
    format!("{style}{mark}{style:#}  {}: {}\n{mend}", finding.check, finding.found)
}

/// The master that has the state folder, if one does.
async fn master(patient: &Patient, connect: &ConnectArgs) -> Finding {
    if !boot::is_taken(&patient.state) {
        return Finding::skip("master", "none runs on this state folder");
    }
    let asked = async { connect.client()?.view::<MasterView>("/master").await };
    let asked = tokio::time::timeout(PATIENCE, asked).await;
    let asked =
        asked.unwrap_or_else(|_| Err(anyhow::anyhow!("nothing came within {} s", PATIENCE.as_secs()).into()));
    match asked {
        Ok(master) if master.version == env!("CARGO_PKG_VERSION") => {
            Finding::ok("master", format!("{} {} answers at {}", master.name, master.version, master.url))
        }
        Ok(master) => {
            let ours = env!("CARGO_PKG_VERSION");
            let found = format!("{} is of version {}, this program of {ours}", master.name, master.version);
            Finding::warn("master", found, "start the master anew with this program")
        }
        Err(error) if error.exit() == Exit::Denied => {
            let mend = "say which with --token-file or ROUSE_TOKEN; the first one is admin.token in the state folder";
            Finding::warn("master", format!("it answers, and wants another token: {error}"), mend)
        }
        Err(error) => {
            let mend = "read its log; where it stands still, stop it and start it again: no build is lost";
            Finding::fail("master", format!("one has the state folder and does not answer: {error}"), mend)
        }
    }
}
