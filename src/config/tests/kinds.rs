//! The kinds of providers that there are, as the master hands them to the configuration.

use rouse_contract::ProviderKind;
use rouse_model::Timestamp;
use rouse_provider_docker::DockerKind;
use rouse_provider_enrolled::EnrolledKind;
use rouse_provider_fake::{Cloud, FakeKind};
use rouse_provider_local::LocalKind;
use rouse_testkit::clock::SimClock;
use std::sync::Arc;

pub(super) fn all() -> Vec<Arc<dyn ProviderKind>> {
    vec![Arc::new(DockerKind), Arc::new(LocalKind), Arc::new(EnrolledKind::default())]
}

/// With one that has offers, which none of the others has.
pub(super) fn with_offers() -> Vec<Arc<dyn ProviderKind>> {
    let cloud = Cloud::new(Arc::new(SimClock::at(Timestamp(0))), 1, &[]);
    let fake: Arc<dyn ProviderKind> = Arc::new(FakeKind::new(cloud));
    all().into_iter().chain([fake]).collect()
}
