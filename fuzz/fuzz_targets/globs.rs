//! Patterns over names: the agent's own, and the configuration's. The first line is the pattern, the rest are names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rouse_agent_parsers::paths::{Glob, components};
use rouse_master_parsers::sources::Patterns;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(pattern) = lines.next().and_then(|line| std::str::from_utf8(line).ok()) else { return };
    let glob = Glob::new(pattern);
    let patterns = [Patterns::paths(&[pattern]), Patterns::messages(&[pattern])];
    for name in lines.take(8) {
        if let (Ok(glob), Ok(parts)) = (&glob, components(name)) {
            let path = parts.join(&b'/');
            if glob.matches(&path) {
                for end in (0..parts.len()).rev().skip(1) {
                    // What matches is found: the walk goes into each folder above it.
                    assert!(glob.may_match_below(&parts[..=end].join(&b'/')), "{pattern:?} {path:?}");
                }
            }
        }
        let Ok(name) = std::str::from_utf8(name) else { continue };
        for patterns in patterns.iter().flatten() {
            let _ = patterns.matches(name);
        }
    }
});
