//! The composition root: state folder → store → configuration → services → loops → API. Only this file and tests name concrete back ends.

mod kinds;
mod objects;
mod state_folder;

pub use kinds::{Machine, machine, provider_kinds};
pub use state_folder::{is_taken, take_state_folder};

use crate::accounts::Accounts;
use crate::authority::Authority;
use crate::ctx::{Active, Clock, Ctx, Nudges, Roles, SystemClock, Trouble};
use crate::fleet::Fleet;
use crate::keys::InstallationKey;
use crate::revisions::{Applied, ApplyError, Revisions};
use crate::sources::{Key, Repositories, Repository, SourceError, host_of};
use crate::supervisor::Supervisor;
use crate::switchboard::Switchboard;
use anyhow::Context;
use futures::future::BoxFuture;
use rouse_contract::{Installation, ProviderKind};
use rouse_model::master::Master;
use rouse_store::{Location, Store};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

/// Between two looks for trouble to tell of.
const TROUBLES: Duration = Duration::from_secs(1);
/// How many agents' connections may wait to be accepted, as far as the kernel's own limit goes (`net.core.somaxconn`).
const AGENTS_WAITING: u32 = 4096;

/// What belongs to one master, and so is no configuration.
#[derive(Debug, Clone)]
pub struct Options {
    pub config: PathBuf,
    pub state: PathBuf,
    pub database: Location,
    /// Where logs and artifacts lie, one place for all masters of a database, where the configuration names no bucket. `None`: in the state folder.
    pub objects: Option<PathBuf>,
    pub listen: SocketAddr,
    /// For agents that come by TLS.
    pub agents: Option<SocketAddr>,
    pub name: String,
    /// Most bytes that are kept of one log.
    pub log_bytes: u64,
}

/// A Docker daemon, for the demo: which daemon there is, and its own image.
pub use rouse_provider_docker::Daemon as DockerDaemon;

/// A master that runs.
#[derive(Debug)]
pub struct Running {
    pub ctx: Arc<Ctx>,
    /// Where it listens, with the port that it got.
    pub address: SocketAddr,
    master: Master,
    /// Another master has taken this one's place.
    fenced: Arc<AtomicBool>,
    supervisor: Supervisor,
    accounts: Arc<Accounts>,
    _lock: nix::fcntl::Flock<std::fs::File>,
}

