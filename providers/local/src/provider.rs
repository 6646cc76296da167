//! The contract, kept by processes: calls go to the account off the event loop, ends are waited for on it.

use crate::account::{Account, FOLDER_REF};
use crate::ending;
use crate::exits::Exits;
use crate::options::AccountOptions;
use crate::record::{Reference, reap};
use async_trait::async_trait;
use rouse_contract::{
    Capabilities, Hint, Installation, LaunchItem, LaunchOutcome, LaunchSpec, Observed, ObservedState,
    Provider, ProviderError, ResolveRequest, Resolved, Shelves, Tag,
};
use rouse_model::failure::FailureClass;
use rouse_model::worker::ProviderRef;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Calls of one account that work at the same time.
const TURNS: usize = 4;

/// One account of the local provider.
#[derive(Debug)]
pub struct Local {
    account: Arc<Account>,
    turns: Arc<Semaphore>,
    exits: Exits,
}

impl Local {
    /// Touches nothing yet.
    #[must_use]
    pub fn new(account: &str, options: AccountOptions, installation: Installation) -> Self {
        let account = Arc::new(Account::new(account, options, installation));
        Self { account, turns: Arc::new(Semaphore::new(TURNS)), exits: Exits::default() }
    }

    /// Runs what reads and writes files off the event loop, a few at a time: nearly all wait for the account's lock, and hundreds of threads that
    /// wait would leave none for the rest of the master. A call that is dropped meanwhile ends by itself.
    async fn off<T: Send + 'static>(
        &self,
        doing: impl Into<String>,
        work: impl FnOnce(&Account) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let account = Arc::clone(&self.account);
        let turn = Arc::clone(&self.turns).acquire_owned().await.expect("it is never closed");
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&account)
        })
        .await
        .map_err(io::Error::other);
        done.and_then(|answer| answer).map_err(|error| failed(doing, error))
    }
}

#[async_trait]
impl Provider for Local {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            images: false,
            host_bound: true,
            console: true,
            shares_host_network: true,
            largest_batch: 1,
            park: false,
        }
    }

    async fn resolve(&self, _request: &ResolveRequest) -> Result<Resolved, ProviderError> {
        Ok(Resolved { image: String::new(), id: "host".into() })
    }

    async fn link_dir(&self, tag: &Tag) -> Result<Option<PathBuf>, ProviderError> {
        let (doing, tag) = (format!("prepare {}", tag.name), tag.clone());
        self.off(doing, move |account| account.link_dir(&tag).map(Some)).await
    }

    async fn launch(&self, spec: &LaunchSpec, items: &[LaunchItem]) -> Vec<LaunchOutcome> {
        let (spec, tags) = (spec.clone(), items.iter().map(|item| item.tag.clone()).collect::<Vec<_>>());
        let work = move |account: &Account| Ok(account.launch_all(&spec, &tags));
        let outcomes = self
            .off("start agents", work)
            .await
            .unwrap_or_else(|error| vec![LaunchOutcome::Unknown { reason: error.to_string() }; items.len()]);
        for outcome in &outcomes {
            if let LaunchOutcome::Accepted { at } = outcome {
                self.exits.watch(at);
            }
        }
        outcomes
    }

    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        let all = self.off("list workers", Account::list).await?;
        for observed in all.iter().filter(|o| o.state == ObservedState::Running) {
            self.exits.watch(&observed.at);
        }
        Ok(all)
    }

    async fn inspect(&self, at: &ProviderRef) -> Result<Option<Observed>, ProviderError> {
        let Some(reference) = Reference::parse(&at.0) else { return Ok(None) };
        let found = self.off(format!("inspect {}", at.0), move |account| account.inspect(&reference)).await?;
        if let Some(found) = found.as_ref().filter(|o| o.state == ObservedState::Running) {
            self.exits.watch(&found.at);
        }
        Ok(found)
    }

    async fn terminate(&self, at: &ProviderRef) -> Result<(), ProviderError> {
        let doing = format!("terminate {}", at.0);
        if at.0 == FOLDER_REF {
            return self.off(doing, Account::remove_folder).await;
        }
        let Some(reference) = Reference::parse(&at.0) else { return Ok(()) };
        let wanted = reference.clone();
        let Some(target) = self.off(doing.clone(), move |account| account.target(&wanted)).await? else {
            return Ok(());
        };
        let agent = target.agent.clone();
        ending::end(target).await.map_err(|error| failed(doing.clone(), error))?;
        self.off(doing, move |account| {
            if let Some(agent) = &agent {
                reap(agent);
            }
            account.clear_away(&reference.key)
        })
        .await
    }

    async fn next_hint(&self) -> Hint {
        self.exits.next().await
    }

    async fn console_tail(
        &self,
        at: &ProviderRef,
        max_bytes: usize,
    ) -> Result<Option<String>, ProviderError> {
        let Some(reference) = Reference::parse(&at.0) else { return Ok(None) };
        let doing = format!("read the console of {}", at.0);
        self.off(doing, move |account| account.console(&reference, max_bytes)).await
    }

    fn shelves(&self) -> Option<&dyn Shelves> {
        Some(self)
    }
}

#[async_trait]
impl Shelves for Local {
    async fn there(&self, shelf: &str) -> Result<Option<String>, ProviderError> {
        let name = shelf.to_owned();
        self.off(format!("look for the shelf {shelf}"), move |account| account.shelves.there(&name)).await
    }

    async fn put(&self, shelf: &str, layer: &str, folder: &Path) -> Result<String, ProviderError> {
        let doing = format!("put files on the shelf {shelf}");
        let (shelf, layer, folder) = (shelf.to_owned(), layer.to_owned(), folder.to_owned());
        self.off(doing, move |account| {
            account.shelves.put(&shelf, &layer, &folder).map(|()| "here".to_owned())
        })
        .await
    }

    async fn keep(&self, prefix: &str, shelves: &[String]) -> Result<(), ProviderError> {
        let (prefix, shelves) = (prefix.to_owned(), shelves.to_vec());
        self.off("remove shelves that nobody needs any more", move |account| {
            account.shelves.keep(&prefix, &shelves)
        })
        .await
    }
}

fn failed(doing: impl Into<String>, error: io::Error) -> ProviderError {
    let class = match error.kind() {
        io::ErrorKind::QuotaExceeded => FailureClass::Quota,
        _ => FailureClass::Offering,
    };
    ProviderError::new(class, doing, error.to_string()).caused_by(error)
}
