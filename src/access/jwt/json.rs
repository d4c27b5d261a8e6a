//! JSON whose objects have no key twice (RFC 8259 leaves such objects to the parser, RFC 7515 section 4 forbids them).
//!
//! Two parsers that differ in which of two equal keys they take would read different claims from one signed token.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses one object, and nothing after it. Nesting is limited by serde_json.
pub(super) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    let Unique(value) = serde_json::from_slice(bytes)?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(serde_json::Error::custom("not a JSON object")),
    }
}

/// A value in which no object has a key twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Unique(value)) = values.next_element()? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, _>()? {
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("a key twice in one object"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_parsed_as_serde_json_does() {
        let text = r#" {"a":[1,-2,3.5,true,null,"x\n"],"b":{"c":{}}} "#;
        let object = parse_object(text.as_bytes()).unwrap();
        assert_eq!(Value::Object(object), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_key_twice_is_refused_at_every_level_and_in_every_notation() {
        for text in [
            r#"{"aud":1,"aud":1}"#,
            r#"{"aud":1,"\u0061ud":1}"#,
            r#"{"x":{"aud":1,"aud":2}}"#,
            r#"{"x":[{"aud":1,"aud":2}]}"#,
        ] {
            assert!(parse_object(text.as_bytes()).unwrap_err().to_string().starts_with("a key twice"), "{text}");
        }
    }

    #[test]
    fn other_values_trailing_bytes_and_deep_nesting_are_refused() {
        let deep = format!("{}{}", r#"{"a":"#.repeat(100_000), "1");
        for text in ["", "1", "[]", "null", "{}x", "{}{}", "{", "\u{feff}{}", &deep] {
            assert!(parse_object(text.as_bytes()).is_err());
        }
        assert!(parse_object(b"{\"a\":\"\xff\"}").is_err());
    }
}
