//! What workers are launched as: offers by what was refused and by what became of those that came, judged by the function that the fleet chooses with.

use super::World;
use super::sold::{Offer, Sold};
use rouse_model::breaker::{May, Refused};
use rouse_model::money::{Money, Price};
use rouse_model::scaling::offers::{self, Next, Offering, Record, Standing};
use rouse_model::{Timestamp, WorkerId};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// It is learned of so many, as the fleet does.
const LATEST: usize = 30;

/// What became of the workers of one offering.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfOffering {
    pub offering: String,
    /// Workers that there was one for.
    pub launched: usize,
    /// Launches that there was none for.
    pub refused: usize,
    /// Workers that were taken back.
    pub interrupted: usize,
    /// In which workers of it ran.
    pub hours: f64,
    /// With what they cost while they lay parked.
    pub cost: f64,
}

/// One thing, and what is known of it.
struct Thing {
    sold: Sold,
    refused: Option<Refused<Timestamp>>,
    came_to: OfOffering,
    /// Slot time.
    paid: f64,
    /// Worker time.
    parked: f64,
}

/// A worker that there was one for.
struct Life {
    worker: WorkerId,
    thing: usize,
    since: Timestamp,
    until: Option<Timestamp>,
    came: bool,
    interrupted: bool,
}

pub(super) struct Market {
    things: Vec<Thing>,
    /// Of how many things each offer is.
    offers: Vec<(Option<Duration>, usize)>,
    latest: VecDeque<Life>,
    park_price: f64,
    slots: f64,
}

impl Market {
    /// A world without offers sells one thing that has no name.
    pub(super) fn of(world: &World) -> Self {
        let mut offers = world.offers.clone();
        if offers.is_empty() {
            offers.push(Offer { try_for: None, of: vec![Sold::of_price(world.price)] });
        }
        let shapes = offers.iter().map(|offer| (offer.try_for, offer.of.len())).collect();
        let things = offers.into_iter().flat_map(|offer| offer.of).map(|sold| Thing {
            came_to: OfOffering {
                offering: sold.name.clone(),
                launched: 0,
                refused: 0,
                interrupted: 0,
                hours: 0.0,
                cost: 0.0,
            },
            sold,
            refused: None,
            paid: 0.0,
            parked: 0.0,
        });
        Self {
            things: things.collect(),
            offers: shapes,
            latest: VecDeque::new(),
            park_price: world.park_price,
            slots: world.slots as f64,
        }
    }

    /// What the next worker is asked for as; else how long nothing can be launched, where that is known.
    pub(super) fn next(&mut self, now: Timestamp) -> Result<usize, Option<Duration>> {
        let records = self.records(now);
        let mut things = self.things.iter().zip(records);
        let offers: Vec<offers::Offer> = (self.offers.iter())
            .map(|(try_for, count)| offers::Offer {
                try_for: *try_for,
                of: things.by_ref().take(*count).map(|(thing, record)| thing.stands(record, now)).collect(),
            })
            .collect();
        match offers::choose(&offers, |_| true).next {
            Next::Launch { offer, at } => {
                let thing = self.offers[..offer].iter().map(|(_, count)| count).sum::<usize>() + at;
                self.known(thing, |refused| {
                    let forgotten = refused.is_forgotten(now);
                    refused.asks(now);
                    !forgotten
                });
                Ok(thing)
            }
            Next::Wait(wait) => Err(wait),
            Next::TooDear => Err(None),
        }
    }

    /// `change` says whether what is known is still worth knowing.
    fn known(&mut self, thing: usize, change: impl FnOnce(&mut Refused<Timestamp>) -> bool) {
        let known = &mut self.things[thing].refused;
        if known.as_mut().is_some_and(|refused| !change(refused)) {
            *known = None;
        }
    }

    pub(super) fn is_out(&self, thing: usize, now: Timestamp) -> bool {
        let now = now.since(Timestamp(0));
        self.things[thing].sold.out.iter().any(|out| out.contains(&now))
    }

