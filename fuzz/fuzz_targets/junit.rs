//! Test reports, which come from a build and so from anybody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rouse_master_parsers::junit::{Limits, Report};

fuzz_target!(|data: &[u8]| {
    let limits = Limits { results: 4, name: 20, message: 30, depth: 5 };
    let Ok(report) = Report::read(data, &limits) else { return };
    assert!(report.failed + report.skipped <= report.total);
    assert!(report.results.len() as u64 <= report.failed + report.skipped && report.results.len() <= 4);
    for case in &report.results {
        assert!(case.suite.len() <= 20 && case.name.len() <= 20 && case.message.len() <= 30, "{case:?}");
    }
});
