//! Objects that must be refused, with the words they are refused with: one for each thing that an object can get wrong.
//!
//! Both the checker for files and a real API server are held to the table.
#![allow(dead_code, unused_imports)] // Each test uses its part.

mod kinds;

pub use kinds::{breaker, channel, event, node};
use serde_json::{Value, json};

/// An object and what must be said about it.
pub struct Case {
    /// The object.
    pub object: Value,
    /// The field that is named.
    pub field: &'static str,
    /// A part of the message.
    pub message: &'static str,
}

/// The beginnings of what is wrong by a type or a bound, where the API server has words of its own: ours, and its.
const SERVER_WORDS: [(&str, &str); 12] = [
    ("must be a time", "must be of type date-time"),
    ("not null", "Required value"),
    ("entries: at least", "should have at least"),
    ("is missing", "Required value"),
    ("must be a", "must be of type"),
    ("write one of", "Unsupported value"),
    ("characters: at least", "should be at least"),
    ("characters: at most", "Too long"),
    ("at most", "Too "),
    ("entries", "Too many"),
    ("is already in the list", "Duplicate value"),
    ("is out of range", "should be "),
];

impl Case {
    /// A part of what a real API server says. The words of our rules are the same there; those for types and bounds are its own.
    pub fn server_message(&self) -> &'static str {
        let is_rule = self.message_of_rule();
        let own = SERVER_WORDS.iter().find(|(ours, _)| self.message.contains(ours));
        own.filter(|_| !is_rule).map_or(self.message, |(_, theirs)| theirs)
    }

    /// The definition holds the words of every rule.
    fn message_of_rule(&self) -> bool {
        let kind = self.object["kind"].as_str().unwrap_or_default();
        let kind = mooring_crd::Kind::ALL.into_iter().find(|known| known.as_str() == kind);
        kind.is_some_and(|kind| holds_message(&kind.schema().unwrap(), self.message))
    }
}

fn holds_message(schema: &Value, part: &str) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            (key == "message" && value.as_str().is_some_and(|text| text.contains(part))) || holds_message(value, part)
        }),
        Value::Array(items) => items.iter().any(|item| holds_message(item, part)),
        _ => false,
    }
}

/// A policy that uses every field and is accepted by the schema.
pub fn good() -> Value {
    json!({
        "apiVersion": "mooring.dev/v1alpha1",
        "kind": "ContainerDriftPolicy",
        "metadata": {"name": "payments-immutable", "labels": {"team": "payments"}},
        "spec": {
            "description": "Nothing runs in payments that its image did not bring.",
            "enabled": true,
            "severity": "High",
            "runbookURL": "https://runbooks.example.com/drift",
            "scope": {
                "namespaceSelector": {"matchLabels": {"team": "payments", "example.com/tier": ""}},
                "podSelector": {"matchExpressions": [
                    {"key": "app", "operator": "NotIn", "values": ["builder"]},
                    {"key": "example.com/app", "operator": "Exists"},
                ]},
                "nodeSelector": {"matchLabels": {"pool": "general"}},
                "containers": ["api", "worker"],
                "images": ["registry.example.com/payments/*", "*@sha256:0123"],
            },
            "detect": {
                "driftedBinaries": true,
                "volumeBinaries": false,
                "driftedLibraries": true,
                "driftedScripts": false,
                "exceptions": [
                    {"path": "/opt/agent/bin/updater"},
                    {"path": "/.hidden/..data/...", "sha256": "0".repeat(64)},
                    {"path": "memfd:jit cache"},
                    {"path": "/opt/app/**"},
                    {"path": "/usr/bin/["},
                ],
                "prohibitedBinaries": [{"path": "/usr/bin/nc"}, {"path": "/**/x*/y*z"}],
                "processExceptions": [{"path": "/opt/agent/bin/updater"}, {"path": "/opt/*/bin/updater"}],
                "prohibitedProcesses": [{"path": "/usr/sbin/nginx"}, {"path": "/usr/sbin/php-fpm*"}],
            },
            "actions": {
                "prevent": true,
                "container": "Pause",
                "pauseTimeout": "90s",
                "capture": {"secondsBefore": 10, "secondsAfter": 0},
                "notify": ["security-oncall", "a.b"],
            },
        },
    })
}

