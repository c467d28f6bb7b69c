//! The attacks that a kernel does not let anybody perform, and the tests that another run makes. Everything else that does not run is a failure.

use super::context::RuntimeKind;
use super::enforcer::{is_asked, kills};

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

/// Of what maps a file and executes a program of the image, which is what Kill and Fanotify look at.
const fn not_mapped(case: &'static str) -> Excuse {
    Excuse { case, applies: |_, _| kills() || is_asked(), why: NO_LIBRARIES }
}

/// Of what is excepted or prohibited for the program that executes it, which Kill and Fanotify do not know.
const fn not_known(case: &'static str) -> Excuse {
    Excuse {
        case,
        applies: |_, _| kills() || is_asked(),
        why: "Kill and Fanotify do not know the program that executes",
    }
}

const NO_LIBRARIES: &str = "Kill and Fanotify see no mapping: the program that maps is the image's";
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
    Excuse {
        case: "new-binary/detached-mount",
        applies: |_, _| is_asked(),
        why: "through a mount that is in no mount table an image's file is refused, too: whoever is asked cannot tell which file it is",
    },
    not_mapped("library/mmap-exec"),
    not_mapped("library/mmap-shared-exec"),
    not_mapped("library/mmap-that-implies-exec"),
    not_mapped("library/mprotect-exec"),
    not_mapped("library/mprotect-of-a-modified-image-file"),
    not_mapped("library/written-after-a-failed-exec"),
    not_mapped("library/on-dev-shm"),
    not_mapped("library/memfd"),
    not_mapped("library/memfd-mprotect"),
    not_mapped("library/memfd-of-huge-pages"),
    not_mapped("library/memfd-of-huge-pages-mprotect"),
    not_mapped("library/loader-given-shared-memory"),
    not_mapped("library/loader-given-a-shared-segment"),
    not_mapped("library/loader-given-a-program"),
    not_mapped("library/loader-given-a-program-in-namespaces"),
    not_mapped("library/preload"),
    not_mapped("library/library-path"),
    not_mapped("library/dlopen"),
    not_mapped("library/dropped-elf-interpreter"),
    not_mapped("library/overwritten-elf-interpreter"),
    not_mapped("volume/mapped"),
    not_mapped("prohibited/through-the-loader"),
    not_known("process/excepted-runs-what-it-dropped"),
    not_known("process/excepted-runs-it-in-a-child"),
    not_known("process/excepted-by-a-pattern"),
    not_known("process/excepted-and-renamed"),
    not_known("process/excepted-and-chmodded"),
    not_known("process/prohibited-executes"),
    not_known("process/prohibited-executes-in-a-child"),
    not_known("process/prohibited-and-renamed"),
    not_known("process/prohibited-argv0"),
    not_known("process/prohibited-in-a-chroot"),
    not_known("process/prohibited-starts-a-shell"),
    not_killed(
        "new-binary/script",
        "by the time that Kill looks, a script is closed and its interpreter is what is executed",
    ),
    not_killed("modified/chmod-beforehand", KILLED_MEANWHILE),
    not_killed("process/another-of-the-image-renamed-there", KILLED_MEANWHILE),
    not_killed("process/another-of-the-image-linked-there", KILLED_MEANWHILE),
    not_killed("modified/chmod-of-a-sibling-link", KILLED_MEANWHILE),
    not_by_ctr("plain-root"),
    not_by_ctr("deleted-by-the-image"),
    not_by_ctr("renamed-folder-of-the-image"),
    not_by_ctr("user-namespace"),
    not_by_ctr("host-root-as-a-volume"),
    not_by_ctr("host-root-as-a-volume-under-volume-binaries"),
    not_by_ctr("kill-in-the-hosts-pid-namespace"),
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
