//! What the pods are made of, and what each does.

use mooring_e2e::testing;
use serde_json::{Value, json};

pub const BUSYBOX: &str = "docker.io/library/busybox:test";

/// As early as it can, a container drops a program and tries to run it, and says what came of it; from then on it is an honest program,
/// which says when it was disturbed.
pub const TRIES: &str = r#"mkdir -p "$DROP" && cp ${FROM:-/bin/busybox} "$DROP/busybox"
if "$DROP/busybox" echo; then echo DRIFT RAN; else echo DRIFT REFUSED; fi
"#;
pub const LIVES: &str = "while /bin/busybox true; do sleep 4; done; echo DISTURBED; sleep 100000";

pub fn policy(name: &str, scope: &Value, detect: &Value) -> Value {
    let spec = json!({
        "severity": "High", "runbookURL": "https://runbooks.example.com/drift",
        "scope": scope, "detect": detect, "actions": {"prevent": true},
    });
    testing::policy(name, spec)
}

/// `more` is added to (or replaces in) an object.
fn with(mut object: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

/// A container that tries and lives on.
pub fn container(name: &str, drop: &str, more: &Value) -> Value {
    let script = format!("{TRIES}{LIVES}");
    let made = json!({"name": name, "image": BUSYBOX, "command": ["sh", "-c", script], "env": [{"name": "DROP", "value": drop}]});
    with(made, more)
}

/// One that tries and ends.
pub fn once(name: &str, drop: &str, end: &str) -> Value {
    container(name, drop, &json!({"command": ["sh", "-c", format!("{TRIES}{end}")]}))
}

pub fn pod(namespace: &str, name: &str, containers: &[Value], spec: &Value) -> Value {
    let made = json!({"containers": containers, "terminationGracePeriodSeconds": 0, "nodeName": crate::rig::NODE,
        // A node that is busy with other things must not lose them.
        "tolerations": [{"operator": "Exists"}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}}, "spec": with(made, spec)})
}
