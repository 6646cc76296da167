//! The bytes that an agent signs to show that it holds the key which its join token is bound to.

use crate::Challenge;

/// What the agent's Ed25519 key signs on every connection: a domain tag, then each field with its length before it, so that no
/// two different sets of fields give the same bytes.
///
/// `version` is the hello's and `incarnation` its text; `challenge` is as it came. Since version 2 the pair (store epoch, term) is signed too: a hello
/// is good for a master of just that pair, and shows which one the agent took it for.
pub fn signing_bytes(version: u32, challenge: &Challenge, worker: &str, incarnation: &str) -> Vec<u8> {
    let mut out = format!("rouse-agent-link-v{version}\0").into_bytes();
    let (epoch, term) = (challenge.store_epoch.to_string(), challenge.term.to_string());
    let mut fields = vec![challenge.nonce.as_str(), challenge.installation.as_str(), worker, incarnation];
    if version >= 2 {
        fields.extend([epoch.as_str(), term.as_str()]);
    }
    for field in fields {
        out.extend_from_slice(&(field.len() as u64).to_be_bytes());
        out.extend_from_slice(field.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(nonce: &str, installation: &str, term: i64) -> Challenge {
        Challenge {
            versions: vec![2, 1],
            nonce: nonce.into(),
            installation: installation.into(),
            store_epoch: 12,
            term,
        }
    }

    #[test]
    fn fields_cannot_flow_into_each_other() {
        for version in crate::VERSIONS {
            let signed = |nonce, installation, worker, incarnation| {
                signing_bytes(version, &challenge(nonce, installation, 3), worker, incarnation)
            };
            assert_ne!(signed("ab", "c", "d", "e"), signed("a", "bc", "d", "e"));
            assert_ne!(signed("a", "b", "", "c"), signed("a", "b", "c", ""));
        }
    }

    #[test]
    fn the_bytes_are_as_the_document_says() {
        for (version, fields) in
            [(1, &["n", "inst", "w-1", "i"][..]), (2, &["n", "inst", "w-1", "i", "12", "3"][..])]
        {
            let mut expected = format!("rouse-agent-link-v{version}\0").into_bytes();
            for field in fields {
                expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, field.len() as u8]);
                expected.extend_from_slice(field.as_bytes());
            }
            assert_eq!(signing_bytes(version, &challenge("n", "inst", 3), "w-1", "i"), expected);
        }
    }

    #[test]
    fn a_hello_of_version_2_is_for_one_term_alone() {
        let signed = |version, term| signing_bytes(version, &challenge("n", "inst", term), "w", "i");
        assert_ne!(signed(2, 3), signed(2, 4));
        assert_eq!(signed(1, 3), signed(1, 4));
    }
}
