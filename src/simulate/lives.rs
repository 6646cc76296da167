//! What becomes of single workers of a run: one is parked, resumed, refused or taken back, and ends.

use super::engine::{Event, RETRIES, Run};
use super::supply::Span;
use rouse_model::{Timestamp, WorkerId};
use std::cmp::Reverse;
use std::time::Duration;

impl Run<'_> {
    /// Whether one is there, and still in this turn of its life.
    pub(super) fn is_in(&self, worker: WorkerId, turn: u32) -> bool {
        self.supply.life(worker).is_some_and(|life| life.turn == turn)
    }

    /// It takes builds from now on, until its owner wants it back.
    pub(super) fn comes_up(&mut self, worker: WorkerId, now: Timestamp) {
        let Some(life) = self.supply.comes_up(worker, now) else { return };
        let rate = self.market.interruptions(life.thing);
        if rate > 0.0 {
            let after = self.fates.next(rate);
            self.events.push(Reverse((now + after, Event::TakenBack(worker, life.turn))));
        }
        self.serve(life.class, now);
    }

    pub(super) fn park(&mut self, worker: WorkerId, now: Timestamp) {
        let Some((life, span)) = self.supply.park(worker, now) else { return };
        self.pay(span);
        self.events.push(Reverse((now + self.policy.park_for, Event::Lain(worker, life.turn))));
    }

    pub(super) fn resume(&mut self, worker: WorkerId, boot: Option<Duration>, now: Timestamp) {
        // Until one was resumed, as the fleet does.
        let takes = self.world.resume;
        let usual = if self.resumes > 0 { takes } else { boot.unwrap_or(takes) };
        let Some((life, span)) = self.supply.resume(worker, now + usual, now) else { return };
        self.resumes += 1;
        self.pay(span);
        self.events.push(Reverse((now + takes, Event::Resumed(worker, life.turn))));
    }

    /// There was none for it, so nothing is paid.
    pub(super) fn refused(&mut self, worker: WorkerId, now: Timestamp) {
        if let Some(span) = self.supply.end(worker, now) {
            self.market.refused(span.thing, now);
        }
    }

    /// What it ran waits again, first of all; what was tried too often is given up.
    pub(super) fn taken_back(&mut self, worker: WorkerId, now: Timestamp) {
        let Some(life) = self.supply.life(worker) else { return };
        self.market.interrupted(life.thing, worker);
        self.end(worker, now);
        let ran: Vec<_> = self.running.range((worker, 0)..=(worker, usize::MAX)).copied().collect();
        for (worker, number) in ran.into_iter().rev() {
            self.running.remove(&(worker, number));
            if self.retries[number] >= RETRIES {
                self.given_up += 1;
                self.left -= 1;
                continue;
            }
            self.retries[number] += 1;
            self.waits_since[number] = now;
            self.classes[life.class].waiting.push_front(number);
        }
        self.serve(life.class, now);
    }

    pub(super) fn end(&mut self, worker: WorkerId, now: Timestamp) {
        if let Some(span) = self.supply.end(worker, now) {
            self.market.ended(worker, now);
            self.pay(span);
        }
    }

    fn pay(&mut self, span: Span) {
        match span.lay {
            true => self.market.lay(span.thing, span.lasted),
            false => self.market.ran(span.thing, span.lasted),
        }
    }
}
