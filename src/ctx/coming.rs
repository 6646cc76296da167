//! What schedulers say is coming, for whoever prepares; and what has come.

use crate::requests::Wish;
use rouse_model::Timestamp;
use rouse_model::arrivals::Arrivals;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// What a scheduler is about to ask for, as things stand.
#[derive(Debug, Clone)]
pub struct Announced {
    pub wish: Wish,
    /// Known for clocks and for branches that are not quiet yet; foretold for what follows other builds, by how long such builds took before. It may be
    /// over already. `None` where nobody can say.
    pub due: Option<Timestamp>,
    /// How likely it comes at all, from 0 to 1.
    pub likely: f64,
}

/// Where it is said, anew every now and then while anybody listens. Nothing is promised: what is announced may come otherwise, or not at all.
#[derive(Debug, Default)]
pub struct Coming {
    said: watch::Sender<Arc<Vec<Announced>>>,
    /// By builder, as far as this master has made it.
    come: Mutex<HashMap<String, Arrivals>>,
}

impl Coming {
    /// What comes later than this may become something else by then.
    pub const LEAD: Duration = Duration::from_secs(600);

    #[must_use]
    pub fn listen(&self) -> watch::Receiver<Arc<Vec<Announced>>> {
        self.said.subscribe()
    }

    #[must_use]
    pub fn has_listeners(&self) -> bool {
        self.said.receiver_count() > 0
    }

    pub fn say(&self, all: Vec<Announced>) {
        self.said.send_replace(Arc::new(all));
    }

    /// It has come, for each of these builders: what is there is not announced any more.
    pub fn has_come(&self, origin: &str, builders: &[String], at: Timestamp) {
        let announced = self.said.send_if_modified(|all| {
            let announced = all.iter().any(|coming| coming.wish.origin == origin);
            if announced {
                Arc::make_mut(all).retain(|coming| coming.wish.origin != origin);
            }
            announced
        });
        let mut come = self.come.lock().expect("nothing panics while it is held");
        for builder in builders {
            match come.get_mut(builder) {
                Some(arrivals) => arrivals.came(at, announced),
                None => come.entry(builder.clone()).or_default().came(at, announced),
            }
        }
    }

    /// Looks at what has come for each builder.
    pub fn look_back<T>(&self, look: impl FnOnce(&HashMap<String, Arrivals>) -> T) -> T {
        look(&self.come.lock().expect("nothing panics while it is held"))
    }

    #[must_use]
    pub fn is_coming(&self, origin: &str) -> bool {
        self.said.borrow().iter().any(|coming| coming.wish.origin == origin)
    }
}
