//! What all works stand on: the binaries, a folder of the run's own, how much to do, and whether to go on.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;

use crate::lines;

/// How much of each work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// Only whether it works; its figures mean nothing
    Tiny,
    /// Every row, in minutes
    Quick,
    /// As the table says
    Full,
}

impl Size {
    pub fn of<T>(self, tiny: T, quick: T, full: T) -> T {
        match self {
            Self::Tiny => tiny,
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

pub struct Ground {
    pub rouse: PathBuf,
    pub size: Size,
    /// A Python that has the peer, or why there is none.
    pub peer: std::result::Result<PathBuf, String>,
    folder: TempDir,
    interrupt: Arc<AtomicBool>,
    lines: OnceLock<PathBuf>,
}

impl Ground {
    pub fn prepare(rouse: PathBuf, peer: Option<PathBuf>, no_peer: String, size: Size) -> Result<Self> {
        ensure!(rouse.is_file(), "there is no master at {}", rouse.display());
        // Short: socket paths below it have to fit. Other users pass through it: workers have users of their own.
        let folder = tempfile::Builder::new().prefix("rb").rand_bytes(5).tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let interrupt = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt))
                .context("signals cannot be watched")?;
        }
        let rouse = rouse.canonicalize()?;
        Ok(Self { rouse, size, peer: peer.ok_or(no_peer), folder, interrupt, lines: OnceLock::new() })
    }

    pub fn check(&self) -> Result<()> {
        if self.interrupt.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// A new folder of this run, open to other users' passing.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The lines whose printing is measured, in a file that every user may read.
    pub fn lines(&self) -> Result<&Path> {
        if let Some(file) = self.lines.get() {
            return Ok(file);
        }
        let file = self.folder.path().join("lines");
        std::fs::write(&file, lines::make(self.size.of(1 << 20, lines::FILE, lines::FILE)))?;
        Ok(self.lines.get_or_init(|| file))
    }

    /// This program, where every user may run it.
    pub fn own_program(&self) -> Result<PathBuf> {
        let file = self.folder.path().join("rouse-bench");
        if !file.exists() {
            std::fs::copy(std::env::current_exe()?, &file)?;
        }
        Ok(file)
    }

    /// Looks until it is so.
    pub fn wait(&self, what: &str, patience: Duration, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !so()? {
            self.check()?;
            ensure!(began.elapsed() < patience, "waited {:.0} s in vain: {what}", patience.as_secs_f64());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Where a work needs something of the machine that a variable names.
    pub fn lent(variable: &str) -> Option<String> {
        std::env::var(variable).ok().filter(|value| !value.is_empty())
    }
}
