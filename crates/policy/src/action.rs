//! What is done to a container, and what the switches of the node's agent hold back.

use std::time::Duration;

use mooring_crd::{ContainerAction, Switch};

use crate::mask::SlotMask;
use crate::rules::RuleSet;

/// The strongest of these actions; `None` of none.
pub fn strongest(actions: impl IntoIterator<Item = ContainerAction>) -> ContainerAction {
    actions.into_iter().max().unwrap_or_default()
}

/// What violated policies ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The strongest action of all of them.
    pub action: ContainerAction,
    /// The longest pause of those that pause; zero where none does.
    pub pause: Duration,
}

impl RuleSet {
    /// What these slots ask for together.
    #[must_use]
    pub fn response(&self, violated: SlotMask) -> Response {
        let asked = || violated.slots().filter_map(|slot| self.policy(slot)).map(|policy| &policy.spec.actions);
        let pausing = asked().filter(|actions| actions.container == ContainerAction::Pause);
        Response {
            action: strongest(asked().map(|actions| actions.container)),
            pause: pausing.map(mooring_crd::Actions::pause_timeout).max().unwrap_or_default(),
        }
    }

    /// The slots that ask for a container action.
    #[must_use]
    pub fn acting(&self) -> SlotMask {
        let acting = self.policies().iter().filter(|policy| policy.spec.actions.container != ContainerAction::None);
        acting.map(|policy| policy.slot).collect()
    }

    /// The slots whose prevention is held back: see [`Switches::apply`].
    #[must_use]
    pub fn held_back(&self) -> SlotMask {
        let preventing = self.policies().iter().filter(|policy| policy.spec.actions.prevent);
        let preventing: SlotMask = preventing.map(|policy| policy.slot).collect();
        preventing & !self.prevents()
    }
}

/// The switches of a node's agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// No container is killed, stopped or paused.
    pub ignore_container_actions: bool,
    /// Nothing is done about a violation but to report it, prevention included.
    pub ignore_actions: bool,
    /// `detect.volumeBinaries` is on where a policy leaves it unset.
    pub deny_execution_from_volumes: bool,
}

impl Switches {
    /// Those that are on.
    pub fn on(self) -> impl Iterator<Item = Switch> {
        [
            (self.ignore_container_actions, Switch::IgnoreContainerActions),
            (self.ignore_actions, Switch::IgnoreActions),
            (self.deny_execution_from_volumes, Switch::DenyExecutionFromVolumes),
        ]
        .into_iter()
        .filter_map(|(on, switch)| on.then_some(switch))
    }

    /// The switch that holds a container action back. Of both the one that holds back more.
    #[must_use]
    pub fn holds_back_container_actions(self) -> Option<Switch> {
        match (self.ignore_actions, self.ignore_container_actions) {
            (true, _) => Some(Switch::IgnoreActions),
            (false, true) => Some(Switch::IgnoreContainerActions),
            (false, false) => None,
        }
    }

    /// The rules as they are to be in force under these switches.
    #[must_use]
    pub fn apply(self, mut rules: RuleSet) -> RuleSet {
        if self.deny_execution_from_volumes {
            rules.detect_volume_binaries_by_default();
        }
        if self.ignore_actions {
            rules.prevent_only(SlotMask::EMPTY);
        }
        rules
    }
}

/// What has been done to a container in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The strongest action that ends it and was begun: Stop, Kill or `None`.
    pub ended: ContainerAction,
    /// Whether it is paused now.
    pub paused: bool,
}

/// Whether an action is to be begun: each once in a container's life, Pause once per pause; a stronger one may follow a weaker.
#[must_use]
pub fn is_due(action: ContainerAction, done: Done) -> bool {
    match action {
        ContainerAction::None => false,
        ContainerAction::Pause => !done.paused && done.ended == ContainerAction::None,
        ContainerAction::Stop | ContainerAction::Kill => action > done.ended,
    }
}

#[cfg(test)]
mod tests {
    use ContainerAction::{Kill, None, Pause, Stop};

    use super::*;

    #[test]
    fn each_action_is_begun_once_and_a_stronger_one_may_follow() {
        let done = |ended, paused| Done { ended, paused };
        for (action, before, due) in [
            (None, done(None, false), false),
            (Pause, done(None, false), true),
            (Pause, done(None, true), false),
            (Pause, done(Stop, false), false),
            (Pause, done(Kill, false), false),
            (Stop, done(None, true), true),
            (Stop, done(Stop, false), false),
            (Stop, done(Kill, false), false),
            (Kill, done(None, true), true),
            (Kill, done(Stop, false), true),
            (Kill, done(Kill, false), false),
        ] {
            assert_eq!(is_due(action, before), due, "{action} after {before:?}");
        }
    }

    #[test]
    fn the_switch_that_holds_back_more_is_named() {
        let switches = |ignore_container_actions, ignore_actions| Switches {
            ignore_container_actions,
            ignore_actions,
            ..Switches::default()
        };
        assert_eq!(switches(false, false).holds_back_container_actions(), Option::None);
        assert_eq!(switches(true, false).holds_back_container_actions(), Some(Switch::IgnoreContainerActions));
        assert_eq!(switches(true, true).holds_back_container_actions(), Some(Switch::IgnoreActions));
        assert_eq!(switches(true, true).on().count(), 2);
    }
}
