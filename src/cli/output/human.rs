//! Spans, moments and sizes, as a person takes them in.

use crate::api::views::Moment;
use rouse_model::Timestamp;

/// `0.4 s`, `12 s`, `3m 05s`, `2h 10m`, `3d 4h`.
pub(in crate::cli) fn span(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least 10, and far below the end of u64"
    )]
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {:02}m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{}d {}h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// `12 s ago`, `3m ago`: one unit, since nobody needs two.
pub(in crate::cli) fn ago(moment: Moment, now: Timestamp) -> String {
    let seconds = now.since(moment.0).as_secs();
    match seconds {
        0..5 => "now".to_owned(),
        5..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..86_400 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// `412 B`, `3.4 KiB`, `12 MiB`.
pub(in crate::cli) fn size(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut size = bytes as f64;
    if size < 1024.0 {
        return format!("{bytes} B");
    }
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if size < 10.0 { format!("{size:.1} {unit}") } else { format!("{size:.0} {unit}") }
}

/// A revision as people say it.
pub(in crate::cli) fn short(revision: &str) -> &str {
    let is_id = revision.len() >= 12 && revision.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { &revision[..8] } else { revision }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_sizes_and_revisions_read_well() {
        assert_eq!(
            ["0.4 s", "12 s", "3m 05s", "2h 10m", "3d 4h"].map(String::from),
            [0.42, 12.3, 185.0, 7_800.0, 273_600.0].map(span)
        );
        assert_eq!(["412 B", "3.4 KiB", "12 MiB"].map(String::from), [412, 3_500, 12_582_912].map(size));
        assert_eq!(short("4f1c2aa0b3c4d5e6f7a8b9c0d1e2f3a4b5c6d7e8"), "4f1c2aa0");
        assert_eq!(short("refs/tags/v1"), "refs/tags/v1");
        let now = Timestamp::from_secs(1_000);
        assert_eq!(ago(Moment(Timestamp::from_secs(880)), now), "2m ago");
    }
}
