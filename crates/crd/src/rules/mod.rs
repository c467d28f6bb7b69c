//! The rules of single values, as pieces of schema: each is written here once.
//!
//! CEL instead of `pattern` wherever a person may err, because a pattern's refusal cannot say what to write instead.
//! Only features that Kubernetes 1.36 has, and always beside a `maxLength`, `maxItems` or `maxProperties`, which bound
//! a rule's cost. Regular expressions keep to what Go's RE2 and the checker for files understand alike.

pub(crate) mod channel;
pub(crate) mod event;
pub(crate) mod status;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::limits;

/// One `x-kubernetes-validations` entry.
fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}

/// An RFC 1123 subdomain, as most names of objects are; the length is bounded beside it.
const SUBDOMAIN: &str = r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";

/// The name of an object, with the words for what it should name.
fn name_of(what: &str, example: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": limits::MAX_OBJECT_NAME,
        "x-kubernetes-validations": [rule(
            SUBDOMAIN,
            &format!("must be the name of a {what}: lower-case letters, digits, '-' and '.', as in {example}"),
        )],
    })
}

/// The name of a `ContainerDriftPolicy`.
pub(crate) fn policy_name(_: &mut SchemaGenerator) -> Schema {
    name_of("ContainerDriftPolicy", "payments-immutable")
}

/// The name of a Node.
pub(crate) fn node_name(_: &mut SchemaGenerator) -> Schema {
    name_of("Node", "node1")
}

/// The name of a Pod.
pub(crate) fn pod_name(_: &mut SchemaGenerator) -> Schema {
    name_of("Pod", "api-7c9-x2x1l")
}

/// An absolute path whose components are neither empty nor `.` nor `..`, without a slash at its end.
const CLEAN_PATH: &str = r"^(/([^/.\\x00][^/\\x00]*|\\.[^/.\\x00][^/\\x00]*|\\.\\.[^/\\x00]+))+$";

fn clean_path() -> Value {
    rule(
        &format!("!self.startsWith('/') || self.matches('{CLEAN_PATH}')"),
        "must be a clean path: leave out '//', '/./', '/../', a '/' at the end and NUL bytes, as in /usr/bin/nc",
    )
}

fn path_bytes() -> Value {
    rule("size(bytes(self)) <= 255", "must be at most 255 bytes (not characters): shorten the path")
}

/// What a path with `*` must keep to. "[" and "[[" are programs.
fn pattern() -> [Value; 3] {
    [
        rule(
            r"!self.startsWith('/') || !self.matches('[?]|[^/\\[]\\[|\\[[^/\\[]|\\[\\[\\[')",
            "must not hold '?' or '[': the only patterns are '*' within a component and '**' for any number of them, as in /usr/bin/python3.*",
        ),
        rule(
            r"!self.matches('\\*\\*\\*|[^/]\\*\\*|\\*\\*[^/]|/\\*\\*/\\*\\*')",
            "must have '**' as a component by itself, and not twice in a row: write it between slashes or at the end, as in /opt/app/**",
        ),
        rule(
            &format!(r"self.matches('^[^*]*(\\*+[^*]*){{0,{}}}$')", limits::MAX_WILDCARDS),
            &format!("must have at most {} '*' or '**': write more than one pattern", limits::MAX_WILDCARDS),
        ),
    ]
}

/// Each list of `detect`: how many entries it has, each path once, and how many of them may be patterns.
pub(crate) fn list_of_paths(schema: &mut Schema) {
    let few_patterns = rule(
        &format!("self.filter(e, e.path.contains('*')).size() <= {}", limits::MAX_LIST_PATTERNS),
        &format!(
            "must hold at most {} patterns, which are the paths with '*': write fewer, or full paths",
            limits::MAX_LIST_PATTERNS
        ),
    );
    schema.insert("maxItems".to_owned(), json!(limits::MAX_LIST_PATHS));
    schema.insert("x-kubernetes-list-type".to_owned(), json!("map"));
    schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(["path"]));
    schema.insert("x-kubernetes-validations".to_owned(), json!([few_patterns]));
}

