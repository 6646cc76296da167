//! Python programs that a verb needs: a virtual environment outside the clone, made once for each list of requirements.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, Interrupt};

/// The folder with an environment that has what a list of requirements asks for, one a line. `of` and `name` say whose it is and what.
pub fn ensure(of: &str, name: &str, requirements: &str, interrupt: &Interrupt) -> Result<PathBuf> {
    let folder = cache()?.join(of).join(format!("{name}-{:016x}", fingerprint(requirements.as_bytes())));
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(folder);
    }
    eprintln!("installing the {name} into {}", folder.display());
    let mut steps = [Command::new("python3"), Command::new(folder.join("bin/python"))];
    steps[0].args(["-m", "venv", "--clear"]).arg(&folder);
    steps[1].args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    steps[1].args(requirements.lines().filter(|line| !line.is_empty()));
    for command in &mut steps {
        if !process::run(command.stdout(std::io::stderr()), interrupt)?.success() {
            bail!("the {name} could not be installed (python3 with venv and a package index are needed)");
        }
    }
    std::fs::write(&complete, "").with_context(|| format!("{} cannot be written", complete.display()))?;
    Ok(folder)
}

/// Outside the clone, so that a new one finds it.
fn cache() -> Result<PathBuf> {
    match std::env::var_os("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute()) {
        Some(cache) => Ok(PathBuf::from(cache)),
        None => Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache")),
    }
}

/// FNV-1a: it names a folder, and guards nothing.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_list_of_requirements_is_another_folder() {
        assert_eq!(fingerprint(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_ne!(fingerprint(b"buildbot==4.3.0\n"), fingerprint(b"buildbot==4.3.1\n"));
    }
}
