//! `rouse serve`: a master, until it is told to stop.

use super::error::CliError;
use super::exit::Exit;
use super::settings::{config_file, database, default_state};
use crate::boot;
use crate::logs::Limits;
use rouse_contract::units::Bytes;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// What belongs to one master, and so is no configuration.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// The configuration: a file, or a folder with a rouse.yaml
    #[arg(short, long, env = "ROUSE_CONFIG", value_name = "PATH", default_value = "rouse.yaml")]
    pub config: PathBuf,
    /// A file for SQLite, or postgres://USER@HOST/NAME. Default: rouse.db in the state folder
    #[arg(long, env = "ROUSE_DATABASE", value_name = "URL|FILE")]
    pub database: Option<String>,
    /// A folder for logs and artifacts, the same for all masters that share a database. Default: the bucket of `server.objects`, or objects in the state folder
    #[arg(long, env = "ROUSE_OBJECTS", value_name = "DIR")]
    pub objects: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one
    #[arg(long, env = "ROUSE_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8010")]
    pub listen: SocketAddr,
    /// Where agents of other hosts are listened for, by TLS; how they find it says `server.agents.advertise`. Default: nowhere
    #[arg(long, env = "ROUSE_AGENTS_LISTEN", value_name = "ADDRESS:PORT")]
    pub agents_listen: Option<SocketAddr>,
    /// The master's name, unique among those that share a database. Default: the machine's
    #[arg(long, env = "ROUSE_NAME")]
    pub name: Option<String>,
    /// Most that is kept of one step's log, 1 GiB where it is not said; the step's page says what was cut
    #[arg(long, env = "ROUSE_LOG_LIMIT", value_name = "SIZE", default_value_t = Bytes(Limits::default().log_bytes))]
    pub log_limit: Bytes,
    /// How the master's own log is written to stderr; what, says RUST_LOG
    #[arg(long, env = "ROUSE_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// How the master's own log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One object a line
    Json,
}

pub(super) async fn run(args: ServeArgs, state: Option<&Path>) -> Result<Exit, CliError> {
    start_log(args.log_format);
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    let options = options(args, state);
    let running = boot::start(options, stop).await?;
    running.wait().await?;
    Ok(Exit::Success)
}

fn options(args: ServeArgs, state: Option<&Path>) -> boot::Options {
    let state = state.map_or_else(default_state, Path::to_owned);
    boot::Options {
        config: config_file(&args.config),
        database: database(args.database.as_deref(), &state),
        objects: args.objects,
        listen: args.listen,
        agents: args.agents_listen,
        name: args.name.unwrap_or_else(machine_name),
        state,
        log_bytes: args.log_limit.0,
    }
}

fn machine_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "master".to_owned())
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
            log.with_ansi(colours).init();
        }
        LogFormat::Json => log.json().init(),
    }
}

/// The first signal stops in order; a second one, at once.
fn stop_on_signals(stop: &CancellationToken) -> Result<(), CliError> {
    let failed = |source| CliError::Io { what: "listen to signals".into(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(Exit::Interrupted as i32);
            }
            tracing::info!("stopping; once more stops at once");
            stop.cancel();
        }
    });
    Ok(())
}
