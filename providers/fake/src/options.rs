//! What a configuration may say of the fake provider.

use crate::Cloud;
use crate::provider::Fake;
use rouse_contract::kind::{read_options, schema_of};
use rouse_contract::units::{Rate, Span, Tariff};
use rouse_contract::{
    Installation, Leaf, Offer, Offering, OptionFault, Provider, ProviderError, ProviderKind,
};
use rouse_model::failure::FailureClass;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A cloud in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountOptions {
    /// How long each call takes. Default: none.
    pub latency: Option<Span>,
    /// The most instances at once. Default: no limit.
    pub capacity: Option<usize>,
    /// How many instances one launch makes at most. Default: 1.
    pub batch: Option<usize>,
    /// The most looks, and the most launches and ends, of all that use the cloud; what is more is refused. Default: no limit.
    pub rate: Option<Rate>,
}

impl AccountOptions {
    pub(crate) fn batch(&self) -> usize {
        self.batch.unwrap_or(1).max(1)
    }
}

/// A pool of instances in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolOptions {
    /// One that the cloud has. A launch is told of it apart from the other options.
    pub image: String,
    /// How long an instance boots. Default: it does not.
    pub boot: Option<Span>,
    /// How long a parked instance takes to run again. Default: a tenth of what it boots.
    pub resume: Option<Span>,
    /// What an instance may be, in order, each for its time. Default: there is nothing to choose.
    pub offers: Vec<OfferOptions>,
}

/// Instances that are as good as each other but for their price.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfferOptions {
    pub types: Vec<TypeOptions>,
    /// How long all of them must have been refused before the next offer is taken. Default: at once.
    pub try_for: Option<Span>,
}

/// One thing that the cloud sells.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypeOptions {
    pub name: String,
    /// Default: as the pool says.
    pub price: Option<Tariff>,
}

impl PoolOptions {
    pub(crate) fn boot(&self) -> Duration {
        self.boot.map_or(Duration::ZERO, |span| span.0)
    }

    pub(crate) fn resume(&self) -> Duration {
        self.resume.map_or(self.boot() / 10, |span| span.0)
    }

    fn types(&self) -> impl Iterator<Item = (usize, usize, &TypeOptions)> {
        let offers = self.offers.iter().enumerate();
        offers.flat_map(|(i, offer)| offer.types.iter().enumerate().map(move |(j, one)| (i, j, one)))
    }

    /// Whether it may be launched as this.
    pub(crate) fn sells(&self, offering: Option<&str>) -> bool {
        match offering {
            None => self.offers.is_empty(),
            Some(name) => self.types().any(|(_, _, one)| one.name == name),
        }
    }

    fn offer_faults(&self) -> Vec<OptionFault> {
        let mut faults = Vec::new();
        for (i, offer) in self.offers.iter().enumerate() {
            if offer.types.is_empty() {
                let path = vec!["offers".into(), i.to_string(), "types".into()];
                let help = Some("name what is to be launched: `types: [{name: spot}]`".into());
                faults.push(OptionFault { path, message: "an offer of nothing".into(), help });
            }
        }
        for (i, j, one) in self.types() {
            let first = self.types().find(|(_, _, other)| other.name == one.name);
            if first.is_some_and(|(a, b, _)| (a, b) != (i, j)) {
                let path =
                    ["offers", &i.to_string(), "types", &j.to_string(), "name"].map(String::from).into();
                let message = format!("`{}` is offered twice", one.name);
                let help = Some("each has its place once".into());
                faults.push(OptionFault { path, message, help });
            }
        }
        faults
    }
}

/// The kind `fake`, on one cloud.
#[derive(Debug, Clone)]
pub struct FakeKind {
    cloud: Arc<Cloud>,
    dead: Option<watch::Receiver<bool>>,
}

impl FakeKind {
    #[must_use]
    pub fn new(cloud: Arc<Cloud>) -> Self {
        Self { cloud, dead: None }
    }

    /// As a master has it that may die: from then on it asks nothing, and nobody answers it.
    #[must_use]
    pub fn of_mortal(cloud: Arc<Cloud>, dead: watch::Receiver<bool>) -> Self {
        Self { cloud, dead: Some(dead) }
    }
}

