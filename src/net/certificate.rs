//! Facts of an X.509 certificate that an operator wants to see (RFC 5280).

use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The end of the validity of a certificate in DER, in seconds since 1970; nothing if it cannot be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_and_of_other_bytes_there_is_none() {
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
