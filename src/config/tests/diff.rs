//! What a reload would change.

use super::good;
use super::good::SMALLEST;
use crate::config::diff;

fn lines(old: &str, new: &str) -> Vec<String> {
    diff(&good(old).config, &good(new).config).iter().map(ToString::to_string).collect()
}

#[test]
fn objects_are_compared_by_what_they_mean() {
    assert_eq!(lines(SMALLEST, SMALLEST), Vec::<String>::new());
    // The same, written otherwise.
    let same = SMALLEST
        .replace("{docker: {image: debian:12}}", "{max: 4, docker: {image: \"debian:12\"}} # as before");
    assert_eq!(lines(SMALLEST, &same), Vec::<String>::new());
    let new = SMALLEST
        .replace("{docker: {image: debian:12}}", "{max: 12, docker: {image: debian:13}}\n  more: {local: {}}")
        .replace("make test", "make check")
        .replace("  push: {", "  pushed: {");
    assert_eq!(
        lines(SMALLEST, &new),
        [
            "+ account local",
            "+ pool more",
            "~ pool containers  options.image debian:12 → debian:13, max 4 → 12",
            "~ builder unit  plan.steps.1.name make test → make check, plan.steps.1.action.run.program.script.text make test → make check",
            "- scheduler push",
            "+ scheduler pushed",
        ]
    );
    let keep = format!("{SMALLEST}server: {{keep: {{logs: 30d}}}}\n");
    assert_eq!(lines(SMALLEST, &keep), ["~ server  keep.logs – → 30d"]);
}
