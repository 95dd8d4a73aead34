//! Scenarios: what the cache does over time, each a file that an operator of a DNS server can read.
//!
//! A file of `tests/scenarios` says how the cache is set up, what the upstream answers, and then, step by step, what
//! is asked, what comes back, and how much time passes. Its name begins with the rows of behaviour that it shows.
//! Nothing here touches the network or waits: the store, the resolver and the front are the server's own, the upstream
//! is a script, time is a number. Answers are read back by hickory-proto.

#![allow(clippy::panic, clippy::unwrap_used)]
// `pub` in the files below means "for this test".
#![allow(unreachable_pub)]

#[path = "scenarios/file.rs"]
mod file;
#[path = "scenarios/script.rs"]
mod script;
#[path = "scenarios/text.rs"]
mod text;
#[path = "scenarios/world.rs"]
mod world;

use file::Scenario;
use world::World;

/// Plays the scenario of the file `name`.yaml.
fn play(name: &str) {
    let path = format!("{}/tests/scenarios/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {path}: {e}"));
    let scenario = Scenario::read(&text).unwrap_or_else(|e| panic!("{name}.yaml: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let about = scenario.about.trim().to_owned();
    if let Err(wrong) = runtime.block_on(World::play(scenario)) {
        panic!("{name}.yaml, {wrong}\nThe scenario: {about}");
    }
}

/// One test per file, and one that no file is forgotten.
macro_rules! scenarios {
    ($($name:ident)+) => {
        $(#[test] fn $name() { play(stringify!($name)); })+

        #[test]
        fn every_file_is_played() {
            let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
            let mut files: Vec<String> = std::fs::read_dir(directory)
                .unwrap()
                .filter_map(|e| Some(e.unwrap().file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
                .collect();
            files.sort();
            assert_eq!(files, [$(stringify!($name)),+]);
        }
    };
}

scenarios! {
    a19_spelling
    a28_recursion_not_desired
    b01_b02_b20_opt_answers_opt
    b09_e13_dnssec_records
    b13_tcp_and_udp_agree
    b21_client_subnet
    c05_question_comes_back_in_another_case
    c10_answers_to_what_was_not_asked
    c11_nothing_is_promoted
    c12_alias_loops
    c13_long_alias_chain
    c14_very_large_answers
    c16_e15_truncated_over_udp
    c17_truncated_over_tcp
    c18_ttl_zero
    c19_ttl_with_the_top_bit
    c20_ttl_of_ten_years
    c21_least_ttl_counts
    c22_nxdomain_behind_an_alias
    c23_negatives_without_soa
    c24_soa_of_another_zone
    c25_soa_ttl_and_minimum
    c26_servfail_is_remembered
    c27_other_response_codes
    c28_lame_referral
    c32_extended_rcode
    c35_ad_is_cleared
    d03_all_servers_known_to_be_down
    d03_all_upstreams_dead
    d04_nothing_answers
    d05_recovery
    d19_refused_while_servers_are_replaced
    d23_stale_answers_that_come_back
    d25_herd_at_a_slow_upstream
    d25_thundering_herd
    d26_upstream_hangs
    e01_ttls_age
    e02_e19_time_never_goes_back
    e04_last_second
    e05_prefetch
    e05_prefetch_spares_failing_upstreams
    e05_prefetch_that_gains_nothing
    e05_prefetch_that_outlives_the_answer
    e07_flood_of_names_that_do_not_exist
    e08_newest_valid_answer_wins
    e08_preferred_answers_that_are_gone
    e08_valid_negatives_end_stale_answers
    e09_failures_hide_no_answer
    e09_servfail_while_an_old_answer_is_held
    e10_alias_target_expires_first
    e11_types_are_kept_apart
    e12_below_a_name_that_does_not_exist
    e14_checking_disabled
    e16_flush
    e20_refresh_that_is_always_refused
    e21_zones_by_whole_labels
    hosts_before_upstreams
    respond_before_upstreams
    rules_acl
    rules_dns64
    rules_dns64_over_ipv4
    rules_load_balance
    rules_rewrite_cname
    rules_rewrite_denied
    rules_rewrite_name
}
