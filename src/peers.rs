//! Other masters on the same database: what they wrote wakes this one's loops, and what a dead one has left is taken over.
//!
//! It runs beside the other loops and calls none of them: it follows the event log by number and nudges, and moves rows from a master that is
//! dead to this one, once that is fenced. Who is dead is [`crate::ctx::Roles`]' to say. It must not know what a build does or a provider is.

mod adopt;
mod beat;
mod follow;

pub(crate) use beat::{LEASE, beat};

use crate::accounts::Accounts;
use crate::ctx::Ctx;
use follow::Follower;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two looks at what others wrote: what a wish said to one master may wait until another one sees it.
const LOOK: Duration = Duration::from_millis(250);
/// Between two looks at what the dead have left, and at the log's end as long as nobody else writes it.
const TICK: Duration = Duration::from_secs(2);

/// Follows and adopts until told to stop.
pub async fn run(ctx: Arc<Ctx>, accounts: Arc<Accounts>, stop: CancellationToken) {
    let mut follower = Follower::default();
    let mut adopted: Option<Instant> = None;
    loop {
        if adopted.is_none_or(|at| at.elapsed() >= TICK) {
            adopt::pass(&ctx, &accounts).await;
            adopted = Some(Instant::now());
        }
        let in_company = ctx.roles.has_company();
        if let Err(error) = follower.step(&ctx, in_company).await {
            tracing::warn!(
                error = crate::supervisor::chain(&error),
                "what other masters wrote is looked at later"
            );
        }
        let wait = if in_company { LOOK } else { TICK };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