/// Starts a master. Everything that can be wrong with its surroundings is said here, before it answers anybody.
///
/// # Errors
/// With the step that failed and its cause.
pub async fn start(options: Options, stop: CancellationToken) -> anyhow::Result<Running> {
    let lock = take_state_folder(&options.state)?;
    anyhow::ensure!(
        !crate::upkeep::is_half_restored(&options.state),
        "a backup was not restored to its end into {}; restore it again, with --replace",
        options.state.display()
    );
    let machines = Arc::default();
    let kinds = kinds::provider_kinds_with(&machines);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Store::open(&options.database).await?;
    let machine = machine_id();
    let master = store
        .enter(&options.name, &machine, clock.now())
        .await
        .context("enter this master into the database")?;
    let key = InstallationKey::load_or_make(&options.state.join("installation.key"))?;
    let revisions = open_revisions(&store, &clock, &kinds, &options.config).await?;
    let installation = Installation {
        id: store.facts().installation.clone(),
        store_epoch: store.facts().store_epoch,
        agents: agents_folder()?,
        state: make_folder(&options.state.join("providers"))?,
        many_masters: matches!(options.database, Location::Postgres(_)),
    };
    let authority = Authority::derive(key.seed("agents-authority"), &installation.id)?;
    let metrics = crate::metrics::Metrics::watching(&store);
    let accounts = Arc::new(Accounts::new(kinds, installation).by_chance().counted_by(Arc::clone(&metrics)));
    let listener = TcpListener::bind(options.listen).await.with_context(|| {
        format!("listen on {}; is another master running there? choose another with --listen", options.listen)
    })?;
    let address = listener.local_addr()?;
    let agents = listen_for_agents(options.agents, &revisions).await?;
    let active = revisions.subscribe();
    let objects = objects::open(options.objects.as_deref(), &options.state, &active)?;
    let url = active
        .borrow()
        .config
        .server
        .url
        .as_ref()
        .map_or_else(|| format!("http://{address}"), ToString::to_string);
    let log_limits = crate::logs::Limits { log_bytes: options.log_bytes, ..crate::logs::Limits::default() };
    let ctx = Arc::new(Ctx {
        roles: Roles::new(store.clone(), master.id, crate::peers::LEASE),
        sources: crate::sources::Sources::open(
            make_folder(&options.state.join("mirrors"))?,
            configured(active.clone()),
            crate::sources::Limits::default(),
        )?,
        logs: crate::logs::Logs::new(store.clone(), objects.clone(), log_limits),
        artifacts: crate::artifacts::Artifacts::new(store.clone(), objects.clone(), Arc::clone(&clock)),
        objects,
        accounts: Arc::clone(&accounts),
        machines,
        metrics,
        clock,
        me: master.id,
        machine,
        url,
        state: options.state.clone(),
        key,
        authority,
        agents: agents.as_ref().and_then(|listener| listener.local_addr().ok()),
        revisions,
        active,
        nudges: Nudges::default(),
        hurry: crate::ctx::Hurry::default(),
        mirrors: crate::ctx::MirrorsWanted::default(),
        coming: crate::ctx::Coming::default(),
        turnstile: crate::requests::Turnstile::default(),
        switchboard: Switchboard::default(),
        away: std::sync::OnceLock::new(),
        store,
    });
    ctx.roles.observe().await?;
    let mut supervisor = Supervisor::new(stop.clone());
    let fenced = Arc::new(AtomicBool::new(false));
    start_loops(&ctx, &accounts, &master, &fenced, agents, &mut supervisor);
    let app = crate::api::router(Arc::clone(&ctx), address, stop.clone()).await?;
    let served = stop.clone();
    supervisor.start("api", async move {
        let serving =
            axum::serve(listener, app.into_make_service()).with_graceful_shutdown(served.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(%error, "the API ended");
        }
    });
    tracing::info!(%address, name = master.name, term = master.term, "master is up");
    Ok(Running { ctx, address, master, fenced, supervisor, accounts, _lock: lock })
}

async fn open_revisions(
    store: &Store,
    clock: &Arc<dyn Clock>,
    kinds: &[Arc<dyn ProviderKind>],
    config: &Path,
) -> anyhow::Result<Revisions> {
    match Revisions::open(store.clone(), Arc::clone(clock), kinds.to_vec(), config).await {
        Ok(revisions) => Ok(revisions),
        Err(ApplyError::Faults(faults)) => {
            eprintln!("{faults}");
            anyhow::bail!("{} has faults", config.display());
        }
        Err(error) => Err(error.into()),
    }
}

/// Where codebases are, by the configuration in force.
#[must_use]
pub fn configured(active: tokio::sync::watch::Receiver<Arc<Active>>) -> Arc<dyn Repositories> {
    Arc::new(Configured { active })
}

#[derive(Debug)]
struct Configured {
    active: tokio::sync::watch::Receiver<Arc<Active>>,
}

impl Repositories for Configured {
    fn repository<'a>(&'a self, codebase: &'a str) -> BoxFuture<'a, Result<Option<Repository>, SourceError>> {
        Box::pin(self.find(codebase))
    }
}

impl Configured {
    async fn find(&self, codebase: &str) -> Result<Option<Repository>, SourceError> {
        let active = self.active.borrow().clone();
        let Some((_, found)) = active.config.codebases.iter().find(|(n, _)| n.as_str() == codebase) else {
            return Ok(None);
        };
        let key = match &found.key {
            Some(name) => {
                let value = crate::secrets::fetch_for_master(&active.config, name.as_str()).await;
                let value = value
                    .map_err(|e| SourceError::Key { codebase: codebase.to_owned(), source: Box::new(e) })?;
                Some(Key::new(value.reveal()))
            }
            None => None,
        };
        let url = found.git.to_string();
        let others = || active.config.codebases.values().filter_map(|other| host_of(other.git.as_ref()));
        let hosts = match &found.submodule_hosts {
            Some(hosts) => hosts.iter().map(ToString::to_string).collect(),
            None => others().collect(),
        };
        Ok(Some(Repository::new(url, key, hosts)))
    }
}

