//! Hashes of passwords by bcrypt, as crypt(5) writes them: `$2y$10$`, 22 characters of salt, 31 of hash.
//!
//! The versions `2a`, `2b` and `2y` name fixes in other implementations and are the same here. `2x` is a broken one.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};
use ring::error::Unspecified;
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;

/// Costs that are accepted: bcrypt has none below 4, and 14 takes a processor about a second.
pub(super) const COSTS: RangeInclusive<u32> = 4..=14;

/// Cost of new hashes. It takes a processor about 50 ms, once in a few minutes for each user.
const NEW_COST: u32 = 10;

/// Maximum length of a password, in bytes: bcrypt does not see what follows.
pub(crate) const MAX_PASSWORD: usize = 72;

/// Minimum length of a new password, in bytes (NIST SP 800-63B, section 5.1.1).
pub(crate) const MIN_PASSWORD: usize = 8;

const SALT_LENGTH: usize = 16;
/// Bytes of bcrypt's 24 that are in its text.
const DIGEST_LENGTH: usize = 23;
/// Characters of the salt in base64, before those of the digest.
const SALT_TEXT: usize = 22;
const DIGEST_TEXT: usize = 31;

/// Base64 with the alphabet of bcrypt. Bits beyond the last byte have to be zero, so that a hash has one spelling.
static BASE64: LazyLock<Option<Encoding>> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
    specification.encoding().ok()
});

/// Hash of a password. Comparisons and `Debug` output do not reveal it.
#[derive(Clone)]
pub struct PasswordHash {
    /// `a`, `b` or `y`, to write the hash as it was read.
    version: char,
    cost: u32,
    salt: [u8; SALT_LENGTH],
    digest: [u8; DIGEST_LENGTH],
}

/// Reason why a text is not an accepted hash. It never holds the text, which may be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// The text is a hash of another kind, or no hash.
    #[error("the password is {0}, not a bcrypt hash")]
    NotBcrypt(&'static str),
    /// The cost is too low or too high.
    #[error("the cost of the bcrypt hash is {0}, not {min} to {max}", min = COSTS.start(), max = COSTS.end())]
    Cost(u32),
    /// The text begins as a bcrypt hash does, and is none.
    #[error("the bcrypt hash is malformed")]
    Malformed,
}

/// Reason why a password cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordError {
    /// The password is too short.
    #[error("the password is shorter than {MIN_PASSWORD} bytes")]
    TooShort,
    /// bcrypt would ignore the end of the password.
    #[error("the password is longer than {MAX_PASSWORD} bytes, and bcrypt would ignore the rest")]
    TooLong,
    /// The password has a character that clients cannot send (RFC 7617, section 2).
    #[error("the password has a control character")]
    ControlCharacter,
    /// The system has no random numbers.
    #[error("no random numbers are available")]
    NoRandomNumbers,
}

impl From<Unspecified> for PasswordError {
    fn from(_: Unspecified) -> Self {
        Self::NoRandomNumbers
    }
}

impl PasswordHash {
    /// Hashes a new password with a random salt.
    pub(crate) fn new(password: &str) -> Result<Self, PasswordError> {
        match password.len() {
            0..MIN_PASSWORD => return Err(PasswordError::TooShort),
            MIN_PASSWORD..=MAX_PASSWORD => {}
            _ => return Err(PasswordError::TooLong),
        }
        if password.chars().any(char::is_control) {
            return Err(PasswordError::ControlCharacter);
        }
        Ok(Self::with_cost(password.as_bytes(), NEW_COST)?)
    }

    /// Hashes a password of at most [`MAX_PASSWORD`] bytes.
    pub(super) fn with_cost(password: &[u8], cost: u32) -> Result<Self, Unspecified> {
        let mut salt = [0; SALT_LENGTH];
        SystemRandom::new().fill(&mut salt)?;
        Ok(Self { version: 'y', cost, salt, digest: digest(password, cost, salt) })
    }

    /// Returns the hash of no password that anybody knows, with this cost.
    pub(super) fn unknown(cost: u32) -> Result<Self, Unspecified> {
        let (mut salt, mut digest) = ([0; SALT_LENGTH], [0; DIGEST_LENGTH]);
        SystemRandom::new().fill(&mut salt)?;
        SystemRandom::new().fill(&mut digest)?;
        Ok(Self { version: 'y', cost, salt, digest })
    }

