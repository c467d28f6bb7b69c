//! Nodes and pods that are only played, by kwok: as many as a control plane can bear.

use std::fmt::Write as _;

use serde_json::json;

use super::component::{Component, KWOK_KEY};
use super::control::Cluster;
use super::error::Result;

impl Cluster {
    /// Starts kwok and gives it `count` more nodes, named `kwok-0`, `kwok-1`, … They become Ready by and by.
    ///
    /// # Errors
    /// When kwok cannot be built or started, or the API server refuses the nodes.
    pub fn add_kwok_nodes(&self, count: usize) -> Result<()> {
        let name = Component::Kwok.name();
        self.write_kubeconfig(name, &self.authority().user(name, name, &["system:masters"])?.credentials())?;
        self.start_component(Component::Kwok)?;
        let kubectl = self.kubectl();
        let there = kubectl.run(&["get", "nodes", "--selector", &format!("{KWOK_KEY}=fake"), "--output=name"])?;
        let first = there.lines().count();
        let mut nodes = String::new();
        for number in first..first + count {
            // Infallible: it is a string.
            let _ = writeln!(nodes, "---\n{}", node(number));
        }
        kubectl.run_with(&["create", "-f", "-"], &nodes)?;
        Ok(())
    }
}

fn node(number: usize) -> serde_json::Value {
    let name = format!("kwok-{number}");
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {KWOK_KEY: "fake"},
            "labels": {KWOK_KEY: "fake", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [{"key": KWOK_KEY, "value": "fake", "effect": "NoSchedule"}]},
    })
}
