//! The installation's own certificate authority, which vouches for a master towards agents that come by TLS, and for nobody else.
//!
//! Its key is derived from the installation's key, so that all masters of an installation are one authority, a restored state folder is
//! still the same one, and there is no second secret to keep. It imports nothing of the master.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, date_time_ymd,
};
use rouse_model::Timestamp;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// How long a listener's certificate is good for.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long before its end it is made anew.
const AHEAD: Duration = Duration::from_secs(10 * 24 * 3600);
/// How far a worker's clock may be behind.
const BEHIND: Duration = Duration::from_secs(24 * 3600);
/// What comes before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("make the certificate of the agents' listener for {names}")]
    Certificate {
        names: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("make the authority of the agents' listener")]
    Authority(#[source] rcgen::Error),
}

/// Signs listeners' certificates.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(…)")
    }
}

/// What a listener shows.
#[derive(Debug)]
pub struct Issued {
    /// DER.
    pub certificate: Vec<u8>,
    /// PKCS #8, DER. It lives as long as the listener, in memory alone.
    pub key: Vec<u8>,
    /// When to make the next one.
    pub renew: Timestamp,
}

impl Authority {
    /// The same for the same seed.
    ///
    /// # Errors
    /// Where the library refuses, which no input makes it do.
    pub fn derive(seed: [u8; 32], installation: &str) -> Result<Self, AuthorityError> {
        let pkcs8: Vec<u8> = PKCS8.into_iter().chain(seed).collect();
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.as_slice().into(), &PKCS_ED25519)
            .map_err(AuthorityError::Authority)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Rouse agents, installation {installation}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // It ends with the installation, not at a date; and all masters must come to the same bytes.
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(9999, 1, 1);
        let pem = params.self_signed(&key).map_err(AuthorityError::Authority)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// What agents are given to trust.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A new key and its certificate, for these names and addresses.
    ///
    /// # Errors
    /// Where one of them can stand in no certificate.
    pub fn certify(&self, names: &BTreeSet<String>, now: Timestamp) -> Result<Issued, AuthorityError> {
        let made = || -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
            let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
            params.distinguished_name.push(DnType::CommonName, "Rouse master");
            params.use_authority_key_identifier_extension = true;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            let now =
                date_time_ymd(1970, 1, 1) + Duration::from_micros(u64::try_from(now.0).unwrap_or_default());
            (params.not_before, params.not_after) = (now - BEHIND, now + LIFE);
            let key = KeyPair::generate_for(&PKCS_ED25519)?;
            Ok((params.signed_by(&key, &self.issuer)?, key))
        };
        let (certificate, key) = made().map_err(|source| {
            let names = names.iter().cloned().collect::<Vec<_>>().join(", ");
            AuthorityError::Certificate { names, source }
        })?;
        Ok(Issued {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            renew: now + (LIFE - AHEAD),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_masters_of_an_installation_are_one_authority() {
        let one = Authority::derive([7; 32], "i").unwrap();
        assert_eq!(one.pem(), Authority::derive([7; 32], "i").unwrap().pem());
        assert_ne!(one.pem(), Authority::derive([8; 32], "i").unwrap().pem());
        assert!(one.pem().starts_with("-----BEGIN CERTIFICATE-----"));
    }

    #[test]
    fn a_certificate_is_renewed_long_before_its_end() {
        let authority = Authority::derive([7; 32], "i").unwrap();
        let now = Timestamp(1_795_391_368_000_000);
        let names = BTreeSet::from(["10.0.0.1".to_owned(), "ci.example.org".to_owned()]);
        let issued = authority.certify(&names, now).unwrap();
        assert_eq!(issued.renew.since(now), LIFE - AHEAD);
        assert_ne!(authority.certify(&names, now).unwrap().key, issued.key);
        assert!(authority.certify(&BTreeSet::from(["ü".to_owned()]), now).is_err());
    }
}