/// `detect.prohibitedBinaries[].path`, and that of a program in the lists of processes.
pub(crate) fn prohibited_path(_: &mut SchemaGenerator) -> Schema {
    let [reserved, folders, wildcards] = pattern();
    json_schema!({
        "type": "string",
        "minLength": 2,
        "maxLength": limits::MAX_PATH_BYTES,
        "x-kubernetes-validations": [
            rule(
                "self.startsWith('/')",
                "must be an absolute path: write the full path inside the container, beginning with '/', as in /usr/bin/nc",
            ),
            clean_path(),
            reserved,
            folders,
            wildcards,
            path_bytes(),
        ],
    })
}

/// `detect.exceptions[].path`.
pub(crate) fn excepted_path(_: &mut SchemaGenerator) -> Schema {
    let [reserved, folders, wildcards] = pattern();
    json_schema!({
        "type": "string",
        "minLength": 2,
        "maxLength": limits::MAX_PATH_BYTES,
        "x-kubernetes-validations": [
            rule(
                "self.startsWith('/') || self.startsWith('memfd:')",
                "must be an absolute path: write the full path inside the container, beginning with '/', as in /opt/agent/bin/updater, or memfd:NAME for an anonymous file",
            ),
            clean_path(),
            rule(
                r"!self.startsWith('memfd:') || self.matches('^memfd:[^/\\x00]+$')",
                "must name the anonymous file: write memfd:NAME, where NAME is 1 to 249 bytes without '/' or NUL, as in memfd:jit-cache",
            ),
            rule(
                "!self.startsWith('memfd:') || !self.contains('*')",
                "must name the anonymous file in full: '*' is for paths only",
            ),
            reserved,
            folders,
            wildcards,
            path_bytes(),
        ],
    })
}

/// `detect.exceptions[].sha256`.
pub(crate) fn sha256(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 64,
        "x-kubernetes-validations": [rule(
            "self.matches('^[0-9a-f]{64}$')",
            "must be a SHA-256 digest: write the 64 lower-case hexadecimal digits that sha256sum prints",
        )],
    })
}

/// `runbookURL`.
pub(crate) fn runbook_url(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": limits::MAX_RUNBOOK_URL,
        "x-kubernetes-validations": [rule(
            r"self.matches('^https?://[A-Za-z0-9\\[][!-~]*$')",
            "must be an http or https URL without spaces: write it in full, as in https://runbooks.example.com/drift",
        )],
    })
}

/// `description`.
pub(crate) fn description(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": limits::MAX_DESCRIPTION })
}

/// `scope.containers`.
pub(crate) fn container_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::MAX_SCOPE_NAMES,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": limits::MAX_CONTAINER_NAME,
            "x-kubernetes-validations": [rule(
                "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                "must be a container's name: lower-case letters, digits and '-', beginning and ending with a letter or digit, as in api; patterns are not supported here",
            )],
        },
    })
}

/// `scope.images`.
pub(crate) fn images(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::MAX_SCOPE_NAMES,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": limits::MAX_IMAGE_PATTERN,
            "x-kubernetes-validations": [rule(
                "self.matches('^[A-Za-z0-9*._:/@-]+$')",
                "must be an image reference, where '*' stands for any characters: write it without spaces and without a scheme, as in registry.example.com/payments/*",
            )],
        },
    })
}

/// `actions.notify`.
pub(crate) fn channel_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::MAX_NOTIFY,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": limits::MAX_OBJECT_NAME,
            "x-kubernetes-validations": [rule(
                SUBDOMAIN,
                "must be the name of a NotificationChannel: lower-case letters, digits, '-' and '.', as in security-oncall",
            )],
        },
    })
}

/// `namespaces` of a `DriftEventBreaker`.
pub(crate) fn breaker_namespaces(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::MAX_BREAKER_NAMESPACES,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": limits::MAX_CONTAINER_NAME,
            "x-kubernetes-validations": [rule(
                "self == '*' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                "must be a namespace's name: lower-case letters, digits and '-', as in payments, or '*' for every namespace",
            )],
        },
    })
}

