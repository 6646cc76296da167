//! Builds: one driver for each open build of this master, from its match to its end.
//!
//! The loop starts drivers for builds that have none; a driver replays what is recorded, so a restarted master goes on where the last
//! commit left it. Drivers write builds, steps, commands and the request's end; they speak to agents through the switchboard alone.

mod action;
mod announced;
mod caches;
mod checkout;
mod driver;
mod gather;
mod given;
mod mirrored;
mod outcome;
mod output;
mod properties;
mod reports;
mod services;
mod state;
mod summary;
mod triggers;
mod turn;

use crate::ctx::Ctx;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the loop looks by itself.
const TICK: Duration = Duration::from_secs(5);

/// Keeps each open build of this master driven, until told to stop.
pub async fn run(ctx: Arc<Ctx>, secrets: Arc<crate::secrets::Secrets>, stop: CancellationToken) {
    loop {
        let matched = ctx.switchboard.take_matched();
        // Those that are handed over are mostly all that is new.
        if matched.is_empty() {
            look(&ctx, &secrets, &stop).await;
        }
        for matched in matched {
            if !ctx.switchboard.is_driven(matched.build.id) {
                driver::start(&ctx, &secrets, driver::From::Matched(Box::new(matched)), stop.child_token());
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = ctx.nudges.builds.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn look(ctx: &Arc<Ctx>, secrets: &Arc<crate::secrets::Secrets>, stop: &CancellationToken) {
    let open = match ctx.store.open_builds().await {
        Ok(open) => open,
        Err(error) => {
            tracing::warn!(%error, "open builds could not be read; trying again");
            return;
        }
    };
    for build in open.into_iter().filter(|b| b.master == ctx.me) {
        if let Some(worker) = build.worker
            && !ctx.switchboard.is_driven(build.id)
        {
            driver::start(ctx, secrets, driver::From::Record(build.id, worker), stop.child_token());
        }
    }
}
