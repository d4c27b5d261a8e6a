//! The name of a client by its certificate: the subject's common name, or else the first DNS name (RFC 5280, sections 4.1.2.6 and
//! 4.2.1.6).
//!
//! Grants compare names with patterns, and logs show them. So a name is one text that can be read in one way only: a certificate
//! whose common name is not such a text names nobody, and no other name of it is tried.

use std::sync::Arc;

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Maximum length of a name, in bytes: that of a DNS name (RFC 1035, section 2.3.4). A common name has at most 64 characters.
const MAX_NAME: usize = 253;

/// Reason for which a certificate names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Unnamed {
    #[error("it cannot be parsed")]
    Malformed,
    #[error("it has neither a common name nor a DNS name")]
    NoName,
    #[error("it has more than one common name")]
    Ambiguous,
    #[error("its name is empty or longer than {MAX_NAME} characters")]
    Length,
    #[error("its name has a wildcard")]
    Wildcard,
    #[error("its name has characters other than printable ASCII, or a space at an end")]
    Characters,
}

/// Returns the name of the client with this certificate, in DER, which is verified.
pub(super) fn client_name(certificate: &[u8]) -> Result<Arc<str>, Unnamed> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| Unnamed::Malformed)?;
    let mut common_names = certificate.subject().iter_common_name();
    if let Some(name) = common_names.next() {
        if common_names.next().is_some() {
            return Err(Unnamed::Ambiguous);
        }
        // Other types of strings are in character sets that nobody uses, or in UTF-16.
        return checked(name.as_str().map_err(|_| Unnamed::Characters)?);
    }
    let alternatives = certificate.subject_alternative_name().map_err(|_| Unnamed::Malformed)?;
    let mut names = alternatives.iter().flat_map(|names| &names.value.general_names);
    let dns_name = names.find_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None });
    checked(dns_name.ok_or(Unnamed::NoName)?)
}

fn checked(name: &str) -> Result<Arc<str>, Unnamed> {
    let is_printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if name.is_empty() || name.len() > MAX_NAME {
        Err(Unnamed::Length)
    } else if name.contains('*') {
        Err(Unnamed::Wildcard)
    } else if !name.bytes().all(is_printable) || name.trim() != name {
        Err(Unnamed::Characters)
    } else {
        Ok(name.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    fn name_of(subject: DistinguishedName, alternatives: Vec<SanType>) -> Result<Arc<str>, Unnamed> {
        let mut params = CertificateParams::default();
        (params.distinguished_name, params.subject_alt_names) = (subject, alternatives);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        client_name(certificate.der())
    }

    fn common_name(name: impl Into<DnValue>) -> DistinguishedName {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "acme");
        subject.push(DnType::CommonName, name);
        subject
    }

    fn dns_name(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    #[test]
    fn the_common_name_comes_before_dns_names() {
        let alternatives =
            || vec![SanType::IpAddress([192, 0, 2, 1].into()), dns_name("b.example"), dns_name("c.example")];
        assert_eq!(name_of(common_name("builder1"), alternatives()).as_deref(), Ok("builder1"));
        assert_eq!(name_of(common_name("Alice Example"), vec![]).as_deref(), Ok("Alice Example"));
        assert_eq!(name_of(DistinguishedName::new(), alternatives()).as_deref(), Ok("b.example"));
    }

    #[test]
    fn an_unclear_name_names_nobody_and_no_other_name_is_tried() {
        let dns = || vec![dns_name("good.example")];
        let long = "a".repeat(254);
        for (name, why) in [
            ("*", Unnamed::Wildcard),
            ("*.example.org", Unnamed::Wildcard),
            ("alice\0.evil.example", Unnamed::Characters),
            ("alice\n", Unnamed::Characters),
            ("al\u{202e}ice", Unnamed::Characters),
            ("\u{430}lice", Unnamed::Characters),
            (" alice", Unnamed::Characters),
            ("", Unnamed::Length),
            (&long, Unnamed::Length),
        ] {
            assert_eq!(name_of(common_name(name), dns()), Err(why), "{name:?}");
        }
        let utf16 = DnValue::BmpString("alice".try_into().unwrap());
        assert_eq!(name_of(common_name(utf16), dns()), Err(Unnamed::Characters));
        assert_eq!(name_of(DistinguishedName::new(), vec![dns_name("*.example.org")]), Err(Unnamed::Wildcard));
        assert_eq!(name_of(DistinguishedName::new(), vec![]), Err(Unnamed::NoName));
        let address = vec![SanType::IpAddress([192, 0, 2, 1].into()), SanType::Rfc822Name("a@b.c".try_into().unwrap())];
        assert_eq!(name_of(DistinguishedName::new(), address), Err(Unnamed::NoName));
    }

    #[test]
    fn two_common_names_name_nobody() {
        // rcgen writes each type once, so another attribute becomes a second common name: 2.5.4.11 to 2.5.4.3.
        let mut subject = common_name("alice");
        subject.push(DnType::OrganizationalUnitName, "mallory");
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut der = certificate.der().to_vec();
        assert_eq!(client_name(&der).as_deref(), Ok("alice"));
        let unit = b"\x06\x03\x55\x04\x0b";
        for at in (0..der.len() - unit.len()).rev().filter(|at| der[*at..].starts_with(unit)).collect::<Vec<_>>() {
            der[at + 4] = 3;
        }
        assert_eq!(client_name(&der), Err(Unnamed::Ambiguous));
        assert_eq!(client_name(b""), Err(Unnamed::Malformed));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_printable_and_matches_no_pattern_but_itself(name in "(\\PC|[\\x00-\\x7f]){0,300}") {
            if let Ok(accepted) = checked(&name) {
                prop_assert_eq!(&*accepted, &*name);
                prop_assert!((1..=MAX_NAME).contains(&name.len()) && !name.contains('*'));
                prop_assert!(name.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            }
        }
    }
}