    /// Parses the text of a hash.
    pub(super) fn parse(text: &str) -> Result<Self, PasswordHashError> {
        let rest = text.strip_prefix("$2").filter(|rest| rest.get(1..2) == Some("$"));
        let version = rest.and_then(|rest| rest.chars().next()).filter(|version| "aby".contains(*version));
        let (Some(rest), Some(version)) = (rest, version) else {
            return Err(PasswordHashError::NotBcrypt(kind(text)));
        };
        let (cost, encoded) = rest[2..].split_once('$').ok_or(PasswordHashError::Malformed)?;
        if cost.len() != 2 || !cost.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(PasswordHashError::Malformed);
        }
        let cost = cost.parse().map_err(|_| PasswordHashError::Malformed)?;
        if !COSTS.contains(&cost) {
            return Err(PasswordHashError::Cost(cost));
        }
        let (salt, digest) = encoded.split_at_checked(SALT_TEXT).ok_or(PasswordHashError::Malformed)?;
        Ok(Self { version, cost, salt: decode(salt)?, digest: decode(digest)? })
    }

    /// Returns the cost: the binary logarithm of the number of rounds.
    pub(super) const fn cost(&self) -> u32 {
        self.cost
    }

    /// Returns bytes that no other hash has, with whatever follows them.
    pub(super) fn identity(&self) -> impl Iterator<Item = &[u8]> {
        [&self.salt[..], &self.digest[..]].into_iter()
    }

    /// Returns whether this is the hash of the password, after as much work as a hash of `max_cost` takes if it is not, so
    /// that the time does not tell of which cost this hash is.
    ///
    /// A password that is empty, longer than [`MAX_PASSWORD`], or has a NUL is wrong at once, whatever the hash.
    pub(super) fn is_of(&self, password: &[u8], max_cost: u32) -> bool {
        if !is_possible(password) {
            return false;
        }
        let found = digest(password, self.cost, self.salt);
        let is_right = bool::from(found.ct_eq(&self.digest));
        if !is_right {
            // 2^c + (2^c + 2^(c+1) + … + 2^(max-1)) = 2^max
            for cost in self.cost..max_cost {
                std::hint::black_box(digest(password, cost, self.salt));
            }
        }
        is_right
    }
}

/// Returns whether a password can be that of anybody. Other implementations end a password at a NUL, or after 72 bytes.
pub(super) fn is_possible(password: &[u8]) -> bool {
    (1..=MAX_PASSWORD).contains(&password.len()) && !password.contains(&0)
}

/// Hashes a password of at most [`MAX_PASSWORD`] bytes, with the NUL that ends it if there is room.
fn digest(password: &[u8], cost: u32, salt: [u8; SALT_LENGTH]) -> [u8; DIGEST_LENGTH] {
    #[cfg(test)]
    tests::ROUNDS.set(tests::ROUNDS.get() + (1 << cost));
    let mut key = [0; MAX_PASSWORD + 1];
    let length = password.len().min(MAX_PASSWORD);
    key[..length].copy_from_slice(&password[..length]);
    let all = bcrypt::bcrypt(cost, salt, &key[..(length + 1).min(MAX_PASSWORD)]);
    let mut digest = [0; DIGEST_LENGTH];
    digest.copy_from_slice(&all[..DIGEST_LENGTH]);
    digest
}

fn decode<const N: usize>(text: &str) -> Result<[u8; N], PasswordHashError> {
    let bytes = BASE64.as_ref().and_then(|base64| base64.decode(text.as_bytes()).ok());
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(PasswordHashError::Malformed)
}

