//! How the agent of an instance that is launched or resumed finds its master.

use super::Fleet;
use crate::accounts::Account;
use rouse_agent_protocol::{Endpoint, JOIN_VERSION, JoinDocument, OPENED_NAME};
use rouse_contract::{LaunchItem, ProviderError, Tag};
use rouse_model::failure::FailureClass;
use rouse_model::worker::Worker;
use std::path::Path;

/// What its provider is told of an instance, with what lets its agent join, which lies in its link folder by then, where there is one; or why it would never find its
/// master.
pub(super) async fn item(
    fleet: &Fleet,
    worker: &Worker,
    account: &Account,
) -> Result<Result<LaunchItem, String>, ProviderError> {
    let tag = crate::keys::tag(fleet.ctx.store.facts(), worker);
    let broken = |why: String| ProviderError::new(FailureClass::Master, "write the join document", why);
    let dir = account.provider.link_dir(&tag).await?;
    let opened = account.provider.streams().map(|_| crate::keys::opened_socket(&tag));
    let endpoint = match endpoint(fleet, worker, dir.is_some(), opened).await {
        Ok(endpoint) => endpoint,
        Err(reason) => return Ok(Err(reason)),
    };
    let by_socket = matches!(endpoint, Endpoint::Unix { .. });
    let needs_network = matches!(endpoint, Endpoint::Tls { .. });
    let join = serde_json::to_vec(&join_document(fleet, worker, &tag, endpoint))
        .map_err(|e| broken(e.to_string()))?;
    if let Some(dir) = &dir {
        write_join(dir, &join).map_err(|e| broken(e.to_string()))?;
        if by_socket {
            fleet.ctx.nudges.agent_link.notify_one();
        }
    }
    let (offering, expires) = (worker.offering.clone(), worker.expires);
    Ok(Ok(LaunchItem { tag, join, needs_network, offering, expires }))
}

/// By TLS where the pool is advertised, else by the socket in the link folder, else by streams that the master opens, to `opened`.
async fn endpoint(
    fleet: &Fleet,
    worker: &Worker,
    shares_a_host: bool,
    opened: Option<String>,
) -> Result<Endpoint, String> {
    let told = fleet.ctx.revisions.get(worker.config).await.map_err(|e| crate::supervisor::chain(&e))?;
    match (told.config.server.agents.address(&worker.pool), opened) {
        (Some(_), _) if fleet.ctx.agents.is_none() => Err(format!(
            "pool `{}` is advertised under `server.agents`, but this master listens for no agents; start it with --agents-listen ADDRESS:PORT",
            worker.pool
        )),
        (Some(address), _) => {
            Ok(Endpoint::Tls { address: address.to_string(), ca: fleet.ctx.authority.pem().to_owned() })
        }
        (None, _) if shares_a_host => Ok(Endpoint::Unix { path: "sock".into() }),
        (None, Some(socket)) => Ok(Endpoint::Opened {
            socket,
            name: OPENED_NAME.to_owned(),
            ca: fleet.ctx.authority.pem().to_owned(),
        }),
        (None, None) => Err(format!(
            "workers of pool `{0}` are not on this host; say how they see it: `server: {{agents: {{advertise: {{{0}: HOST:PORT}}}}}}`",
            worker.pool
        )),
    }
}

fn join_document(fleet: &Fleet, worker: &Worker, tag: &Tag, endpoint: Endpoint) -> JoinDocument {
    let token = fleet.ctx.key.join_token(fleet.ctx.store.facts(), worker);
    JoinDocument {
        version: JOIN_VERSION,
        installation: tag.installation.clone(),
        worker: worker.name.clone(),
        worker_id: worker.id.0,
        join_token: token.into(),
        store_epoch: tag.store_epoch,
        endpoints: vec![endpoint],
        // The provider says where by a flag.
        work_dir: String::new(),
        expiry_s: rouse_model::worker::DEAD_MAN.as_secs_f64(),
    }
}

/// Whole or not at all; an agent that has read it has removed it, and one that asks again must find it.
fn write_join(dir: &Path, join: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let half = dir.join("join.new");
    std::fs::write(&half, join)?;
    std::fs::set_permissions(&half, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(half, dir.join("join.json"))
}
