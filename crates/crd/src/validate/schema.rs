//! A structural schema: the part of `OpenAPI` v3 which the policy uses, checked as the API server checks it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cel_rules::Rule;

/// Keywords of the schema that are understood, or that need no check. Any other one fails [`Schema::compile`], so that
/// no bound of the CRD is ever silently missing for files.
const KEYWORDS: [&str; 22] = [
    "type",
    "description",
    "default",
    "properties",
    "additionalProperties",
    "required",
    "items",
    "enum",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "title",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

/// How the items of a list are told apart.
pub(super) enum Unique {
    No,
    ByValue,
    ByKeys(Vec<String>),
}

/// A compiled schema.
pub(super) struct Schema {
    pub(super) kind: String,
    pub(super) default: Option<Value>,
    pub(super) properties: BTreeMap<String, Schema>,
    pub(super) additional: Option<Box<Schema>>,
    pub(super) required: Vec<String>,
    pub(super) items: Option<Box<Schema>>,
    pub(super) words: Vec<Value>,
    pub(super) date_time: bool,
    pub(super) pattern: Option<regex_lite::Regex>,
    pub(super) min_length: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) minimum: Option<i64>,
    pub(super) maximum: Option<i64>,
    pub(super) min_items: Option<u64>,
    pub(super) max_items: Option<u64>,
    pub(super) max_properties: Option<u64>,
    pub(super) unique: Unique,
    pub(super) rules: Vec<Rule>,
}

impl Schema {
    /// Compiles a schema out of a CRD.
    ///
    /// # Errors
    /// What in it is not understood. A test compiles ours.
    pub(super) fn compile(value: &Value) -> Result<Self, String> {
        let object = value.as_object().ok_or("a schema is not an object")?;
        if let Some(key) = object.keys().find(|k| !KEYWORDS.contains(&k.as_str())) {
            return Err(format!("keyword {key} is not understood"));
        }
        let number = |key: &str| object.get(key).and_then(Value::as_u64);
        let bound = |key: &str| match object.get(key) {
            None => Ok(None),
            Some(n) => n.as_i64().map(Some).ok_or(format!("{key} is not a whole number")),
        };
        let one = |key: &str| object.get(key).map(|inner| Self::compile(inner).map(Box::new)).transpose();
        let strings = |key: &str| -> Vec<String> {
            object
                .get(key)
                .and_then(Value::as_array)
                .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                .unwrap_or_default()
        };
        let array = |key: &str| object.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let properties = match object.get("properties").and_then(Value::as_object) {
            None => BTreeMap::new(),
            Some(properties) => properties
                .iter()
                .map(|(name, inner)| {
                    Self::compile(inner).map(|inner| (name.clone(), inner)).map_err(|e| format!("{name}: {e}"))
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            kind: object.get("type").and_then(Value::as_str).unwrap_or_default().to_owned(),
            default: object.get("default").cloned(),
            properties,
            additional: one("additionalProperties")?,
            required: strings("required"),
            items: one("items")?,
            words: array("enum").to_vec(),
            date_time: object.get("format").is_some_and(|f| f == "date-time"),
            pattern: object
                .get("pattern")
                .and_then(Value::as_str)
                .map(regex_lite::Regex::new)
                .transpose()
                .map_err(|e| e.to_string())?,
            min_length: number("minLength"),
            max_length: number("maxLength"),
            minimum: bound("minimum")?,
            maximum: bound("maximum")?,
            min_items: number("minItems"),
            max_items: number("maxItems"),
            max_properties: number("maxProperties"),
            unique: match object.get("x-kubernetes-list-type").and_then(Value::as_str) {
                Some("set") => Unique::ByValue,
                Some("map") => Unique::ByKeys(strings("x-kubernetes-list-map-keys")),
                _ => Unique::No,
            },
            rules: array("x-kubernetes-validations").iter().map(Rule::compile).collect::<Result<_, _>>()?,
        })
    }

    /// Fills in defaults as the API server does: top down, for absent fields and for a `null` that has a default.
    pub(super) fn apply_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, schema) in &self.properties {
                    if let Some(default) = &schema.default
                        && fields.get(name).is_none_or(Value::is_null)
                    {
                        fields.insert(name.clone(), default.clone());
                    }
                    if let Some(field) = fields.get_mut(name) {
                        schema.apply_defaults(field);
                    }
                }
                if let Some(schema) = &self.additional {
                    for field in fields.values_mut() {
                        schema.apply_defaults(field);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for item in items {
                        schema.apply_defaults(item);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_reach_the_items_of_lists_and_the_values_of_maps() {
        let inner = json!({"type": "object", "properties": {"a": {"type": "integer", "default": 1}}});
        let schema = Schema::compile(&json!({"type": "object", "properties": {
            "list": {"type": "array", "items": inner},
            "map": {"type": "object", "additionalProperties": inner},
        }}));
        let mut value = json!({"list": [{}, {"a": 2}], "map": {"x": {}}});
        schema.ok().unwrap().apply_defaults(&mut value);
        assert_eq!(value, json!({"list": [{"a": 1}, {"a": 2}], "map": {"x": {"a": 1}}}));
    }

    #[test]
    fn what_is_not_understood_is_never_skipped() {
        for (schema, expected) in [
            (json!({"type": "object", "not": {}}), "keyword not is not understood"),
            (json!({"type": "integer", "maximum": 1.5}), "maximum is not a whole number"),
            (json!({"type": "string", "x-kubernetes-validations": [{"rule": "self =="}]}), "a rule without a message"),
            (json!({"type": "object", "properties": {"a": {"x": 1}}}), "a: keyword x is not understood"),
        ] {
            let error = Schema::compile(&schema).err().unwrap();
            assert!(error.contains(expected), "{error}");
        }
    }
}
