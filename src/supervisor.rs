//! The only place that starts tasks, and how errors are written out.

use futures::FutureExt;
use std::error::Error;
use std::fmt::Write;
use std::future::Future;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Starts a short-lived task that belongs to a loop (a session, a driver). It ends by its own token; a panic in it is logged and harms nobody else.
pub fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    // Put together without a block, which would keep room for the task twice: of some there are thousands. Nobody sees what it leaves half
    // done: what it shares stands under locks, which say so.
    tokio::spawn(std::panic::AssertUnwindSafe(task).catch_unwind().map(move |end| {
        if let Err(panic) = end {
            let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            tracing::error!(task = name, said, "a task panicked");
        }
    }));
}

/// The master's loops. One that ends unasked stops the master.
#[derive(Debug)]
pub struct Supervisor {
    loops: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Supervisor {
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { loops: JoinSet::new(), stop }
    }

    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.loops.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits for the end that was asked for, or for a loop that ended by itself; then for all to end.
    pub async fn wait(&mut self) -> Result<(), String> {
        let mut fault = None;
        while let Some(ended) = self.loops.join_next().await {
            if !self.stop.is_cancelled() {
                fault = Some(match ended {
                    Ok(name) => format!("the loop `{name}` ended unasked"),
                    Err(error) => format!("a loop panicked: {error}"),
                });
                self.stop.cancel();
            }
        }
        fault.map_or(Ok(()), Err)
    }
}

/// An error and its causes in one line: `launch worker 7: pull image x: not found`.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {said}");
        }
        next = cause.source();
    }
    text
}
