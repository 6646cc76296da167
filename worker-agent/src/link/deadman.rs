//! The dead-man: an agent that no master speaks to any more ends itself, so that nothing is left running for nobody.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Debug)]
pub struct DeadMan {
    heard: Cell<Instant>,
    expiry: Cell<Duration>,
    held_until: Cell<Option<Instant>>,
    changed: Notify,
}

impl DeadMan {
    /// The time runs from now.
    pub fn new(expiry: Duration) -> Self {
        let changed = Notify::new();
        Self {
            heard: Cell::new(Instant::now()),
            expiry: Cell::new(expiry),
            held_until: Cell::new(None),
            changed,
        }
    }

    /// A master that was accepted said something.
    pub fn heard(&self) {
        self.heard.set(Instant::now());
    }

    pub fn set_expiry(&self, expiry: Duration) {
        self.expiry.set(expiry);
        self.changed.notify_one();
    }

    /// Not before then; zero takes it back.
    pub fn hold(&self, time: Duration) {
        self.held_until.set((!time.is_zero()).then(|| Instant::now() + time));
        self.changed.notify_one();
    }

    /// Returns when it strikes.
    pub async fn struck(&self) {
        loop {
            let silent_until = self.heard.get() + self.expiry.get();
            let until = self.held_until.get().map_or(silent_until, |held| held.max(silent_until));
            if until <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn strikes_after_silence_and_not_while_held() {
        let (silence, began) = (Duration::from_millis(50), Instant::now());
        let dead_man = DeadMan::new(silence);
        dead_man.struck().await;
        assert!(began.elapsed() >= silence);
        dead_man.hold(Duration::from_secs(3600));
        assert!(tokio::time::timeout(silence, dead_man.struck()).await.is_err());
        dead_man.hold(Duration::ZERO);
        dead_man.struck().await;
        dead_man.heard();
        assert!(tokio::time::timeout(silence / 5, dead_man.struck()).await.is_err());
    }
}