impl ProviderKind for FakeKind {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn account_schema(&self) -> Schema {
        schema_of::<AccountOptions>()
    }

    fn pool_schema(&self) -> Schema {
        schema_of::<PoolOptions>()
    }

    fn check_account(&self, options: &Value) -> Vec<OptionFault> {
        match read_options::<AccountOptions>(options) {
            Ok(AccountOptions { capacity: Some(0), .. }) => vec![OptionFault {
                path: vec!["capacity".into()],
                message: "a cloud without room is of no use".into(),
                help: Some("leave it out where there is no limit".into()),
            }],
            Ok(_) => Vec::new(),
            Err(fault) => vec![fault],
        }
    }

    fn check_pool(&self, options: &Value) -> Vec<OptionFault> {
        match read_options::<PoolOptions>(options) {
            Ok(PoolOptions { image, .. }) if image.is_empty() => vec![OptionFault {
                path: vec!["image".into()],
                message: "a pool in this cloud needs an image".into(),
                help: None,
            }],
            Ok(options) => options.offer_faults(),
            Err(fault) => vec![fault],
        }
    }

    fn offers(&self, options: &Value) -> Vec<Offer> {
        let options: PoolOptions = read_options(options).unwrap_or_default();
        let sold = |one: TypeOptions| Offering { name: one.name, price: one.price };
        let offer = |offer: OfferOptions| Offer {
            try_for: offer.try_for.map(|span| span.0),
            of: offer.types.into_iter().map(sold).collect(),
        };
        options.offers.into_iter().map(offer).collect()
    }

    fn leaf(&self, path: &[&str]) -> Leaf {
        match path {
            ["image"] => Leaf::Image,
            _ => Leaf::Literal,
        }
    }

    fn images(&self, options: &Value) -> Vec<String> {
        options.get("image").and_then(Value::as_str).map(str::to_owned).into_iter().collect()
    }

    fn cannot_park(&self, _pool: &Value) -> Option<String> {
        None
    }

    fn default_account(&self) -> Value {
        Value::Object(serde_json::Map::new())
    }

    fn connect(
        &self,
        _account: &str,
        options: &Value,
        installation: &Installation,
    ) -> Result<Arc<dyn Provider>, ProviderError> {
        let options = read_options(options).map_err(|fault| {
            ProviderError::new(FailureClass::Master, "read the fake provider's options", fault.message)
        })?;
        let cloud = Arc::clone(&self.cloud);
        Ok(Arc::new(Fake::new(cloud, options, installation.id.clone(), self.dead.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::Timestamp;
    use rouse_testkit::clock::SimClock;
    use serde_json::json;

    #[test]
    fn faults_name_their_place() {
        let kind = FakeKind::new(Cloud::new(Arc::new(SimClock::at(Timestamp(0))), 1, &[]));
        assert_eq!(kind.check_account(&json!({"latency": "5ms", "capacity": 1})), vec![]);
        assert_eq!(kind.check_account(&json!({"capacity": 0}))[0].path, ["capacity"]);
        assert_eq!(kind.check_pool(&json!({"image": "a:1", "boot": "2m"})), vec![]);
        assert_eq!(kind.check_pool(&json!({"boot": "2m"}))[0].path, ["image"]);
        let offers = |types: Value| json!({"image": "a:1", "offers": [{"types": types, "try_for": "5m"}]});
        let good = offers(json!([{"name": "spot", "price": "0.15 USD/h"}, {"name": "other"}]));
        assert_eq!(kind.check_pool(&good), vec![]);
        let [offer] = &kind.offers(&good)[..] else { panic!("one offer") };
        assert_eq!(offer.try_for, Some(Duration::from_secs(300)));
        assert_eq!(offer.of[0].price.map(|price| price.to_string()).as_deref(), Some("0.15 USD/h"));
        assert_eq!(kind.check_pool(&offers(json!([])))[0].path, ["offers", "0", "types"]);
        let twice = kind.check_pool(&offers(json!([{"name": "a"}, {"name": "a"}])));
        assert_eq!(
            (twice.len(), &twice[0].path[..]),
            (1, &["offers", "0", "types", "1", "name"].map(String::from)[..])
        );
        assert_eq!((kind.leaf(&["image"]), kind.leaf(&["boot"])), (Leaf::Image, Leaf::Literal));
    }
}
