//! What a driver finds out about an instance that should run: its provider is asked, and what it says of an end is put down with its class.

use super::deadlines::Moments;
use super::driver::{Step, account};
use super::{Fleet, FleetError, failures};
use crate::workers;
use rouse_contract::{EndedBy, ObservedState};
use rouse_model::failure::FailureClass;
use rouse_model::worker::{Cause, CauseCode, Link, ProviderRef, Worker, WorkerEvent};
use std::sync::Arc;

/// What is kept of what a failed instance printed.
const CONSOLE: usize = 16 * 1024;

/// Asks the provider about an instance that should run; a step where it does not.
pub(super) async fn inspect(
    fleet: &Arc<Fleet>,
    worker: &Worker,
    at: &ProviderRef,
    moments: &mut Moments,
) -> Result<Option<Step>, FleetError> {
    let found = match account(fleet, worker).await {
        Ok(account) => account.provider.inspect(at).await,
        Err(error) => Err(error),
    };
    // Asking may take seconds on a busy host, in which the agent may have come, and gone: then it was no launch that failed.
    let fresh = fleet.ctx.store.worker(worker.id).await?;
    let worker = fresh.as_ref().unwrap_or(worker);
    let (class, message) = match found {
        Ok(Some(seen)) => match moments.is_there(seen.state) {
            ObservedState::Ended { detail, by: EndedBy::Memory } => {
                (FailureClass::User, format!("the build ran out of memory: {detail}"))
            }
            ObservedState::Ended { detail, by: EndedBy::Preemption } => (FailureClass::Preempted, detail),
            ObservedState::Ended { detail, .. } => (class_before_or_after(worker), detail),
            // Not while its agent speaks: what is shown may be what was.
            ObservedState::Parked if matches!(worker.link, Link::Silent { .. }) && !worker.lies() => (
                class_before_or_after(worker),
                "its provider has stopped it, which nobody asked for".to_owned(),
            ),
            ObservedState::Starting
            | ObservedState::Running
            | ObservedState::Parked
            | ObservedState::Resource { .. } => return Ok(None),
        },
        Ok(None) if !moments.is_absent(&worker.link) => return Ok(None),
        Ok(None) => (class_before_or_after(worker), "its provider does not have it any more".to_owned()),
        Err(error) => {
            tracing::debug!(
                worker = worker.name,
                error = crate::supervisor::chain(&error),
                "a worker could not be looked at"
            );
            return Ok(None);
        }
    };
    let step = died(fleet, worker, at, CauseCode::Died, class, message).await.map(Some);
    if class == FailureClass::Preempted {
        // What the next one is launched as depends on it.
        fleet.learned.look_anew();
    }
    step
}

fn class_before_or_after(worker: &Worker) -> FailureClass {
    if worker.attached.is_some() { FailureClass::AgentLost } else { FailureClass::Boot }
}

pub(super) async fn died(
    fleet: &Arc<Fleet>,
    worker: &Worker,
    at: &ProviderRef,
    code: CauseCode,
    class: FailureClass,
    message: String,
) -> Result<Step, FleetError> {
    let console = match account(fleet, worker).await {
        Ok(account) => account.provider.console_tail(at, CONSOLE).await.ok().flatten(),
        Err(_) => None,
    };
    let cause = Cause::new(code, Some(class), message.clone());
    let event = WorkerEvent::InstanceDied { cause };
    workers::apply(&fleet.ctx, worker.id, "worker.died", &event, |next, _| next.console.clone_from(&console))
        .await?;
    if worker.attached.is_none() {
        fleet.ctx.metrics.launched(&worker.pool, Some(class));
        failures::of_worker(fleet, worker, class, &with_console(&message, console.as_deref()), None).await?;
    }
    Ok(Step::Again)
}

pub(super) fn with_console(message: &str, console: Option<&str>) -> String {
    match console.map(str::trim).filter(|c| !c.is_empty()) {
        Some(console) => {
            let tail: Vec<&str> = console.lines().rev().take(5).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            format!("{message}; it printed: {}", tail.join(" | "))
        }
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_printed_is_told_where_it_printed_anything() {
        assert_eq!(with_console("it ended", None), "it ended");
        assert_eq!(with_console("it ended", Some(" \n")), "it ended");
        let printed = (1..=7).map(|line| format!("line {line}\n")).collect::<String>();
        let told = with_console("it ended", Some(&printed));
        assert_eq!(told, "it ended; it printed: line 3 | line 4 | line 5 | line 6 | line 7");
    }
}
