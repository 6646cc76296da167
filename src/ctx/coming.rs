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
    /// Known for clocks and for branches that are not quiet yet; foretold for what follows other builds, by how long such builds took before. It may be
    /// over already. `None` where nobody can say.
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

    /// It has come: what is there is not announced any more.
    pub fn has_come(&self, origin: &str) {
        self.0.send_if_modified(|all| {
            let announced = all.iter().any(|coming| coming.wish.origin == origin);
            if announced {
                Arc::make_mut(all).retain(|coming| coming.wish.origin != origin);
            }
            announced
        });
    }

    #[must_use]
    pub fn is_coming(&self, origin: &str) -> bool {
        self.0.borrow().iter().any(|coming| coming.wish.origin == origin)
    }
}
