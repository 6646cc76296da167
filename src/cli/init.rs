//! `rouse init`: a first configuration, commented, that passes its own check.

use super::error::CliError;
use super::exit::Exit;
use super::output::Out;
use std::io::Write;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write rouse.yaml
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The git repository to build
    #[arg(short, long, value_name = "URL", default_value = "https://git.example.org/shop/app.git")]
    git: String,
    /// The image that builds run in; `none` runs them as processes of this machine
    #[arg(short, long, default_value = "debian:12")]
    image: String,
    /// The command that builds and tests it
    #[arg(short, long, default_value = "make test")]
    run: String,
}

pub(super) fn run(args: &Args, out: &mut Out) -> Result<Exit, CliError> {
    let path = args.dir.join("rouse.yaml");
    let failed = |source: std::io::Error| {
        if source.kind() == std::io::ErrorKind::AlreadyExists {
            let help = Some(format!("look at it: rouse config check {}", path.display()));
            return CliError::Usage { message: format!("{} is there already", path.display()), help };
        }
        CliError::Io { what: format!("write {}", path.display()), source }
    };
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    file.write_all(text(args).as_bytes()).map_err(failed)?;
    out.print(&format!("{}\n", path.display()))?;
    out.hint(&format!("rouse config check {0}; then: rouse serve --config {0}", path.display()));
    Ok(Exit::Success)
}

/// A YAML string that means just this text.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

fn text(args: &Args) -> String {
    let pool = if args.image == "none" {
        "  here: {local: {}}".to_owned()
    } else {
        format!("  containers: {{docker: {{image: {}}}}}", quoted(&args.image))
    };
    format!(
        "# yaml-language-server: $schema=rouse-v1.schema.json\n\
         # `rouse config schema > rouse-v1.schema.json` writes the schema: editors then complete and explain every key.\n\
         version: 1\n\
         \n\
         codebases:\n\
         \x20 # What can change. The master looks for commits; nothing is built at the first look unless `first:` names branches.\n\
         \x20 app: {{git: {git}}}\n\
         \n\
         pools:\n\
         \x20 # Where work can run. Nothing runs while nothing waits: `min` is 0. Any image works; nothing of Rouse is baked in.\n\
         {pool}\n\
         \n\
         builders:\n\
         \x20 # A recipe: its steps run in order, on one worker.\n\
         \x20 unit:\n\
         \x20   steps:\n\
         \x20     - checkout: app\n\
         \x20     - run: {run}\n\
         \n\
         schedulers:\n\
         \x20 # What turns changes into builds.\n\
         \x20 push: {{changes: {{app: {{branch: main}}}}, builders: [unit]}}\n\
         \x20 # What lets you start one by hand: rouse force by-hand\n\
         \x20 by-hand: {{force: {{}}, builders: [unit]}}\n",
        git = quoted(&args.git),
        run = quoted(&args.run),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SourceFile, parse};

    #[test]
    fn what_is_written_passes_its_own_check() {
        let kinds = crate::boot::provider_kinds();
        for image in ["none", "debian:12"] {
            let args = Args {
                dir: ".".into(),
                git: "https://git.example.org/a b.git".replace(' ', ""),
                image: image.into(),
                run: "echo \"it's\" # {not a comment}".into(),
            };
            let loaded = parse(&[SourceFile::new("rouse.yaml", text(&args))], &kinds);
            let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
            assert!(loaded.warnings.list.is_empty(), "{}", loaded.warnings);
        }
    }
}
