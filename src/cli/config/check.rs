//! `rouse config check`: offline.

use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{Format, Out};
use crate::cli::settings::config_file;
use crate::config::{Config, Faults, SourceFile, load, parse};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file, a folder with a rouse.yaml, or `-` for stdin
    #[arg(env = "ROUSE_CONFIG", default_value = "rouse.yaml")]
    file: PathBuf,
}

pub(super) fn run(args: &Args, out: &mut Out) -> Result<Exit, CliError> {
    let kinds = crate::boot::provider_kinds();
    let (file, loaded) = if args.file.as_os_str() == "-" {
        let text = std::io::read_to_string(std::io::stdin());
        let text = text.map_err(|source| CliError::Io { what: "read stdin".into(), source })?;
        (PathBuf::from("stdin"), parse(&[SourceFile::new("stdin", text)], &kinds))
    } else {
        let file = config_file(&args.file);
        let loaded = load(&file, &kinds);
        (file, loaded)
    };
    let (config, faults) = match loaded {
        Ok(loaded) => (Some(loaded.config), loaded.warnings),
        Err(faults) => (None, faults),
    };
    let exit = if config.is_some() { Exit::Success } else { Exit::Error };
    if out.format() != Format::Table {
        let records: Vec<_> =
            faults.records().iter().map(|r| serde_json::to_value(r).unwrap_or_default()).collect();
        out.data(&json!({"ok": config.is_some(), "errors": faults.errors(), "warnings": faults.warnings(), "faults": records}))?;
        return Ok(exit);
    }
    tell(&faults, out);
    match config {
        Some(config) => out.print(&format!("{}: good: {}\n", file.display(), summary(&config)))?,
        None => out.note(&format!("{}; nothing was changed", faults.counts())),
    }
    Ok(exit)
}

fn tell(faults: &Faults, out: &Out) {
    if !faults.list.is_empty() {
        let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        out.note(faults.text(colours).trim_end());
    }
}

/// `1 codebase, 2 pools, 3 builders, 1 scheduler`.
fn summary(config: &Config) -> String {
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    [
        count(config.codebases.len(), "codebase"),
        count(config.pools.len(), "pool"),
        count(config.builders.len(), "builder"),
        count(config.schedulers.len(), "scheduler"),
    ]
    .join(", ")
}