    pub(super) fn taken(&mut self, thing: usize, worker: WorkerId, now: Timestamp) {
        self.known(thing, |refused| {
            refused.taken(now);
            !refused.is_over()
        });
        self.things[thing].came_to.launched += 1;
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        let (came, interrupted, until) = (false, false, None);
        self.latest.push_back(Life { worker, thing, since: now, until, came, interrupted });
    }

    pub(super) fn refused(&mut self, thing: usize, now: Timestamp) {
        let thing = &mut self.things[thing];
        thing.came_to.refused += 1;
        thing.refused.get_or_insert_with(|| Refused::new(now)).refused(None, now);
    }

    fn life(&mut self, worker: WorkerId) -> Option<&mut Life> {
        self.latest.iter_mut().rev().find(|life| life.worker == worker)
    }

    pub(super) fn came(&mut self, worker: WorkerId) {
        if let Some(life) = self.life(worker) {
            life.came = true;
        }
    }

    pub(super) fn interrupted(&mut self, thing: usize, worker: WorkerId) {
        self.things[thing].came_to.interrupted += 1;
        if let Some(life) = self.life(worker) {
            life.interrupted = true;
        }
    }

    /// Of how many in an hour one is taken back.
    pub(super) fn interruptions(&self, thing: usize) -> f64 {
        self.things[thing].sold.interrupted
    }

    /// It runs no more: it ended, or lies parked.
    pub(super) fn ran(&mut self, thing: usize, time: Duration) {
        self.things[thing].paid += time.as_secs_f64() * self.slots;
    }

    pub(super) fn lay(&mut self, thing: usize, time: Duration) {
        self.things[thing].parked += time.as_secs_f64();
    }

    pub(super) fn ended(&mut self, worker: WorkerId, now: Timestamp) {
        if let Some(life) = self.life(worker) {
            life.until = Some(now);
        }
    }

    /// Those that are on their way say nothing yet.
    fn records(&self, now: Timestamp) -> Vec<Record> {
        let mut records = vec![Record::default(); self.things.len()];
        for life in self.latest.iter().filter(|life| life.came || life.until.is_some()) {
            records[life.thing].add(life.until.unwrap_or(now).since(life.since), life.came, life.interrupted);
        }
        records
    }

    /// All slot time that was paid for in full.
    pub(super) fn paid(&self) -> f64 {
        self.things.iter().map(|thing| thing.paid).sum()
    }

    /// All worker time in which some lay parked.
    pub(super) fn parked(&self) -> f64 {
        self.things.iter().map(|thing| thing.parked).sum()
    }

    pub(super) fn launched(&self) -> usize {
        self.things.iter().map(|thing| thing.came_to.launched).sum()
    }

    pub(super) fn cost(&self) -> f64 {
        self.things.iter().map(|thing| self.cost_of(thing)).sum()
    }

    /// A parked one costs no more than one that runs.
    fn cost_of(&self, thing: &Thing) -> f64 {
        let price = thing.sold.price;
        thing.paid / self.slots / 3600.0 * price + thing.parked / 3600.0 * self.park_price.min(price)
    }

    /// By name; nothing where there was nothing to choose.
    pub(super) fn per_offering(&self) -> Vec<OfOffering> {
        let named = self.things.iter().filter(|thing| !thing.sold.name.is_empty());
        let came_to = named.map(|thing| OfOffering {
            hours: thing.paid / self.slots / 3600.0,
            cost: self.cost_of(thing),
            ..thing.came_to.clone()
        });
        came_to.collect()
    }
}

impl Thing {
    fn stands(&self, record: Record, now: Timestamp) -> Offering {
        let known = self.refused.as_ref().filter(|refused| !refused.is_forgotten(now));
        let may = known.map_or(May::Ask, |refused| refused.may(now));
        Offering {
            name: self.sold.name.clone(),
            price: Price(Money::from_f64(self.sold.price).unwrap_or_default().0),
            standing: Standing::on([(may, known.and_then(|refused| refused.refused_for(now)))]),
            record,
        }
    }
}
