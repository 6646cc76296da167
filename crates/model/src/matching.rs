//! The judgement of who may run what. One predicate for the matcher, the scaler and `explain`, so that they never disagree.

use crate::Trust;
use serde::{Deserialize, Serialize};

/// What a request asks of where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement<'a> {
    /// Pools that its builder names; empty: any that accepts it.
    pub pools: &'a [String],
    pub project: &'a str,
    pub trust: Trust,
}

/// What a pool offers and whom it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer<'a> {
    pub pool: &'a str,
    pub accepts: Trust,
}

/// Why a pool can never take a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfit {
    /// The builder names other pools.
    NotNamed,
    /// The pool takes trusted builds only.
    Untrusted,
}

impl Misfit {
    #[must_use]
    pub fn sentence(&self) -> &'static str {
        match self {
            Self::NotNamed => "the builder names other pools",
            Self::Untrusted => {
                "the build is untrusted and the pool accepts trusted builds only (`accepts: any` would take it)"
            }
        }
    }
}

/// Whether a pool can ever run a request.
///
/// # Errors
/// The first reason why not.
pub fn fits(wish: &Requirement<'_>, offer: &Offer<'_>) -> Result<(), Misfit> {
    if !wish.pools.is_empty() && !wish.pools.iter().any(|p| p == offer.pool) {
        return Err(Misfit::NotNamed);
    }
    if wish.trust < offer.accepts {
        return Err(Misfit::Untrusted);
    }
    Ok(())
}

/// The class of builds that one worker may serve: nothing warm ever crosses it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReuseClass {
    pub pool: String,
    /// Digest of the launch spec over the resolved image id.
    pub spec_digest: String,
    pub trust: Trust,
    pub project: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_and_names_decide() {
        let named = ["a".to_owned()];
        let wish = |pools, trust| Requirement { pools, project: "p", trust };
        let offer = |pool, accepts| Offer { pool, accepts };
        assert_eq!(fits(&wish(&[], Trust::Trusted), &offer("a", Trust::Trusted)), Ok(()));
        assert_eq!(fits(&wish(&named, Trust::Trusted), &offer("b", Trust::Trusted)), Err(Misfit::NotNamed));
        assert_eq!(
            fits(&wish(&named, Trust::Untrusted), &offer("a", Trust::Trusted)),
            Err(Misfit::Untrusted)
        );
        assert_eq!(fits(&wish(&named, Trust::Untrusted), &offer("a", Trust::Untrusted)), Ok(()));
        assert!(Misfit::NotNamed.sentence().contains("other pools"));
        assert!(Misfit::Untrusted.sentence().contains("accepts: any"));
    }
}
