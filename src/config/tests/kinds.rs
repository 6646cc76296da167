//! The kinds of providers that there are, as the master hands them to the configuration.

use rouse_contract::ProviderKind;
use rouse_provider_docker::DockerKind;
use rouse_provider_enrolled::EnrolledKind;
use rouse_provider_local::LocalKind;
use std::sync::Arc;

pub(super) fn all() -> Vec<Arc<dyn ProviderKind>> {
    vec![Arc::new(DockerKind), Arc::new(LocalKind), Arc::new(EnrolledKind::default())]
}
