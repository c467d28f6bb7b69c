//! Compares the kernel's verdict with the reference, `mooring_policy::judge`, on generated policies and attempts. Needs a
//! kernel that takes the programs: run it in a guest, as root.
//!
//! Policies go the way that the agent sends them: compiled, encoded, switched into force. Only what the hooks would find out
//! of a file, its class and names, is written into a map, and the function that they share is run on it.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

// The strategies that the laws of the policies are tested with.
#[path = "../../policy/tests/common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use common::{Seen, Tried, many_policies, tried};
use libbpf_rs::{MapCore, MapFlags, ProgramInput};
use mooring_bpf::hooks::Attachment;
use mooring_bpf::wire::{NAME_LEN, Wire, name, name_state, path_key, verdict, verdict_case};
use mooring_crd::ContainerDriftPolicy;
use mooring_node_enforcer::kernel::{Kernel, LoadOptions, Members, Tables};
use mooring_policy::{Judgement, Name, NodeDefaults, RuleSet, compile, judge};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::strategy::Strategy as _;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Attempts on each set of policies, at most: to switch to another set takes the kernel longer than to judge.
const ATTEMPTS: usize = 400;

#[derive(Parser)]
struct Arguments {
    /// What the cases are generated from: the same seed, the same cases.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cases, at least.
    #[arg(long, default_value_t = 10_000)]
    cases: u32,
}

/// How often the cases led where a kernel could go wrong.
#[derive(Default)]
struct Seldom {
    cases: u32,
    drift: u32,
    excepted: u32,
    prohibited: u32,
    by_process: u32,
    by_pattern: u32,
    denied: u32,
    untouched: u32,
}

impl Seldom {
    fn note(&mut self, rules: &RuleSet, tried: &Tried, judgement: &Judgement) {
        let attempt = tried.attempt();
        let watched = attempt.member & rules.detects(attempt.usage, attempt.class);
        self.cases += 1;
        self.drift += u32::from(!judgement.drift.is_empty());
        self.excepted += u32::from(judgement.drift != watched);
        self.prohibited += u32::from(!judgement.prohibited.is_empty());
        self.by_process += u32::from(!judgement.prohibited_process.is_empty());
        let matched = |name| match name {
            Name::Path(path) => rules.patterns().any(|(pattern, _)| pattern.matches(path)),
            _ => false,
        };
        self.by_pattern += u32::from(matched(attempt.path));
        self.denied += u32::from(!judgement.denied.is_empty());
        self.untouched += u32::from(judgement.violating.is_empty());
    }

    /// Cases that never get there prove nothing.
    fn is_enough(&self) -> bool {
        let least = self.cases / 20;
        [self.drift, self.excepted, self.prohibited, self.by_process, self.by_pattern, self.denied, self.untouched]
            .iter()
            .all(|count| *count >= least)
    }
}

/// A name as the hooks leave it. What is no path may have been written half, so it is the beginning of one that may be listed.
fn wire_name(seen: &Seen) -> name {
    let (state, bytes): (_, &[u8]) = match seen {
        Seen::None => (name_state::NAME_NONE, b""),
        Seen::Path(path) => (name_state::NAME_PATH, path),
        Seen::TooLong => (name_state::NAME_TOO_LONG, b"/usr/bin/nc"),
        Seen::Unresolved => (name_state::NAME_UNRESOLVED, b"/usr/bin/nc"),
    };
    let mut key = path_key { bytes: [0; NAME_LEN] };
    let start = NAME_LEN - bytes.len();
    key.bytes[start..].copy_from_slice(bytes);
    name { key, tail: [0; NAME_LEN], offset: u32::try_from(start).unwrap(), state: state.0 }
}