/// The listener for agents that come by TLS, where it is asked for; a fault where the configuration counts on one that is not.
async fn listen_for_agents(
    at: Option<SocketAddr>,
    revisions: &Revisions,
) -> anyhow::Result<Option<TcpListener>> {
    let Some(at) = at else {
        let active = revisions.subscribe().borrow().clone();
        let Some((pool, address)) = active.config.server.agents.advertise.first() else { return Ok(None) };
        anyhow::bail!(
            "the configuration sends workers of pool `{pool}` to {address} (`server.agents.advertise`), but this master \
             listens for no agents; say where with --agents-listen ADDRESS:PORT"
        );
    };
    let listener = bind_for_many(at).with_context(|| {
        format!(
            "listen for agents on {at}; is another master running there? choose another with --agents-listen"
        )
    })?;
    Ok(Some(listener))
}

/// All agents come at once where a network was away. Those for whom the kernel's queue has no room are not refused but unheard, and try again
/// later and later: the usual queue of 128 would keep some away for longer than a worker may be silent.
fn bind_for_many(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As the runtime's own way to bind has it: a master that starts again finds its port.
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(AGENTS_WAITING)
}

fn start_loops(
    ctx: &Arc<Ctx>,
    accounts: &Arc<Accounts>,
    master: &Master,
    fenced: &Arc<AtomicBool>,
    agents: Option<TcpListener>,
    supervisor: &mut Supervisor,
) {
    let stop = supervisor.stop_token();
    let secrets = Arc::new(crate::secrets::Secrets::default());
    let beat = crate::peers::beat(Arc::clone(ctx), master.clone(), Arc::clone(fenced), stop.clone());
    supervisor.start("heartbeat", beat);
    supervisor.start("peers", crate::peers::run(Arc::clone(ctx), Arc::clone(accounts), stop.clone()));
    let (logs, logs_stop) = (ctx.logs.clone(), stop.clone());
    supervisor.start("logs", async move { logs.run(logs_stop).await });
    supervisor.start("changes", crate::changes::run(Arc::clone(ctx), stop.clone()));
    supervisor.start("schedulers", crate::schedulers::run(Arc::clone(ctx), stop.clone()));
    supervisor.start("matching", crate::matching::run(Arc::clone(ctx), stop.clone()));
    let link = crate::agent_link::run(Arc::clone(ctx), Arc::clone(accounts), agents, stop.clone());
    supervisor.start("agent_link", link);
    supervisor.start("builds", crate::builds::run(Arc::clone(ctx), secrets, stop.clone()));
    let fleet = Arc::new(Fleet::new(Arc::clone(ctx), Arc::clone(accounts)));
    supervisor.start("fleet", fleet.run(stop.clone()));
    supervisor.start("upkeep", crate::upkeep::retention::run(Arc::clone(ctx), stop.clone()));
    supervisor.start("objects", objects::watch(Arc::clone(ctx), stop.clone()));
    supervisor.start("telemetry", crate::telemetry::run(Arc::clone(ctx), stop.clone()));
    supervisor.start("troubles", tell_troubles(Arc::clone(ctx), stop.clone()));
    supervisor.start("reload", reload_on_signal(Arc::clone(ctx), stop));
}

impl Running {
    /// For an installation that ends with this process.
    #[must_use]
    pub fn leftovers(&self) -> Leftovers {
        Leftovers { accounts: Arc::clone(&self.accounts), stop: self.supervisor.stop_token() }
    }

    /// Runs until it is told to stop, or a loop fails.
    ///
    /// # Errors
    /// The loop that ended unasked.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        let ended = self.supervisor.wait().await;
        if self.fenced.load(Ordering::Relaxed) {
            anyhow::bail!(
                "this master was away for longer than its lease, and another one has taken its place; start it again and it joins anew"
            );
        }
        // Another row would be worse than none: whoever fenced us owns it now.
        let mut master = self
            .ctx
            .store
            .masters()
            .await
            .ok()
            .and_then(|all| all.into_iter().find(|m| m.id == self.master.id));
        if let Some(master) = master.as_mut().filter(|m| m.term == self.master.term)
            && let Err(error) = self.ctx.store.leave(master, self.ctx.now()).await
        {
            tracing::warn!(%error, "this master could not say goodbye");
        }
        ended.map_err(anyhow::Error::msg)
    }
}

