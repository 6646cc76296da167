//! The accounts of a pool as a choice among them needs them: how much each has, and what live workers take of it.
//!
//! The fleet asks before each launch, the explanations when somebody wants to know why there is none.

use crate::config::{Config, PoolConfig};
use rouse_model::placement::{Host, Room, place};
use rouse_model::worker::Worker;
use std::collections::HashMap;

/// What live workers take, by account.
#[derive(Debug, Default)]
pub struct Taken(HashMap<String, Room>);

impl Taken {
    #[must_use]
    pub fn by(config: &Config, workers: &[Worker]) -> Self {
        let mut taken = Self::default();
        // What lies parked takes nothing of it but storage.
        for worker in workers.iter().filter(|worker| !worker.is_parked()) {
            let pool = config.pools.iter().find(|(name, _)| name.as_str() == worker.pool);
            taken.add(&worker.provider, pool.map_or(Room::ONE, |(_, pool)| pool.takes));
        }
        taken
    }

    pub fn add(&mut self, account: &str, takes: Room) {
        match self.0.get_mut(account) {
            Some(taken) => *taken += takes,
            None => {
                self.0.insert(account.to_owned(), takes);
            }
        }
    }
}

/// Whether an account of a pool has room for one more of its workers.
#[must_use]
pub fn has_room(config: &Config, pool: &PoolConfig, taken: &Taken, account: &str) -> bool {
    let hosts = hosts(config, pool, taken);
    hosts.iter().any(|host| host.name == account && place(std::slice::from_ref(host), pool.takes).is_ok())
}

/// A pool's accounts in order, of each of which it is not yet known whether it is away or warm.
#[must_use]
pub fn hosts(config: &Config, pool: &PoolConfig, taken: &Taken) -> Vec<Host> {
    let of = |name: &str| {
        let account = config.providers.iter().find(|(known, _)| known.as_str() == name).map(|(_, p)| p);
        Host {
            name: name.to_owned(),
            has: account.map_or_else(Room::default, |account| account.capacity),
            taken: taken.0.get(name).copied().unwrap_or_default(),
            drained: account.is_some_and(|account| account.drain),
            ..Host::default()
        }
    };
    pool.on.iter().map(|name| of(name.as_str())).collect()
}
