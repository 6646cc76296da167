//! How long the workers of each pool take from the wish to the agent, learned from those that came last.

use super::{Fleet, FleetError};
use rouse_store::Page;
use rouse_store::reads::WorkerFilter;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// From a pool's last so many workers.
const LEARNED_FROM: i64 = 30;
/// Between looks at them.
const ANEW: Duration = Duration::from_secs(20);

/// By pool; one of which no worker has come yet is not in it.
#[derive(Debug, Default)]
pub(super) struct Boots(Mutex<(Option<Instant>, HashMap<String, Duration>)>);

impl Boots {
    pub(super) fn of(&self, pool: &str) -> Option<Duration> {
        self.0.lock().expect("nothing panics while it is held").1.get(pool).copied()
    }
}

impl Fleet {
    /// Looks at the last workers of all pools, where that was not done lately.
    pub(super) async fn learn_boots(&self) -> Result<(), FleetError> {
        let looked = self.boots.0.lock().expect("nothing panics while it is held").0;
        if looked.is_some_and(|looked| looked.elapsed() < ANEW) {
            return Ok(());
        }
        let mut boots = HashMap::new();
        for name in self.ctx.config().config.pools.keys() {
            let filter = WorkerFilter { pool: Some(name.to_string()), live: false };
            let workers = self.ctx.store.workers(&filter, Page { before: None, limit: LEARNED_FROM }).await?;
            let took = workers.iter().filter_map(|worker| Some(worker.attached?.since(worker.requested)));
            boots.extend(nine_of_ten(took.collect()).map(|boot| (name.to_string(), boot)));
        }
        *self.boots.0.lock().expect("nothing panics while it is held") = (Some(Instant::now()), boots);
        Ok(())
    }
}

/// What nine of ten do not exceed.
fn nine_of_ten(mut took: Vec<Duration>) -> Option<Duration> {
    took.sort_unstable();
    let last = (took.len() * 9).div_ceil(10);
    took.get(last.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_ten_may_take_longer() {
        let of = |seconds: &[u64]| {
            let took = seconds.iter().map(|seconds| Duration::from_secs(*seconds));
            nine_of_ten(took.collect()).map(|boot| boot.as_secs())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some(7));
        assert_eq!(of(&[3, 90, 2]), Some(90));
        assert_eq!(of(&[10, 9, 8, 7, 6, 5, 4, 3, 2, 600]), Some(10));
    }
}
