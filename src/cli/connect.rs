//! Which master is asked, and with which token: flags, then the environment, then what a master has left in its state folder.

use super::client::Client;
use super::error::CliError;
use super::settings::{SYSTEM_STATE, default_state, default_token_file};
use crate::api::ADDRESS_FILE;
use std::path::{Path, PathBuf};

const USUAL_SERVER: &str = "http://127.0.0.1:8010";

/// Where the master is.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which master")]
pub(crate) struct ConnectArgs {
    /// Address of the master's API. Default: as the state folder says, or else http://127.0.0.1:8010.
    #[arg(long, global = true, env = "ROUSE_SERVER", value_name = "URL")]
    server: Option<String>,
    /// File with the token. ROUSE_TOKEN holds the token itself. Default: `admin.token` in the state folder.
    #[arg(long, global = true, env = "ROUSE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The master's state folder. Default: `./rouse-state`, or else `/var/lib/rouse`.
    #[arg(long, global = true, env = "ROUSE_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
}

impl ConnectArgs {
    /// The state folder that was named.
    pub(super) fn state(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    /// The state folder to look into: the named one, or the first of the usual ones that is there.
    fn state_at_hand(&self) -> Option<PathBuf> {
        if let Some(named) = &self.state {
            return Some(named.clone());
        }
        [default_state(), PathBuf::from(SYSTEM_STATE)].into_iter().find(|state| state.is_dir())
    }

    /// Where the master is asked.
    pub(super) fn url(&self) -> Result<String, CliError> {
        let told = self.server.clone().or_else(|| {
            let file = self.state_at_hand()?.join(ADDRESS_FILE);
            Some(std::fs::read_to_string(file).ok()?.trim().to_owned())
        });
        let url = told.filter(|url| !url.is_empty()).unwrap_or_else(|| USUAL_SERVER.to_owned());
        let url = url.trim_end_matches('/').to_owned();
        match url.split_once("://") {
            Some(("http", _)) => Ok(url),
            Some(("https", _)) => Err(CliError::Usage {
                message: format!("{url}: this version speaks plain HTTP only"),
                help: Some("reach the master through a tunnel: ssh -L 8010:127.0.0.1:8010 HOST".into()),
            }),
            _ => Err(CliError::usage(format!("`{url}` is no address of a master; it begins with http://"))),
        }
    }

    /// A client with the token that is at hand; without one, the master says what is missing.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        Client::new(self.url()?, self.token()?)
    }

    fn token(&self) -> Result<Option<String>, CliError> {
        if let Some(file) = &self.token_file {
            return read(file).map(Some);
        }
        // An empty variable is as good as none.
        if let Some(token) = std::env::var("ROUSE_TOKEN").ok().filter(|token| !token.is_empty()) {
            return Ok(Some(token));
        }
        match self.state_at_hand().map(|state| default_token_file(&state)).filter(|file| file.exists()) {
            Some(file) => read(&file).map(Some),
            None => Ok(None),
        }
    }
}

fn read(file: &Path) -> Result<String, CliError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| CliError::Token { path: file.to_owned(), source })?;
    Ok(text.trim().to_owned())
}
