//! What schedulers, and builds that will start others, say is coming, for whoever prepares; and what has come.

use crate::requests::Wish;
use rouse_model::arrivals::Arrivals;
use rouse_model::{BuildId, Timestamp};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// What a scheduler, or a build, is about to ask for, as things stand.
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
    last: Mutex<Last>,
    /// What builds that run are about to ask for; said with the rest.
    of_builds: Mutex<HashMap<BuildId, Vec<Announced>>>,
    /// By builder, as far as this master has made it.
    come: Mutex<HashMap<String, Arrivals>>,
    /// How often something announced has come.
    arrived: AtomicU64,
}

#[derive(Debug, Default)]
struct Last {
    said: Vec<Announced>,
    /// Origins of what has come since.
    come: Vec<String>,
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

    /// What is not said any more stays until the next time, unless it has come: its scheduler may be about to make it.
    pub fn say(&self, mut all: Vec<Announced>) {
        let is_in = |list: &[Announced], one: &Announced| {
            list.iter().any(|other| other.wish.origin == one.wish.origin)
        };
        all.extend(
            self.of_builds.lock().expect("nothing panics while it is held").values().flatten().cloned(),
        );
        let mut last = self.last.lock().expect("nothing panics while it is held");
        // It may have come while the others were asked.
        all.retain(|one| !last.come.contains(&one.wish.origin));
        last.come.clear();
        self.said.send_modify(|board| {
            let vanished = last.said.iter().filter(|one| is_in(board, one) && !is_in(&all, one));
            *board = Arc::new(vanished.chain(&all).cloned().collect());
        });
        last.said = all;
    }

    /// What a build is about to ask for now, in the place of what was said of it before. It stands on the board from the next time on.
    pub fn say_of_build(&self, build: BuildId, all: Vec<Announced>) {
        let mut of_builds = self.of_builds.lock().expect("nothing panics while it is held");
        if all.is_empty() {
            of_builds.remove(&build)
        } else {
            of_builds.insert(build, all)
        };
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
        if self.has_listeners() {
            let mut last = self.last.lock().expect("nothing panics while it is held");
            last.come.push(origin.to_owned());
        }
        self.arrived.fetch_add(u64::from(announced), Ordering::SeqCst);
        let mut come = self.come.lock().expect("nothing panics while it is held");
        for builder in builders {
            match come.get_mut(builder) {
                Some(arrivals) => arrivals.came(at, announced),
                None => come.entry(builder.clone()).or_default().came(at, announced),
            }
        }
    }

    /// A number that is another one once something announced has come: whoever reads what waits and what is announced may have missed that in both.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::SeqCst)
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
