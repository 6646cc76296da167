//! A configuration: the checks end, and every fault stands within its file and can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rouse_master_parsers::config::{Code, Faults, SourceFile, parse};
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let sources = [SourceFile::new("rouse.yaml", text)];
    match parse(&sources, &[Arc::new(rouse_provider_local::LocalKind)]) {
        Ok(loaded) => sound(&loaded.warnings),
        Err(faults) => sound(&faults),
    }
});

fn sound(faults: &Faults) {
    for fault in &faults.list {
        assert_ne!(fault.code, Code::Internal, "{}", fault.message);
        let spans = fault.span.into_iter().chain(fault.related.iter().map(|(span, _)| *span));
        for span in spans {
            let text = &faults.sources[span.file].text;
            assert!(text.get(span.start..span.end).is_some(), "{fault:?}");
        }
    }
    let _ = faults.text(false);
    assert_eq!(faults.records().len(), faults.list.len());
}
