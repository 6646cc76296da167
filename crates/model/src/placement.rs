//! On which of a pool's accounts the next worker is launched: one pure function, asked by the fleet and by whoever explains it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What an account has for all its workers together, or what one worker takes of it. What is `None` is not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    pub workers: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub millicpus: Option<u64>,
}

impl Room {
    /// One worker, of which nothing else is known.
    pub const ONE: Self = Self { workers: Some(1), memory: None, millicpus: None };

    fn parts(&self) -> [(&'static str, Option<u64>); 3] {
        [("workers", self.workers), ("memory", self.memory), ("cpus", self.millicpus)]
    }
}

impl std::ops::AddAssign for Room {
    fn add_assign(&mut self, other: Self) {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or_default().saturating_add(b.unwrap_or_default())),
        };
        self.workers = sum(self.workers, other.workers);
        self.memory = sum(self.memory, other.memory);
        self.millicpus = sum(self.millicpus, other.millicpus);
    }
}

/// One account, as the choice sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    pub has: Room,
    /// By live workers of all pools.
    pub taken: Room,
    /// Somebody wants no more workers on it.
    pub drained: bool,
    /// It did not answer lately.
    pub away: bool,
    /// The image of the class is there.
    pub has_image: bool,
    /// So is a git mirror that its builds may read.
    pub has_mirror: bool,
}

/// Why an account takes no worker now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Drained,
    /// What there is too little of, how much is taken, and how much there is in all.
    Full {
        what: &'static str,
        taken: u64,
        has: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, taken, has) = match self {
            Self::Drained => return f.write_str("drained"),
            Self::Full { what, taken, has } => (*what, *taken, *has),
        };
        match what {
            "memory" => {
                let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
                write!(f, "{:.1} of {:.1} GiB of memory are taken", gib(taken), gib(has))
            }
            "cpus" => write!(f, "{} of {} cpus are taken", cpus(taken), cpus(has)),
            _ => write!(f, "{taken} of {has} workers are there"),
        }
    }
}

fn cpus(thousandths: u64) -> f64 {
    thousandths as f64 / 1000.0
}

/// The place among `hosts` where a worker that takes `takes` goes; or why each of them refuses it.
///
/// One that answers comes before one that does not. Among those the one with the largest share left free, where one that has the image counts half
/// its whole more, and one that has a mirror a quarter. Of equals the first.
///
/// # Errors
/// Where none has room: the refusals, in the order of the hosts.
pub fn place(hosts: &[Host], takes: Room) -> Result<usize, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut best: Option<(usize, (bool, u64))> = None;
    for (at, host) in hosts.iter().enumerate() {
        match share_left(host, takes) {
            Err(refusal) => refusals.push(refusal),
            Ok(left) => {
                let score = (!host.away, left + warmth(host));
                if best.is_none_or(|(_, so_far)| score > so_far) {
                    best = Some((at, score));
                }
            }
        }
    }
    best.map(|(at, _)| at).ok_or(refusals)
}

/// A share of 1.
const WHOLE: u64 = 1_000_000;

fn warmth(host: &Host) -> u64 {
    (if host.has_image { WHOLE / 2 } else { 0 }) + (if host.has_mirror { WHOLE / 4 } else { 0 })
}

