//! `NotificationChannel`: where notifications go. Passwords and addresses that give access are in Secrets only.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows these comments as plain text.
#![allow(clippy::duplicated_attributes)] // Each printer column has a type of its own.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    rules,
    words::{ChannelType, MailTls},
};

/// Where notifications go: one part beside type, the one that it names. Secrets are those of the operator's namespace.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mooring.dev",
    version = "v1alpha1",
    kind = "NotificationChannel",
    plural = "notificationchannels",
    shortname = "nch",
    category = "mooring",
    derive = "PartialEq",
    doc = "Where notifications of violations go. Policies name it under actions.notify. Nothing is sent yet: a policy that \
           names one is not accepted.",
    selectable = ".spec.type",
    printcolumn(name = "TYPE", type_ = "string", json_path = ".spec.type", description = "Where it leads"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "DESCRIPTION",
        type_ = "string",
        json_path = ".spec.description",
        description = "Who reads it",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::channel::spec()))]
pub struct NotificationChannelSpec {
    /// Who reads it, in a sentence. At most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::description")]
    pub description: Option<String>,

    /// Where it leads: Slack, Webhook or Email.
    #[serde(rename = "type")]
    pub kind: ChannelType,

    /// For type Slack: where to post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackChannel>,

    /// For type Webhook: where to post, and with what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookChannel>,

    /// For type Email: which server, from and to whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailChannel>,
}

/// A Slack channel, by its incoming webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlackChannel {
    /// Where the webhook's URL is kept; whoever has the URL can post.
    pub webhook_secret: SecretKey,
}

/// An HTTPS endpoint that takes a POST of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::channel::webhook()))]
pub struct WebhookChannel {
    /// The URL, where it may be read by everybody who may read this object. At most 2048 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::channel::webhook_url")]
    pub url: Option<String>,

    /// Where the URL is kept, where it gives access by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret: Option<SecretKey>,

    /// Where the value of the Authorization header is kept, as in Bearer TOKEN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_secret: Option<SecretKey>,
}

/// Mail by SMTP, always over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::channel::email()))]
pub struct EmailChannel {
    /// The server and its port, as in smtp.example.com:587.
    #[schemars(schema_with = "rules::channel::mail_server")]
    pub server: String,

    /// How the connection is protected: StartTls (usually port 587) or Implicit (usually port 465).
    #[serde(default)]
    pub tls: MailTls,

    /// The sender's address, as in mooring@example.com.
    #[schemars(schema_with = "rules::channel::sender")]
    pub from: String,

    /// The recipients' addresses. At least 1 and at most 16, each once.
    #[schemars(schema_with = "rules::channel::recipients")]
    pub to: Vec<String>,

    /// The name to log in with, where the server asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 254))]
    pub username: Option<String>,

    /// Where the password is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKey>,
}

/// A value in a Secret of the operator's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(schema_with = "rules::channel::secret_name")]
    pub name: String,

    /// The key of the value in it.
    #[schemars(schema_with = "rules::channel::secret_key")]
    pub key: String,
}
