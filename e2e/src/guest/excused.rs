//! The attacks that a kernel does not let anybody perform, and the tests that another run makes. Everything else that does not run is a failure.

use super::context::RuntimeKind;
use super::enforcer::kills;

pub(crate) struct Excuse {
    /// The name of a case or test, without its suite.
    pub(crate) case: &'static str,
    applies: fn(kernel: (u32, u32), runtime: RuntimeKind) -> bool,
    why: &'static str,
}

const fn not_by_ctr(case: &'static str) -> Excuse {
    Excuse {
        case,
        applies: |_, runtime| runtime == RuntimeKind::Containerd,
        why: "ctr makes no such container; the runs with runc and crun do",
    }
}

/// Of what executes nothing but a program of the image, which is what the backend Kill looks at.
const fn not_killed(case: &'static str, why: &'static str) -> Excuse {
    Excuse { case, applies: |_, _| kills(), why }
}

const NO_LIBRARIES: &str = "Kill sees no mapping: the program that maps is the image's";
const KILLED_MEANWHILE: &str = "its set-up runs a copied-up program at once, which Kill kills until it was compared";

pub(crate) const EXCUSES: &[Excuse] = &[
    Excuse {
        case: "foreign-mount/overlay-in-a-user-namespace",
        applies: |kernel, _| kernel < (5, 11),
        why: "before 5.11 an overlay cannot be mounted in a user namespace",
    },
    Excuse {
        case: "fileless/nameless-temporary-file",
        applies: |kernel, _| kernel < (6, 10),
        why: "before 6.10 an overlay has no O_TMPFILE; the case on a volume runs",
    },
    Excuse {
        case: "copy-up/flags",
        applies: |kernel, _| kernel < (6, 17),
        why: "before 6.17 no hook is for chattr: its first execution waits for a comparison",
    },
    not_killed("library/mmap-exec", NO_LIBRARIES),
    not_killed("library/mmap-shared-exec", NO_LIBRARIES),
    not_killed("library/mmap-that-implies-exec", NO_LIBRARIES),
    not_killed("library/mprotect-exec", NO_LIBRARIES),
    not_killed("library/mprotect-of-a-modified-image-file", NO_LIBRARIES),
    not_killed("library/written-after-a-failed-exec", NO_LIBRARIES),
    not_killed("library/on-dev-shm", NO_LIBRARIES),
    not_killed("library/memfd", NO_LIBRARIES),
    not_killed("library/memfd-mprotect", NO_LIBRARIES),
    not_killed("library/memfd-of-huge-pages", NO_LIBRARIES),
    not_killed("library/memfd-of-huge-pages-mprotect", NO_LIBRARIES),
    not_killed("library/loader-given-shared-memory", NO_LIBRARIES),
    not_killed("library/loader-given-a-shared-segment", NO_LIBRARIES),
    not_killed("library/loader-given-a-program", NO_LIBRARIES),
    not_killed("library/loader-given-a-program-in-namespaces", NO_LIBRARIES),
    not_killed("library/preload", NO_LIBRARIES),
    not_killed("library/library-path", NO_LIBRARIES),
    not_killed("library/dlopen", NO_LIBRARIES),
    not_killed("library/dropped-elf-interpreter", NO_LIBRARIES),
    not_killed("library/overwritten-elf-interpreter", NO_LIBRARIES),
    not_killed("volume/mapped", NO_LIBRARIES),
    not_killed("prohibited/through-the-loader", NO_LIBRARIES),
    not_killed(
        "new-binary/script",
        "by the time that Kill looks, a script is closed and its interpreter is what is executed",
    ),
    not_killed("modified/chmod-beforehand", KILLED_MEANWHILE),
    not_killed("modified/chmod-of-a-sibling-link", KILLED_MEANWHILE),
    not_by_ctr("plain-root"),
    not_by_ctr("deleted-by-the-image"),
    not_by_ctr("renamed-folder-of-the-image"),
    not_by_ctr("user-namespace"),
    not_by_ctr("host-root-as-a-volume"),
    not_by_ctr("host-root-as-a-volume-under-volume-binaries"),
    Excuse {
        case: "every-other-runc-20-times",
        applies: |_, runtime| runtime != RuntimeKind::Runc,
        why: "the run with runc drives each of them",
    },
];

/// Why `case` cannot be run here, if it cannot.
pub(crate) fn excuse(case: &str, kernel: (u32, u32), runtime: RuntimeKind) -> Option<&'static str> {
    EXCUSES.iter().find(|excuse| case == excuse.case && (excuse.applies)(kernel, runtime)).map(|excuse| excuse.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excuse_holds_only_where_it_applies() {
        let case = "foreign-mount/overlay-in-a-user-namespace";
        assert!(excuse(case, (5, 10), RuntimeKind::Runc).is_some());
        assert!(excuse(case, (6, 1), RuntimeKind::Runc).is_none());
    }
}
