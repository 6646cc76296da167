//! One at a time for each worker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

type Turn = tokio::sync::Mutex<()>;

/// Holds no more than is in use.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: Mutex<HashMap<String, Weak<Turn>>>,
}

impl Turns {
    pub(crate) fn of(&self, key: &str) -> Arc<Turn> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = taken.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::default());
        taken.insert(key.to_owned(), Arc::downgrade(&turn));
        turn
    }
}
