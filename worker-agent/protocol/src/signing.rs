//! The bytes that an agent signs to show that it holds the key which its join token is bound to.

/// What the agent's Ed25519 key signs on every connection: a domain tag, then each field with its length before it, so that no
/// two different sets of fields give the same bytes.
///
/// `nonce` is the text of the challenge as it came; `incarnation` the text of the hello.
pub fn signing_bytes(nonce: &str, installation: &str, worker: &str, incarnation: &str) -> Vec<u8> {
    let mut out = b"rouse-agent-link-v1\0".to_vec();
    for field in [nonce, installation, worker, incarnation] {
        out.extend_from_slice(&(field.len() as u64).to_be_bytes());
        out.extend_from_slice(field.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::signing_bytes;

    #[test]
    fn fields_cannot_flow_into_each_other() {
        assert_ne!(signing_bytes("ab", "c", "d", "e"), signing_bytes("a", "bc", "d", "e"));
        assert_ne!(signing_bytes("a", "b", "", "c"), signing_bytes("a", "b", "c", ""));
    }

    #[test]
    fn the_bytes_are_as_the_document_says() {
        let mut expected = b"rouse-agent-link-v1\0".to_vec();
        for field in ["n", "inst", "w-1", "i"] {
            expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, field.len() as u8]);
            expected.extend_from_slice(field.as_bytes());
        }
        assert_eq!(signing_bytes("n", "inst", "w-1", "i"), expected);
    }
}
