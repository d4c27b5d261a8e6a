//! Names and validity of an X.509 certificate (RFC 5280).

use std::net::IpAddr;

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Names and validity of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateInfo {
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// Start of its validity, in seconds since 1970.
    pub not_before: i64,
    /// End of its validity, in seconds since 1970.
    pub not_after: i64,
    /// End of its validity as a date.
    pub end: String,
}

impl CertificateInfo {
    /// Parses a certificate in DER. Names have no control characters.
    pub(super) fn from_der(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let validity = certificate.validity();
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let names = alternatives.map(|names| names.value.general_names.iter().filter_map(name).collect());
        Some(Self {
            names: names.unwrap_or_default(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            end: validity.not_after.to_string(),
        })
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.escape_default().to_string()),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    }
}

/// Returns the end of a DER certificate's validity in seconds since 1970, or `None` if it cannot be parsed.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_certificate_are_those_that_clients_compare() {
        let names = ["cache.example.org", "192.0.2.1", "2001:db8::1"];
        let made = rcgen::generate_simple_self_signed(names.map(str::to_owned)).unwrap();
        assert_eq!(CertificateInfo::from_der(made.cert.der()).unwrap().names, names);
        assert_eq!(CertificateInfo::from_der(b""), None);
    }

    #[test]
    fn the_expiry_of_a_certificate_is_read_and_other_bytes_have_none() {
        let key = rcgen::KeyPair::generate().unwrap();
        // In GeneralizedTime and in UTCTime, which ends in 2049.
        for (year, seconds) in [(2050, 2_524_608_000), (2030, 1_893_456_000)] {
            let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(seconds));
            assert_eq!(not_after(&certificate.der()[1..]), None);
        }
        assert_eq!(not_after(b""), None);
    }
}
