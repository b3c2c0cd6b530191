//! What every metadata store has to pass, whatever it is made of.
//!
//! A store's own tests implement [`Bench`] and name the store in [`conformance_tests!`]; each case then
//! runs as a test under its own name. Rows of TRACES keep their number in the name. Cases know nothing
//! about tables or threads: they speak the trait only, and own the clock.

pub mod administration;
pub mod bench;
pub mod commits;
pub mod groups;
pub mod lifetimes;
pub mod reading;
pub mod swaps;
pub mod topics;
pub mod transactions;

pub use self::bench::Bench;

/// Makes a `#[tokio::test]` of every case, run on the bench that the expression opens.
#[macro_export]
macro_rules! conformance_tests {
    ($bench:expr) => {
        $crate::conformance_tests! { $bench;
            commits: trace_06_outcomes_are_per_batch,
            commits: trace_06_an_object_with_nothing_accepted_is_deleting,
            commits: trace_07_a_gap_is_retriable_until_it_has_lasted,
            commits: trace_07_the_right_batch_ends_a_gap,
            commits: trace_08_a_commit_past_valid_until_is_refused_and_its_number_stays_free,
            commits: trace_08_a_fenced_incarnation_commits_nothing,
            commits: trace_09_a_repeat_gets_the_stored_answer_and_numbers_have_no_gaps,
            commits: trace_10_a_repeat_is_answered_after_restart_swap_deletion_and_fencing,
            commits: trace_10_old_answers_are_forgotten_but_the_last_stays,
            commits: trace_13_a_batch_of_many_records_takes_that_many_offsets,
            commits: trace_31_inline_objects_are_bounded_in_total,
            commits: five_batches_are_remembered_and_older_copies_refused,
            commits: sequences_wrap_to_zero_inside_a_batch_and_between_two,
            commits: producer_ids_are_never_given_twice,
            reading: trace_01_segments_of_two_incarnations_tile_the_log,
            reading: trace_01_every_offset_is_found_before_and_after_settling,
            reading: trace_02_a_snapshot_shows_every_answered_commit,
            reading: trace_03_a_look_up_and_its_snapshot_are_one_moment,
            reading: trace_14_search_finds_the_first_segment_that_reaches_the_time,
            reading: inline_payloads_are_returned_as_committed,
            reading: a_look_up_stops_at_its_byte_limit_with_at_least_one_segment,
            lifetimes: trace_16_tombstones_are_listed_daily_and_kept_thirty_days,
            swaps: trace_17_a_swap_needs_a_live_incarnation,
            swaps: trace_17_a_swap_skips_partitions_that_changed,
            swaps: trace_17_a_repeated_swap_leaves_the_object_alone,
            lifetimes: trace_18_a_recreated_name_inherits_nothing,
            lifetimes: trace_18_a_deleted_topic_refuses_its_batches_only,
            lifetimes: trace_19_idle_producers_expire_and_used_ones_stay,
            lifetimes: objects_die_with_their_last_segment,
            lifetimes: usage_is_what_is_stored_in_each_state_also_after_a_restart,
            swaps: compaction_moves_inline_objects_into_stored_ones,
            lifetimes: node_ids_are_stable_per_address,
            groups: trace_24_a_takeover_raises_the_epoch_and_the_old_coordinator_writes_nothing,
            groups: trace_24_two_coordinators_cannot_both_create_a_group,
            groups: members_and_offsets_survive_a_restart,
            groups: members_change_one_by_one,
            groups: a_group_that_does_not_exist_leaves_nothing_behind,
            groups: trace_18_a_deleted_topic_takes_its_offsets_with_it,
            groups: offsets_of_unknown_partitions_are_refused_one_by_one,
            groups: only_empty_groups_are_deleted,
            groups: offsets_expire_once_their_group_has_been_empty,
            groups: groups_are_bounded,
            groups: lag_is_told_with_the_age_of_the_oldest_unconsumed_record,
            transactions: trace_20_a_batch_needs_its_partition_in_an_open_transaction_of_its_epoch,
            transactions: trace_20_a_plain_batch_during_a_transaction_is_refused,
            transactions: trace_20_duplicates_are_answered_first,
            transactions: trace_20_a_batch_of_the_newer_protocol_joins_in_its_own_commit,
            transactions: trace_20_the_last_stable_offset_is_the_smallest_open_first_offset,
            transactions: trace_21_an_end_is_one_step_and_survives_a_restart,
            transactions: trace_21_an_expired_transaction_is_aborted_and_its_producer_fenced,
            transactions: trace_21_asking_for_an_identity_aborts_what_is_open,
            transactions: trace_21_an_administrator_aborts_a_transaction_whole_and_its_producer_is_fenced,
            transactions: trace_22_a_repeated_abort_by_an_administrator_changes_nothing,
            transactions: an_administrator_aborts_only_what_is_open_under_the_epoch_named,
            transactions: trace_22_a_retry_of_an_end_gets_the_same_answer,
            transactions: trace_22_a_retry_of_init_gets_the_same_identity,
            transactions: trace_22_a_start_without_an_identity_is_never_repeated_for_the_producer_that_it_replaced,
            transactions: transactional_ids_are_bounded_and_expire_when_idle,
            transactions: trace_23_offsets_become_committed_with_their_transaction,
            transactions: trace_23_a_plain_commit_is_newer_than_what_waits,
            transactions: trace_23_a_group_with_waiting_offsets_does_not_expire,
            transactions: markers_are_nothing_to_consume,
            transactions: trace_03_aborted_ranges_belong_to_the_moment_of_the_look_up,
            transactions: trace_19_a_producer_with_an_open_transaction_does_not_expire,
            transactions: trace_18_a_deleted_topic_does_not_hold_its_transaction_up,
            transactions: trace_31_no_transaction_begins_without_room_for_its_markers,
            topics: limits_are_enforced,
            topics: names_that_collide_are_refused,
            topics: partitions_are_added_only,
            topics: topics_survive_a_restart,
            administration: configurations_change_whole_and_survive_a_restart,
            administration: quotas_change_together_are_bounded_and_survive_a_restart,
            administration: client_metrics_subscriptions_are_bounded_and_survive_a_restart,
            administration: trace_02_a_raised_log_start_holds_for_every_read_and_over_a_restart,
            administration: a_log_that_lost_its_largest_timestamp_has_another,
            administration: what_lies_below_the_log_start_is_trimmed_and_its_objects_die,
            administration: retention_removes_what_is_too_old_and_says_when_it_is_due_again,
            administration: retention_by_bytes_keeps_the_limit,
        }
    };
    ($bench:expr; $($room:ident: $case:ident,)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::conformance::$room::$case(&mut $bench.await as &mut dyn $crate::conformance::Bench).await;
            }
        )*
    };
}
