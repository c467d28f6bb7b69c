//! The attacks that a kernel does not let anybody perform. Everything else that does not run is a failure.

use super::context::RuntimeKind;

struct Excuse {
    case: &'static str,
    applies: fn(kernel: (u32, u32), runtime: RuntimeKind) -> bool,
    why: &'static str,
}

const EXCUSES: &[Excuse] = &[
    Excuse {
        case: "foreign-mount/overlay-in-a-user-namespace",
        applies: |kernel, _| kernel < (5, 11),
        why: "before 5.11 an overlay cannot be mounted in a user namespace",
    },
    Excuse {
        case: "fileless/nameless-temporary-file",
        applies: |kernel, _| kernel < (6, 1),
        why: "before 6.1 an overlay has no O_TMPFILE; the case on a volume runs",
    },
];

/// Why `case` cannot be run here, if it cannot.
pub(crate) fn excuse(case: &str, kernel: (u32, u32), runtime: RuntimeKind) -> Option<&'static str> {
    EXCUSES
        .iter()
        .find(|excuse| case == excuse.case && (excuse.applies)(kernel, runtime))
        .map(|excuse| excuse.why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::{copy_ups, matrix};

    #[test]
    fn an_excuse_names_a_case_that_exists() {
        for excuse in EXCUSES {
            assert!(
                matrix()
                    .chain(copy_ups())
                    .any(|case| case.name == excuse.case),
                "{}",
                excuse.case
            );
        }
    }

    #[test]
    fn an_excuse_holds_only_where_it_applies() {
        let case = "foreign-mount/overlay-in-a-user-namespace";
        assert!(excuse(case, (5, 10), RuntimeKind::Runc).is_some());
        assert!(excuse(case, (6, 1), RuntimeKind::Runc).is_none());
    }
}
