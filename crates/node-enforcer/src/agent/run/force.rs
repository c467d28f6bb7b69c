//! Bringing rules into force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mooring_policy::{RuleSet, SlotMask, shortcoming, unsupported};

use super::Agent;
use crate::agent::membership::UnknownContainers;
use crate::agent::room::members_with_room;
use crate::agent::source::{Changes, Rules};
use crate::kernel::{KernelError, Tables};

/// How long after they failed rules are tried again.
const AGAIN: Duration = Duration::from_secs(30);

impl Agent {
    /// What the source has that is new.
    pub(super) fn take_in(&mut self, changes: Changes) {
        if let Some(rules) = changes.rules {
            if rules.set == self.given.set && self.failure.is_none() {
                // The same, from elsewhere.
                if let Err(error) = self.pins.name_rules(rules.digest()) {
                    eprintln!("{error}");
                }
                self.given = rules;
                self.resume(&changes.resumed);
                return self.look_round(&changes.pods, &changes.namespaces);
            }
            self.bring(rules);
        }
        if let Some(why) = &changes.refused {
            self.say_refused(why);
        }
        self.resume(&changes.resumed);
        self.look_round(&changes.pods, &changes.namespaces);
    }

    pub(super) fn bring(&mut self, rules: Rules) {
        let failed = self.bring_into_force(rules.clone()).err().map(|error| error.to_string());
        match &failed {
            None => self.say_enforcing(),
            Some(why) if failed != self.failure => {
                self.say_refused(why);
                self.source.was_refused();
            }
            Some(_) => {}
        }
        self.again = failed.is_some().then(|| (rules, Instant::now()));
        self.failure = failed;
    }

    /// What the kernel had no memory for, say, it may have some later.
    pub(super) fn try_again(&mut self) {
        if let Some((rules, _)) = self.again.take_if(|(_, when)| when.elapsed() >= AGAIN) {
            self.bring(rules);
        }
    }

    fn say_refused(&self, why: &str) {
        eprintln!("policies refused: {why}; the last good set (revision {}) stays in force", self.revision);
    }

    /// These pods and namespaces are new or have changed: containers whose policies that changes are entered anew.
    fn look_round(&mut self, pods: &BTreeSet<String>, namespaces: &BTreeSet<String>) {
        let mut affected: BTreeSet<u64> = BTreeSet::new();
        for uid in pods {
            let before = affected.len();
            affected.extend(self.roster.of_pod(uid));
            if affected.len() == before {
                self.source.without_containers(&[uid]);
            }
        }
        affected.extend(namespaces.iter().flat_map(|name| self.roster.in_namespace(name)));
        for cgroup in affected {
            let Some(known) = self.roster.get_mut(cgroup) else { continue };
            let around = self.source.surroundings(&known.container);
            known.stop_signal = around.stop_signal;
            let member = around.member(&self.rules, &known.container, self.options.unknown_containers);
            if (member, around.certain(&self.rules, &known.container, member)) != (known.member, known.certain) {
                self.enter(cgroup);
            }
        }
    }

    pub(super) fn unknown_member(&self, rules: &RuleSet) -> u64 {
        let every: SlotMask = rules.policies().iter().map(|policy| policy.slot).collect();
        match self.options.unknown_containers {
            UnknownContainers::DenyDrift => every.bits(),
            UnknownContainers::Allow => every.bits() & !rules.prevents().bits(),
        }
    }

    /// When it fails, what was in force stays so.
    pub(super) fn bring_into_force(&mut self, given: Rules) -> Result<(), KernelError> {
        let generation = (u64::from(self.kernel.instance()) << 32) | (self.revision + 1);
        let mut rules = self.configured.in_force.switches.apply(given.set.clone());
        let mut left_out = BTreeSet::new();
        let mut masks: BTreeMap<u64, u64> = BTreeMap::new();
        let mut certain: BTreeMap<u64, SlotMask> = BTreeMap::new();
        for (cgroup, known) in self.roster.all_mut() {
            let around = self.source.surroundings(&known.container);
            let member = around.member(&rules, &known.container, self.options.unknown_containers);
            masks.insert(cgroup, member.bits());
            certain.insert(cgroup, around.certain(&rules, &known.container, member));
            known.stop_signal = around.stop_signal;
            let container = Arc::clone(&known.container);
            for (path, target) in known.targets(&mut self.path_numbers, &rules, member) {
                let Err(error) = rules.prohibit_alias(path, target) else { continue };
                if self.shortage.alias_left_out(error.alias.as_str()) {
                    eprintln!("{path} is not prohibited by its link's name in container {}: {error}", container.id);
                }
                left_out.insert(error.alias.as_str().to_owned());
            }
        }
        let tables = Tables::encode(&rules, generation, self.unknown_member(&rules));
        // Cgroups that turned out to be no containers stay out; whatever else nobody can describe now is unknown, and judged so.
        let entered = self.kernel.entered();
        for cgroup in &entered {
            if !masks.contains_key(cgroup) && self.kernel.member(*cgroup).unwrap_or_default() == Some(0) {
                masks.insert(*cgroup, 0);
            }
        }
        let members = members_with_room(&entered, masks.clone());
        // First: rules that are named and not in force are waited for by the next agent, the other way round it would replace them.
        self.pins.name_rules(given.digest())?;
        if let Err(error) = self.kernel.enforce(&tables, &members) {
            self.pins.name_rules(self.given.digest())?;
            return Err(error);
        }
        if let Some(listener) = &mut self.listener {
            listener.rules(&rules, generation, masks.clone());
        }
        for (cgroup, known) in self.roster.all_mut() {
            known.member = masks.get(&cgroup).copied().map_or_else(SlotMask::default, SlotMask::from_bits);
            known.certain = certain.get(&cgroup).copied().unwrap_or_default();
        }
        self.given = given;
        self.rules = rules;
        self.shortage.aliases_left_out(left_out);
        self.revision += 1;
        let all: Vec<u64> = self.roster.all().map(|(cgroup, _)| cgroup).collect();
        for cgroup in all {
            self.hold(cgroup);
        }
        self.reporter.rules_in_force(generation, Arc::new(self.rules.clone()));
        Ok(())
    }

    pub(super) fn say_enforcing(&self) {
        eprintln!(
            "enforcing: backend={} revision={} policies={} containers={} unprotected={}",
            self.backend.as_str(),
            self.revision,
            self.rules.policies().len(),
            self.roster.all().len(),
            self.shortage.unprotected()
        );
        for policy in self.rules.policies() {
            for feature in unsupported(self.backend, policy) {
                let instead = shortcoming(self.backend, feature).unwrap_or_default();
                eprintln!("policy {}: not in full: {}: {instead}", policy.name, feature.as_str());
            }
        }
    }
}
