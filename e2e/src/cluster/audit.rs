//! Reading the API server's audit log: who asked for what, and whether they got it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::error::Result;
use crate::vm;

/// A request that the API server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who asked.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, …
    pub verb: String,
    /// The API group; empty for the core's.
    pub group: String,
    /// The resource with its subresource: `nodes/status`. Empty where the request is for no resource.
    pub resource: String,
    /// The object's namespace, if it has one.
    pub namespace: String,
    /// The object's name, where the request names one.
    pub name: String,
    /// The HTTP status.
    pub code: u16,
    /// Why it was authorized, in the authorizer's words: `RBAC: allowed by ClusterRoleBinding …`.
    pub reason: String,
    /// When it arrived, RFC 3339 in UTC.
    pub at: String,
    /// All that the log says of it.
    pub event: Value,
}

impl Request {
    /// Whether it could change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }

    /// Whether it was denied, by authorization or admission.
    #[must_use]
    pub fn denied(&self) -> bool {
        self.code == 403 || self.code == 401
    }
}

/// All requests that were answered, in the order of their answers; of a watch its beginning.
pub(crate) fn read(log: &Path) -> Result<Vec<Request>> {
    let bytes = fs::read(log).map_err(vm::Error::io("read", log))?;
    Ok(String::from_utf8_lossy(&bytes).split_inclusive('\n').filter_map(request).collect())
}

/// The request of one line. A line that is still being written is none.
fn request(line: &str) -> Option<Request> {
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    // A watch is told twice: when it begins, which is when it counts, and when it ends.
    let counts = if text("/verb") == "watch" { "ResponseStarted" } else { "ResponseComplete" };
    let panicked = text("/stage") == "Panic";
    // A watch that was refused never started.
    let code = event.pointer("/responseStatus/code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let refused = text("/stage") == "ResponseComplete" && code.is_some_and(|code| code >= 400);
    if text("/stage") != counts && !panicked && !refused {
        return None;
    }
    let subresource = text("/objectRef/subresource");
    let resource = text("/objectRef/resource");
    Some(Request {
        user: text("/user/username"),
        verb: text("/verb"),
        group: text("/objectRef/apiGroup"),
        resource: if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") },
        namespace: text("/objectRef/namespace"),
        name: text("/objectRef/name"),
        code: code.unwrap_or_default(),
        reason: text("/annotations/authorization.k8s.io~1reason"),
        at: text("/requestReceivedTimestamp"),
        event,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stage: &str, verb: &str, code: u16) -> String {
        format!(
            r#"{{"stage":"{stage}","verb":"{verb}","user":{{"username":"system:node:node1"}},"objectRef":{{"resource":"nodes","name":"node2","subresource":"status","apiVersion":"v1"}},"responseStatus":{{"code":{code}}},"annotations":{{"authorization.k8s.io/reason":"RBAC: allowed"}}}}"#
        )
    }

    #[test]
    fn a_request_and_what_became_of_it() {
        let seen = request(&line("ResponseComplete", "patch", 403)).unwrap();
        assert_eq!((seen.user.as_str(), seen.resource.as_str(), seen.code), ("system:node:node1", "nodes/status", 403));
        assert_eq!(seen.reason, "RBAC: allowed");
        assert!(seen.writes() && seen.denied());
        assert_eq!(request("{\"stage\":\"Respon"), None, "still being written");
    }

    #[test]
    fn a_watch_counts_once() {
        assert!(request(&line("ResponseStarted", "watch", 200)).is_some());
        assert!(request(&line("ResponseComplete", "watch", 200)).is_none());
        assert!(request(&line("ResponseComplete", "watch", 403)).is_some(), "refused");
    }
}
