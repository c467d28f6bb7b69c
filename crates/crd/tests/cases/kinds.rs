//! The kinds beside the policy.

use serde_json::{Value, json};

use super::{Case, case, with_in, without_in};

/// A `DriftEvent` that uses every field.
pub fn event() -> Value {
    json!({
        "apiVersion": "mooring.dev/v1alpha1",
        "kind": "DriftEvent",
        "metadata": {"name": "6n6k556cmgryogzv3r26", "namespace": "default"},
        "spec": {
            "policy": "payments-immutable", "severity": "High", "reason": "NewBinary", "verdict": "Denied",
            "node": "node1", "pod": {"name": "api-7c9-x2x1l", "uid": "u-1"}, "container": "api", "containerID": "c1",
            "image": "registry.example.com/payments/api:1", "path": "/tmp/xmrig", "invokedAs": "./xmrig",
            "sha256": "0".repeat(64),
            "volume": {"mountPath": "/data", "kind": "emptyDir", "name": "data"},
            "process": {"pid": 7, "uid": 4_294_967_295_u32, "commandLine": "./xmrig -o", "parent": {"pid": 1, "name": "sh"}},
            "runbookURL": "https://runbooks.example.com/drift",
        },
        "status": {
            "count": 412, "firstSeen": "2026-01-31T12:00:00.000000Z", "lastSeen": "2026-01-31T12:00:03.000001Z",
            "containerAction": {"action": "Kill", "result": "Done", "outcome": "killed", "durationMilliseconds": 12},
            "heldBack": [{"what": "Prevent", "by": "ignoreActions"}], "captureRef": "captures/1.scap",
        },
    })
}

/// A `DriftNode` that uses every field.
pub fn node() -> Value {
    json!({
        "apiVersion": "mooring.dev/v1alpha1",
        "kind": "DriftNode",
        "metadata": {"name": "node1"},
        "spec": {},
        "status": {
            "agentVersion": "0.1.0",
            "kernel": "6.12.48+deb13-cloud-amd64",
            "backend": "FmodRet",
            "backendReason": "bpf is not in the list of security modules: add it to lsm= on the kernel's command line",
            "selfTest": {"result": "Passed", "message": "a drifted file was refused"},
            "applied": {"revision": 7, "digest": "0".repeat(64), "resourceVersion": "123", "source": "ConfigMap"},
            "containers": {"seen": 30, "matched": 24, "protected": 24, "unprotectable": 0, "summary": "24/24"},
            "events": {"lost": 0, "suppressed": 3},
            "switches": ["ignoreActions", "denyExecutionFromVolumes"],
            "features": [
                {"name": "Prevent", "supported": true},
                {"name": "DriftedScripts", "supported": false, "message": "not implemented yet"},
            ],
            "policies": [{"name": "payments-immutable", "matched": 24, "protected": 24, "violations": 412, "problem": "none"}],
            "released": false,
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Enforcing", "message": "", "observedGeneration": 1,
                "lastTransitionTime": "2026-01-31T12:00:00Z",
            }],
        },
    })
}

/// A `DriftEventBreaker` that uses every field.
pub fn breaker() -> Value {
    json!({
        "apiVersion": "mooring.dev/v1alpha1",
        "kind": "DriftEventBreaker",
        "metadata": {"name": "mooring"},
        "spec": {"namespaces": ["payments"]},
    })
}

/// A `NotificationChannel` of a type, with every field of it.
pub fn channel(kind: &str) -> Value {
    let secret = json!({"name": "mooring-notify", "key": "value"});
    let (part, fields) = match kind {
        "Slack" => ("slack", json!({"webhookSecret": secret})),
        "Webhook" => {
            ("webhook", json!({"url": "https://alerts.example.com/mooring?team=a", "authorizationSecret": secret}))
        }
        _ => (
            "email",
            json!({
                "server": "smtp.example.com:587", "tls": "StartTls", "from": "mooring@example.com",
                "to": ["oncall@example.com", "security@example.com"], "username": "mooring", "passwordSecret": secret,
            }),
        ),
    };
    json!({
        "apiVersion": "mooring.dev/v1alpha1",
        "kind": "NotificationChannel",
        "metadata": {"name": "security-oncall"},
        "spec": {"description": "Whoever is on call.", "type": kind, part: fields},
    })
}

