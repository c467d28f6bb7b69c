//! The suites, by name.

mod bad_policies;
mod badinput;
mod check;
mod flood;
mod judge;
mod kernel_log;
mod lifecycle;
mod responses;
mod room;
mod runtimes;
mod shapes;
mod survival;
mod tables;

use super::context::Context;
use super::error::Result;
use super::excused::excuse;
use super::report::Report;
use crate::attacks::{copy_ups, matrix};

/// One test of a suite that is not a table of attacks.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) body: fn(&Context) -> Result<()>,
}

struct Suite {
    name: &'static str,
    about: &'static str,
    /// Not part of `all`: it needs another guest.
    apart: bool,
    kind: Kind,
}

enum Kind {
    Attacks(tables::Table),
    Tests(&'static [Test]),
}

const SUITES: &[Suite] = &[
    Suite {
        name: "control",
        about: "every attack of matrix and copyup, without an enforcer: all of them must work",
        apart: true,
        kind: Kind::Attacks(tables::Table::Control),
    },
    Suite {
        name: "matrix",
        about: "every reason: refused under prevent, reported without, the benign twin runs",
        apart: false,
        kind: Kind::Attacks(tables::Table::Matrix),
    },
    Suite {
        name: "copyup",
        about: "metadata copy-ups run, written files do not",
        apart: false,
        kind: Kind::Attacks(tables::Table::CopyUp),
    },
    Suite {
        name: "runtimes",
        about: "a policy that prevents everything never disturbs a runtime",
        apart: false,
        kind: Kind::Tests(runtimes::TESTS),
    },
    Suite {
        name: "shapes",
        about: "a root that is no overlay, a user namespace, the host's root as a volume",
        apart: false,
        kind: Kind::Tests(shapes::TESTS),
    },
    Suite {
        name: "lifecycle",
        about: "start, edit, stop, release, and what was there before or came meanwhile",
        apart: false,
        kind: Kind::Tests(lifecycle::TESTS),
    },
    Suite {
        name: "survival",
        about: "the enforcer is killed and restarted 20 times; nothing gets through",
        apart: false,
        kind: Kind::Tests(survival::TESTS),
    },
    Suite {
        name: "flood",
        about: "100,000 refused executions in a row: none runs, all are counted, memory is bounded",
        apart: false,
        kind: Kind::Tests(flood::TESTS),
    },
    Suite {
        name: "room",
        about: "more containers and links than the kernel's tables hold: said and counted, the rest stays in force",
        apart: false,
        kind: Kind::Tests(room::TESTS),
    },
    Suite {
        name: "responses",
        about: "containers are killed, stopped and paused, and the agent's switches hold that back",
        apart: false,
        kind: Kind::Tests(responses::TESTS),
    },
    Suite {
        name: "badinput",
        about: "broken policies are refused by file, field and fix",
        apart: false,
        kind: Kind::Tests(badinput::TESTS),
    },
    Suite {
        name: "check",
        about: "check and explain say how things are",
        apart: false,
        kind: Kind::Tests(check::TESTS),
    },
    Suite {
        name: "check-without-bpf",
        about: "in a guest booted without bpf in the LSM list: another backend is found, and why",
        apart: true,
        kind: Kind::Tests(check::TESTS_WITHOUT_BPF),
    },
    Suite {
        name: "check-under-lockdown",
        about: "locks its guest's kernel down: the enforcer says so and fails",
        apart: true,
        kind: Kind::Tests(check::TESTS_UNDER_LOCKDOWN),
    },
];

impl Suite {
    fn tests(&self) -> Vec<String> {
        let names: Vec<&str> = match &self.kind {
            Kind::Attacks(tables::Table::Matrix) => matrix().map(|case| case.name).collect(),
            Kind::Attacks(tables::Table::CopyUp) => copy_ups().map(|case| case.name).collect(),
            Kind::Attacks(tables::Table::Control) => matrix().chain(copy_ups()).map(|case| case.name).collect(),
            Kind::Tests(tests) => tests.iter().map(|test| test.name).collect(),
        };
        names.iter().map(|name| format!("{}/{name}", self.name)).collect()
    }
}

/// Prints every suite and its tests.
pub fn list() {
    for suite in SUITES {
        println!("{}: {}{}", suite.name, suite.about, if suite.apart { " (not in all)" } else { "" });
        for test in suite.tests() {
            println!("  {test}");
        }
    }
}

/// Whether a test is asked for: by `all`, its suite, or the beginning of its full name.
fn wanted(name: &str, suite: &Suite, names: &[String]) -> bool {
    names.iter().any(|asked| {
        (asked == "all" && !suite.apart)
            || asked == suite.name
            || (asked.contains('/') && name.starts_with(asked.as_str()))
    })
}

/// Runs what `names` ask for; a name that asks for nothing is a failure.
pub fn run(context: &Context, names: &[String], report: &mut Report) {
    for asked in names {
        let some = SUITES
            .iter()
            .any(|suite| suite.tests().iter().any(|test| wanted(test, suite, std::slice::from_ref(asked))));
        if !some {
            report.fail(asked, "no such suite or test; `guest list` shows them");
        }
    }
    let logged = kernel_log::read();
    run_suites(context, names, report);
    if let Err(error) = logged.and_then(|before| kernel_log::is_clean_since(&before)) {
        report.fail("kernel-log", &error.to_string());
    }
}

fn run_suites(context: &Context, names: &[String], report: &mut Report) {
    for suite in SUITES {
        let is_wanted = |test: &str| wanted(&format!("{}/{test}", suite.name), suite, names);
        match &suite.kind {
            Kind::Attacks(table) => tables::run(context, *table, suite.name, &is_wanted, report),
            Kind::Tests(tests) => {
                for test in tests.iter().filter(|test| is_wanted(test.name)) {
                    if let Some(why) = excuse(test.name, context.kernel, context.kind) {
                        report.excused(&format!("{}/{}", suite.name, test.name), why);
                        continue;
                    }
                    report.test(&format!("{}/{}", suite.name, test.name), || (test.body)(context));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::excused::EXCUSES;

    fn suite(name: &str) -> &'static Suite {
        SUITES.iter().find(|suite| suite.name == name).unwrap()
    }

    #[test]
    fn names_choose_suites_and_tests() {
        let asked = |text: &str| vec![text.to_owned()];
        assert!(wanted("matrix/new-binary/copy", suite("matrix"), &asked("all")));
        assert!(wanted("matrix/new-binary/copy", suite("matrix"), &asked("matrix")));
        assert!(wanted("matrix/new-binary/copy", suite("matrix"), &asked("matrix/new-b")));
        assert!(!wanted("matrix/new-binary/copy", suite("matrix"), &asked("mat")));
        assert!(!wanted("check-without-bpf/x", suite("check-without-bpf"), &asked("all")));
        assert!(!wanted("check-without-bpf/x", suite("check-without-bpf"), &asked("check")));
    }

    #[test]
    fn an_excuse_names_a_test_that_exists() {
        let all: Vec<String> = SUITES.iter().flat_map(Suite::tests).collect();
        for excuse in EXCUSES {
            let end = format!("/{}", excuse.case);
            assert!(all.iter().any(|test| test.ends_with(&end)), "{}", excuse.case);
        }
    }

    #[test]
    fn no_suite_is_empty() {
        for suite in SUITES {
            assert!(!suite.tests().is_empty(), "{}", suite.name);
        }
    }
}
