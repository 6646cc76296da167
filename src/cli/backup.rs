//! `rouse backup`: on the machine of a master, whether it runs or not.

use super::error::CliError;
use super::exit::Exit;
use super::output::{Format, Out, human};
use super::settings::{database, objects, state_at_hand};
use crate::upkeep::{self, Backup};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The backup: a folder, which is made
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// The master's database. Default: rouse.db in the state folder
    #[arg(long, env = "ROUSE_DATABASE", value_name = "URL|FILE")]
    database: Option<String>,
    /// The folder of logs and artifacts. Default: objects in the state folder
    #[arg(long, env = "ROUSE_OBJECTS", value_name = "DIR")]
    objects: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, state: Option<&Path>, out: &mut Out) -> Result<Exit, CliError> {
    let state = state_at_hand(state)?;
    let wish = Backup {
        database: database(args.database.as_deref(), &state),
        objects: objects(args.objects.as_deref(), &state),
        state,
        to: args.to.clone(),
        now: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    };
    let made = upkeep::back_up(wish).await.map_err(anyhow::Error::from)?;
    if out.format() != Format::Table {
        out.data(&serde_json::to_value(&made).map_err(CliError::Answer)?)?;
    } else {
        let size = |bytes: u64| human::size(i64::try_from(bytes).unwrap_or(i64::MAX));
        out.print(&format!(
            "{}: installation {}, database {}, {} objects of {}\n",
            args.to.display(),
            made.installation,
            size(made.database_bytes),
            made.objects,
            size(made.object_bytes)
        ))?;
    }
    if let Some(bucket) = &made.bucket {
        out.note(&format!(
            "logs and artifacts are in {bucket} and not in the backup: keep what is deleted there (versions) for as long as you keep this"
        ));
    }
    if !made.missing.is_empty() {
        out.note(&format!(
            "{} files of logs or artifacts had been lost before: they are not in it",
            made.missing.len()
        ));
    }
    Ok(Exit::Success)
}