/// A label's key, as Kubernetes defines it: an optional DNS name and a slash, then a name.
const LABEL_KEY: &str = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// A label's value, as Kubernetes defines it; it may be empty.
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
const LABEL_KEY_MESSAGE: &str = "must be a label key: at most 63 letters, digits, '-', '_' and '.', with a DNS name and '/' before it where the label has one, as in app.kubernetes.io/name";
const LABEL_VALUE_MESSAGE: &str = "must be a label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, as in payments; patterns are not supported here";

fn label_value_schema() -> Value {
    json!({
        "type": "string",
        "maxLength": limits::MAX_LABEL_VALUE,
        "x-kubernetes-validations": [rule(&format!("self.matches('{LABEL_VALUE}')"), LABEL_VALUE_MESSAGE)],
    })
}

/// `matchLabels`.
pub(crate) fn match_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": limits::MAX_SELECTOR_TERMS,
        "additionalProperties": label_value_schema(),
        "x-kubernetes-validations": [rule(
            &format!("self.all(key, size(key) <= 317 && key.matches('{LABEL_KEY}'))"),
            LABEL_KEY_MESSAGE,
        )],
    })
}

/// `matchExpressions[].key`.
pub(crate) fn label_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": limits::MAX_LABEL_KEY,
        "x-kubernetes-validations": [rule(&format!("self.matches('{LABEL_KEY}')"), LABEL_KEY_MESSAGE)],
    })
}

/// `matchExpressions[].values`.
pub(crate) fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::MAX_SELECTOR_TERMS,
        "x-kubernetes-list-type": "set",
        "items": label_value_schema(),
    })
}

/// Rules of one expression of a selector.
pub(crate) fn requirement() -> Value {
    json!([
        rule(
            "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
            "values must be given with operator In or NotIn: write at least one, or use Exists or DoesNotExist",
        ),
        rule(
            "self.operator in ['In', 'NotIn'] || !has(self.values) || size(self.values) == 0",
            "values must be left out with operator Exists or DoesNotExist: remove them, or use In or NotIn",
        ),
    ])
}

/// Rules over the fields of `detect`. The list of one list gives the paths a name, so that they are gathered once and not
/// for each exception.
pub(crate) fn detect() -> Value {
    let apart = |exceptions: &str, prohibited: &str| {
        rule(
            &format!(
                "!has(self.{exceptions}) || !has(self.{prohibited}) || [self.{prohibited}.map(p, p.path)].all(paths, !self.{exceptions}.exists(e, e.path in paths))"
            ),
            &format!(
                "a path must not be in {exceptions} and in {prohibited} at once: an exception never lifts a prohibition, so remove it from one of them"
            ),
        )
    };
    json!([apart("exceptions", "prohibitedBinaries"), apart("processExceptions", "prohibitedProcesses")])
}

/// Rules over the fields of `actions.capture`.
pub(crate) fn capture() -> Value {
    json!([rule(
        "self.secondsBefore + self.secondsAfter > 0",
        "must record something: write at least one second in secondsBefore or secondsAfter",
    )])
}

/// `actions.pauseTimeout`: at most some 27 hours, 6 days, 4 days.
pub(crate) fn pause_timeout(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 6,
        "x-kubernetes-validations": [rule(
            "self.matches('^([1-9][0-9]{0,4}s|[1-9][0-9]{0,3}m|[1-9][0-9]?h)$')",
            "must be a number and a unit: write 1s to 99999s, 1m to 9999m or 1h to 99h, as in 10m",
        )],
    })
}

/// Rules over the fields of `actions`.
pub(crate) fn actions() -> Value {
    json!([rule(
        "!has(self.pauseTimeout) || (has(self.container) && self.container == 'Pause')",
        "pauseTimeout must be given with container: Pause only: remove it, or write container: Pause",
    )])
}
