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

/// As many pools as there are cores, before there are threads. The C library would make eight for each core, one for each thread that reads the
/// database or a file: each keeps what the largest of these reads took, and holes of its own.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn share_pools() {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let pools = libc::c_int::try_from(cores.max(2)).unwrap_or(libc::c_int::MAX);
    // SAFETY: it takes numbers alone.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, pools) };
}

#[cfg(not(target_env = "gnu"))]
pub fn share_pools() {}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn give_back() {
    // SAFETY: it takes no pointer, and the allocator guards itself.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}
