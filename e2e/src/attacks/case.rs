//! A case: one attack, what must become of it, and its benign twin.
//!
//! Scripts are run by the image's `/bin/sh -c` in the folder `$D`, with these variables:
//!
//! | variable | meaning |
//! |---|---|
//! | `$D` | an empty folder of this case, in the container's upper layer |
//! | `$T` | a tiny program of the image, to be copied; it prints the token |
//! | `$V` | this case's own victim: a program of the image which also prints the token; `$V.link` is a hard link to it in the layer where the setup names it |
//! | `$X` | what is executed: `$D/x` for the attack, `$V` for the twin (`$V.twin` where the attack changed `$V`) |
//! | `$P` | `/usr/bin/probe`, an image binary which performs what a shell cannot |
//! | `$LD`, `$LIBC` | the image's dynamic loader and C library (`/bin/gcat` and `/bin/gbash` use them) |

/// The dynamic loader in the test image.
pub(crate) const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// The C library in the test image.
pub(crate) const C_LIBRARY: &str = "/lib/x86_64-linux-gnu/libc.so.6";

/// Why an execution or mapping is refused, as the API spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    NewBinary,
    ModifiedBinary,
    VolumeBinary,
    Fileless,
    ForeignMount,
    ProhibitedBinary,
    ProhibitedProcess,
    DriftedLibrary,
}

impl Reason {
    /// The name in an event.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reason::NewBinary => "NewBinary",
            Reason::ModifiedBinary => "ModifiedBinary",
            Reason::VolumeBinary => "VolumeBinary",
            Reason::Fileless => "Fileless",
            Reason::ForeignMount => "ForeignMount",
            Reason::ProhibitedBinary => "ProhibitedBinary",
            Reason::ProhibitedProcess => "ProhibitedProcess",
            Reason::DriftedLibrary => "DriftedLibrary",
        }
    }
}

/// Which policies the case's container is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Profile {
    /// Drifted binaries and libraries, nothing else.
    Drift,
    /// As `Drift`, and volume binaries.
    Volumes,
    /// As `Drift` without libraries.
    WithoutLibraries,
    /// As `Drift`, with exceptions and prohibited binaries (see `crate::guest::profiles`).
    Lists,
    /// As `Lists`, and a second policy without any exception.
    TwoPolicies,
    /// As `Drift`, with lists of processes and patterns (see `crate::guest::profiles`).
    Processes,
}

impl Profile {
    #[cfg(test)]
    pub(crate) const ALL: &'static [Profile] = &[
        Profile::Drift,
        Profile::Volumes,
        Profile::WithoutLibraries,
        Profile::Lists,
        Profile::TwoPolicies,
        Profile::Processes,
    ];
}

/// What must happen to the attack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expect {
    /// Refused under prevent, reported either way, for one of these reasons (more than one only where the kernel cannot tell them apart).
    Refused(&'static [Reason]),
    /// Runs, and no event is written.
    Allowed,
    /// May be refused at first; runs within a few seconds.
    EventuallyAllowed,
}

/// What must run beside the attack and cause no event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Twin {
    /// The same command with `$X` being the image's own file.
    SameCommand,
    /// Another script.
    Script(&'static str),
    /// None, because of this.
    None(&'static str),
}

/// The path that the event must name. `$D`, `$V` are replaced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PathRule {
    /// Exactly this.
    Is(&'static str),
    /// Contains this.
    Has(&'static str),
    /// Anything: the kernel has no name for it that a person would know.
    Any,
}

/// Who executes the script.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Via {
    /// A child of the container's first process.
    Init,
    /// `/bin/sh -c` as a process that the runtime's exec starts.
    RuntimeExec,
    /// The attack's program itself is what the runtime's exec starts: `$X` and nothing else.
    RuntimeExecDirect,
}

/// What is done from outside between the setup and the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Between {
    Nothing,
    /// `echo 2 > /proc/sys/vm/drop_caches`: inodes, and the marks that live with them, are lost.
    DropCaches,
}

/// One row of a table. Build it with [`refused`], [`allowed`] or [`eventually_allowed`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// `group/name`, unique.
    pub(crate) name: &'static str,
    pub(crate) profile: Profile,
    /// Prepares the attack; its failure fails the case.
    pub(crate) setup: &'static str,
    /// Performs it; prints the token if what it started ran.
    pub(crate) run: &'static str,
    pub(crate) twin: Twin,
    pub(crate) expect: Expect,
    pub(crate) path: PathRule,
    pub(crate) via: Via,
    pub(crate) between: Between,
    /// Whether `$X` of the attack is the victim `$V`, which the setup changes.
    pub(crate) changes_victim: bool,
}

const fn case(name: &'static str, expect: Expect, setup: &'static str) -> Case {
    Case {
        name,
        profile: Profile::Drift,
        setup,
        run: "$X",
        twin: Twin::SameCommand,
        expect,
        path: PathRule::Is("$X"),
        via: Via::Init,
        between: Between::Nothing,
        changes_victim: false,
    }
}

