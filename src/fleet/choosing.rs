//! What the next worker of a pool is launched as, on which of its accounts, and what that costs: offers by what is known of them here, the judgement by
//! [`rouse_model::scaling::offers`].

use super::Fleet;
use super::breakers::{Asks, Known, May};
use super::budgets::Counted;
use super::mirrors;
use crate::config::{Config, PoolConfig};
use crate::placing::Taken;
use rouse_contract::ProviderError;
use rouse_model::decision::Short;
use rouse_model::matching::ReuseClass;
use rouse_model::money::{Money, Price};
use rouse_model::placement::{self, Host};
use rouse_model::scaling::Bound;
use rouse_model::scaling::offers::{
    Next, Offer, Offering, Passed, PassedOver, Record, Standing, Why, choose,
};
use std::time::Duration;

/// Where the next worker goes, and as what.
#[derive(Debug)]
pub(super) struct Placed {
    pub account: String,
    pub offering: Option<String>,
    pub price: Price,
    /// Of an offer that is not the first.
    pub is_later: bool,
    /// What would have come before it.
    pub passed: Vec<PassedOver>,
}

/// Why there is no place.
#[derive(Debug)]
pub(super) struct Unplaced {
    pub short: Short,
    pub passed: Vec<PassedOver>,
}

/// What may still be spent in a pass, and what of it one launch takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left(Option<(Money, Duration)>);

impl Left {
    pub(super) fn of(budget: Option<&Counted>) -> Self {
        Self(budget.map(|budget| (budget.standing.left(), budget.each)))
    }

    pub(super) fn pays_for(self, price: Price) -> bool {
        self.0.is_none_or(|(left, each)| price == Price::NONE || price.over(each) <= left)
    }

    pub(super) fn take(&mut self, price: Price) {
        if let Some((left, each)) = &mut self.0 {
            *left = *left - price.over(*each);
        }
    }
}

/// A pool's offers as they stand, with what was said of each offering last.
struct Stands {
    offers: Vec<Offer>,
    said: Vec<Vec<Option<ProviderError>>>,
}

impl Stands {
    fn said(&self, offer: usize, at: usize) -> Option<&ProviderError> {
        self.said.get(offer)?.get(at)?.as_ref()
    }
}

impl Fleet {
    /// The place for one more worker of a class.
    pub(super) fn place(
        &self,
        config: &Config,
        pool: &PoolConfig,
        class: &ReuseClass,
        taken: &Taken,
        left: Left,
    ) -> Result<Placed, Unplaced> {
        let images = self.images_of(&class.spec_digest);
        let mut hosts = self.hosts_for(config, pool, class, taken, &images);
        let accounts: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let nothing = |short| Unplaced { short, passed: Vec::new() };
        if accounts.is_empty() {
            return Err(nothing(Short::Room));
        }
        let stands = self.stands(&class.pool, pool, &accounts);
        let choice = choose(&stands.offers, |price| left.pays_for(price));
        let passed = self.told(&stands, choice.passed);
        let (offer, at) = match choice.next {
            Next::Launch { offer, at } => (offer, at),
            Next::Wait(_) => return Err(Unplaced { short: Short::Room, passed }),
            Next::TooDear => return Err(Unplaced { short: Short::By(Bound::Budget), passed }),
        };
        let offering = pool.offers.get(offer).and_then(|offer| offer.of.get(at));
        let asks = Asks { pool: &class.pool, offering: offering.map(|one| one.name.as_str()) };
        hosts.retain(|host| matches!(self.offerings.may(&host.name, asks), May::Ask));
        let at = placement::place(&hosts, pool.takes).map_err(|_| nothing(Short::Room))?;
        let account = hosts.swap_remove(at).name;
        images.iter().for_each(|image| self.breakers.asks(&account, image));
        self.offerings.asks(&account, asks);
        let price = pool.price_as(offering);
        let offering = offering.map(|one| one.name.clone());
        Ok(Placed { account, offering, price, is_later: offer > 0, passed })
    }

    /// The accounts that have room for one more worker of a class, and may have its images.
    fn hosts_for(
        &self,
        config: &Config,
        pool: &PoolConfig,
        class: &ReuseClass,
        taken: &Taken,
        images: &[String],
    ) -> Vec<Host> {
        let mut hosts = self.hosts(config, pool, taken);
        hosts.retain(|host| placement::place(std::slice::from_ref(host), pool.takes).is_ok());
        hosts.retain(|host| {
            images.iter().all(|image| matches!(self.breakers.may(&host.name, image), May::Ask))
        });
        for host in &mut hosts {
            host.has_image = images.first().is_some_and(|image| self.warm.has(&host.name, image));
            host.has_mirror = mirrors::help(self, config, &host.name, class);
        }
        hosts
    }

