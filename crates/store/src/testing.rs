//! The suite that every database passes, written against [`Store`] alone. Whoever adds a database implements [`Subject`] and calls
//! [`conformance!`](crate::conformance); what only one database can be asked (its locks, its plans) stands in that database's own tests.

pub mod budgets;
pub mod events;
pub mod folding;
pub mod ids;
pub mod masters;
pub mod offerings;
pub mod opening;
pub mod plans;
pub mod queue;
pub mod records;
pub mod retention;
pub mod samples;

pub use crate::sqlite::memory::{Death, Memory, Refusal};

use crate::record::Record;
use crate::{Batch, Store};
use async_trait::async_trait;
use rouse_model::Timestamp;
use rouse_model::event::{Event, EventKind, NewEvent};
use std::time::{Duration, Instant};

/// One database of its own, not made yet.
#[async_trait]
pub trait Subject: Send + Sync {
    /// One more handle on it, as one more master process would have it. The first makes it.
    async fn open(&self) -> Store;
}

/// One test for each case of the suite. `$make` is an `async fn() -> Option<impl Subject>`; `None` means that there is no such database here.
#[macro_export]
macro_rules! conformance {
    ($make:path) => {
        $crate::conformance! { @each $make;
            budgets::what_lay_parked_has_cost_less,
            budgets::grants_hold_until_their_time_is_over,
            budgets::what_is_gone_has_cost_what_it_was_there_for,
            events::a_page_of_unknown_kinds_stops_nobody,
            events::a_reader_by_cursor_sees_each_event_once_and_in_order,
            events::followers_are_woken_once_events_can_be_read,
            events::numbers_are_never_used_again,
            events::pages_follow_the_order_of_commits,
            events::what_happened_to_a_worker_is_found_by_its_name,
            folding::a_broken_batch_fails_alone,
            folding::increments_of_many_are_all_counted,
            folding::what_expects_a_batch_on_its_way_is_true_after_it_or_not_at_all,
            folding::what_follows_a_commit_happens_only_if_it_held,
            ids::ids_are_given_once_whoever_asks,
            masters::a_batch_of_an_old_role_conflicts,
            masters::a_master_that_comes_back_keeps_its_roles,
            masters::a_master_that_enters_again_fences_the_one_before,
            masters::a_master_that_leaves_frees_its_roles,
            masters::a_role_has_one_holder,
            masters::a_role_is_taken_over_from_the_dead_alone,
            masters::clocks_on_walls_prove_nothing,
            masters::two_that_fence_each_other_leave_one,
            masters::who_was_away_judges_nobody,
            masters::the_work_of_the_dead_is_taken_once,
            offerings::what_was_refused_is_known_to_all_masters,
            opening::many_open_a_fresh_database_at_once,
            opening::what_was_committed_outlives_every_handle,
            queue::the_queue_is_served_by_priority_then_age,
            queue::who_reads_again_sees_what_is_there_now,
            queue::what_is_not_approved_is_not_in_the_queue_and_lapses,
            queue::pages_by_key_show_each_row_once,
            records::a_lost_race_leaves_nothing,
            records::a_row_that_is_not_there_is_a_conflict,
            records::a_taken_key_breaks_the_whole_batch,
            records::every_type_comes_back_as_it_was,
            records::the_first_or_the_last_writer_stands_as_asked,
            records::what_is_written_once_stays,
            records::words_are_ordered_by_their_bytes,
            retention::a_build_goes_with_all_that_belongs_to_it,
            retention::decisions_go_that_were_true_for_the_last_time_long_ago,
            retention::logs_are_emptied_and_say_why,
            retention::only_a_beginning_of_the_log_of_events_goes,
            retention::what_is_not_over_stays,
        }
    };
    (@each $make:path; $($room:ident::$case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(subject) = $make().await {
                    $crate::testing::$room::$case(&subject).await;
                }
            }
        )+
    };
}

/// How long what another task or process must do may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

pub(crate) const NOW: Timestamp = Timestamp(1_764_000_000_000_000);

pub(crate) fn event(subject: &str, payload: serde_json::Value) -> NewEvent {
    NewEvent {
        kind: EventKind::BuildPhase,
        version: 1,
        subject: subject.into(),
        project: "default".into(),
        at: NOW,
        payload,
    }
}

/// The row under a record's key.
pub(crate) async fn stored<R: Record>(store: &Store, record: &R) -> Option<R> {
    let (table, values) = (R::table(), record.values());
    let conditions: Vec<String> =
        table.key.iter().enumerate().map(|(n, at)| format!("{} = ${}", table.columns[*at], n + 1)).collect();
    let key = table.key.iter().map(|at| values[*at].clone()).collect();
    store
        .select_one(&format!("WHERE {}", conditions.join(" AND ")), key)
        .await
        .expect("a row that was just written can be read")
}

pub(crate) async fn insert<R: Record>(store: &Store, record: &R) {
    let mut batch = Batch::new("suite.insert");
    batch.insert(record);
    store.commit(batch).await.expect("a new row can be written");
}

/// Follows the log from a cursor until so many events were read.
///
/// # Panics
/// Where they do not come.
pub async fn follow(store: &Store, mut cursor: i64, count: usize) -> Vec<Event> {
    let start = Instant::now();
    let mut seen: Vec<Event> = Vec::new();
    while seen.len() < count {
        let page = store.events_after(cursor, 7).await.expect("the log can be read");
        if let Some(last) = page.last() {
            cursor = last.seq;
        } else {
            assert!(start.elapsed() < SOON, "{} of {count} events could be read", seen.len());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        seen.extend(page);
    }
    seen
}
