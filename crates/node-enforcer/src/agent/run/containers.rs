//! Containers as they come, are described and go.

use std::sync::Arc;

use mooring_bpf::wire::MAX_CONTAINERS;

use super::Agent;
use crate::kernel::{KernelError, Lifecycle};

impl Agent {
    /// Beyond the tables' room a container is unprotected, and said to be.
    pub(super) fn enter(&mut self, cgroup: u64) {
        let Some(known) = self.roster.get_mut(cgroup) else { return };
        let around = self.source.surroundings(&known.container);
        let member = around.member(&self.rules, &known.container, self.options.unknown_containers);
        known.member = member;
        known.certain = around.certain(&self.rules, &known.container, member);
        known.stop_signal = around.stop_signal;
        let container = Arc::clone(&known.container);
        for (path, target) in known.targets(&mut self.path_numbers, &self.rules, member) {
            let (alias, error) = match self.rules.prohibit_alias(path, target) {
                Ok(None) => continue,
                Ok(Some((alias, masks))) => match self.kernel.set_path(&alias, masks) {
                    Ok(()) => continue,
                    Err(error) => (alias, error.to_string()),
                },
                Err(error) => (error.alias.clone(), error.to_string()),
            };
            if self.shortage.alias_left_out(alias.as_str()) {
                eprintln!("{path} is not prohibited by its link's name in container {}: {error}", container.id);
            }
        }
        let started = known.started;
        if let Some(listener) = &mut self.listener {
            listener.enter(&container, member.bits());
        }
        let entered = self.kernel.enter(&container, member.bits(), started);
        self.hold(cgroup);
        match entered {
            Ok(()) => {
                if self.shortage.no_longer(cgroup) {
                    eprintln!("container {} is protected: there is room for it now", container.id);
                }
            }
            Err(error) => {
                if self.shortage.left_out(cgroup) {
                    let (id, number) = (&container.id, self.shortage.unprotected());
                    eprintln!(
                        "container {id} is unprotected, as {number} now are: a node has room for {MAX_CONTAINERS} containers ({error})"
                    );
                }
            }
        }
    }

    /// A container that was there before it was looked for: what it has copied up by now nobody saw.
    pub(super) fn adopt(&mut self, cgroup: u64) {
        self.enter(cgroup);
        if let Some(known) = self.roster.get(cgroup) {
            self.proofs.adopt(&known.container);
        }
    }

    /// Cgroups' ends and beginnings that found their ring buffer full are looked for.
    pub(super) fn look_after_losses(&mut self, lost: &mut u64) -> Result<(), KernelError> {
        let now = self.kernel.counters()?.lost_lifecycle;
        if now == std::mem::replace(lost, now) {
            return Ok(());
        }
        for cgroup in self.roster.gone() {
            self.released(cgroup);
        }
        for cgroup in self.roster.scan() {
            self.adopt(cgroup);
        }
        self.reporter.resolved(&self.roster);
        Ok(())
    }

    /// Containers and aliases that found the tables full, in case something else is gone.
    pub(super) fn try_what_found_no_room(&mut self) {
        for cgroup in self.shortage.due() {
            // The programs tell only of the end of those that they know.
            if self.roster.is_gone(cgroup) {
                self.released(cgroup);
                continue;
            }
            self.enter(cgroup);
        }
        if self.shortage.may_cover_more()
            && let Err(error) = self.bring_into_force(self.given.clone())
        {
            eprintln!("what found no room stays left out: {error}");
        }
    }

    fn released(&mut self, cgroup: u64) {
        self.shortage.no_longer(cgroup);
        if let Some(known) = self.roster.released(cgroup) {
            self.shortage.released();
            self.kernel.forget(&known.container);
            if let Some(listener) = &mut self.listener {
                listener.leave(cgroup);
            }
            self.reporter.forget(&known.container);
            if let Some(uid) = known.container.pod_uid.as_deref()
                && self.roster.of_pod(uid).next().is_none()
            {
                self.source.without_containers(&[uid]);
            }
        }
    }

    pub(super) fn resolved(&mut self, cgroup: u64) {
        self.enter(cgroup);
        self.reporter.resolved(&self.roster);
    }

    pub(super) fn follow(&mut self, event: Lifecycle) {
        match event {
            Lifecycle::CgroupMade { cgroup, path, maker } => {
                if let Some(found) = self.roster.made(cgroup, path, maker) {
                    self.resolved(found);
                }
            }
            Lifecycle::CgroupReleased { cgroup } => self.released(cgroup),
            Lifecycle::UnknownContainer { cgroup } => {
                self.roster.hurry(cgroup);
                if self.roster.get(cgroup).is_none() && !self.roster.is_unresolved(cgroup) {
                    for found in self.roster.scan() {
                        self.adopt(found);
                    }
                    self.reporter.resolved(&self.roster);
                    if self.roster.get(cgroup).is_none() {
                        eprintln!(
                            "cgroup {cgroup} runs programs on an overlay of its own, but no runtime knows it: not covered"
                        );
                        // A full table is no reason to end.
                        match self.kernel.set_member(cgroup, 0) {
                            Ok(()) => self.reporter.not_a_container(cgroup),
                            Err(error) => eprintln!("cgroup {cgroup} is judged as an unknown container: {error}"),
                        }
                    }
                }
            }
            Lifecycle::Prove(request) => {
                if let Some(known) = self.roster.get(request.cgroup) {
                    self.proofs.asked(&known.container, &request);
                }
            }
        }
    }
}
