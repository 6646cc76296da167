//! What it means that an image could not be pulled. The daemon answers with one status for many things; what decides is its words, which are
//! the registry's.

use crate::failure::Failed;
use std::time::Duration;

/// When a registry is asked again that has enough of us and does not say for how long.
const ENOUGH: Duration = Duration::from_secs(20);
/// When one is asked again that is not to be had otherwise; longer each time, which is not decided here.
const AWAY: Duration = Duration::from_secs(1);

/// Who is to do something, and when another try makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such image.
    Absent,
    /// The registry does not let us have it.
    Login,
    /// The registry cannot be had now, or does not want to be asked so soon.
    Later(Duration),
    /// The daemon's host has no room, or its disk is broken.
    Host,
}

impl Refusal {
    pub(crate) fn of(failed: &Failed) -> Self {
        let words = failed.message().to_ascii_lowercase();
        let says = |any: &[&str]| any.iter().any(|text| words.contains(text));
        if says(&["toomanyrequests", "too many requests", "retry-after"]) {
            return Self::Later(retry_after(&words).unwrap_or(ENOUGH));
        }
        if matches!(failed.status(), Some(400 | 404)) {
            return Self::Absent;
        }
        if says(&[
            "not found",
            "manifest unknown",
            "no matching manifest",
            "does not exist",
            "invalid reference",
        ]) {
            Self::Absent
        } else if says(&["unauthorized", "denied", "authentication required", "no basic auth credentials"]) {
            Self::Login
        } else if says(&["no space left", "read-only file system", "input/output error"]) {
            Self::Host
        } else {
            Self::Later(AWAY)
        }
    }
}

/// What a registry asks for within its words: `retry-after: 742.312ms, allowed: 44000/minute`. Its header the daemon keeps to itself.
fn retry_after(words: &str) -> Option<Duration> {
    let (_, after) = words.split_once("retry-after")?;
    let after = after.trim_start_matches([':', '=', ' ']);
    let digits = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
    let (number, unit) = after.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let unit: String = unit.chars().take_while(|c| c.is_alphabetic()).collect();
    let seconds = match unit.as_str() {
        "ns" => 1e-9,
        "µs" | "us" => 1e-6,
        "ms" => 1e-3,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => 1.0,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::failure::FailureClass;

    #[test]
    fn a_registrys_words_decide() {
        for (words, expected) in [
            ("toomanyrequests: You have reached your pull rate limit.", Refusal::Later(ENOUGH)),
            (
                "toomanyrequests: retry-after: 742.5ms, allowed: 44000/minute",
                Refusal::Later(Duration::from_micros(742_500)),
            ),
            (
                "received unexpected HTTP status: 429 Too Many Requests; Retry-After: 30",
                Refusal::Later(Duration::from_secs(30)),
            ),
            ("manifest for r:5000/a:1 not found: manifest unknown", Refusal::Absent),
            ("no matching manifest for linux/arm64 in the manifest list entries", Refusal::Absent),
            ("Head \"https://r/v2/a/manifests/1\": no basic auth credentials", Refusal::Login),
            ("unauthorized: authentication required", Refusal::Login),
            ("dial tcp 127.0.0.1:1: connect: connection refused", Refusal::Later(AWAY)),
            ("dial tcp: lookup r on 10.0.0.1:53: no such host", Refusal::Later(AWAY)),
            ("unexpected EOF", Refusal::Later(AWAY)),
            ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", Refusal::Host),
        ] {
            assert_eq!(Refusal::of(&Failed::said(FailureClass::Offering, words)), expected, "{words}");
        }
    }
}
