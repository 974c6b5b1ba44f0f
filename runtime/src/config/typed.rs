//! Reads a table of the file into a type: for what is data through and through, as presets are.
//!
//! Whatever the type refuses is told with the place it stands at: an unknown key at the key, a wrong value at the value.

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::diagnostic::Findings;
use super::nearest::key_hint;
use super::origin::Place;
use super::tree::{Entry, Node, Table, Value};

/// Where a wrong value is told how to be written.
const HINT: &str = "docs/reference/presets.md has every key with its type and an example";

/// Why a table is not what it is read as.
#[derive(Debug)]
struct Refused {
    message: String,
    hint: Option<String>,
    at: Option<Place>,
}

/// Reads `table`, called `what` in messages; its mistake is noted.
pub(super) fn read<T: DeserializeOwned>(findings: &mut Findings, table: &Table, at: &Place, what: &str) -> Option<T> {
    match T::deserialize(Fields { table }) {
        Ok(value) => Some(value),
        Err(refused) => {
            let at = refused.at.unwrap_or_else(|| at.clone());
            let hint = refused.hint.unwrap_or_else(|| HINT.to_owned());
            findings.error("bad-preset", &at, format!("{} in {what}", refused.message)).hint(hint);
            None
        }
    }
}

/// A table as the fields of a type.
struct Fields<'a> {
    table: &'a Table,
}

/// One value.
struct Typed<'a>(&'a Node);

/// The entries of a table, one after the other.
struct Entries<'a> {
    rest: indexmap::map::Iter<'a, String, Entry>,
    value: Option<&'a Node>,
}

struct Items<'a>(std::slice::Iter<'a, Node>);

// === impl Refused ===

impl Refused {
    fn at(mut self, place: &Place) -> Self {
        self.at.get_or_insert_with(|| place.clone());
        self
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), hint: None, at: None }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self { message: format!("unknown key `{field}`"), hint: Some(key_hint(field, expected)), at: None }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { message: format!("there is no `{field}`"), hint: Some(format!("add `{field}`; {HINT}")), at: None }
    }
}

// === impl Fields ===

impl<'de> de::Deserializer<'de> for Fields<'_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_map(Entries { rest: self.table.iter(), value: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

// === impl Typed ===

impl<'de> de::Deserializer<'de> for Typed<'_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let read = match &self.0.value {
            Value::Text(text) | Value::Datetime(text) | Value::Float(text) => visitor.visit_str(text),
            Value::Integer(number) => match i64::try_from(*number) {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(de::Error::custom("a number that is too large")),
            },
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Array(items) => visitor.visit_seq(Items(items.iter())),
            Value::Table(table) => Fields { table }.deserialize_any(visitor),
        };
        read.map_err(|refused: Refused| refused.at(&self.0.at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let read = match &self.0.value {
            Value::Text(text) => {
                let text: StrDeserializer<'_, Refused> = text.as_str().into_deserializer();
                text.deserialize_enum(name, variants, visitor)
            }
            other => Err(de::Error::custom(format!("{} where a word is expected", other.kind()))),
        };
        read.map_err(|refused| refused.at(&self.0.at))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

// === impl Entries ===

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        let Some((key, entry)) = self.rest.next() else { return Ok(None) };
        self.value = Some(&entry.node);
        let key: StrDeserializer<'_, Refused> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|refused| refused.at(&entry.key_at))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        let node = self.value.take().ok_or_else(|| <Refused as de::Error>::custom("a key without a value"))?;
        seed.deserialize(Typed(node)).map_err(|refused| refused.at(&node.at))
    }
}

// === impl Items ===

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        self.0.next().map(|node| seed.deserialize(Typed(node))).transpose()
    }
}