    /// What keeps a pool from being given one more worker, whatever it costs; `None` where one may be asked for, or is.
    pub(super) fn without_offering(&self, pool: &PoolConfig, name: &str) -> Option<ProviderError> {
        let accounts: Vec<&str> = pool.on.iter().map(|name| name.as_str()).collect();
        let stands = self.stands(name, pool, &accounts);
        let choice = choose(&stands.offers, |_| true);
        let Next::Wait(Some(wait)) = choice.next else { return None };
        let said = choice.passed.iter().find_map(|passed| stands.said(passed.offer, passed.at))?;
        Some(ProviderError { retry_after: Some(wait), ..said.clone() })
    }

    /// What the next worker costs: the one that would be launched now, where what is left pays for it; else the one that would be if it did; else the
    /// cheapest.
    pub(super) fn next_price(
        &self,
        name: &str,
        pool: &PoolConfig,
        pays_for: impl Fn(Price) -> bool,
    ) -> Price {
        if pool.offers.is_empty() {
            return pool.price_as(None);
        }
        let accounts: Vec<&str> = pool.on.iter().map(|name| name.as_str()).collect();
        let offers = self.stands(name, pool, &accounts).offers;
        let next = |next| match next {
            Next::Launch { offer, at } => Some(offers[offer].of[at].price),
            Next::Wait(_) | Next::TooDear => None,
        };
        next(choose(&offers, pays_for).next)
            .or_else(|| next(choose(&offers, |_| true).next))
            .or_else(|| offers.iter().flat_map(|offer| &offer.of).map(|one| one.price).min())
            .unwrap_or_default()
    }

    /// The offers of a pool on these of its accounts. One without any has one offer, of one thing that has no name.
    fn stands(&self, name: &str, pool: &PoolConfig, accounts: &[&str]) -> Stands {
        let mut stands = Stands { offers: Vec::new(), said: Vec::new() };
        if pool.offers.is_empty() {
            let (one, said) = self.stand(name, pool, None, accounts);
            stands.offers.push(Offer { try_for: None, of: vec![one] });
            stands.said.push(vec![said]);
        }
        for offer in &pool.offers {
            let of = offer.of.iter().map(|one| self.stand(name, pool, Some(one), accounts));
            let (of, said) = of.unzip();
            stands.offers.push(Offer { try_for: offer.try_for, of });
            stands.said.push(said);
        }
        stands
    }

    /// How one offering stands, with what was said of it last.
    fn stand(
        &self,
        pool_name: &str,
        pool: &PoolConfig,
        one: Option<&rouse_contract::Offering>,
        accounts: &[&str],
    ) -> (Offering, Option<ProviderError>) {
        let name = one.map(|one| one.name.as_str());
        let asks = Asks { pool: pool_name, offering: name };
        let known: Vec<Known> = accounts.iter().map(|account| self.offerings.about(account, asks)).collect();
        let standing = Standing::on(known.iter().map(|known| (known.may.plain(), known.refused_for)));
        let said = known.into_iter().find_map(|known| known.error);
        let record = name.map_or_else(Record::default, |name| self.learned.record(name));
        let price = pool.price_as(one);
        (Offering { name: name.unwrap_or_default().to_owned(), price, standing, record }, said)
    }

    /// What was passed over, as it is kept; of things without a name there is nothing to tell.
    fn told(&self, stands: &Stands, passed: Vec<Passed>) -> Vec<PassedOver> {
        let now = self.ctx.now();
        let told = passed.into_iter().filter_map(|Passed { offer, at, why }| {
            let one = stands.offers.get(offer)?.of.get(at)?;
            let said = || stands.said(offer, at).map_or_else(String::new, |said| said.message.clone());
            let (since, why) = match why {
                Why::Refused { refused_for } => (Some(now - refused_for), said()),
                Why::Asked => (None, "one launch finds out whether there is more of it".to_owned()),
                Why::TooDear => (None, "the budget does not pay for it".to_owned()),
            };
            Some(PassedOver { offering: one.name.clone(), since, why })
        });
        told.filter(|told| !told.offering.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_takes_is_not_left_for_the_next() {
        let hour = Duration::from_secs(3_600);
        let mut left = Left(Some((Money(10), hour)));
        assert!(left.pays_for(Price(10)) && !left.pays_for(Price(11)));
        left.take(Price(4));
        assert!(left.pays_for(Price(6)) && !left.pays_for(Price(7)));
        left.take(Price(7));
        assert!(!left.pays_for(Price(1)) && left.pays_for(Price::NONE), "what costs nothing is paid for");
        let mut endless = Left::of(None);
        endless.take(Price(7));
        assert!(endless.pays_for(Price(i64::MAX)));
    }
}
