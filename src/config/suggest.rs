//! The nearest of what there is to what was written.

/// Longer texts are no slips of a key or a name, and comparing takes the product of both lengths.
const MAX_LENGTH: usize = 100;

/// The candidate that `wanted` is most likely a slip of, or none where all are far.
pub(crate) fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wanted.len() > MAX_LENGTH {
        return None;
    }
    let lower = wanted.to_lowercase();
    let score = |candidate: &str| {
        let near = strsim::normalized_damerau_levenshtein(&lower, &candidate.to_lowercase());
        // A whole word left off or added is a likely slip too: `docker` for `docker-images`.
        let part = lower.len() >= 3
            && (candidate.starts_with(&lower) || lower.starts_with(candidate) && candidate.len() >= 3);
        if part { near.max(0.7) } else { near }
    };
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_LENGTH)
        .map(|candidate| (score(candidate), candidate))
        .filter(|(score, _)| *score >= 0.65)
        .fold(None, |best: Option<(f64, &str)>, next| match best {
            Some(best) if best.0 >= next.0 => Some(best),
            _ => Some(next),
        })
        .map(|(_, candidate)| candidate)
}

/// `did you mean `x`?`, where something is near.
pub(crate) fn did_you_mean<'a>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(wanted, candidates).map(|near| format!("did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_and_the_far_is_not() {
        let keys = ["image", "command", "env", "mounts", "network"];
        assert_eq!(nearest("imgae", keys), Some("image"));
        assert_eq!(nearest("Env", keys), Some("env"));
        assert_eq!(nearest("mount", keys), Some("mounts"));
        assert_eq!(nearest("zebra", keys), None);
        assert_eq!(nearest("", keys), None);
        let long = "image".repeat(1_000_000);
        assert_eq!(nearest(&long, [long.as_str()]), None);
    }
}
