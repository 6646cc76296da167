//! The suite that every provider passes against its real back end.
//!
//! A provider's tests implement [`Bench`] over the back end and write `rouse_contract::conformance_suite!(make_bench);`, which makes one test
//! of each case. What is there is counted from outside, by the bench, never by the provider under test.

mod cases;
mod hand;
mod layered;
mod parking;
mod shelves;

pub use cases::*;
pub use hand::Hand;
pub use layered::*;
pub use parking::*;
pub use shelves::shelves;

use crate::{LaunchSpec, Provider, ResolveRequest, Tag};
use async_trait::async_trait;
use std::sync::Arc;

/// One back end with what a test needs of it. Each test has its own installation on it.
#[async_trait]
pub trait Bench: Send + Sync {
    /// The provider as a master makes it that has just started on the same state.
    fn provider(&self, of: Of) -> Arc<dyn Provider>;

    /// The installation's id as [`Bench::provider`] uses it.
    fn installation(&self, of: Of) -> String;

    /// What is launched: an instance whose agent lives on where the join document says so.
    async fn spec(&self) -> LaunchSpec;

    /// A join document with which the agent goes on trying, or one with which it ends at once and says why on its output.
    fn join_document(&self, tag: &Tag, joins: Joins) -> Vec<u8>;

    /// How many are launched at once.
    fn crowd(&self) -> usize;

    /// An image that does not exist, with its name; `None` for a provider without images.
    fn missing_image(&self) -> Option<(ResolveRequest, String)>;

    /// Several offerings of one account, one of which is out; `None` for a provider that has one thing to sell.
    async fn sold(&self) -> Option<Sold> {
        None
    }

    /// Instances of a tag that run now, seen from outside.
    async fn running(&self, tag: &Tag) -> usize;

    /// Whether the agent of a tag has come to its master, seen from outside. Asked of providers without link folders alone: at the others the suite
    /// listens itself.
    async fn joined(&self, tag: &Tag) -> bool {
        panic!("the agent of {} comes to a socket in its link folder", tag.name)
    }

    /// Kills the instances of a tag from outside, as an operator or the kernel would.
    async fn kill(&self, tag: &Tag);

    /// All that is there of our installation, seen from outside, each with a name for a person.
    async fn leftovers(&self) -> Vec<String>;
}

/// What is launched as one of several offerings.
#[derive(Debug, Clone)]
pub struct Sold {
    pub spec: LaunchSpec,
    /// There is none of it, until the bench has gone.
    pub out: String,
    pub other: String,
}

/// Whose provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Ours,
    /// Ours, after a backup was restored: the store epoch is one higher.
    Restored,
    /// Another installation on the same back end.
    Foreign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joins {
    /// Nobody answers; it goes on trying.
    InVain,
    /// Its join document is malformed.
    Never,
}

/// Makes one test of each case. `$make` is an async function that answers `None` where the back end is not there (and has said so).
#[macro_export]
macro_rules! conformance_suite {
    ($make:path) => {
        $crate::conformance_suite!(@each $make:
            launched_twice_with_one_token_it_is_one_instance
            a_crash_between_calls_leaves_one_instance
            a_lost_reply_is_found_by_token
            terminating_twice_is_as_good_as_once
            an_image_that_does_not_exist_is_named
            an_instance_that_dies_before_attaching_is_seen_at_once
            an_instance_killed_from_outside_is_seen
            an_orphan_of_an_earlier_store_epoch_is_listed_with_its_tag
            what_belongs_to_others_is_neither_listed_nor_touched
            a_crowd_at_once
            a_parked_instance_lies_and_comes_back
            a_crash_while_parking_or_resuming_leaves_one_instance
            what_is_not_there_is_neither_parked_nor_resumed
            an_offering_that_is_out_is_named_and_leaves_the_others
            side_resources_are_listed_and_removed
            throttled_calls_come_to_their_turn
            a_part_of_a_batch_is_told_item_by_item
            a_call_that_hangs_comes_back_by_its_deadline
            launches_at_the_same_time_have_their_own_instances
            a_list_of_a_moment_ago_misleads_nobody
        );
    };
    (@each $make:path: $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(bench) = $make().await {
                    $crate::conformance::$case(&bench).await;
                }
            }
        )*
    };
}