#[rustfmt::skip] // A table: one case a line.
pub(super) fn refused_events() -> Vec<Case> {
    let with = |pointer: &str, value: Value| with_in(event(), pointer, value);
    let without = |pointer: &str| without_in(event(), pointer);
    vec![
        case(without("/spec"), "spec", "is missing"),
        case(without("/status"), "status", "is missing"),
        case(without("/spec/policy"), "spec.policy", "is missing"),
        case(with("/spec/policy", json!("")), "spec.policy", "must be the name of a ContainerDriftPolicy"),
        case(with("/spec/node", json!("Node 1")), "spec.node", "must be the name of a Node"),
        case(with("/spec/pod/name", json!("a/b")), "spec.pod.name", "must be the name of a Pod"),
        case(without("/spec/pod/name"), "spec.pod.name", "is missing"),
        case(with("/spec/container", json!("Api")), "spec.container", "must be a container's name"),
        case(with("/spec/container", json!("x".repeat(64))), "spec.container", "has 64 characters: at most 63 are allowed"),
        case(with("/spec/severity", json!("Critical")), "spec.severity", "write one of"),
        case(with("/spec/reason", json!("Drift")), "spec.reason", "write one of"),
        case(with("/spec/verdict", json!("Allowed")), "spec.verdict", "write one of"),
        case(with("/spec/path", json!("x".repeat(4097))), "spec.path", "has 4097 characters: at most 4096 are allowed"),
        case(with("/spec/path", json!("/tmp/\u{9b}2J")), "spec.path", "must not hold control or invisible characters"),
        case(with("/spec/process/commandLine", json!("x\u{202e}y")), "spec.process.commandLine", "must not hold control or invisible characters"),
        case(with("/spec/invokedAs", json!("x\u{ffff}")), "spec.invokedAs", "must not hold control or invisible characters"),
        case(with("/spec/sha256", json!("0".repeat(63))), "spec.sha256", "64 lower-case hexadecimal digits"),
        case(with("/spec/runbookURL", json!("javascript:alert(1)")), "spec.runbookURL", "must be an http or https URL"),
        case(with("/spec/process/pid", json!(-1)), "spec.process.pid", "is out of range"),
        case(with("/spec/process/uid", json!(4_294_967_296_i64)), "spec.process.uid", "is out of range"),
        case(with("/spec/process/commandLine", json!("x".repeat(4097))), "spec.process.commandLine", "characters: at most 4096"),
        case(with("/status/count", json!(0)), "status.count", "is out of range"),
        case(without("/status/count"), "status.count", "is missing"),
        case(with("/status/firstSeen", json!("2026-01-31T13:00:00+00:00")), "status", "firstSeen must not be after lastSeen"),
        case(with("/status/containerAction/action", json!("Restart")), "status.containerAction.action", "write one of"),
        case(with("/status/containerAction/result", json!("Maybe")), "status.containerAction.result", "write one of"),
        case(without("/status/containerAction/result"), "status.containerAction.result", "is missing"),
        case(with("/status/containerAction/durationMilliseconds", json!(-1)), "status.containerAction.durationMilliseconds", "is out of range"),
        case(with("/status/heldBack/0/by", json!("ignoreAll")), "status.heldBack[0].by", "write one of"),
        case(with("/status/heldBack/0/what", json!("Notify")), "status.heldBack[0].what", "write one of"),
        case(with("/status/heldBack", (0..5).map(|_| json!({"what": "Kill", "by": "ignoreActions"})).collect()), "status.heldBack", "has 5 entries"),
        case(with("/status/containerAction/outcome", json!("x".repeat(1025))), "status.containerAction.outcome", "characters: at most 1024"),
    ]
}

#[rustfmt::skip] // A table: one case a line.
pub(super) fn refused_nodes() -> Vec<Case> {
    let with = |pointer: &str, value: Value| with_in(node(), pointer, value);
    let figures = |n: usize| -> Value { (0..n).map(|i| json!({"name": format!("p{i}"), "matched": 0, "protected": 0, "violations": 0})).collect() };
    let features = |n: usize| -> Value { (0..n).map(|i| json!({"name": format!("F{i}"), "supported": true})).collect() };
    vec![
        case(with("/status/backend", json!("Ptrace")), "status.backend", "write one of"),
        case(with("/status/kernel", json!("x".repeat(129))), "status.kernel", "characters: at most 128"),
        case(with("/status/selfTest", json!({})), "status.selfTest.result", "is missing"),
        case(with("/status/selfTest/result", json!("Maybe")), "status.selfTest.result", "write one of"),
        case(with("/status/applied/revision", json!(-1)), "status.applied.revision", "is out of range"),
        case(with("/status/applied/source", json!("Network")), "status.applied.source", "write one of"),
        case(with("/status/containers/protected", json!(-1)), "status.containers.protected", "is out of range"),
        case(with("/status/events/lost", json!("0")), "status.events.lost", "must be a whole number, not a string"),
        case(with("/status/policies", figures(65)), "status.policies", "has 65 entries"),
        case(with("/status/policies", json!([{"name": "a", "matched": 0, "protected": 0, "violations": 0}, {"name": "a", "matched": 0, "protected": 0, "violations": 0}])), "status.policies[1]", "is already in the list"),
        case(with("/status/policies/0/name", json!("A")), "status.policies[0].name", "must be the name of a ContainerDriftPolicy"),
        case(with("/status/switches", json!(["ignoreAll"])), "status.switches[0]", "write one of"),
        case(with("/status/switches", json!(["ignoreActions", "ignoreActions"])), "status.switches[1]", "is already in the list"),
        case(with("/status/features", features(33)), "status.features", "has 33 entries"),
        case(with("/status/features/0/name", json!("two words")), "status.features[0].name", "must be a word"),
        case(with("/status/released", json!("no")), "status.released", "must be a boolean, not a string"),
        case(with("/status/conditions/0/status", json!("Maybe")), "status.conditions[0].status", "write one of"),
        case(with("/status/conditions/0/reason", json!("because of this")), "status.conditions[0].reason", "must be a word"),
        case(with("/status/conditions/0/message", json!("x".repeat(4097))), "status.conditions[0].message", "characters: at most 4096"),
    ]
}