/// The good object with a value at a JSON pointer replaced or added.
pub fn with(pointer: &str, value: Value) -> Value {
    with_in(good(), pointer, value)
}

/// An object with a value at a JSON pointer replaced or added.
pub fn with_in(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
    object
}

/// The good object without the field at a JSON pointer.
pub fn without(pointer: &str) -> Value {
    without_in(good(), pointer)
}

/// An object without the field at a JSON pointer.
pub fn without_in(mut object: Value, pointer: &str) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    object
}

fn exception(path: impl Into<String>) -> Value {
    with("/spec/detect/exceptions", json!([{"path": path.into()}]))
}

fn prohibited(path: impl Into<String>) -> Value {
    with("/spec/detect/prohibitedBinaries", json!([{"path": path.into()}]))
}

#[allow(clippy::needless_pass_by_value)] // Called with literals.
fn expression(expression: Value) -> Value {
    with("/spec/scope/podSelector/matchExpressions", json!([expression]))
}

fn case(object: Value, field: &'static str, message: &'static str) -> Case {
    Case { object, field, message }
}

const EXCEPTION: &str = "spec.detect.exceptions[0].path";
const PROHIBITED: &str = "spec.detect.prohibitedBinaries[0].path";
const EXPRESSION: &str = "spec.scope.podSelector.matchExpressions[0]";