/// What is left of the scarcest part once the worker is there, of [`WHOLE`]. Where nothing is counted, the fewer workers the more.
fn share_left(host: &Host, takes: Room) -> Result<u64, Refusal> {
    if host.drained {
        return Err(Refusal::Drained);
    }
    let mut left = None;
    let parts = host.has.parts().into_iter().zip(host.taken.parts()).zip(takes.parts());
    for (((what, has), (_, taken)), (_, takes)) in parts {
        let Some(has) = has else { continue };
        let taken = taken.unwrap_or_default();
        let then = taken.saturating_add(takes.unwrap_or_default());
        if then > has {
            return Err(Refusal::Full { what, taken, has });
        }
        let share = u64::try_from(u128::from(has - then) * u128::from(WHOLE) / u128::from(has.max(1)))
            .unwrap_or(WHOLE);
        left = Some(left.map_or(share, |so_far: u64| so_far.min(share)));
    }
    Ok(left.unwrap_or_else(|| WHOLE / (2 + host.taken.workers.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn host(name: &str, has: u64, taken: u64) -> Host {
        Host {
            name: name.into(),
            has: Room { memory: Some(has * GIB), ..Room::default() },
            taken: Room { memory: Some(taken * GIB), ..Room::default() },
            ..Host::default()
        }
    }

    fn takes(gib: u64) -> Room {
        Room { memory: Some(gib * GIB), ..Room::ONE }
    }

    #[test]
    fn the_largest_free_share_wins_unless_another_host_is_warm() {
        let hosts = [host("a", 8, 4), host("b", 16, 4), host("c", 16, 4)];
        assert_eq!(place(&hosts, takes(2)), Ok(1));
        let mut warm = hosts.clone();
        warm[0].has_image = true;
        assert_eq!(place(&warm, takes(2)), Ok(0));
        // An image weighs more than a mirror.
        warm[2].has_mirror = true;
        assert_eq!(place(&warm, takes(4)), Ok(2));
        warm[2].taken = warm[1].taken;
        warm[1].has_image = true;
        assert_eq!(place(&warm, takes(4)), Ok(1));
        // Not at any price: a host that is all but full is no bargain.
        let warm = [Host { has_image: true, ..host("a", 8, 6) }, host("b", 16, 0)];
        assert_eq!(place(&warm, takes(2)), Ok(1));
    }

    #[test]
    fn what_is_not_counted_adds_nothing() {
        let mut taken = Room::default();
        taken += Room::ONE;
        assert_eq!(taken, Room::ONE);
        taken += Room { millicpus: Some(500), ..takes(2) };
        assert_eq!(taken, Room { workers: Some(2), memory: Some(2 * GIB), millicpus: Some(500) });
        taken += Room { workers: Some(u64::MAX), ..Room::default() };
        assert_eq!(taken.workers, Some(u64::MAX));
    }

    #[test]
    fn without_figures_workers_are_spread() {
        let plain =
            |workers| Host { taken: Room { workers: Some(workers), ..Room::default() }, ..Host::default() };
        assert_eq!(place(&[plain(2), plain(1), plain(1)], takes(4)), Ok(1));
    }

    #[test]
    fn what_is_left_is_a_share_of_one() {
        let left = |host: &Host| share_left(host, takes(2));
        assert_eq!((left(&host("a", 8, 4)), left(&host("a", 16, 14))), (Ok(WHOLE / 4), Ok(0)));
        // The scarcest part counts; of nothing that is counted, the fewer workers the more.
        let mut busy = host("a", 8, 4);
        (busy.has.workers, busy.taken.workers) = (Some(10), Some(8));
        assert_eq!(left(&busy), Ok(WHOLE / 10));
        let plain = |workers| Host { taken: Room { workers, ..Room::default() }, ..Host::default() };
        assert_eq!((left(&plain(None)), left(&plain(Some(3)))), (Ok(WHOLE / 2), Ok(WHOLE / 5)));
    }

    #[test]
    fn one_that_does_not_answer_is_the_last_resort() {
        let away = |host: Host| Host { away: true, ..host };
        assert_eq!(place(&[away(host("a", 8, 0)), host("b", 8, 6)], takes(2)), Ok(1));
        assert_eq!(place(&[away(host("a", 8, 0)), host("b", 8, 7)], takes(2)), Ok(0));
    }

    #[test]
    fn who_is_full_or_drained_says_so() {
        let mut counted = host("b", 64, 0);
        counted.has.workers = Some(2);
        counted.taken.workers = Some(2);
        let drained = Host { drained: true, ..host("c", 64, 0) };
        let mut busy = host("d", 64, 0);
        busy.has.millicpus = Some(4_000);
        busy.taken.millicpus = Some(3_500);
        let wish = Room { millicpus: Some(1_000), ..takes(2) };
        let refusals = place(&[host("a", 60, 59), counted, drained, busy], wish).expect_err("none has room");
        let said: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        let expected = [
            "59.0 of 60.0 GiB of memory are taken",
            "2 of 2 workers are there",
            "drained",
            "3.5 of 4 cpus are taken",
        ];
        assert_eq!(said, expected);
    }
}
