//! Threads for commands, kept for a while: making one anew, with its buffer, costs a third of what a trivial command costs in all.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rouse_agent_protocol::MAX_FRAME_BYTES;

use crate::control::lock;

/// Enough for a command's thread, whose buffers are on the heap.
const STACK: usize = 512 * 1024;

/// How long an idle thread is kept.
const KEEP: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(&mut Scratch) + Send>;

/// What a thread lends to each of its commands.
#[derive(Debug)]
pub struct Scratch {
    pub read: Vec<u8>,
    pub masked: Vec<u8>,
}

#[derive(Clone, Default)]
pub struct Pool(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
}

impl Pool {
    /// Run a job at once, on an idle thread or a new one. The error is that no thread can be made; the job is lost then.
    pub fn run(&self, job: impl FnOnce(&mut Scratch) + Send + 'static) -> io::Result<()> {
        let mut state = lock(&self.0.state);
        if state.idle > state.jobs.len() {
            state.jobs.push_back(Box::new(job));
            drop(state);
            self.0.more.notify_one();
            return Ok(());
        }
        drop(state);
        let inner = self.0.clone();
        let work = move || {
            // Zeroed by the kernel, page by page as it is used.
            let mut scratch = Scratch { read: vec![0; MAX_FRAME_BYTES], masked: Vec::new() };
            job(&mut scratch);
            while let Some(job) = inner.next() {
                job(&mut scratch);
            }
        };
        std::thread::Builder::new().name("command".into()).stack_size(STACK).spawn(work).map(drop)
    }
}

impl Inner {
    /// The next job, if one comes soon.
    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        state.idle += 1;
        let waited = self.more.wait_timeout_while(state, KEEP, |state| state.jobs.is_empty());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        state.jobs.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_is_used_again_and_jobs_never_wait_for_each_other() {
        let (pool, (done, finished)) = (Pool::default(), channel());
        let run = |pool: &Pool| {
            let done = done.clone();
            pool.run(move |_| done.send(thread::current().id()).unwrap()).unwrap();
            finished.recv().unwrap()
        };
        let first = run(&pool);
        while lock(&pool.0.state).idle == 0 {
            thread::yield_now();
        }
        assert_eq!(run(&pool), first);
        // Each of many waits for the last one.
        let (gate, opened) = channel::<()>();
        let opened = Arc::new(Mutex::new(opened));
        for _ in 0..8 {
            let (done, opened) = (done.clone(), opened.clone());
            pool.run(move |_| {
                let _ = lock(&opened).recv();
                done.send(thread::current().id()).unwrap();
            })
            .unwrap();
        }
        pool.run(move |_| drop(gate)).unwrap();
        for _ in 0..8 {
            finished.recv_timeout(Duration::from_secs(30)).unwrap();
        }
    }
}
