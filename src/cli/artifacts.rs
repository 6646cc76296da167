//! `rouse build artifacts`: files kept from a build.

use super::client::{Client, as_view};
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Out, Table, human};
use crate::api::views::ArtifactView;
use rouse_model::Timestamp;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Component, Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The build's number
    build: i64,
    /// Of this set alone
    #[arg(short, long)]
    set: Option<String>,
    /// Fetch them into this folder
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    let mut items = client.whole(&format!("/builds/{}/artifacts", args.build), &Vec::new()).await?;
    if let Some(set) = &args.set {
        items.retain(|item| item.get("set").and_then(|s| s.as_str()) == Some(set));
    }
    let Some(folder) = &args.to else {
        out.list(items, "the build has kept no files", table)?;
        return Ok(Exit::Success);
    };
    for item in items {
        let artifact: ArtifactView = as_view(item)?;
        let path = fetch(&client, &artifact, folder).await?;
        out.print(&format!("{}\n", path.display()))?;
    }
    Ok(Exit::Success)
}

fn table(artifacts: &[ArtifactView], _now: Timestamp) -> Table {
    let mut table = Table::new(&["artifact", "set", "size", "sha256", "path"]);
    for artifact in artifacts {
        table.row(vec![
            artifact.id.to_string().into(),
            artifact.set.clone().into(),
            human::size(artifact.bytes).into(),
            human::short(&artifact.sha256).into(),
            artifact.path.clone().into(),
        ]);
    }
    table
}

/// Fetches one file, whole and as it was kept, or not at all.
async fn fetch(client: &Client, artifact: &ArtifactView, folder: &Path) -> Result<PathBuf, CliError> {
    let relative = Path::new(&artifact.set).join(&artifact.path);
    // The master has checked it; a file is never written outside the folder all the same.
    if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(anyhow::anyhow!("artifact {} has the path {}", artifact.id, relative.display()).into());
    }
    let path = folder.join(relative);
    let failed = |what: &str| {
        let what = format!("{what} {}", path.display());
        move |source| CliError::Io { what, source }
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed("make the folder of"))?;
    }
    let half = path.with_file_name(format!(".{}.part", artifact.id));
    let mut file = std::fs::File::create(&half).map_err(failed("write"))?;
    let mut hash = Sha256::new();
    let mut body = client.body(&format!("/artifacts/{}/content", artifact.id), &Vec::new()).await?;
    while let Some(chunk) = body.chunk().await.map_err(CliError::Transport)? {
        hash.update(&chunk);
        file.write_all(&chunk).map_err(failed("write"))?;
    }
    if hex::encode(hash.finalize()) != artifact.sha256 {
        std::fs::remove_file(&half).map_err(failed("remove the rest of"))?;
        return Err(anyhow::anyhow!(
            "artifact {} ({}) did not arrive as it was kept",
            artifact.id,
            artifact.path
        )
        .into());
    }
    std::fs::rename(&half, &path).map_err(failed("write"))?;
    Ok(path)
}
