//! Fault scripts: what goes wrong with which call, planned by hand or drawn from a seed.

use crate::chance::Dice;
use std::collections::{HashMap, VecDeque};

/// Faults of a kind that whoever makes them knows, by the name of the call that they strike.
#[derive(Debug)]
pub struct Script<F> {
    dice: Dice,
    planned: HashMap<&'static str, VecDeque<F>>,
    drawn: HashMap<&'static str, Odds<F>>,
    struck: usize,
}

type Odds<F> = (u64, fn(&mut Dice) -> F);

impl<F> Script<F> {
    /// Nothing goes wrong yet.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self { dice: Dice::of(seed), planned: HashMap::new(), drawn: HashMap::new(), struck: 0 }
    }

    /// Strikes the next call that nothing was planned for.
    pub fn plan(&mut self, call: &'static str, fault: F) {
        self.planned.entry(call).or_default().push_back(fault);
    }

    /// Strikes so many of a hundred calls, as drawn.
    pub fn draw(&mut self, call: &'static str, percent: u64, fault: fn(&mut Dice) -> F) {
        self.drawn.insert(call, (percent, fault));
    }

    /// From now on nothing goes wrong.
    pub fn calm(&mut self) {
        self.planned.clear();
        self.drawn.clear();
    }

    /// What goes wrong with this call.
    pub fn next(&mut self, call: &'static str) -> Option<F> {
        let planned = self.planned.get_mut(call).and_then(VecDeque::pop_front);
        let fault = planned.or_else(|| {
            let (percent, fault) = self.drawn.get(call)?;
            (self.dice.below(100) < *percent).then(|| fault(&mut self.dice))
        });
        self.struck += usize::from(fault.is_some());
        fault
    }

    /// How many faults have struck.
    #[must_use]
    pub fn struck(&self) -> usize {
        self.struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_comes_first_and_what_is_drawn_comes_again() {
        let run = |seed| {
            let mut script = Script::of(seed);
            script.draw("call", 50, |dice| dice.below(1000));
            script.plan("call", 7777);
            let all: Vec<Option<u64>> = (0..20).map(|_| script.next("call")).collect();
            assert_eq!((all[0], script.next("another")), (Some(7777), None));
            assert_eq!(script.struck(), all.iter().flatten().count());
            script.calm();
            assert_eq!(script.next("call"), None);
            all
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }
}
