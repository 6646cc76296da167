//! The static agent: built small, laid beside the master, its size held.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, Interrupt};
use crate::workspace::{Workspace, host_triple};

/// The file travels to every worker.
const MOST_BYTES: u64 = 3_000_000;
/// As zstd packs it; xz with its filter for machine code comes to a tenth less (docs/adr/0012).
const MOST_PACKED: u64 = 1_230_000;

/// The agent packs at the fastest level alone: what zstd has for slower ones stays out, a twentieth of the packed size.
const ZSTD_WITHOUT: &str = "-DDYNAMIC_BMI2=0 -DZSTD_STRIP_ERROR_STRINGS=1 -DHUF_FORCE_DECOMPRESS_X1 -DZSTD_FORCE_DECOMPRESS_SEQUENCES_SHORT -DZSTD_EXCLUDE_DFAST_BLOCK_COMPRESSOR -DZSTD_EXCLUDE_GREEDY_BLOCK_COMPRESSOR \
     -DZSTD_EXCLUDE_LAZY_BLOCK_COMPRESSOR -DZSTD_EXCLUDE_LAZY2_BLOCK_COMPRESSOR -DZSTD_EXCLUDE_BTLAZY2_BLOCK_COMPRESSOR \
     -DZSTD_EXCLUDE_BTOPT_BLOCK_COMPRESSOR -DZSTD_EXCLUDE_BTULTRA_BLOCK_COMPRESSOR";

pub fn run(workspace: &Workspace, interrupt: &Interrupt) -> Result<bool> {
    let agent = build(workspace, interrupt)?;
    println!("{}", agent.file.display());
    let sizes = Sizes::of(&agent.file)?;
    println!("{sizes}");
    sizes.check()?;
    Ok(true)
}

pub struct Agent {
    /// `agents/<os>-<arch>/rouse-agent` beside the master's binary.
    pub file: PathBuf,
}

pub fn build(workspace: &Workspace, interrupt: &Interrupt) -> Result<Agent> {
    build_beside(workspace, &workspace.binaries(), interrupt)
}

/// The same beside a master of another profile.
pub fn build_beside(workspace: &Workspace, binaries: &Path, interrupt: &Interrupt) -> Result<Agent> {
    let triple = host_triple();
    let mut command = workspace.cargo();
    command.args(["build", "--quiet", "--profile", "agent", "--target", &triple, "-p", "rouse-agent"]);
    // The C library is linked in, so that it runs in any image; nothing of the caller's flags may undo that.
    command.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env("CFLAGS", ZSTD_WITHOUT);
    command.stdout(std::io::stderr());
    if !process::run(&mut command, interrupt)?.success() {
        bail!("the agent does not compile");
    }
    let built = workspace.target.join(&triple).join("agent/rouse-agent");
    let folder = binaries.join("agents").join(format!("linux-{}", std::env::consts::ARCH));
    let file = folder.join("rouse-agent");
    lay(&built, &folder, &file)?;
    Ok(Agent { file })
}

/// Renamed into place: a master that runs may be reading the old one.
fn lay(built: &Path, folder: &Path, file: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let next = folder.join("rouse-agent.next");
    std::fs::copy(built, &next).with_context(|| format!("{} cannot be copied", built.display()))?;
    std::fs::rename(&next, file).with_context(|| format!("{} cannot be put in place", file.display()))
}

pub struct Sizes {
    bytes: u64,
    packed: u64,
}

impl Sizes {
    pub fn of(file: &Path) -> Result<Self> {
        let content = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let packed = zstd::bulk::compress(&content, 19).context("the agent cannot be packed")?;
        Ok(Self { bytes: content.len() as u64, packed: packed.len() as u64 })
    }

    pub fn check(&self) -> Result<()> {
        if self.bytes >= MOST_BYTES {
            bail!("the agent has {} bytes; it must have fewer than {MOST_BYTES}", self.bytes);
        }
        if self.packed > MOST_PACKED {
            bail!("the agent packs to {} bytes; it must be at most {MOST_PACKED}", self.packed);
        }
        Ok(())
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, {} packed by zstd -19", self.bytes, self.packed)
    }
}

/// No other shared object may be needed: the image that it runs in may have none.
pub fn check_static(file: &Path) -> Result<()> {
    let headers = process::output(Command::new("readelf").args(["-l", "-d", "-W"]).arg(file))?;
    if headers.contains("(NEEDED)") || headers.contains("INTERP") {
        bail!("{} is not static: it needs a dynamic loader or a shared library", file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        assert!(Sizes { bytes: 2_999_999, packed: 1_230_000 }.check().is_ok());
        assert!(Sizes { bytes: 3_000_000, packed: 900_000 }.check().is_err());
        assert!(Sizes { bytes: 2_000_000, packed: 1_230_001 }.check().is_err());
    }
}