/// Names the kind of a hash that is not one of bcrypt.
fn kind(text: &str) -> &'static str {
    const KINDS: [(&str, &str); 10] = [
        ("$apr1$", "an MD5 hash"),
        ("$1$", "an MD5 hash"),
        ("$2x$", "a hash of a broken bcrypt (2x)"),
        ("$5$", "a SHA-256 hash"),
        ("$6$", "a SHA-512 hash"),
        ("$7$", "an scrypt hash"),
        ("$y$", "a yescrypt hash"),
        ("$argon2", "an Argon2 hash"),
        ("{SHA}", "a SHA-1 hash"),
        ("{SSHA}", "a SHA-1 hash"),
    ];
    let known = KINDS.iter().find(|(prefix, _)| text.starts_with(prefix));
    known.map_or("in another format", |(_, kind)| kind)
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |bytes| BASE64.as_ref().map(|base64| base64.encode(bytes)).unwrap_or_default();
        let (salt, digest) = (encode(&self.salt[..]), encode(&self.digest[..]));
        debug_assert_eq!((salt.len(), digest.len()), (SALT_TEXT, DIGEST_TEXT));
        write!(f, "$2{}${:02}${salt}{digest}", self.version, self.cost)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash(cost {})", self.cost)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// Rounds of bcrypt on this thread.
        pub(super) static ROUNDS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    /// Vectors of jBCrypt.
    const KNOWN: [(&str, &str); 3] = [
        ("$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", "a"),
        ("$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz.", "abcdefghijklmnopqrstuvwxyz"),
        ("$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i", "abc"),
    ];

    #[test]
    fn hashes_of_other_programs_are_those_of_their_passwords_alone() {
        for (text, password) in KNOWN {
            let hash = PasswordHash::parse(text).unwrap();
            assert!(hash.is_of(password.as_bytes(), 4), "{text}");
            for other in ["", "A", "abc\0", &format!("{password} ")] {
                assert!(!hash.is_of(other.as_bytes(), 4), "{text} {other:?}");
            }
            // The versions differ in name only.
            for version in ["$2b$", "$2y$"] {
                let text = text.replacen("$2a$", version, 1);
                let hash = PasswordHash::parse(&text).unwrap();
                assert!(hash.is_of(password.as_bytes(), 4));
                assert_eq!(hash.to_string(), text);
            }
        }
    }

    #[test]
    fn a_password_that_bcrypt_would_cut_is_refused_and_never_right() {
        let (longest, longer) = ("p".repeat(72), "p".repeat(73));
        let hash = PasswordHash::with_cost(longest.as_bytes(), 4).unwrap();
        assert!(hash.is_of(longest.as_bytes(), 4) && !hash.is_of(longer.as_bytes(), 4));
        assert!(!hash.is_of(&longest.as_bytes()[..71], 4));
        assert_eq!(PasswordHash::new(&longer).unwrap_err(), PasswordError::TooLong);
        assert_eq!(PasswordHash::new("1234567").unwrap_err(), PasswordError::TooShort);
        assert_eq!(PasswordHash::new("12345678\t").unwrap_err(), PasswordError::ControlCharacter);
        // A hash of the empty password, which other programs make, lets nobody in.
        let empty = PasswordHash::with_cost(b"", 4).unwrap();
        assert!(!empty.is_of(b"", 4) && !empty.is_of(b"\0", 4));
    }

    #[test]
    fn a_wrong_password_takes_the_same_work_whatever_the_cost_of_its_hash() {
        let rounds = |hash: &PasswordHash, password: &[u8]| {
            ROUNDS.set(0);
            hash.is_of(password, 7);
            ROUNDS.get()
        };
        for cost in 4..=7 {
            let hash = PasswordHash::with_cost(b"right", cost).unwrap();
            assert_eq!(rounds(&hash, b"wrong"), 1 << 7, "cost {cost}");
            assert_eq!(rounds(&hash, b"right"), 1 << cost);
        }
        // As it does where there is no such user.
        assert_eq!(rounds(&PasswordHash::unknown(7).unwrap(), b"wrong"), 1 << 7);
        assert_eq!(rounds(&PasswordHash::unknown(7).unwrap(), &[b'a'; 73]), 0);
    }

    #[test]
    fn two_hashes_of_one_password_differ() {
        let [a, b] = [(); 2].map(|()| PasswordHash::new("correct horse").unwrap().to_string());
        assert_ne!(a, b);
        assert!(a.starts_with("$2y$10$"));
        assert!(PasswordHash::parse(&a).unwrap().is_of(b"correct horse", 10));
    }

    #[test]
    fn what_is_not_a_bcrypt_hash_is_refused_by_its_kind() {
        use PasswordHashError::{Cost, Malformed, NotBcrypt};
        let good = KNOWN[0].0;
        for (text, error) in [
            ("", NotBcrypt("in another format")),
            ("secret", NotBcrypt("in another format")),
            ("$2$06$", NotBcrypt("in another format")),
            ("$2é", NotBcrypt("in another format")),
            ("$apr1$x$y", NotBcrypt("an MD5 hash")),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", NotBcrypt("a SHA-1 hash")),
            ("$6$x$y", NotBcrypt("a SHA-512 hash")),
            (&good.replace("$2a", "$2x"), NotBcrypt("a hash of a broken bcrypt (2x)")),
            (&good.replace("$06$", "$03$"), Cost(3)),
            (&good.replace("$06$", "$15$"), Cost(15)),
            (&good.replace("$06$", "$31$"), Cost(31)),
            (&good.replace("$06$", "$6$"), Malformed),
            (&good.replace("$06$", "$+6$"), Malformed),
            (&good[..59], Malformed),
            (&format!("{good}e"), Malformed),
            (&format!("{good} "), Malformed),
            (&good.replace('f', "é"), Malformed),
            // The bits beyond the last byte of the salt.
            (&good.replace("DGO3", "DGP3"), Malformed),
        ] {
            assert_eq!(PasswordHash::parse(text).unwrap_err(), error, "{text}");
        }
        for cost in COSTS {
            let text = good.replace("$06$", &format!("${cost:02}$"));
            assert_eq!(PasswordHash::parse(&text).unwrap().cost(), cost);
        }
    }

    #[test]
    fn debug_output_holds_no_hash() {
        let hash = PasswordHash::parse(KNOWN[0].0).unwrap();
        assert_eq!(format!("{hash:?}"), "PasswordHash(cost 6)");
    }

    proptest! {
        #[test]
        fn a_hash_is_read_as_it_is_written(salt: [u8; 16], digest: [u8; 23], cost in COSTS, version in "[aby]") {
            let hash = PasswordHash { version: version.chars().next().unwrap(), cost, salt, digest };
            let text = hash.to_string();
            let read = PasswordHash::parse(&text).unwrap();
            prop_assert_eq!((read.salt, read.digest, read.to_string()), (salt, digest, text));
        }

        #[test]
        fn any_text_is_refused_or_written_as_it_was(text in "(\\$2[abxy]\\$[0-9]{2}\\$)?[./A-Za-z0-9]{0,60}") {
            if let Ok(hash) = PasswordHash::parse(&text) {
                prop_assert_eq!(hash.to_string(), text);
            }
        }
    }
}
