//! The link to the master: one connection at a time, made again for as long as the dead-man lets us.
//!
//! Owns who we are, which masters were seen, and the pauses between attempts. What is said and done lives in `state` and `runner`.

mod connect;
mod deadman;
mod identity;
mod opened;
mod packer;
mod resolve;
mod session;
mod tls;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rouse_agent_protocol::{Endpoint, Refused};

pub use connect::{ConnectError, connect, connect_plain};
pub use deadman::DeadMan;
pub use identity::Identity;

use crate::random;
use crate::runner::Runner;
use crate::state::Shared;
use session::SessionError;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// While the next master is expected at any moment.
const LONGEST_PAUSE_AWAY: Duration = Duration::from_millis(200);

pub struct Link {
    pub identity: Identity,
    pub endpoints: Vec<Endpoint>,
    pub shared: Arc<Shared>,
    pub runner: Runner,
    pub dead_man: Rc<DeadMan>,
    /// The highest (store epoch, term) that was welcomed, or what the join document says.
    pub seen: (i64, i64),
    /// The present connection got as far as a welcome.
    pub welcomed: bool,
    /// The last master said that another one is about to take its place.
    pub away: Cell<bool>,
}

/// Why there will be no further connection.
#[derive(Debug)]
pub enum LinkEnd {
    Ended {
        reason: String,
    },
    Refused(Refused),
    /// The agent cannot go on.
    Broken(String),
}

impl Link {
    /// Until a master ends or refuses us for good.
    pub async fn run(&mut self) -> LinkEnd {
        let mut pause = FIRST_PAUSE;
        let mut complaint = String::new();
        loop {
            for endpoint in self.endpoints.clone() {
                self.welcomed = false;
                let error = match self.session(&endpoint).await {
                    Ok(reason) => return LinkEnd::Ended { reason },
                    Err(SessionError::Refused(refused)) if !refused.retry => {
                        return LinkEnd::Refused(refused);
                    }
                    Err(error @ SessionError::Spool(_)) => return LinkEnd::Broken(error.to_string()),
                    Err(error) => error.to_string(),
                };
                if self.welcomed {
                    (pause, complaint) = (FIRST_PAUSE, String::new());
                }
                // The same trouble is told once, and none that was announced.
                if error != complaint && !self.away.get() {
                    eprintln!("rouse-agent: {error}; trying again");
                    complaint = error;
                }
            }
            tokio::time::sleep(random::jittered(pause)).await;
            pause = (pause * 2).min(if self.away.get() { LONGEST_PAUSE_AWAY } else { LONGEST_PAUSE });
        }
    }
}
