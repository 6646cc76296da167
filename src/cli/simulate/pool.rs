//! A pool of a configuration as the world that it is in, and as a policy to compare.

use crate::cli::error::CliError;
use crate::cli::settings::config_file;
use crate::config::{PoolConfig, load};
use crate::simulate::{Offer, Policy, Sold, World};
use rouse_model::money::{Money, Price};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct OfPool {
    /// Compare a pool of a configuration, by its own settings and prices
    #[arg(long, value_name = "NAME", conflicts_with_all = ["price", "slots", "max_uses", "offer", "park_price"])]
    pub pool: Option<String>,
    /// Where it stands: a file, or a folder with a rouse.yaml
    #[arg(long, env = "ROUSE_CONFIG", default_value = "rouse.yaml", value_name = "FILE")]
    config: PathBuf,
}

impl OfPool {
    /// Changes the world to the pool's, and answers the policy.
    pub(super) fn apply(&self, name: &str, world: &mut World) -> Result<Policy, CliError> {
        let pool = read(&config_file(&self.config), name)?;
        world.price = amount(pool.price_as(None));
        world.slots = pool.slots as usize;
        world.offers = pool.offers.iter().map(|offer| offers(&pool, offer)).collect();
        world.park_price = pool.park.map_or(0.0, |park| amount(park.cost()));
        let usual = Policy::rouse(&format!("pool {name}"));
        Ok(Policy {
            idle: Some(pool.reuse.idle_for(Some(world.boot))),
            min: pool.bounds.min as usize,
            max: pool.bounds.max as usize,
            uses: Some(pool.reuse.builds as usize),
            park: pool.parks(),
            park_for: pool.park.map_or(usual.park_for, |park| park.length.0),
            ..usual
        })
    }
}

fn read(file: &Path, name: &str) -> Result<PoolConfig, CliError> {
    let loaded = load(file, &crate::boot::provider_kinds());
    let mut config = loaded.map_err(|faults| CliError::usage(faults.text(false).trim_end()))?.config;
    let pools: Vec<String> = config.pools.keys().map(|pool| format!("`{pool}`")).collect();
    let at = config.pools.keys().position(|pool| pool.as_str() == name);
    let found = at.and_then(|at| config.pools.swap_remove_index(at));
    found.map(|(_, pool)| pool).ok_or_else(|| {
        let message = format!("{}: there is no pool `{name}`", file.display());
        CliError::NotFound { message, help: Some(format!("there are {}", pools.join(", "))) }
    })
}

fn amount(price: Price) -> f64 {
    Money(price.0).as_f64()
}

fn offers(pool: &PoolConfig, offer: &rouse_contract::Offer) -> Offer {
    let of = offer
        .of
        .iter()
        .map(|one| Sold { name: one.name.clone(), ..Sold::of_price(amount(pool.price_as(Some(one)))) });
    Offer { try_for: offer.try_for, of: of.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const CONFIG: &str = "version: 1\npools:\n  here:\n    docker: {image: 'debian:12'}\n    max: 7\n    min: 1\n    \
        price: 0.20 USD/h\n    reuse: {builds: 9, idle: 4m}\n    park: {keep: 3, price: 0.02 USD/h, for: 2h}\n";

    fn world() -> World {
        World {
            boot: Duration::from_secs(60),
            boot_spread: 1.0,
            boot_failures: 0.0,
            announced: 0.0,
            lead: Duration::ZERO,
            false_alarms: 0.0,
            slots: 5,
            max_uses: usize::MAX,
            price: 1.0,
            offers: Vec::new(),
            resume: Duration::from_secs(10),
            park_price: 0.0,
            seed: 1,
        }
    }

    #[test]
    fn a_pool_is_simulated_as_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rouse.yaml"), CONFIG).unwrap();
        let args = OfPool { pool: Some("here".into()), config: folder.path().to_owned() };
        let mut world = world();
        let policy = args.apply("here", &mut world).unwrap();
        assert_eq!((world.price, world.slots, world.park_price), (0.20, 1, 0.02));
        let expected: Policy = "rouse:min=1,max=7,uses=9,idle=4m,park=3,park_for=2h".parse().unwrap();
        assert_eq!(policy, Policy { name: "pool here".into(), ..expected });
        let wrong = args.apply("there", &mut world).unwrap_err();
        assert!(wrong.to_string().ends_with("rouse.yaml: there is no pool `there`"), "{wrong}");
        std::fs::write(folder.path().join("rouse.yaml"), "version: 1\npools: {here: {dicker: {}}}\n")
            .unwrap();
        let wrong = args.apply("here", &mut world).unwrap_err();
        assert!(wrong.to_string().contains("dicker"), "{wrong}");
    }
}
