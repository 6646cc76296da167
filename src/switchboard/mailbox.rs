//! A session's mailbox. There are thousands of sessions, and most of them wait for nothing: a channel of the runtime keeps room for thirty-two
//! messages in each, this one for none.

use super::ToSession;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// How many messages may wait for a session before it is taken for stuck.
const DEPTH: usize = 256;

/// A sender and its receiver.
pub(super) fn mailbox() -> (Sender, Mailbox) {
    let shared = Arc::new(Shared::default());
    (Sender(Arc::clone(&shared)), Mailbox(shared))
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<ToSession>,
    /// One of the two sides has gone.
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics while it is held")
    }

    fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
    }
}

/// Where messages are put. Without it the mailbox ends, after what lies in it.
#[derive(Debug)]
pub(super) struct Sender(Arc<Shared>);

impl Sender {
    /// Whether it was taken: not where the session has gone, or does not keep up.
    pub(super) fn send(&self, message: ToSession) -> bool {
        let mut waiting = self.0.lock();
        if waiting.closed || waiting.messages.len() >= DEPTH {
            return false;
        }
        waiting.messages.push_back(message);
        drop(waiting);
        self.0.more.notify_one();
        true
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What others want of a session.
#[derive(Debug)]
pub struct Mailbox(Arc<Shared>);

impl Mailbox {
    /// The next message, or `None` where there will be none. Losing the future loses nothing.
    pub async fn recv(&mut self) -> Option<ToSession> {
        loop {
            {
                let mut waiting = self.0.lock();
                if let Some(message) = waiting.messages.pop_front() {
                    if waiting.messages.is_empty() {
                        waiting.messages = VecDeque::new();
                    }
                    return Some(message);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.0.more.notified().await;
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn drain(on: bool) -> ToSession {
        ToSession::Drain { on }
    }

    #[tokio::test]
    async fn what_was_sent_comes_in_order_and_then_the_end() {
        let (sender, mut mailbox) = mailbox();
        assert!(mailbox.recv().now_or_never().is_none());
        assert!(sender.send(drain(true)));
        assert!(sender.send(drain(false)));
        assert!(matches!(mailbox.recv().await, Some(ToSession::Drain { on: true })));
        drop(sender);
        assert!(matches!(mailbox.recv().await, Some(ToSession::Drain { on: false })));
        assert!(mailbox.recv().await.is_none());
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_a_message_and_by_the_end() {
        let (sender, mut mailbox) = mailbox();
        let reader = tokio::spawn(async move {
            let mut heard = 0;
            while mailbox.recv().await.is_some() {
                heard += 1;
            }
            heard
        });
        for _ in 0..100 {
            assert!(sender.send(drain(true)));
            tokio::task::yield_now().await;
        }
        drop(sender);
        assert_eq!(reader.await.unwrap(), 100);
    }

    #[test]
    fn nothing_is_taken_that_nobody_reads() {
        let (sender, mailbox) = mailbox();
        assert!((0..DEPTH).all(|_| sender.send(drain(true))));
        assert!(!sender.send(drain(true)));
        drop(mailbox);
        let (sender, mailbox) = super::mailbox();
        drop(mailbox);
        assert!(!sender.send(drain(true)));
    }
}
