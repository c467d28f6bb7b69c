//! An event as one line for people.

use std::io;

use mooring_crd::DriftEvent;

use super::Quoted;

/// Writes one line, such as
///
/// `2026-01-02T03:04:05Z Denied NewBinary /tmp/xmrig payments/api-7c9/api policy=payments-immutable severity=High count=412 pid=7 uid=0 command="/tmp/xmrig -o pool" parent=sh(6)`
///
/// # Errors
/// Those of the writer.
pub fn write_text(out: &mut impl io::Write, event: &DriftEvent) -> io::Result<()> {
    let spec = &event.spec;
    let quoted = |text: &str| Quoted(text.as_bytes()).to_string();
    let mut line = String::new();
    let mut field = |name: &str, value: &str| {
        line.push_str(if line.is_empty() { "" } else { " " });
        line.push_str(name);
        line.push_str(if name.is_empty() { "" } else { "=" });
        line.push_str(value);
    };
    if let Some(status) = &event.status {
        field("", &status.last_seen.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    field("", spec.verdict.as_str());
    field("", spec.reason.as_str());
    field("", &if spec.path.is_empty() { "(unknown path)".to_owned() } else { quoted(&spec.path) });
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    field("", &format!("{}/{}/{}", quoted(namespace), quoted(&spec.pod.name), quoted(&spec.container)));
    field("policy", &quoted(&spec.policy));
    field("severity", spec.severity.as_str());
    if let Some(status) = &event.status {
        field("count", &status.count.to_string());
    }
    if let Some(status) = &event.status {
        if let Some(done) = &status.container_action {
            field("action", &format!("{}:{}", done.action, done.result));
            if let Some(took) = done.duration_milliseconds {
                field("took", &format!("{took}ms"));
            }
            field("outcome", &quoted(&done.outcome));
        }
        for held in &status.held_back {
            field("heldBack", &format!("{}:{}", held.what, held.by));
        }
    }
    if let Some(invoked) = &spec.invoked_as {
        field("invokedAs", &quoted(invoked));
    }
    if let Some(volume) = &spec.volume {
        let kind = volume.kind.as_deref().unwrap_or("volume");
        field("volume", &format!("{}:{}", quoted(kind), quoted(&volume.mount_path)));
    }
    field("pid", &spec.process.pid.to_string());
    field("uid", &spec.process.uid.to_string());
    if let Some(command) = &spec.process.command_line {
        field("command", &quoted(command));
    }
    if let Some(parent) = &spec.process.parent {
        field("parent", &format!("{}({})", quoted(parent.name.as_deref().unwrap_or_default()), parent.pid));
    }
    if let Some(image) = &spec.image {
        field("image", &quoted(image));
    }
    if let Some(runbook) = &spec.runbook_url {
        field("runbook", &quoted(runbook));
    }
    writeln!(out, "{line}")
}
