//! Machines that somebody else starts, and that may come as hosts of workers.

use crate::Timestamp;
use serde::{Deserialize, Serialize};

/// One machine's leave to come. Of its key only the public half is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The account whose machine it is.
    pub account: String,
    /// Its name there.
    pub name: String,
    /// Ed25519, hex.
    pub public_key: String,
    pub enrolled: Timestamp,
    /// Who enrolled it.
    pub enrolled_by: String,
    /// Since when it may not come any more.
    pub revoked: Option<Timestamp>,
    pub generation: i64,
}