/// An attack which must be refused for `reasons`. Without more it runs `$X`.
pub(crate) const fn refused(name: &'static str, reasons: &'static [Reason], setup: &'static str) -> Case {
    case(name, Expect::Refused(reasons), setup)
}

/// Something that must run unseen.
pub(crate) const fn allowed(name: &'static str, setup: &'static str) -> Case {
    case(name, Expect::Allowed, setup).no_twin("the case is itself benign")
}

/// Something that must run after a few seconds.
pub(crate) const fn eventually_allowed(name: &'static str, setup: &'static str) -> Case {
    case(name, Expect::EventuallyAllowed, setup).no_twin("the case is itself benign")
}

impl Case {
    pub(crate) const fn run(mut self, script: &'static str) -> Case {
        self.run = script;
        self
    }

    pub(crate) const fn twin(mut self, script: &'static str) -> Case {
        self.twin = Twin::Script(script);
        self
    }

    pub(crate) const fn no_twin(mut self, why: &'static str) -> Case {
        self.twin = Twin::None(why);
        self
    }

    pub(crate) const fn path(mut self, rule: PathRule) -> Case {
        self.path = rule;
        self
    }

    pub(crate) const fn profile(mut self, profile: Profile) -> Case {
        self.profile = profile;
        self
    }

    pub(crate) const fn via(mut self, via: Via) -> Case {
        self.via = via;
        self
    }

    pub(crate) const fn between(mut self, between: Between) -> Case {
        self.between = between;
        self
    }

    /// `$X` is `$V`, and the setup changes it.
    pub(crate) const fn changes_victim(mut self) -> Case {
        self.changes_victim = true;
        self
    }

    /// The name as one path component.
    pub(crate) fn slug(&self) -> String {
        self.name.replace('/', "-")
    }

    /// The case's victim in the image.
    pub(crate) fn victim(&self) -> String {
        format!("/fix/victim/{}", self.slug())
    }
}

/// The variables of one run of a script.
#[derive(Clone, Debug)]
pub(crate) struct Variables {
    pub(crate) dir: String,
    pub(crate) victim: String,
    pub(crate) executed: String,
}

impl Variables {
    /// Those of the attack.
    pub(crate) fn of_attack(case: &Case) -> Variables {
        let dir = format!("/drop/{}", case.slug());
        let victim = case.victim();
        let executed = if case.changes_victim { victim.clone() } else { format!("{dir}/x") };
        Variables { dir, victim, executed }
    }

    /// Those of the twin: the folder is another one, the executed file is the image's.
    pub(crate) fn of_twin(case: &Case) -> Variables {
        let victim = if case.changes_victim { format!("{}.twin", case.victim()) } else { case.victim() };
        Variables { dir: format!("/drop/{}.twin", case.slug()), executed: victim.clone(), victim }
    }

    /// `text` with the variables replaced.
    pub(crate) fn expand(&self, text: &str) -> String {
        text.replace("$D", &self.dir).replace("$V", &self.victim).replace("$X", &self.executed)
    }

    /// A script for `/bin/sh -c` that sets the variables, enters the folder and runs `body`.
    pub(crate) fn script(&self, body: &str) -> String {
        format!(
            "D={} V={} X={} T=/fix/tiny P=/usr/bin/probe LD={LOADER} LIBC={C_LIBRARY}\n\
             export D V X T P LD LIBC\nmkdir -p $D && cd $D || exit 99\n{body}",
            self.dir, self.victim, self.executed
        )
    }
}

impl PathRule {
    /// Whether an event's `path` is what the rule asks for.
    pub(crate) fn accepts(self, path: &str, variables: &Variables) -> bool {
        match self {
            PathRule::Is(rule) => path == variables.expand(rule),
            PathRule::Has(rule) => path.contains(&variables.expand(rule)),
            PathRule::Any => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_never_executes_the_attack_file() {
        let case = refused("g/n", &[Reason::NewBinary], "cp $T $X");
        assert_eq!(Variables::of_attack(&case).executed, "/drop/g-n/x");
        assert_eq!(Variables::of_twin(&case).executed, "/fix/victim/g-n");
        let case = case.changes_victim();
        assert_eq!(Variables::of_attack(&case).executed, "/fix/victim/g-n");
        assert_eq!(Variables::of_twin(&case).executed, "/fix/victim/g-n.twin");
    }

    #[test]
    fn path_rules() {
        let v = Variables::of_attack(&refused("g/n", &[Reason::NewBinary], ""));
        assert!(PathRule::Is("$X").accepts("/drop/g-n/x", &v));
        assert!(!PathRule::Is("$X").accepts("/drop/g-n/xy", &v));
        assert!(PathRule::Has("$D").accepts("/drop/g-n/y", &v));
        assert!(!PathRule::Has("$D").accepts("/drop/other/y", &v));
    }
}