#[rustfmt::skip] // A table: one case a line.
pub(super) fn refused_breakers() -> Vec<Case> {
    let with = |value: Value| with_in(breaker(), "/spec/namespaces", value);
    vec![
        case(with((0..257).map(|n| json!(format!("n{n}"))).collect()), "spec.namespaces", "has 257 entries"),
        case(with(json!(["Payments"])), "spec.namespaces[0]", "must be a namespace's name"),
        case(with(json!(["a", "a"])), "spec.namespaces[1]", "is already in the list"),
    ]
}

#[rustfmt::skip] // A table: one case a line.
pub(super) fn refused_channels() -> Vec<Case> {
    let slack = |pointer: &str, value: Value| with_in(channel("Slack"), pointer, value);
    let webhook = |pointer: &str, value: Value| with_in(channel("Webhook"), pointer, value);
    let email = |pointer: &str, value: Value| with_in(channel("Email"), pointer, value);
    let many: Value = (0..17).map(|i| json!(format!("a{i}@example.com"))).collect();
    vec![
        case(slack("/spec/type", json!("Pager")), "spec.type", "write one of"),
        case(without_in(channel("Slack"), "/spec/type"), "spec.type", "is missing"),
        case(without_in(channel("Slack"), "/spec/slack"), "spec", "slack must be given with type Slack"),
        case(slack("/spec/webhook", json!({"url": "https://a"})), "spec", "webhook must be given with type Webhook, and only then"),
        case(without_in(channel("Email"), "/spec/email"), "spec", "email must be given with type Email"),
        case(slack("/spec/slack/webhookSecret", json!("https://hooks.example.com/x")), "spec.slack.webhookSecret", "must be an object, not a string"),
        case(slack("/spec/slack/webhookSecret/key", json!("a/b")), "spec.slack.webhookSecret.key", "must be a key of the Secret"),
        case(slack("/spec/slack/webhookSecret/name", json!("A")), "spec.slack.webhookSecret.name", "must be the name of a Secret"),
        case(without_in(channel("Slack"), "/spec/slack/webhookSecret/key"), "spec.slack.webhookSecret.key", "is missing"),
        case(without_in(channel("Webhook"), "/spec/webhook/url"), "spec.webhook", "exactly one of url and urlSecret"),
        case(webhook("/spec/webhook/urlSecret", json!({"name": "a", "key": "b"})), "spec.webhook", "exactly one of url and urlSecret"),
        case(webhook("/spec/webhook/url", json!("http://alerts.example.com")), "spec.webhook.url", "must be an https URL"),
        case(webhook("/spec/webhook/url", json!("https://user:secret@alerts.example.com/")), "spec.webhook.url", "must not hold a password"),
        case(email("/spec/email/server", json!("smtp.example.com")), "spec.email.server", "must be a host and a port"),
        case(email("/spec/email/tls", json!("None")), "spec.email.tls", "write one of"),
        case(email("/spec/email/from", json!("Mooring <mooring@example.com>")), "spec.email.from", "must be an email address"),
        case(email("/spec/email/to", json!([])), "spec.email.to", "has 0 entries: at least 1"),
        case(email("/spec/email/to", many), "spec.email.to", "has 17 entries"),
        case(email("/spec/email/to", json!(["a@b", "a@b"])), "spec.email.to[1]", "is already in the list"),
        case(without_in(channel("Email"), "/spec/email/passwordSecret"), "spec.email", "username and passwordSecret must be given together"),
    ]
}