/// What an installation has made with its providers, for one that ends for good.
#[derive(Debug)]
pub struct Leftovers {
    accounts: Arc<Accounts>,
    stop: CancellationToken,
}

impl Leftovers {
    /// Stops the master and takes away everything of its installation, instances and side resources alike, until the providers show nothing
    /// more. Answers how many things are still there after `patience`.
    pub async fn remove(self, patience: Duration) -> usize {
        self.stop.cancel();
        let late = tokio::time::Instant::now() + patience;
        // What was being made is made first: taken away before, it would come back.
        let _ = tokio::time::timeout_at(late, self.accounts.at_rest()).await;
        let mut left = 0;
        let mut clean = 0;
        // Twice, since what a back end was told may show up late.
        while clean < 2 {
            left = 0;
            for account in self.accounts.all() {
                match account.provider.list().await {
                    Ok(there) => {
                        for observed in there {
                            if let Err(error) = account.provider.terminate(&observed.at).await {
                                tracing::debug!(error = crate::supervisor::chain(&error), "not removed yet");
                            }
                            left += 1;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(
                            error = crate::supervisor::chain(&error),
                            "an account cannot be listed"
                        );
                        left += 1;
                    }
                }
            }
            clean = if left == 0 { clean + 1 } else { 0 };
            if tokio::time::Instant::now() >= late {
                break;
            }
            if clean < 2 {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
        left
    }
}

/// Says in the log what keeps this master from working, once when it begins and once when it is over. The heartbeat's writes find it out where
/// nobody else writes.
async fn tell_troubles(ctx: Arc<Ctx>, stop: CancellationToken) {
    let mut told: Vec<Trouble> = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TROUBLES) => {}
        }
        let now = ctx.troubles();
        for trouble in now.iter().filter(|t| !told.iter().any(|o| (o.part, o.kind) == (t.part, t.kind))) {
            tracing::warn!(part = trouble.part, "not ready: {}", trouble.message);
        }
        for over in told.iter().filter(|o| !now.iter().any(|t| t.part == o.part)) {
            let seconds = over.since.elapsed().as_secs();
            tracing::info!(part = over.part, "the trouble with the {} is over, after {seconds} s", over.part);
        }
        told = now;
    }
}

async fn reload_on_signal(ctx: Arc<Ctx>, stop: CancellationToken) {
    let mut hangup = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be listened to; reload through the API");
            stop.cancelled().await;
            return;
        }
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hangup.recv() => {}
        }
        match ctx.revisions.reload("SIGHUP").await {
            Ok(Applied::Unchanged(revision)) => tracing::info!(%revision, "the configuration is as it was"),
            Ok(Applied::Changed(_)) => ctx.nudges.all(),
            Err(ApplyError::Faults(faults)) => {
                eprintln!("{faults}");
                tracing::error!("the configuration has faults; the one in force stays");
            }
            Err(error) => tracing::error!(
                error = crate::supervisor::chain(&error),
                "the configuration could not be applied"
            ),
        }
    }
}

fn make_folder(path: &Path) -> anyhow::Result<PathBuf> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make the folder {}", path.display()))?;
    path.canonicalize().with_context(|| format!("find the folder {}", path.display()))
}

/// Where `agents/` is to be: beside the master's own binary.
///
/// # Errors
/// Where this program does not find itself.
pub fn agents_place() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe().context("find this program's own file")?;
    Ok(exe.parent().unwrap_or(Path::new("/")).join("agents"))
}

fn agents_folder() -> anyhow::Result<PathBuf> {
    let folder = agents_place()?;
    anyhow::ensure!(folder.is_dir(), "no agents at {}; build them with: cargo xtask agent", folder.display());
    Ok(folder)
}

fn machine_id() -> String {
    std::fs::read_to_string("/etc/machine-id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_else(|_| "unknown".into())
}
