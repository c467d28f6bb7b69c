//! Reads any value, and refuses a mapping that has one key twice.
//!
//! The API server refuses such an object; most parsers keep one of the two, and the reader of the file sees the other.

use std::cell::RefCell;
use std::fmt;

use mooring_crd::FieldError;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads a value at a path.
pub(super) struct Strict<'a> {
    path: Option<&'a Step<'a>>,
    /// Receives the field that is there twice: an error of serde carries only text.
    duplicate: &'a RefCell<Option<FieldError>>,
}

/// The way to a value, innermost first.
struct Step<'a> {
    parent: Option<&'a Step<'a>>,
    name: Name<'a>,
}

enum Name<'a> {
    Key(&'a str),
    Index(usize),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match (&self.name, self.parent) {
            (Name::Key(key), None) => f.write_str(key),
            (Name::Key(key), Some(_)) => write!(f, ".{key}"),
            (Name::Index(index), _) => write!(f, "[{index}]"),
        }
    }
}

impl<'a> Strict<'a> {
    pub(super) fn new(duplicate: &'a RefCell<Option<FieldError>>) -> Self {
        Self { path: None, duplicate }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, list, text, number or boolean")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let step = Step { parent: self.path, name: Name::Index(values.len()) };
            match seq.next_element_seed(Strict { path: Some(&step), duplicate: self.duplicate })? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let step = Step { parent: self.path, name: Name::Key(&key) };
            if values.contains_key(&key) {
                let message = "is written twice: keep one of them";
                *self.duplicate.borrow_mut() = Some(FieldError::new(step.to_string(), message));
                return Err(A::Error::custom(message));
            }
            let value = map.next_value_seed(Strict { path: Some(&step), duplicate: self.duplicate })?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}
