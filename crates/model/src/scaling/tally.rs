//! Requests, counted one by one into demand.

use super::Demand;
use crate::matching::ReuseClass;
use std::collections::HashMap;

/// What is wanted of one pool so far, in the order in which each class was first asked for.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    wishes: Vec<Demand>,
    /// Of each class there is mostly one.
    places: HashMap<ReuseClass, Vec<usize>>,
    waiting: usize,
}

impl Tally {
    /// One more that waits.
    pub fn waits(&mut self, class: &ReuseClass, at_once: Option<usize>) {
        self.waiting += 1;
        self.wish(class, at_once).waiting += 1;
    }

    /// What is wanted of a class with such a limit, to add to what is to come.
    pub fn wish(&mut self, class: &ReuseClass, at_once: Option<usize>) -> &mut Demand {
        let next = self.wishes.len();
        let places = match self.places.get_mut(class) {
            Some(places) => places,
            None => self.places.entry(class.clone()).or_default(),
        };
        let known = places.iter().copied().find(|place| self.wishes[*place].at_once == at_once);
        let place = known.unwrap_or_else(|| {
            places.push(next);
            self.wishes.push(Demand { at_once, ..Demand::waiting(class.clone(), 0) });
            next
        });
        &mut self.wishes[place]
    }

    /// All that wait.
    #[must_use]
    pub fn all_waiting(&self) -> usize {
        self.waiting
    }

    #[must_use]
    pub fn into_wishes(self) -> Vec<Demand> {
        self.wishes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Trust;

    #[test]
    fn requests_are_counted_by_class_and_limit_in_the_order_of_the_first_of_each() {
        let class = |digest: &str| ReuseClass {
            pool: "p".into(),
            spec_digest: digest.into(),
            trust: Trust::Trusted,
            project: "default".into(),
        };
        let mut tally = Tally::default();
        for (digest, at_once) in
            [("b", None), ("a", None), ("b", Some(1)), ("b", None), ("a", None), ("b", None)]
        {
            tally.waits(&class(digest), at_once);
        }
        tally.wish(&class("c"), None).unforeseen += 0.5;
        assert_eq!(tally.all_waiting(), 6);
        let wishes: Vec<_> =
            tally.into_wishes().into_iter().map(|d| (d.class.spec_digest, d.at_once, d.waiting)).collect();
        let expected = [("b", None, 3), ("a", None, 2), ("b", Some(1), 1), ("c", None, 0)];
        assert_eq!(wishes, expected.map(|(digest, at_once, waiting)| (digest.to_owned(), at_once, waiting)));
    }
}