fn in_the_kernel(kernel: &Kernel, tried: &Tried) -> verdict {
    let case = verdict_case {
        member: tried.member,
        r#use: u32::try_from(tried.usage.index()).unwrap(),
        file_class: u32::try_from(tried.class.index()).unwrap(),
        // Does not compile while the kernel has another number of names than the reference.
        names: tried.names.each_ref().map(wire_name),
        has_caller: u32::from(tried.caller.is_some()),
        caller_class: tried.caller.as_ref().map_or(0, |(class, _)| u32::try_from(class.index()).unwrap()),
        caller_names: tried
            .caller
            .as_ref()
            .map_or_else(|| [Seen::None, Seen::None], |(_, names)| names.clone())
            .each_ref()
            .map(wire_name),
    };
    let skeleton = kernel.skeleton();
    let index = 0_u32.to_ne_bytes();
    skeleton.maps.verdict_cases.update(&index, case.as_bytes(), MapFlags::ANY).unwrap();
    let mut arguments = 0_u64.to_ne_bytes();
    let input = ProgramInput { context_in: Some(&mut arguments), ..ProgramInput::default() };
    let output = skeleton.progs.mooring_verdict.test_run(input).unwrap();
    assert_eq!(output.return_value, 0, "the program did not judge");
    let bytes = skeleton.maps.verdicts.lookup(&index, MapFlags::ANY).unwrap().unwrap();
    verdict::from_bytes(&bytes).unwrap()
}

/// One set of policies and what is tried under it; the error is the first difference.
fn compare(
    kernel: &mut Kernel,
    (policies, volume_binaries): (&[ContainerDriftPolicy], bool),
    attempts: &[Tried],
    seldom: &mut Seldom,
) -> Result<(), String> {
    let compiled = compile(policies, NodeDefaults { volume_binaries });
    assert!(compiled.refused.is_empty(), "{:?}", compiled.refused);
    let rules = compiled.rules;
    kernel.enforce(&Tables::encode(&rules, 1, 0), &Members::new()).unwrap();
    for tried in attempts {
        let judgement = judge(&rules, &tried.attempt());
        seldom.note(&rules, tried, &judgement);
        let kernels = in_the_kernel(kernel, tried);
        let is = [kernels.drift, kernels.prohibited, kernels.prohibited_process, kernels.denied];
        let must_be = [judgement.drift, judgement.prohibited, judgement.prohibited_process, judgement.denied]
            .map(mooring_policy::SlotMask::bits);
        if is != must_be {
            return Err(format!(
                "the kernel says drift, prohibited, by its process, denied = {is:x?}, the reference {must_be:x?}, of {tried:?}"
            ));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let Arguments { seed, cases } = Arguments::parse();
    let begin = Instant::now();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let head = format!("verdict on {}, seed {seed}", release.trim());
    // Proptest calls back through a shared reference.
    let kernel = RefCell::new(
        Kernel::load(&LoadOptions { pins: None, comparison: true, attachment: Attachment::LsmHooks }).unwrap(),
    );
    let seldom = RefCell::new(Seldom::default());
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { max_shrink_iters: 4_000, max_shrink_time: 60_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let generated = (many_policies(), any::<bool>(), vec(tried(), 1..=ATTEMPTS));
    let mut sets = 0;
    while seldom.borrow().cases < cases {
        let tree = generated.new_tree(&mut runner).unwrap();
        let result = runner.run_one(tree, |(policies, volume_binaries, attempts)| {
            compare(&mut kernel.borrow_mut(), (&policies, volume_binaries), &attempts, &mut seldom.borrow_mut())
                .map_err(TestCaseError::fail)
        });
        if let Err(TestError::Fail(why, (policies, volume_binaries, _))) = &result {
            println!("{head}: {why}; node's volumeBinaries {volume_binaries}; policies, by slot:");
            for policy in compile(policies, NodeDefaults::default()).rules.policies() {
                let detect = serde_json::to_string(&policy.spec.detect).unwrap();
                println!("  {} {detect} prevent {}", policy.slot, policy.spec.actions.prevent);
            }
            return ExitCode::FAILURE;
        }
        result.unwrap();
        sets += 1;
    }
    let seldom = seldom.into_inner();
    println!(
        "{head}: {} cases under {sets} sets of policies, all equal: {} drift, {} excepted, {} prohibited, {} by the process, {} in a pattern, {} denied, {} neither; {:.1} s",
        seldom.cases,
        seldom.drift,
        seldom.excepted,
        seldom.prohibited,
        seldom.by_process,
        seldom.by_pattern,
        seldom.denied,
        seldom.untouched,
        begin.elapsed().as_secs_f64(),
    );
    if !seldom.is_enough() {
        println!("{head}: too few of a kind to prove anything");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
