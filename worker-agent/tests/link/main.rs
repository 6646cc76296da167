//! The link conformance suite: plays the master against any agent, over a Unix socket. Each case is played against our agent (`ours::…`)
//! and against the second one, which is in Python (`python::…`); those where the way matters also over TLS (`…_by_tls::…`).
//!
//! `ROUSE_AGENT` names another agent's command (a program, or a program with arguments, as `ruby agent.rb`), which then takes the second
//! one's place. What is asked here is what `docs/reference/agent-protocol.md` promises, no more: an agent that passes may serve a master.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure there is the failure of the test")]

mod agents;
mod commands;
mod ends;
mod file_server;
mod files;
mod follow;
mod handshake;
mod limits;
mod masking;
mod python_is_small;
mod resume;
mod rig;
mod tls;
mod trees;

/// Makes a test of each case for each agent. A case that is in no list is an unused function, which the compiler finds.
macro_rules! cases {
    ($($agent:ident as $name:ident { $($module:ident: [$($case:ident,)*])* })*) => {$(
        mod $name {$(
            mod $module {$(
                #[tokio::test]
                async fn $case() {
                    crate::$module::$case(crate::agents::Agent::$agent).await;
                }
            )*}
        )*}
    )*};
}

macro_rules! for_both {
    ($($cases:tt)*) => { cases! { Ours as ours { $($cases)* } Python as python { $($cases)* } } };
}

macro_rules! for_both_by_tls {
    ($($cases:tt)*) => { cases! { OursByTls as ours_by_tls { $($cases)* } PythonByTls as python_by_tls { $($cases)* } } };
}

for_both_by_tls! {
    files: [
        files_arrive_with_their_names_and_sums,
        an_upload_that_breaks_goes_on_where_it_was,
        a_download_that_breaks_goes_on_where_it_was,
        a_transfer_outlives_a_restart_of_the_master,
    ]
    handshake: [
        hello_is_signed_and_says_what_the_worker_is,
        another_process_is_another_incarnation,
        an_older_master_is_refused_from_the_join_document_on,
        a_master_of_another_installation_or_version_is_refused,
        a_refusal_for_good_ends_the_agent_and_another_does_not,
        what_is_unknown_is_ignored_and_what_is_malformed_is_not,
        a_master_that_comes_late_is_found,
    ]
    resume: [
        an_id_runs_once_however_often_it_is_asked_for,
        a_dropped_connection_loses_and_doubles_nothing,
        what_is_not_durable_is_sent_again,
        what_is_durable_is_not_sent_again,
        a_restarted_master_finds_everything,
        outcomes_are_kept_until_they_are_forgotten,
        what_is_forgotten_while_it_runs_is_killed_and_gone,
        a_connection_that_is_silent_is_given_up,
        heartbeats_come,
    ]
    tls: [
        who_cannot_show_the_right_certificate_is_refused,
        a_master_is_found_by_its_name,
        streams_that_the_master_opens_are_taken,
    ]
}

// What version 2 of the protocol adds; the second agent stays at version 1.
cases! {
    Ours as ours_since_version_2 {
        handshake: [
            an_agent_whose_master_is_replaced_waits_for_the_next_one,
        ]
    }
}

for_both! {
    commands: [
        arguments_arrive_as_they_are,
        scripts_run_by_their_interpreter_and_leave_no_file,
        the_environment_is_the_images_less_the_persons_plus_the_masters,
        the_directory_is_made_and_does_not_leave,
        exit_codes_and_signals,
        channels_stand_apart_and_input_is_empty,
        a_terminal_is_one,
        bytes_pass_as_they_come,
        a_line_of_100_megabytes,
        what_is_missing_is_named,
        commands_run_beside_each_other,
        nonsense_in_the_environment_is_the_users_failure,
    ]
    ends: [
        end_kills_everything_and_exits_with_0,
        sigterm_kills_everything_too,
        the_dead_man_strikes_when_no_master_is_heard,
        the_dead_man_strikes_when_no_master_ever_comes,
        a_master_that_says_anything_keeps_the_agent_and_so_does_hold,
        a_draining_agent_finishes_what_it_has_and_takes_nothing,
        a_join_document_that_is_none_is_said_and_ends_it,
    ]
    files: [
        files_arrive_with_their_names_and_sums,
        an_upload_that_breaks_goes_on_where_it_was,
        uploads_that_must_not_be_are_refused,
        a_download_that_breaks_goes_on_where_it_was,
        downloads_that_must_not_be_are_refused,
        archives_are_unpacked_and_clean_leaves_nothing_old,
        archives_that_lead_out_are_refused,
        a_folder_travels_as_one_archive,
        a_transfer_can_be_stopped,
        a_transfer_outlives_a_restart_of_the_master,
        paths_are_listed_made_and_removed_within,
    ]
    follow: [
        files_are_followed_while_they_grow_and_read_to_their_end,
        what_was_there_before_the_command_is_left_out,
        a_file_that_is_written_anew_is_read_from_its_beginning,
        what_is_no_file_within_is_not_read_and_is_said,
        a_dropped_connection_loses_and_doubles_nothing_of_a_file,
        a_file_waits_where_nobody_stores_and_nothing_of_it_is_lost,
        secrets_in_files_are_masked,
        a_file_that_grows_is_no_silence,
        what_is_forgotten_is_gone_with_its_files,
    ]
    handshake: [
        hello_is_signed_and_says_what_the_worker_is,
        another_process_is_another_incarnation,
        an_older_master_is_refused_from_the_join_document_on,
        a_master_of_another_installation_or_version_is_refused,
        the_newest_version_that_both_speak_is_spoken,
        a_refusal_for_good_ends_the_agent_and_another_does_not,
        what_is_unknown_is_ignored_and_what_is_malformed_is_not,
        endpoints_are_tried_in_order,
        a_socket_may_lie_beside_the_document_and_the_work_folder_may_be_a_flag,
        a_master_that_comes_late_is_found,
        the_token_is_nowhere_to_be_seen,
        the_agent_cannot_be_looked_into_by_its_own_user,
    ]
    limits: [
        the_total_timeout_strikes,
        the_silence_timeout_strikes_only_on_silence,
        the_ladder_is_climbed_to_its_end,
        a_rung_of_no_time_is_left_out_and_a_polite_process_ends_early,
        stopping_what_is_unknown_or_over_changes_nothing,
        output_that_nobody_stores_blocks_its_writer_and_not_the_agents_memory,
        a_blocked_command_can_be_stopped,
    ]
    masking: [
        a_secret_is_masked_at_any_split,
        large_output_is_masked_throughout,
        a_key_of_several_lines_is_masked_line_by_line,
        hundreds_of_values_are_masked_alike,
        messages_are_masked_too,
        what_may_be_a_secret_is_held_back_while_it_may,
    ]
    resume: [
        an_id_runs_once_however_often_it_is_asked_for,
        a_dropped_connection_loses_and_doubles_nothing,
        what_is_not_durable_is_sent_again,
        what_is_durable_is_not_sent_again,
        a_restarted_master_finds_everything,
        outcomes_are_kept_until_they_are_forgotten,
        what_is_forgotten_while_it_runs_is_killed_and_gone,
        a_connection_that_is_silent_is_given_up,
        heartbeats_come,
    ]
    trees: [
        a_daemon_left_behind_is_killed,
        a_daemon_that_holds_the_output_open_does_not_hold_the_command,
        what_still_writes_when_its_parent_is_over_may_finish,
        a_whole_tree_is_stopped_and_the_neighbour_is_not,
        a_tree_that_keeps_forking_is_killed,
        orphans_are_collected,
    ]
}
