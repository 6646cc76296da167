//! What schedulers say is coming, for whoever prepares.

use crate::requests::Wish;
use rouse_model::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What a scheduler is about to ask for, as things stand.
#[derive(Debug, Clone)]
pub struct Announced {
    pub wish: Wish,
    /// `None` where it follows the end of other builds.
    pub due: Option<Timestamp>,
}

/// Where it is said, anew every now and then while anybody listens. Nothing is promised: what is announced may come otherwise, or not at all.
#[derive(Debug, Default)]
pub struct Coming(watch::Sender<Arc<Vec<Announced>>>);

impl Coming {
    /// What comes later than this may become something else by then.
    pub const LEAD: Duration = Duration::from_secs(600);

    #[must_use]
    pub fn listen(&self) -> watch::Receiver<Arc<Vec<Announced>>> {
        self.0.subscribe()
    }

    #[must_use]
    pub fn has_listeners(&self) -> bool {
        self.0.receiver_count() > 0
    }

    pub fn say(&self, all: Vec<Announced>) {
        self.0.send_replace(Arc::new(all));
    }
}
