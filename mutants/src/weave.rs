//! Writes a file anew with all its changes inside, each behind its number.
//!
//! `a < b` becomes `(match crate::mutant_switch::on(&[7, 8]) { 0 => (a < b), 1 => (a <= b), _ => (a == b), })`; a body begins with such
//! a `match` that returns early; an arm that is deleted has a guard. What stands first, the code as it is, says which type the whole has:
//! a change of another type is then what does not compile. Changes do not stand within one another's alternatives, since only one is ever
//! on. Lines stay lines: what a panic says of its place is true.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::places::{Place, Shape};

#[cfg(test)]
pub mod tests;

/// The module that `woven/switch.rs` becomes.
pub const SWITCH: &str = "mutant_switch";

#[derive(Debug, Default)]
pub struct Woven {
    pub text: String,
    marks: Vec<Mark>,
    /// The changes of each place that has any.
    pub places: Vec<Vec<u32>>,
}

/// A piece of the new text, and the changes that brought it there.
#[derive(Debug)]
struct Mark {
    range: Range<usize>,
    changes: Vec<u32>,
    of: Of,
}

/// What a mark holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// What its changes brought, and nothing else.
    Change,
    /// What stood there before too.
    Place,
    /// A `match` that lacks arms.
    Match,
}

/// The file with all but the `dropped` changes.
pub fn weave(text: &str, places: &[Place], dropped: &BTreeSet<u32>) -> Woven {
    let mut weaver = Weaver { text, places, dropped, woven: Woven::default() };
    weaver.copy(0..text.len(), 0);
    weaver.woven
}

impl Woven {
    /// The changes that a complaint of the compiler about this byte is about: the smallest piece around it says which.
    pub fn blame(&self, at: usize, of: Of) -> Option<&[u32]> {
        let around = self.marks.iter().filter(|mark| mark.of == of && mark.range.contains(&at));
        around.min_by_key(|mark| mark.range.len()).map(|mark| mark.changes.as_slice())
    }
}

struct Weaver<'a> {
    text: &'a str,
    places: &'a [Place],
    dropped: &'a BTreeSet<u32>,
    woven: Woven,
}

impl Weaver<'_> {
    /// A piece of the old text, with the places within it from the given one on.
    fn copy(&mut self, range: Range<usize>, from: usize) {
        let mut at = range.start;
        for index in from..self.places.len() {
            let place = &self.places[index].range;
            if place.start > range.end {
                break;
            }
            // Within the place before it, or around this piece.
            if place.start < at || place.end > range.end {
                continue;
            }
            self.woven.text.push_str(&self.text[at..place.start]);
            self.place(index);
            at = place.end;
        }
        self.woven.text.push_str(&self.text[at..range.end]);
    }

    fn place(&mut self, index: usize) {
        let place = &self.places[index];
        let numbers = place.changes.iter().map(|change| change.number);
        let numbers: Vec<u32> = numbers.filter(|number| !self.dropped.contains(number)).collect();
        let within = index + 1;
        if numbers.is_empty() {
            self.copy(place.range.clone(), within);
            return;
        }
        let start = self.woven.text.len();
        match place.shape {
            Shape::Expression => {
                self.put("(", &[]);
                self.ask("match ", &numbers, " { 0 => (");
                self.copy(place.range.clone(), within);
                self.put("),", &[]);
                self.alternatives(place, &numbers);
                self.put(" })", &[]);
            }
            Shape::Body => {
                self.put("{", &[]);
                self.ask(" match ", &numbers, " { 0 => (),");
                self.alternatives(place, &numbers);
                self.put(" }", &[]);
                self.copy(place.range.start + 1..place.range.end, within);
            }
            Shape::Match => {
                self.copy(place.range.clone(), within);
                self.mark(start, numbers, Of::Match);
                return;
            }
            Shape::Arm if place.range.is_empty() => self.ask(" if ", &numbers, " == 0"),
            Shape::Arm => {
                self.put("(", &[]);
                self.copy(place.range.clone(), within);
                self.ask(") && ", &numbers, " == 0");
            }
        }
        self.mark(start, numbers.clone(), Of::Place);
        self.woven.places.push(numbers);
    }

    fn mark(&mut self, start: usize, changes: Vec<u32>, of: Of) {
        self.woven.marks.push(Mark { range: start..self.woven.text.len(), changes, of });
    }

    /// Text that a complaint about is one about these changes.
    fn put(&mut self, text: &str, changes: &[u32]) {
        let start = self.woven.text.len();
        self.woven.text.push_str(text);
        if !changes.is_empty() {
            self.mark(start, changes.to_vec(), Of::Change);
        }
    }

    fn ask(&mut self, before: &str, changes: &[u32], after: &str) {
        self.put(&format!("{before}crate::{SWITCH}::on(&{changes:?}){after}"), changes);
    }

    fn alternatives(&mut self, place: &Place, numbers: &[u32]) {
        let live = place.changes.iter().filter(|change| numbers.contains(&change.number));
        for (nth, change) in (1..).zip(live) {
            let pattern = if nth == numbers.len() { "_".to_owned() } else { nth.to_string() };
            self.put(&format!(" {pattern} => ({}),", change.text), &[change.number]);
        }
    }
}
