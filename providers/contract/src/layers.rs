//! What is put around every provider, so that no provider writes it again: a deadline on each call, and a record of each call.
//!
//! A layer is a provider over a provider. Layers own no state of the provider's and never answer for it: a call that was cut off says so,
//! and what it did is found again by token or tag.

mod deadline;
mod watch;

pub use deadline::{Deadlined, Deadlines};
pub use watch::{CallEnd, CallKind, CallRecord, CallSink, Watched};

use crate::Provider;
use std::sync::Arc;

/// All layers in their order: the record sees what the deadline made of a call.
#[must_use]
pub fn around(
    provider: Arc<dyn Provider>,
    account: &str,
    deadlines: Deadlines,
    sink: Arc<dyn CallSink>,
) -> Arc<dyn Provider> {
    Arc::new(Watched::new(Arc::new(Deadlined::new(provider, deadlines)), account, sink))
}
