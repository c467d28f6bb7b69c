//! What the agent's configuration changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Agent;
use crate::response::since_start;

impl Agent {
    /// The configuration in force is another one: for containers.
    pub(super) fn configure(&mut self) {
        let configuration = &self.configured.in_force;
        self.reporter.responder().configure(configuration.switches, configuration.protected_pods.clone());
    }

    /// Looks whether the file has changed, and brings it into force.
    pub(super) fn look_at_configuration(&mut self) {
        let before = self.configured.in_force.switches;
        if !self.configured.turn() {
            return;
        }
        self.configure();
        let now = self.configured.in_force.switches;
        let on: Vec<&str> = now.on().map(mooring_crd::Switch::as_str).collect();
        let on = if on.is_empty() { "none".to_owned() } else { on.join(", ") };
        eprintln!("configuration in force: switches on: {on}");
        if before != now {
            self.bring(self.given.clone());
        }
    }

    /// Somebody asks for the end of these pauses.
    pub(super) fn resume(&mut self, containers: &BTreeSet<String>) {
        for container in containers {
            self.reporter.responder().resume(container, since_start());
        }
        if !containers.is_empty() {
            self.reporter.respond();
        }
    }

    /// A container is known, or its policies are others.
    pub(super) fn hold(&mut self, cgroup: u64) {
        let Some(known) = self.roster.get(cgroup) else { return };
        let acts = !(known.member & self.rules.acting()).is_empty();
        self.reporter.responder().entered(&Arc::clone(&known.container), acts);
    }
}
