//! The bounds, and whether they are kept.

use super::{BenchError, Numbers};

/// How a number of the table is made.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// How much dearer the first is than the second, in percent.
    Overhead(&'static str, &'static str),
    /// The same of nanoseconds.
    Slower(&'static str, &'static str),
    /// How far apart two overheads are, in percentage points: with and without, of one and of the other.
    Apart([&'static str; 2], [&'static str; 2]),
    /// Thousands of instructions.
    Thousands(&'static str),
    /// KiB, told in MiB.
    Memory(&'static str),
    /// Milliseconds, told in seconds.
    Time(&'static str),
    /// Bytes, told in MiB.
    Size(&'static str),
    /// Microseconds, told in milliseconds.
    Moment(&'static str),
    /// How many.
    Count(&'static str),
    /// How much the first is of the second, in percent. Both are microseconds, told in milliseconds.
    Share(&'static str, &'static str),
}

struct Bound {
    what: &'static str,
    most: Option<f64>,
    goal: Option<f64>,
    value: Value,
}

const fn bound(what: &'static str, value: Value, most: f64, goal: Option<f64>) -> Bound {
    Bound { what, most: Some(most), goal, value }
}

const fn reported(what: &'static str, value: Value) -> Bound {
    Bound { what, most: None, goal: None, value }
}

/// Instructions; they are the same whatever else the machine does.
const INSTRUCTIONS: &[Bound] = &[
    bound(
        "exec, untracked, in the root cgroup",
        Value::Overhead("untracked-root enforcing", "untracked-root without"),
        0.8,
        Some(0.6),
    ),
    bound(
        "exec, untracked, in a service's cgroup",
        Value::Overhead("untracked-service enforcing", "untracked-service without"),
        0.8,
        Some(0.6),
    ),
    bound(
        "exec of an image binary in a container",
        Value::Overhead("image-binary enforcing", "image-binary without"),
        1.0,
        Some(0.6),
    ),
    bound(
        "open() for reading, untracked",
        Value::Overhead("untracked-open-read enforcing", "untracked-open-read without"),
        6.0,
        None,
    ),
    bound(
        "open() for writing, untracked",
        Value::Overhead("untracked-open-write enforcing", "untracked-open-write without"),
        6.0,
        None,
    ),
    bound(
        "open() for reading in a container, a file of the image",
        Value::Overhead("image-open-read enforcing", "image-open-read without"),
        6.0,
        None,
    ),
    bound(
        "open() for writing in a container, a new file",
        Value::Overhead("new-open-write enforcing", "new-open-write without"),
        6.0,
        None,
    ),
    bound(
        "open() for writing in a container, a file of the image that was copied up",
        Value::Overhead("copied-up-open-write enforcing", "copied-up-open-write without"),
        6.0,
        None,
    ),
    reported(
        "the same for reading, by somebody's first inotify watch on the file system",
        Value::Overhead("image-open-read without", "image-open-read unwatched"),
    ),
    bound("exec refused, thousand instructions", Value::Thousands("refused enforcing"), 240.0, Some(165.0)),
    bound(
        "exec detected, not prevented, first of its kind",
        Value::Overhead("new-binary-first enforcing", "new-binary-first without"),
        5.0,
        None,
    ),
    bound(
        "exec detected, not prevented, repeated",
        Value::Overhead("new-binary enforcing", "new-binary without"),
        2.0,
        None,
    ),
    reported(
        "exec of an image binary in a container, policy with path lists",
        Value::Overhead("image-binary lists", "image-binary without"),
    ),
    bound(
        "the same with 64 policies, 1,000 containers and 10,000 paths and patterns in lists, against a policy without lists",
        Value::Overhead("image-binary many-lists", "image-binary enforcing"),
        2.0,
        None,
    ),
    reported(
        "exec detected, first of its kind, and the agent's work on it on the same processor",
        Value::Overhead("new-binary-first with-agent", "new-binary-first without"),
    ),
    bound("from `run` to enforcing, s at a billion instructions a second", Value::Time("start-ms counted"), 2.0, None),
];

const FOOTPRINT: &[Bound] = &[
    bound("resident memory with one policy and 50 containers, MiB", Value::Memory("memory-kib found"), 15.0, None),
    reported("the same, when the containers came later, MiB", Value::Memory("memory-kib came")),
    reported("most memory that it ever had, at its start, MiB", Value::Memory("peak-memory-kib found")),
    // Wall clock: as much the host's as the enforcer's.
    reported("from `run` to enforcing, s of wall clock", Value::Time("start-ms empty")),
    reported("from `run` to enforcing with 50 containers, s of wall clock", Value::Time("start-ms found")),
    bound("size of the static binary, MiB", Value::Size("binary-bytes"), 12.0, None),
];

/// The other backends beside `BpfLsm`.
const BACKENDS: &[Bound] = &[
    bound(
        "FmodRet: exec, untracked, in a service's cgroup, apart from BpfLsm",
        Value::Apart(
            ["fmod-ret untracked-service enforcing", "fmod-ret untracked-service without"],
            ["untracked-service enforcing", "untracked-service without"],
        ),
        0.5,
        None,
    ),
    bound(
        "FmodRet: exec of an image binary in a container, apart from BpfLsm",
        Value::Apart(
            ["fmod-ret image-binary enforcing", "fmod-ret image-binary without"],
            ["image-binary enforcing", "image-binary without"],
        ),
        0.5,
        None,
    ),
    bound(
        "Kill: exec, untracked, in the root cgroup",
        Value::Overhead("untracked-root killing", "untracked-root without"),
        0.8,
        Some(0.6),
    ),
    bound(
        "Kill: exec, untracked, in a service's cgroup",
        Value::Overhead("untracked-service killing", "untracked-service without"),
        0.8,
        Some(0.6),
    ),
    bound(
        "Kill: exec of an image binary in a container",
        Value::Overhead("image-binary killing", "image-binary without"),
        1.0,
        Some(0.6),
    ),
];

/// What is done to containers: by the clock that counts instructions, and by the wall clock of a usual guest.
const RESPONSES: &[Bound] = &[
    bound(
        "Kill: from a violation to the last of 100 processes dead, 99 of 100 at most, ms at a billion instructions a second",
        Value::Moment("kill-p99-us counted"),
        100.0,
        None,
    ),
    reported("Kill: the same, the middle one, ms", Value::Moment("kill-p50-us counted")),
    reported("Kill: the same, the middle one, ms of wall clock", Value::Moment("kill-p50-us clocked")),
    reported("Kill: the same, 99 of 100 at most, ms of wall clock", Value::Moment("kill-p99-us clocked")),
];

/// The backend that is asked, without a bound of its own: it is for kernels that have no better one.
const ASKED: &[Bound] = &[
    bound(
        "Fanotify: exec, untracked, in the root cgroup",
        Value::Overhead("untracked-root asking", "untracked-root without"),
        1.0,
        Some(0.6),
    ),
    bound(
        "Fanotify: exec, untracked, in a service's cgroup",
        Value::Overhead("untracked-service asking", "untracked-service without"),
        1.0,
        Some(0.6),
    ),
    bound(
        "Fanotify: exec of an image binary in a container",
        Value::Overhead("image-binary asking", "image-binary without"),
        10.0,
        None,
    ),
    bound("Fanotify: a refused exec, thousand instructions", Value::Thousands("refused asking"), 300.0, None),
];

/// The two without anything that refuses in the kernel, by the wall clock of the machine that measures, on its own kernel.
const NATIVE: &[Bound] = &[
    reported(
        "Kill: exec of an image binary in a container, wall clock",
        Value::Slower("native-exec-ns killing", "native-exec-ns without-killing"),
    ),
    reported(
        "Kill: exec in a container that no policy is for, wall clock",
        Value::Slower("native-untracked-ns killing", "native-exec-ns without-killing"),
    ),
    reported(
        "Fanotify: exec of an image binary in a container, wall clock",
        Value::Slower("native-exec-ns asking", "native-exec-ns without-asking"),
    ),
    reported(
        "Fanotify: exec in a container that no policy is for, wall clock",
        Value::Slower("native-untracked-ns asking", "native-exec-ns without-asking"),
    ),
    reported("Fanotify: a refused exec, thousand ns of wall clock", Value::Thousands("native-refused-ns asking")),
];

/// The operator: on this machine, by the wall clock.
const OPERATOR: &[Bound] = &[
    bound("operator: all of 15,000 nodes and 500 policies planned, s", Value::Time("plan-full-ms"), 3.0, None),
    bound("operator: one policy's edit planned on all of them, s", Value::Time("plan-edit-ms"), 0.5, None),
    bound("operator: the same, when a policy asks for host names, s", Value::Time("plan-edit-by-name-ms"), 0.5, None),
    bound("operator: most memory until then, MiB", Value::Memory("plan-peak-kib"), 500.0, None),
    reported("operator: every ConfigMap of these written down and read back, s", Value::Time("encode-and-read-ms")),
    bound("operator: one edit in the ConfigMaps of 1,000 nodes, s", Value::Time("thousand-edit-ms"), 15.0, None),
    reported("operator: of that the API server was at work on such a write, s", Value::Time("thousand-server-ms")),
    bound("operator: resident memory with 1,000 nodes, MiB", Value::Memory("thousand-memory-kib"), 120.0, None),
    reported("operator: the most that it ever was, MiB", Value::Memory("thousand-peak-kib")),
];

/// The agent in a cluster: by the wall clock of this machine, or of a guest on it.
const AGENT: &[Bound] = &[
    bound(
        "agent: a policy's edit in force on a node, from `kubectl apply` on, s (middle of 20)",
        Value::Time("in-force-ms"),
        1.0,
        None,
    ),
    reported("agent: the slowest of these, s", Value::Time("in-force-worst-ms")),
    bound("agent: resident memory with 250 pods and 64 policies, MiB", Value::Memory("cluster-memory-kib"), 25.0, None),
    reported("agent: the most that it ever was, MiB", Value::Memory("cluster-peak-kib")),
    bound("agent: one pod resolved, with 500 pods and 10,000 namespaces, ms", Value::Moment("resolve-us"), 1.0, None),
    reported(
        "agent: refused executions a second in a flood of a minute, counted exactly",
        Value::Count("refused-per-second"),
    ),
    reported("agent: records a second decoded and counted for a minute, exactly", Value::Count("records-per-second")),
    reported("agent: events a second told to 100 agents' sinks for a minute", Value::Count("agents-told-per-second")),
    reported("agent: what these 100 wrote in all, objects and counts", Value::Count("agents-writes")),
    reported(
        "agent: the API server's slowest answer that it is ready meanwhile, s",
        Value::Time("agents-readyz-worst-ms"),
    ),
    bound("pods: of 300 in waves of 40, those that ran what they had dropped", Value::Count("protect-ran"), 0.0, None),
    reported("pods: those that the runtime itself did not start", Value::Count("protect-not-started")),
    reported("pods: started in a minute", Value::Count("protect-pods-per-minute")),
    reported("pods: from the first exec to rules in force, ms (middle one)", Value::Moment("protect-p50-us")),
    reported("pods: the same, 99 of 100 at most, ms", Value::Moment("protect-p99-us")),
    reported("pods: the same, the worst, ms", Value::Moment("protect-worst-us")),
    reported(
        "pods: from the first exec to its own policies alone, ms (middle one)",
        Value::Moment("protect-own-p50-us"),
    ),
    reported("pods: the same, 99 of 100 at most, ms", Value::Moment("protect-own-p99-us")),
    reported("pods: the same, the worst, ms", Value::Moment("protect-own-worst-us")),
    reported("pods: those that every policy applied to until then", Value::Count("protect-by-kernel")),
    reported("pods: those that had ended before the agent came to them", Value::Count("protect-ended-before-own")),
    bound(
        "pods: of the node's work for a pod's start, Mooring's",
        Value::Share("start-added-us", "start-node-us"),
        1.0,
        None,
    ),
    reported("pods: of that its programs', ms", Value::Moment("start-programs-us")),
    reported("pods: of that its agent's, ms", Value::Moment("start-agent-us")),
    reported(
        "agent: its container's work where nothing happens, ms in a second",
        Value::Moment("idle-agent-us-in-a-second"),
    ),
];

/// A line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What was measured.
    pub what: &'static str,
    /// Its bound and its goal as people read them.
    pub bound: String,
    /// What came out.
    pub measured: String,
    /// What it was made of, where that is more than one number.
    pub from: String,
    /// Whether the bound is kept; `None` where there is none.
    pub kept: Option<bool>,
}

/// Compares with the bounds what was counted in one guest and measured in another.
///
/// # Errors
/// If something was not measured.
pub fn judge(instructions: &Numbers, footprint: &Numbers) -> Result<Vec<Judged>, BenchError> {
    let counted = INSTRUCTIONS.iter().chain(BACKENDS).chain(ASKED).map(|bound| bound.judge(instructions));
    counted.chain(FOOTPRINT.iter().map(|bound| bound.judge(footprint))).collect()
}

/// Compares what the operator was measured to need.
///
/// # Errors
/// If something was not measured.
pub fn judge_operator(measured: &Numbers) -> Result<Vec<Judged>, BenchError> {
    OPERATOR.iter().map(|bound| bound.judge(measured)).collect()
}

/// Compares what an exec was measured to take on the machine's own kernel.
///
/// # Errors
/// If something was not measured.
pub fn judge_native(measured: &Numbers) -> Result<Vec<Judged>, BenchError> {
    NATIVE.iter().map(|bound| bound.judge(measured)).collect()
}

/// Compares how long was measured to be taken for what is done to containers.
///
/// # Errors
/// If something was not measured.
pub fn judge_responses(measured: &Numbers) -> Result<Vec<Judged>, BenchError> {
    RESPONSES.iter().map(|bound| bound.judge(measured)).collect()
}

/// Compares what agents in a cluster were measured to do.
///
/// # Errors
/// If something was not measured.
pub fn judge_agent(measured: &Numbers) -> Result<Vec<Judged>, BenchError> {
    AGENT.iter().map(|bound| bound.judge(measured)).collect()
}

/// The instructions of another kernel, without its bounds.
pub(super) fn compare(instructions: &Numbers) -> Result<Vec<Judged>, BenchError> {
    INSTRUCTIONS.iter().map(|bound| bound.judge(instructions)).collect()
}

impl Bound {
    fn judge(&self, numbers: &Numbers) -> Result<Judged, BenchError> {
        let mut from = String::new();
        let measured = match self.value {
            Value::Overhead(with, without) | Value::Slower(with, without) => {
                let (with, without) = (numbers.get(with)?, numbers.get(without)?);
                from = match self.value {
                    Value::Slower(..) => format!("{:.1} -> {:.1} µs", without / 1000.0, with / 1000.0),
                    _ => format!("{:.2} -> {:.2} thousand", without / 1000.0, with / 1000.0),
                };
                (with / without - 1.0) * 100.0
            }
            Value::Apart(one, other) => {
                let mut overheads = [0.0; 2];
                for (overhead, [with, without]) in overheads.iter_mut().zip([one, other]) {
                    *overhead = (numbers.get(with)? / numbers.get(without)? - 1.0) * 100.0;
                }
                let [one, other] = overheads;
                from = format!("{one:+.2} % and {other:+.2} %");
                (one - other).abs()
            }
            Value::Share(part, whole) => {
                let (part, whole) = (numbers.get(part)?, numbers.get(whole)?);
                from = format!("{:.2} of {:.2} ms", part / 1000.0, whole / 1000.0);
                part / whole * 100.0
            }
            Value::Thousands(name) | Value::Time(name) | Value::Moment(name) => numbers.get(name)? / 1000.0,
            Value::Memory(name) => numbers.get(name)? / 1024.0,
            Value::Count(name) => numbers.get(name)?,
            Value::Size(name) => numbers.get(name)? / 1024.0 / 1024.0,
        };
        let limit = self.most.map_or_else(|| "-".to_owned(), |most| self.told(most));
        let goal = self.goal.map_or_else(String::new, |goal| format!(" (goal {})", self.told(goal)));
        Ok(Judged {
            what: self.what,
            bound: limit + &goal,
            measured: self.told(measured),
            from,
            kept: self.most.map(|most| measured <= most),
        })
    }

    fn told(&self, number: f64) -> String {
        match self.value {
            Value::Overhead(..) | Value::Slower(..) => format!("{number:+.2} %"),
            Value::Share(..) | Value::Apart(..) => format!("{number:.2} %"),
            Value::Thousands(_) => format!("{number:.1}"),
            Value::Memory(_) | Value::Time(_) | Value::Size(_) => format!("{number:.2}"),
            Value::Moment(_) => format!("{number:.3}"),
            Value::Count(_) => format!("{number:.0}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(pairs: &[(&str, f64)]) -> Numbers {
        let numbers = pairs.iter().map(|&(name, number)| (name.to_owned(), number)).collect();
        Numbers { kernel: "6.12".into(), numbers }
    }

    #[test]
    fn an_overhead_is_kept_up_to_its_bound() {
        let bound = bound("x", Value::Overhead("with", "without"), 1.0, Some(0.5));
        let kept = bound.judge(&numbers(&[("with", 1009.0), ("without", 1000.0)])).unwrap();
        assert_eq!(
            (kept.kept, kept.measured.as_str(), kept.bound.as_str()),
            (Some(true), "+0.90 %", "+1.00 % (goal +0.50 %)")
        );
        let missed = bound.judge(&numbers(&[("with", 1011.0), ("without", 1000.0)])).unwrap();
        assert_eq!(missed.kept, Some(false));
    }

    #[test]
    fn two_overheads_are_apart_either_way() {
        let bound = bound("x", Value::Apart(["a", "a0"], ["b", "b0"]), 0.5, None);
        let of = |a| bound.judge(&numbers(&[("a", a), ("a0", 1000.0), ("b", 2020.0), ("b0", 2000.0)])).unwrap();
        assert_eq!((of(1014.0).kept, &*of(1014.0).measured), (Some(true), "0.40 %"));
        assert_eq!(of(1004.0).kept, Some(false));
        assert_eq!(of(1016.0).kept, Some(false));
    }

    #[test]
    fn a_share_is_kept_up_to_its_bound() {
        let bound = bound("x", Value::Share("part", "whole"), 1.0, None);
        let kept = bound.judge(&numbers(&[("part", 9_900.0), ("whole", 1_000_000.0)])).unwrap();
        assert_eq!((kept.kept, &*kept.measured, &*kept.from), (Some(true), "0.99 %", "9.90 of 1000.00 ms"));
        let missed = bound.judge(&numbers(&[("part", 11_000.0), ("whole", 1_000_000.0)])).unwrap();
        assert_eq!(missed.kept, Some(false));
    }

    #[test]
    fn what_was_not_measured_is_an_error() {
        let error = judge(&numbers(&[]), &numbers(&[])).unwrap_err().to_string();
        assert!(error.contains("untracked-root enforcing"), "{error}");
    }
}
