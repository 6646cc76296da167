//! Memory that is free goes back to the host. The C library's allocator keeps a pool for each thread and gives back only what lies at its end: after
//! a rush, as when thousands of agents came at once, a master would stay as large as it was then. Imports nothing of the master.

use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks; one takes about a millisecond for each hundred megabytes.
const PAUSE: Duration = Duration::from_secs(10);

/// Gives back what is free, again and again, until told to stop.
pub async fn run(stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        // Off the event loop: whoever allocates meanwhile may wait for it.
        if tokio::task::spawn_blocking(give_back).await.is_err() {
            return;
        }
    }
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn give_back() {
    // SAFETY: it takes no pointer, and the allocator guards itself.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}
