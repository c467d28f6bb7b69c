//! The rules of a `NotificationChannel`.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::{name_of, rule};
use crate::limits;

/// Rules over `spec`: the part that belongs to the type is there, and no other.
pub(crate) fn spec() -> Value {
    json!([
        rule(
            "(self.type == 'Slack') == has(self.slack)",
            "slack must be given with type Slack, and only then: write it, remove it, or correct type"
        ),
        rule(
            "(self.type == 'Webhook') == has(self.webhook)",
            "webhook must be given with type Webhook, and only then: write it, remove it, or correct type"
        ),
        rule(
            "(self.type == 'Email') == has(self.email)",
            "email must be given with type Email, and only then: write it, remove it, or correct type"
        ),
    ])
}

/// Rules over `spec.webhook`.
pub(crate) fn webhook() -> Value {
    json!([rule(
        "has(self.url) != has(self.urlSecret)",
        "exactly one of url and urlSecret must be given: write urlSecret where the URL itself gives access, else url",
    )])
}

/// Rules over `spec.email`.
pub(crate) fn email() -> Value {
    json!([rule(
        "has(self.username) == has(self.passwordSecret)",
        "username and passwordSecret must be given together: write both, or neither for a server that asks for none",
    )])
}

/// `spec.webhook.url`.
pub(crate) fn webhook_url(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": limits::MAX_RUNBOOK_URL,
        "x-kubernetes-validations": [
            rule(
                r"self.matches('^https://[A-Za-z0-9\\[][!-~]*$')",
                "must be an https URL without spaces: write it in full, as in https://alerts.example.com/mooring",
            ),
            rule(
                r"!self.matches('^https://[^/?#]*@')",
                "must not hold a password: write the header's value into a Secret and name it in authorizationSecret",
            ),
        ],
    })
}

/// `name` of a reference to a Secret.
pub(crate) fn secret_name(_: &mut SchemaGenerator) -> Schema {
    name_of("Secret", "slack-webhook")
}

/// `key` of a reference to a Secret.
pub(crate) fn secret_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": limits::MAX_OBJECT_NAME,
        "x-kubernetes-validations": [rule(
            "self.matches('^[-._A-Za-z0-9]+$')",
            "must be a key of the Secret: letters, digits, '-', '_' and '.', as in url",
        )],
    })
}

/// `spec.email.server`.
pub(crate) fn mail_server(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 262,
        "x-kubernetes-validations": [rule(
            r"self.matches('^([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\\[[0-9A-Fa-f:.]+\\]):[1-9][0-9]{0,4}$')",
            "must be a host and a port: write both with ':' between, as in smtp.example.com:587",
        )],
    })
}

fn address() -> Value {
    json!({
        "type": "string",
        "maxLength": limits::MAX_EMAIL,
        "x-kubernetes-validations": [rule(
            r"self.matches('^[!-?A-~]+@[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$')",
            "must be an email address: write it without a name or brackets, as in oncall@example.com",
        )],
    })
}

/// `spec.email.from`.
pub(crate) fn sender(_: &mut SchemaGenerator) -> Schema {
    Schema::try_from(address()).unwrap_or_default()
}

/// `spec.email.to`.
pub(crate) fn recipients(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": limits::MAX_RECIPIENTS,
        "x-kubernetes-list-type": "set",
        "items": address(),
    })
}