/// Objects that the schema refuses, in the API server and in files alike.
pub fn refused_everywhere() -> Vec<Case> {
    [
        refused_policies(),
        kinds::refused_events(),
        kinds::refused_breakers(),
        kinds::refused_nodes(),
        kinds::refused_channels(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[rustfmt::skip] // A table: one case a line.
#[allow(clippy::too_many_lines)] // One line a rule.
fn refused_policies() -> Vec<Case> {
    let paths = |n: usize| -> Value {
        (0..n)
            .map(|i| json!({"path": format!("/bin/{i}")}))
            .collect()
    };
    let patterns = |n: usize| -> Value { (0..n).map(|i| json!({"path": format!("/bin/{i}*")})).collect() };
    let names = |n: usize| -> Value { (0..n).map(|i| json!(format!("n{i}"))).collect() };
    let problems = |n: usize| -> Value { (0..n).map(|i| json!({"node": format!("n{i}"), "message": ""})).collect() };
    let condition = |kind: &str, time: &str| json!({"type": kind, "status": "True", "reason": "X", "message": "", "lastTransitionTime": time});
    let labels = |n: usize| -> Value {
        (0..n)
            .map(|i| (format!("k{i}"), json!("v")))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    vec![
        case(without("/spec"), "spec", "is missing"),
        case(with("/spec", json!(null)), "spec", "must be an object, not null"),
        case(with("/spec", json!([])), "spec", "must be an object, not a list"),
        case(with("/spec/enabled", json!("yes")), "spec.enabled", "must be a boolean, not a string: write true or false, without quotes"),
        case(with("/spec/description", json!(5)), "spec.description", "must be a string, not a number: write it in quotes"),
        case(with("/spec/description", json!("x".repeat(1025))), "spec.description", "has 1025 characters: at most 1024 are allowed"),
        case(with("/spec/severity", json!("Critical")), "spec.severity", "write one of Info, Low, Medium, High"),
        case(with("/spec/severity", json!("high")), "spec.severity", "write one of Info, Low, Medium, High"),
        case(with("/spec/runbookURL", json!("ftp://example.com")), "spec.runbookURL", "must be an http or https URL"),
        case(with("/spec/runbookURL", json!("runbooks.example.com")), "spec.runbookURL", "write it in full, as in https://"),
        case(with("/spec/runbookURL", json!("https://")), "spec.runbookURL", "must be an http or https URL"),
        case(with("/spec/runbookURL", json!("https://a b")), "spec.runbookURL", "without spaces"),
        case(with("/spec/runbookURL", json!(format!("https://{}", "x".repeat(2048)))), "spec.runbookURL", "at most 2048 are allowed"),
        case(with("/spec/scope", json!(["x"])), "spec.scope", "must be an object, not a list: write the fields containers, images"),
        case(with("/spec/scope/containers", json!("api")), "spec.scope.containers", "must be a list, not a string"),
        case(with("/spec/scope/containers", json!(["a", "b", "a"])), "spec.scope.containers[2]", "\"a\" is already in the list"),
        case(with("/spec/scope/containers", json!(["Api"])), "spec.scope.containers[0]", "must be a container's name"),
        case(with("/spec/scope/containers", json!([""])), "spec.scope.containers[0]", "must be a container's name"),
        case(with("/spec/scope/containers", json!(["api*"])), "spec.scope.containers[0]", "patterns are not supported here"),
        case(with("/spec/scope/containers", json!(["x".repeat(64)])), "spec.scope.containers[0]", "at most 63 are allowed"),
        case(with("/spec/scope/containers", names(65)), "spec.scope.containers", "has 65 entries: at most 64 are allowed"),
        case(with("/spec/scope/images", json!(["https://example.com/x y"])), "spec.scope.images[0]", "must be an image reference"),
        case(with("/spec/scope/images", json!([""])), "spec.scope.images[0]", "must be an image reference"),
        case(with("/spec/scope/images", json!(["a", "a"])), "spec.scope.images[1]", "is already in the list"),
        case(with("/spec/scope/images", json!(["x".repeat(641)])), "spec.scope.images[0]", "at most 640 are allowed"),
        case(with("/spec/scope/images", names(65)), "spec.scope.images", "has 65 entries"),
        case(with("/spec/scope/nodeSelector/matchLabels", json!({"-x": "y"})), "spec.scope.nodeSelector.matchLabels", "must be a label key"),
        case(with("/spec/scope/nodeSelector/matchLabels", json!({"a/b/c": "y"})), "spec.scope.nodeSelector.matchLabels", "must be a label key"),
        case(with("/spec/scope/nodeSelector/matchLabels", json!({"x".repeat(64): "y"})), "spec.scope.nodeSelector.matchLabels", "must be a label key"),
        case(with("/spec/scope/nodeSelector/matchLabels", json!({"x": "a b"})), "spec.scope.nodeSelector.matchLabels[x]", "must be a label value"),
        case(with("/spec/scope/nodeSelector/matchLabels", json!({"x": true})), "spec.scope.nodeSelector.matchLabels[x]", "must be a string, not a boolean: write it in quotes, as in \"true\""),
        case(with("/spec/scope/nodeSelector/matchLabels", json!({"x": "y".repeat(64)})), "spec.scope.nodeSelector.matchLabels[x]", "at most 63 are allowed"),
        case(with("/spec/scope/nodeSelector/matchLabels", labels(33)), "spec.scope.nodeSelector.matchLabels", "has 33 entries"),
        case(with("/spec/scope/podSelector/matchExpressions", (0..33) .map(|_| json!({"key": "a", "operator": "Exists"})) .collect()), "spec.scope.podSelector.matchExpressions", "has 33 entries"),
        case(expression(json!({"key": "app", "operator": "In"})), EXPRESSION, "values must be given with operator In or NotIn"),
        case(expression(json!({"key": "app", "operator": "NotIn", "values": []})), EXPRESSION, "write at least one"),
        case(expression(json!({"key": "app", "operator": "Exists", "values": ["x"]})), EXPRESSION, "values must be left out"),
        case(expression(json!({"key": "app", "operator": "Gt", "values": ["1"]})), "spec.scope.podSelector.matchExpressions[0].operator", "write one of In, NotIn, Exists, DoesNotExist"),
        case(expression(json!({"operator": "Exists"})), "spec.scope.podSelector.matchExpressions[0].key", "is missing"),
        case(expression(json!({"key": "a"})), "spec.scope.podSelector.matchExpressions[0].operator", "is missing"),
        case(expression(json!({"key": "a b", "operator": "Exists"})), "spec.scope.podSelector.matchExpressions[0].key", "must be a label key"),
        case(expression(json!({"key": "a", "operator": "In", "values": ["x", "x"]})), "spec.scope.podSelector.matchExpressions[0].values[1]", "is already in the list"),
        case(expression(json!({"key": "a", "operator": "In", "values": ["*"]})), "spec.scope.podSelector.matchExpressions[0].values[0]", "must be a label value"),
        case(expression(json!({"key": "a", "operator": "In", "values": names(33)})), "spec.scope.podSelector.matchExpressions[0].values", "has 33 entries"),
        case(with("/spec/detect/volumeBinaries", json!("true")), "spec.detect.volumeBinaries", "must be a boolean, not a string"),
        case(with("/spec/detect/exceptions", json!(["/x"])), "spec.detect.exceptions[0]", "must be an object, not a string: write the fields path, sha256"),
        case(with("/spec/detect/exceptions", json!([{}])), EXCEPTION, "is missing"),
        case(with("/spec/detect/exceptions", paths(257)), "spec.detect.exceptions", "has 257 entries: at most 256 are allowed"),
        case(with("/spec/detect/exceptions", json!([{"path": "/a"}, {"path": "/b"}, {"path": "/a"}])), "spec.detect.exceptions[2]", "\"/a\" is already in the list"),
        case(with("/spec/detect/exceptions", json!([{"path": "/a", "sha256": "AB"}])), "spec.detect.exceptions[0].sha256", "64 lower-case hexadecimal digits"),
        case(exception(""), EXCEPTION, "has 0 characters: at least 2"),
        case(exception("/"), EXCEPTION, "has 1 characters: at least 2"),
        case(exception("usr/bin/x"), EXCEPTION, "must be an absolute path"),
        case(exception("//x"), EXCEPTION, "must be a clean path"),
        case(exception("/a/./b"), EXCEPTION, "must be a clean path"),
        case(exception("/a/../b"), EXCEPTION, "must be a clean path"),
        case(exception("/a/.."), EXCEPTION, "must be a clean path"),
        case(exception("/a/"), EXCEPTION, "must be a clean path"),
        case(exception("/a\0b"), EXCEPTION, "NUL"),
        case(exception("/opt/app**"), EXCEPTION, "must have '**' as a component by itself"),
        case(exception("/opt/**/**/x"), EXCEPTION, "must have '**' as a component by itself, and not twice in a row"),
        case(exception("/*/*/*/*/*"), EXCEPTION, "must have at most 4 '*' or '**'"),
        case(exception("/usr/bin/python?"), EXCEPTION, "must not hold '?' or '['"),
        case(exception("/usr/bin/[a-z]"), EXCEPTION, "must not hold '?' or '['"),
        case(exception("/opt/*/"), EXCEPTION, "must be a clean path"),
        case(exception("memfd:jit*"), EXCEPTION, "must name the anonymous file in full"),
        case(with("/spec/detect/exceptions", patterns(33)), "spec.detect.exceptions", "must hold at most 32 patterns"),
        case(exception(format!("/{}", "x".repeat(255))), EXCEPTION, "has 256 characters: at most 255"),
        case(exception(format!("/{}", "é".repeat(128))), EXCEPTION, "must be at most 255 bytes"),
        case(exception("memfd:"), EXCEPTION, "must name the anonymous file"),
        case(exception("memfd:a/b"), EXCEPTION, "must name the anonymous file"),
        case(exception("memfd:a\0"), EXCEPTION, "must name the anonymous file"),
        case(with("/spec/detect/prohibitedBinaries", json!("/bin/nc")), "spec.detect.prohibitedBinaries", "must be a list, not a string"),
        case(with("/spec/detect/prohibitedBinaries", paths(257)), "spec.detect.prohibitedBinaries", "has 257 entries"),
        case(with("/spec/detect/prohibitedBinaries", json!([{"path": "/a"}, {"path": "/a"}])), "spec.detect.prohibitedBinaries[1]", "is already in the list"),
        case(prohibited("nc"), PROHIBITED, "must be an absolute path: write the full path inside the container"),
        case(prohibited("memfd:x"), PROHIBITED, "must be an absolute path"),
        case(prohibited("/bin/../nc"), PROHIBITED, "must be a clean path"),
        case(prohibited("/bin/*****"), PROHIBITED, "must have '**' as a component by itself"),
        case(with("/spec/detect/prohibitedBinaries", patterns(33)), "spec.detect.prohibitedBinaries", "must hold at most 32 patterns"),
        case(with("/spec/detect/processExceptions", json!([{"path": "nginx"}])), "spec.detect.processExceptions[0].path", "must be an absolute path"),
        case(with("/spec/detect/processExceptions", json!([{"path": "memfd:x"}])), "spec.detect.processExceptions[0].path", "must be an absolute path"),
        case(with("/spec/detect/processExceptions", paths(257)), "spec.detect.processExceptions", "has 257 entries"),
        case(with("/spec/detect/processExceptions", patterns(33)), "spec.detect.processExceptions", "must hold at most 32 patterns"),
        case(with("/spec/detect/processExceptions", json!([{"path": "/a"}, {"path": "/a"}])), "spec.detect.processExceptions[1]", "is already in the list"),
        case(with("/spec/detect/prohibitedProcesses", json!([{"path": "/sbin/../nginx"}])), "spec.detect.prohibitedProcesses[0].path", "must be a clean path"),
        case(with("/spec/detect/prohibitedProcesses", json!([{"path": "/sbin/ngin?"}])), "spec.detect.prohibitedProcesses[0].path", "must not hold '?' or '['"),
        case(with("/spec/detect/prohibitedProcesses", paths(257)), "spec.detect.prohibitedProcesses", "has 257 entries"),
        case(with("/spec/detect/prohibitedProcesses", patterns(33)), "spec.detect.prohibitedProcesses", "must hold at most 32 patterns"),
        case(with("/spec/detect", json!({"processExceptions": [{"path": "/a"}], "prohibitedProcesses": [{"path": "/a"}]})), "spec.detect", "a path must not be in processExceptions and in prohibitedProcesses at once"),
        case(prohibited(format!("/{}", "é".repeat(128))), PROHIBITED, "must be at most 255 bytes"),
        case(with("/spec/detect", json!({"exceptions": [{"path": "/a"}], "prohibitedBinaries": [{"path": "/a"}]})), "spec.detect", "an exception never lifts a prohibition"),
        case(with("/spec/actions/prevent", json!(1)), "spec.actions.prevent", "must be a boolean, not a number"),
        case(with("/spec/actions", json!({"container": "Restart"})), "spec.actions.container", "write one of None, Pause, Stop, Kill"),
        case(with("/spec/actions/container", json!("None")), "spec.actions", "pauseTimeout must be given with container: Pause only"),
        case(with("/spec/actions", json!({"container": "Stop", "pauseTimeout": "10m"})), "spec.actions", "remove it, or write container: Pause"),
        case(with("/spec/actions", json!({"container": "Pause", "pauseTimeout": "10"})), "spec.actions.pauseTimeout", "must be a number and a unit"),
        case(with("/spec/actions", json!({"container": "Pause", "pauseTimeout": "0s"})), "spec.actions.pauseTimeout", "as in 10m"),
        case(with("/spec/actions", json!({"container": "Pause", "pauseTimeout": "1h30m"})), "spec.actions.pauseTimeout", "must be a number and a unit"),
        case(with("/spec/actions", json!({"container": "Pause", "pauseTimeout": 10})), "spec.actions.pauseTimeout", "must be a string, not a number"),
        case(with("/spec/actions", json!({"container": "Pause", "pauseTimeout": "100000s"})), "spec.actions.pauseTimeout", "at most 6 are allowed"),
        case(with("/spec/actions/capture", json!({"secondsBefore": 121})), "spec.actions.capture.secondsBefore", "121 is out of range: write a number from 0 to 120"),
        case(with("/spec/actions/capture", json!({"secondsAfter": -1})), "spec.actions.capture.secondsAfter", "-1 is out of range"),
        case(with("/spec/actions/capture", json!({"secondsAfter": 1.5})), "spec.actions.capture.secondsAfter", "must be a whole number, not a fraction"),
        case(with("/spec/actions/capture", json!({"secondsBefore": 0, "secondsAfter": 0})), "spec.actions.capture", "must record something"),
        case(with("/spec/actions/notify", json!(["Security"])), "spec.actions.notify[0]", "must be the name of a NotificationChannel"),
        case(with("/spec/actions/notify", json!(["a", "a"])), "spec.actions.notify[1]", "is already in the list"),
        case(with("/spec/actions/notify", names(17)), "spec.actions.notify", "has 17 entries"),
        case(with("/status", json!({"violations": -1})), "status.violations", "is out of range"),
        case(with("/status", json!({"conditions": [condition("Accepted", "now")]})), "status.conditions[0].lastTransitionTime", "must be a time as RFC 3339"),
        case(with("/status", json!({"conditions": [condition("in force", "2026-01-31T12:00:00Z")]})), "status.conditions[0].type", "must be a word: write letters and digits without spaces, as in Enforcing"),
        case(with("/status", json!({"nodes": {"targeted": 1, "enforcing": 0, "degraded": 1, "problems": [{"node": "Node1", "message": ""}]}})), "status.nodes.problems[0].node", "must be the name of a Node"),
        case(with("/status", json!({"nodes": {"targeted": 11, "enforcing": 0, "degraded": 11, "problems": problems(11)}})), "status.nodes.problems", "has 11 entries"),
    ]
}

/// Objects that files are refused for here; the API server has its own words for them.
#[rustfmt::skip] // A table: one case a line.
#[allow(clippy::too_many_lines)] // One line a rule.
pub fn refused_in_files() -> Vec<Case> {
    vec![
        case(without("/apiVersion"), "apiVersion", "is missing: write apiVersion: mooring.dev/v1alpha1"),
        case(with("/apiVersion", json!("v1")), "apiVersion", "is \"v1\": write apiVersion: mooring.dev/v1alpha1"),
        case(with("/kind", json!("Pod")), "kind", "is \"Pod\": write kind: ContainerDriftPolicy"),
        case(without("/metadata"), "metadata", "is missing: write metadata: {name: NAME}"),
        case(with("/metadata", json!("x")), "metadata", "must be an object, not a string"),
        case(without("/metadata/name"), "metadata.name", "is missing"),
        case(with("/metadata/name", json!("Upper")), "metadata.name", "is not a name: write at most 253"),
        case(with("/metadata/name", json!("a..b")), "metadata.name", "is not a name"),
        case(with("/metadata/name", json!("-a")), "metadata.name", "is not a name"),
        case(with("/metadata/name", json!("a".repeat(254))), "metadata.name", "is not a name"),
        case(with("/metadata/name", json!(7)), "metadata.name", "7 is not a name"),
        case(with("/metadata/namespace", json!("default")), "metadata.namespace", "choose namespaces with spec.scope.namespaceSelector"),
        case(with("/metadata/labels", json!({"a": 1})), "metadata.labels[a]", "must be a string, not a number"),
        case(with("/metadata/annotations", json!([])), "metadata.annotations", "must be a map of strings"),
        case(with("/metadata/lables", json!({})), "metadata.lables", "is not a field of metadata"),
        case(with("/spce", json!({})), "spce", "is not a field: did you mean spec?"),
        case(with("/spec/action", json!({})), "spec.action", "is not a field: did you mean actions?"),
        case(with("/spec/runbookUrl", json!("x")), "spec.runbookUrl", "did you mean runbookURL?"),
        case(with("/spec/actions/preventing", json!(true)), "spec.actions.preventing", "did you mean prevent?"),
        case(with("/spec/scope/namespaces", json!([])), "spec.scope.namespaces", "remove it; the fields here are containers, images, namespaceSelector"),
        case(with("/spec/detect/exceptions", json!([{"path": "/a"}, {"path": "/b", "comment": "x"}])), "spec.detect.exceptions[1].comment", "is not a field: remove it; the fields here are path, sha256"),
        case(with("/spec/scope/podSelector", json!({"matchLabel": {"a": "b"}})), "spec.scope.podSelector.matchLabel", "did you mean matchLabels?"),
    ]
}
