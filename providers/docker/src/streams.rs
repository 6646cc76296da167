//! Streams to agents by the daemon's own connection: a relay that the daemon runs within the container, whose input and output come here.

use crate::container::AGENT;
use crate::daemon::Daemon;
use crate::failure::{Doing, Failed};
use crate::reference::Reference;
use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures::TryStreamExt;
use rouse_contract::{Duplex, ProviderError, Streams};
use rouse_model::failure::FailureClass;
use rouse_model::worker::ProviderRef;
use std::io;
use tokio_util::io::StreamReader;

/// Most bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// Those of one daemon.
#[derive(Debug)]
pub(crate) struct DockerStreams {
    pub(crate) daemon: Daemon,
}

#[async_trait]
impl Streams for DockerStreams {
    async fn open(&self, at: &ProviderRef, socket: &str) -> Result<Box<dyn Duplex>, ProviderError> {
        let doing = || format!("open a stream to the agent in {}", at.0);
        let Some(Reference::Worker { container, .. }) = Reference::parse(at) else {
            return Err(ProviderError::new(FailureClass::Master, doing(), "it is no container"));
        };
        self.relay(&container, socket).await.doing(doing)
    }
}

impl DockerStreams {
    async fn relay(&self, container: &str, socket: &str) -> Result<Box<dyn Duplex>, Failed> {
        let api = self.daemon.api().await?;
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(vec![AGENT, "relay", socket]),
            ..Default::default()
        };
        let made = api.create_exec(container, options).await?;
        let options = StartExecOptions { output_capacity: Some(PIECE), ..Default::default() };
        match api.start_exec(&made.id, Some(options)).await? {
            StartExecResults::Attached { output, input } => {
                let said = output.map_err(io::Error::other).try_filter_map(async |output| {
                    if let LogOutput::StdErr { message } = &output {
                        let message = String::from_utf8_lossy(message);
                        tracing::debug!(message = message.trim_end(), "a relay beside an agent");
                        return Ok(None);
                    }
                    Ok(Some(output.into_bytes()))
                });
                Ok(Box::new(tokio::io::join(StreamReader::new(Box::pin(said)), input)))
            }
            StartExecResults::Detached => {
                Err(Failed::said(FailureClass::Offering, "the daemon gives no stream to what it runs"))
            }
        }
    }
}
