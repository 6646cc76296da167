//! `rouse restore`: on the machine of a master that does not run.

use super::error::CliError;
use super::exit::Exit;
use super::output::{Format, Out};
use super::settings::{database, default_state, objects};
use crate::boot;
use crate::upkeep::{self, Restore};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The backup, as `rouse backup` wrote it
    #[arg(value_name = "DIR", required_unless_present = "mark")]
    from: Option<PathBuf>,
    /// Where the database is to be. Default: rouse.db in the state folder
    #[arg(long, env = "ROUSE_DATABASE", value_name = "URL|FILE")]
    database: Option<String>,
    /// The folder of logs and artifacts. Default: objects in the state folder
    #[arg(long, env = "ROUSE_OBJECTS", value_name = "DIR")]
    objects: Option<PathBuf>,
    /// Throw away the installation that is there
    #[arg(long)]
    replace: bool,
    /// The database was put back with another tool: only make it one of a new time
    #[arg(long, conflicts_with_all = ["from", "replace"])]
    mark: bool,
    /// Let the API's tokens go on to be good, also those that were removed since the backup. Without it, the next start makes a first token
    #[arg(long)]
    keep_tokens: bool,
}

pub(super) async fn run(args: &Args, state: Option<&Path>, out: &mut Out) -> Result<Exit, CliError> {
    let state = state.map_or_else(default_state, Path::to_owned);
    let database = database(args.database.as_deref(), &state);
    let now = chrono::Utc::now().timestamp();
    let Some(from) = args.from.clone().filter(|_| !args.mark) else {
        let _lock = boot::take_state_folder(&state)?;
        let known = upkeep::mark(&database, args.keep_tokens, now).await.map_err(anyhow::Error::from)?.facts;
        return tell(&json!({"installation": known.installation, "store_epoch": known.store_epoch}), out);
    };
    let wish = Restore {
        from,
        objects: objects(args.objects.as_deref(), &state),
        state,
        database,
        replace: args.replace,
        keep_tokens: args.keep_tokens,
        now,
    };
    let restored = upkeep::restore(wish, boot::take_state_folder).await.map_err(anyhow::Error::from)?;
    if !restored.missing.is_empty() {
        out.note(&format!(
            "{} files of logs or artifacts are not in the backup; they had been lost before it",
            restored.missing.len()
        ));
    }
    if let Some(bucket) = &restored.bucket {
        out.note(&format!(
            "logs and artifacts are in {bucket}, which is left as it is; what was deleted there since the backup is lost unless its older \
             versions are put back"
        ));
    }
    tell(&serde_json::to_value(&restored).map_err(CliError::Answer)?, out)
}

fn tell(restored: &serde_json::Value, out: &mut Out) -> Result<Exit, CliError> {
    if out.format() != Format::Table {
        out.data(restored)?;
        return Ok(Exit::Success);
    }
    let installation = restored["installation"].as_str().unwrap_or_default();
    out.print(&format!(
        "installation {installation} begins anew, with store epoch {}\n",
        restored["store_epoch"]
    ))?;
    out.hint("start the master; it ends the workers of the time since the backup by itself");
    Ok(Exit::Success)
}
