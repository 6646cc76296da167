//! Work that several wait for: done once.

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Work under way, by what it is for. Holds no more than that.
#[derive(Debug)]
pub(crate) struct UnderWay<K, A: Clone>(Mutex<HashMap<K, WeakShared<BoxFuture<'static, A>>>>);

impl<K, A: Clone> Default for UnderWay<K, A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, A: Clone + Send + Sync + 'static> UnderWay<K, A> {
    /// What comes of the work that is under way for `what`; begun here where there is none. It goes to its end also where nobody waits any more: a launch
    /// has less time than a pull may take, and is tried again.
    pub(crate) async fn join(&self, what: K, work: impl FnOnce() -> BoxFuture<'static, A>) -> A {
        let shared = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, under_way| under_way.upgrade().is_some());
            let under_way =
                known.get(&what).and_then(WeakShared::upgrade).filter(|shared| shared.peek().is_none());
            under_way.unwrap_or_else(|| {
                let shared: Shared<BoxFuture<'static, A>> = work().shared();
                known.extend(shared.downgrade().map(|weak| (what, weak)));
                tokio::spawn(shared.clone());
                shared
            })
        };
        shared.await
    }
}
