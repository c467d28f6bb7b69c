//! What a backend can do of what policies ask for, and what happens instead.

use mooring_crd::{Backend, Feature};

use crate::rules::SlotPolicy;

/// What is missing where this backend is used, or what is done instead; None: the feature is there in full.
#[must_use]
pub fn shortcoming(backend: Backend, feature: Feature) -> Option<&'static str> {
    match (backend, feature) {
        (Backend::Kill, Feature::Prevent) => {
            Some("executions are not refused: who makes one is killed before the new program's first instruction")
        }
        (Backend::Fanotify, Feature::Prevent) => Some(
            "killed, not refused: what has no file, what lies on a mount made later or on a FUSE or network file system, what is prohibited by the name that it is invoked by, and everything while there is no listener",
        ),
        (Backend::Kill | Backend::Fanotify, Feature::DriftedLibraries) => {
            Some("what is mapped is not seen: libraries, and programs that the dynamic loader is given")
        }
        (Backend::Kill, Feature::ProhibitedBinaries) => {
            Some("a prohibited program that the dynamic loader is given, and a prohibited script, are not seen")
        }
        (Backend::Kill | Backend::Fanotify, Feature::ProcessExceptions) => {
            Some("the program that executes is not known: none is excepted")
        }
        (Backend::Kill | Backend::Fanotify, Feature::ProhibitedProcesses) => {
            Some("the program that executes is not known: none is prohibited to execute")
        }
        (Backend::Fanotify, Feature::ProhibitedBinaries) => Some(
            "a prohibited program that the dynamic loader is given is not seen, and one that is prohibited by the name that it is invoked by is killed, not refused",
        ),
        (Backend::Fanotify, Feature::MetadataCopyUps) => Some(
            "an image's program whose metadata was changed waits at its next execution until it was compared, and is refused if that takes longer than 0.3 s",
        ),
        (Backend::Kill, Feature::DriftedScripts) => Some("a script is not seen, only its interpreter"),
        (Backend::Kill, Feature::MetadataCopyUps) => Some(
            "an image's program whose metadata was changed is killed until it was compared, two seconds or more after the change",
        ),
        _ => None,
    }
}

/// What the policy asks for and this backend cannot do in full.
#[must_use]
pub fn unsupported(backend: Backend, policy: &SlotPolicy) -> Vec<Feature> {
    let (detect, actions) = (&policy.spec.detect, &policy.spec.actions);
    let asked = [
        (Feature::Prevent, actions.prevent),
        (Feature::DriftedBinaries, detect.drifted_binaries),
        (Feature::VolumeBinaries, policy.volume_binaries),
        (Feature::DriftedLibraries, detect.drifted_libraries),
        (Feature::DriftedScripts, detect.drifted_scripts),
        (Feature::ProhibitedBinaries, !detect.prohibited_binaries.is_empty()),
        (Feature::ProcessExceptions, !detect.process_exceptions.is_empty()),
        (Feature::ProhibitedProcesses, !detect.prohibited_processes.is_empty()),
    ];
    let wanted = asked.into_iter().filter(|(feature, asked)| *asked && shortcoming(backend, *feature).is_some());
    wanted.map(|(feature, _)| feature).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeDefaults, compile};
    use mooring_crd::policy_from_value;
    use serde_json::{Value, json};

    fn unsupported_of(backend: Backend, spec: &Value) -> Vec<Feature> {
        let policy = json!({"apiVersion": mooring_crd::API_VERSION, "kind": mooring_crd::POLICY_KIND,
            "metadata": {"name": "p"}, "spec": spec});
        let compiled = compile(&[policy_from_value(policy).unwrap()], NodeDefaults::default());
        unsupported(backend, &compiled.rules.policies()[0])
    }

    #[test]
    fn a_policy_is_told_only_what_it_asks_for() {
        let all = json!({"actions": {"prevent": true}, "detect": {"prohibitedBinaries": [{"path": "/usr/bin/nc"}]}});
        let missing = [Feature::Prevent, Feature::DriftedLibraries, Feature::ProhibitedBinaries];
        assert_eq!(unsupported_of(Backend::Kill, &all), missing);
        assert_eq!(unsupported_of(Backend::Fanotify, &all), missing);
        let detects = json!({"detect": {"driftedLibraries": false}});
        assert_eq!(unsupported_of(Backend::Fanotify, &detects), []);
        assert_eq!(unsupported_of(Backend::BpfLsm, &all), []);
        assert_eq!(unsupported_of(Backend::FmodRet, &all), []);
        assert_eq!(unsupported_of(Backend::Kill, &json!({"detect": {"driftedLibraries": false}})), []);
    }
}
