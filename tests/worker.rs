//! Workers against a Kafka: what stands in the files, whatever happens to the workers.
//!
//! Every case has a topic, a group and a folder of its own, so that the cases may run at the same time on one cluster;
//! those of the game tables need the simulator's own topic and therefore a cluster of their own.

pub mod batches;
pub mod columns;
mod copies;
mod faults;
mod files;
mod group;
pub mod setting;
mod tables;
mod verified;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::Trial;

use crate::services::{Kafka, are_real};

/// All cases.
pub fn tests() -> Vec<Trial> {
    macro_rules! cases {
        ($kafka:path: $($module:ident::$case:ident),* $(,)?) => {
            vec![$(case(concat!("worker::", stringify!($case)), $kafka, $module::$case)),*]
        };
    }
    let shared = cases![
        Kafka::shared:
        files::every_record_stands_once_in_rotated_files_that_are_named_by_their_first_offset,
        files::a_restart_goes_on_without_a_gap_or_a_repetition,
        files::bad_records_are_kept_among_the_dead_letters,
        files::repetitions_are_left_out_across_restarts,
        files::what_others_have_committed_is_where_reading_begins,
        files::until_the_end_of_nothing_is_at_once,
        copies::one_number_with_two_values_makes_two_rows,
        copies::a_topic_that_was_copied_into_one_partition_loses_no_record,
        copies::a_repetition_is_known_however_long_ago_its_record_was_read,
        copies::what_is_left_out_is_what_was_said_before_whatever_is_sent,
        group::two_workers_share_and_the_one_that_stays_takes_over,
        group::a_killed_workers_partitions_are_taken_over,
        group::repetitions_are_left_out_across_a_rebalance,
        group::a_worker_waits_for_a_topic_that_is_made_later,
        faults::an_output_that_cannot_be_written_holds_the_partition_up_until_it_can,
        faults::a_folder_of_another_cluster_is_refused,
        faults::a_topic_that_was_made_again_is_refused,
        faults::a_topic_whose_name_is_too_long_for_files_is_left_out,
        faults::a_topic_that_is_made_again_meanwhile_ends_the_worker,
        faults::records_that_the_broker_deleted_first_are_counted_as_lost,
        verified::files_agree_with_their_topic_whatever_is_in_it,
        verified::what_differs_from_the_topic_is_told_with_its_offset,
    ];
    // Other people's producers.
    let others = cases![
        Kafka::shared:
        batches::those_of_other_producers_become_rows,
        batches::what_is_behind_an_open_transaction_waits_and_is_told,
    ]
    .into_iter()
    .map(|case| case.with_ignored_flag(!are_real()));
    // The log of a worker as a process, which needs a Redis.
    let redis = cases![Kafka::shared: group::a_host_that_stays_away_leaves_its_own_sealed_segments_and_they_are_named]
        .into_iter()
        .map(|case| case.with_ignored_flag(!are_real()));
    // It stores what Apache Kafka refuses.
    let stored_as_it_is = cases![
        embedded:
        batches::one_that_nobody_can_read_is_a_dead_letter,
        batches::one_of_any_size_is_read_record_by_record,
        batches::one_that_is_too_large_repeats_nothing_and_nothing_repeats_it,
        columns::a_timestamp_of_any_number_is_told,
    ];
    let bounded = cases![embedded: batches::those_that_would_take_all_memory_do_not]
        .into_iter()
        .map(|case| case.with_ignored_flag(!are_real()));
    let own = cases![
        start:
        faults::a_broker_that_stands_still_costs_no_record_and_doubles_none,
        columns::each_stands_in_every_row_with_one_type,
        tables::games_that_are_over_make_the_tables_and_are_cleaned_afterwards,
        tables::a_store_that_does_not_answer_holds_the_partition_up,
        tables::a_panic_of_one_partition_is_survived_by_all,
    ];
    // What the embedded broker does not do.
    let apache = cases![
        start:
        faults::a_fetch_that_a_quota_holds_back_is_no_error,
        verified::rows_whose_records_were_compacted_away_are_no_fault,
    ]
    .into_iter()
    .map(|case| case.with_ignored_flag(!are_real()));
    shared
        .into_iter()
        .chain(others)
        .chain(redis)
        .chain(apache)
        .chain(stored_as_it_is)
        .chain(bounded)
        .chain(own)
        .collect()
}

fn embedded() -> Result<Arc<Kafka>> {
    Kafka::embedded().map(Arc::new)
}

fn start() -> Result<Arc<Kafka>> {
    Kafka::start().map(Arc::new)
}

fn case<F>(name: &str, kafka: fn() -> Result<Arc<Kafka>>, body: F) -> Trial
where
    F: AsyncFnOnce(&Kafka, &Path) -> Result<()> + Send + 'static,
{
    crate::test(name, move || async move {
        let kafka = tokio::task::spawn_blocking(kafka).await??;
        let folder = tempfile::tempdir()?;
        body(&kafka, folder.path()).await
    })
}
