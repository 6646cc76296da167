//! A cloud of its own for each test, in real time.

use async_trait::async_trait;
use rouse_contract::conformance::{Bench, Joins, Of, Sold};
use rouse_contract::{
    Installation, Keyring, LaunchSpec, Provider, ProviderKind, ResolveRequest, Resolved, Tag,
};
use rouse_model::{Timestamp, Trust};
use rouse_provider_fake::{Cloud, FakeKind};
use rouse_testkit::clock::SimClock;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// With how many join documents there were.
pub struct Air(pub Arc<Cloud>, Value, AtomicUsize);

pub async fn bench() -> Option<Air> {
    Some(air(json!({"latency": "5ms"})))
}

/// One that takes several instances at once.
pub async fn in_batches() -> Option<Air> {
    Some(air(json!({"latency": "5ms", "batch": 7})))
}

/// With an account of these options.
pub fn air(options: Value) -> Air {
    let clock = Arc::new(SimClock::at(Timestamp::from_secs(1_764_000_000)));
    clock.enter();
    Air(Cloud::new(clock, 1, &["debian:12"]), options, AtomicUsize::default())
}

#[async_trait]
impl Bench for Air {
    fn provider(&self, of: Of) -> Arc<dyn Provider> {
        let installation = Installation {
            id: self.installation(of),
            store_epoch: if of == Of::Restored { 2 } else { 1 },
            agents: "/nowhere".into(),
            state: "/nowhere".into(),
            many_masters: false,
        };
        FakeKind::new(Arc::clone(&self.0)).connect("cloud", &self.1, &installation).expect("connected")
    }

    fn installation(&self, of: Of) -> String {
        if of == Of::Foreign { "theirs".into() } else { "ours".into() }
    }

    async fn spec(&self) -> LaunchSpec {
        LaunchSpec {
            pool: "suite".into(),
            project: "default".into(),
            trust: Trust::Trusted,
            image: Some(Resolved { image: "debian:12".into(), id: "id of debian:12".into() }),
            options: json!({"boot": "20ms"}),
            env: [].into(),
            secrets: Keyring::default(),
            shelves: Vec::new(),
            beside: [].into(),
            tree: None,
        }
    }

    fn join_document(&self, tag: &Tag, joins: Joins) -> Vec<u8> {
        match joins {
            Joins::InVain => {
                let nth = self.2.fetch_add(1, Ordering::Relaxed);
                json!({"worker": tag.name, "token": nth}).to_string().into_bytes()
            }
            Joins::Never => b"{".to_vec(),
        }
    }

    fn crowd(&self) -> usize {
        100
    }

    fn missing_image(&self) -> Option<(ResolveRequest, String)> {
        let request = ResolveRequest {
            images: vec!["debian:0".into()],
            options: json!({}),
            secrets: Keyring::default(),
            tree: None,
        };
        Some((request, "debian:0".into()))
    }

    async fn sold(&self) -> Option<Sold> {
        self.0.stock("spot", Some(0));
        let types = json!([{"name": "spot", "price": "0.05 USD/h"}, {"name": "on demand"}]);
        let options = json!({"boot": "20ms", "offers": [{"types": types, "try_for": "5m"}]});
        let spec = LaunchSpec { options, ..self.spec().await };
        Some(Sold { spec, out: "spot".into(), other: "on demand".into() })
    }

    async fn running(&self, tag: &Tag) -> usize {
        self.0.running(&tag.token)
    }

    async fn joined(&self, tag: &Tag) -> bool {
        self.0.agents().iter().any(|(_, token)| *token == tag.token)
    }

    async fn kill(&self, tag: &Tag) {
        self.0.kill(&tag.token, "killed");
    }

    async fn leftovers(&self) -> Vec<String> {
        self.0.leftovers().into_iter().map(|tag| tag.name).collect()
    }
}
