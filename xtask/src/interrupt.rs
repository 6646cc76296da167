//! Ctrl-C and requests to end, as a flag that is looked at. The package `mutants`, which stands outside the workspace, has this file too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Raised by Ctrl-C and by a request to end.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

/// The error that unwinds to `main` after an interrupt, past guards that stop what was started.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

impl Interrupt {
    pub fn install() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, flag.clone()).context("signals cannot be watched")?;
        }
        Ok(Self(flag))
    }

    pub fn check(&self) -> Result<()> {
        if self.raised() { Err(Interrupted.into()) } else { Ok(()) }
    }

    pub fn raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// One that nobody raises: for stopping things, which is not interrupted.
    #[cfg(test)]
    pub fn never() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    #[cfg(test)]
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_share_it_are_told() {
        let interrupt = Interrupt::never();
        let other = interrupt.clone();
        assert!(other.check().is_ok());
        interrupt.raise();
        assert!(other.check().unwrap_err().is::<Interrupted>());
    }
}
