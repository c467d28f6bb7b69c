//! The API of Mooring, group `mooring.dev`: its types, and the one set of rules that they must obey.
//!
//! The rules are written once, in the schema that is generated from these types. The API server enforces that schema;
//! [`validate`] enforces the very same one for policies that come from files, so that a file is refused for what
//! `kubectl apply` would refuse, with the same words.
//!
//! No client and no I/O.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs))]

pub mod access;
pub mod actions;
pub mod breaker;
pub mod channel;
pub mod definition;
pub mod detect;
pub mod event;
pub mod event_name;
pub mod limits;
pub mod node;
pub mod policy;
pub mod reference;
mod rules;
pub mod scope;
pub mod status;
pub mod text;
pub mod validate;
pub mod words;

pub use actions::{Actions, Capture, DEFAULT_PAUSE_TIMEOUT};
pub use breaker::{BREAKER, DriftEventBreaker, DriftEventBreakerSpec, EVERY_NAMESPACE};
pub use channel::{
    EmailChannel, NotificationChannel, NotificationChannelSpec, SecretKey, SlackChannel, WebhookChannel,
};
pub use definition::{API_VERSION, GROUP, Kind, POLICY_KIND, VERSION};
pub use detect::{Detect, Exception, ProcessPath, ProhibitedBinary};
pub use event::{
    ContainerActionOutcome, DriftEvent, DriftEventSpec, DriftEventStatus, EventPod, EventVolume, HeldBack, OTHER_PATHS,
    Parent, Process, RESUME_ANNOTATION,
};
pub use event_name::event_name;
pub use node::{
    AppliedRules, DriftNode, DriftNodeSpec, DriftNodeStatus, FeatureSupport, NodeContainers, NodeEvents, PolicyFigures,
    SelfTest,
};
pub use policy::{ContainerDriftPolicy, ContainerDriftPolicySpec};
pub use scope::{LabelSelector, Operator, Requirement, Scope};
pub use status::{ContainerCounts, ContainerDriftPolicyStatus, NodeCounts, NodeProblem};
pub use validate::{FieldError, policy_from_value, validate, validate_policy};
pub use words::{
    ActionResult, Backend, ChannelType, ContainerAction, Feature, HeldBackAction, MailTls, Reason, RulesSource,
    SelfTestResult, Severity, Switch, Verdict,
};
