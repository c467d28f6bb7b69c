//! What has to be looked up in the running kernel's own type information before the programs are loaded.

use libbpf_rs::btf::types::{Enum, Func, FuncProto, Ptr, Struct, Typedef};
use libbpf_rs::btf::{Btf, ReferencesType as _};
use libbpf_rs::skel::OpenSkel as _;
use libbpf_rs::{ProgramAttachType, ProgramType};

use crate::OpenMooringSkel;

/// A hook that this kernel does not have in a form that the programs know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingHook {
    /// What was looked for.
    pub missing: String,
}

/// What the programs are attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// The LSM's hooks: programs of type LSM, where `bpf` is among the active security modules.
    LsmHooks,
    /// The functions `security_…` that call these hooks: programs that replace what they return (`fmod_ret`), or watch where they
    /// return nothing (`fentry`).
    SecurityFunctions,
    /// The tracepoints of an exec: programs that refuse nothing, and kill whoever executes what they would have refused.
    ExecTracepoints,
}

impl Attachment {
    /// The kernel's function of a hook, in its BTF.
    fn function_of(self, hook: &str) -> String {
        match (self, hook) {
            (Self::LsmHooks | Self::ExecTracepoints, _) => format!("bpf_lsm_{hook}"),
            // Two functions are not called as their hooks are (security/security.c).
            (Self::SecurityFunctions, "bprm_check_security") => "security_bprm_check".to_owned(),
            (Self::SecurityFunctions, "inode_free_security") => "security_inode_free".to_owned(),
            (Self::SecurityFunctions, _) => format!("security_{hook}"),
        }
    }
}

/// Makes the programs for the hooks ones for the functions that call them.
///
/// # Errors
/// When the kernel has no such function.
fn attach_to_functions(open: &mut OpenMooringSkel<'_>) -> Result<(), MissingHook> {
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.attached_to_functions = true;
    }
    for mut program in open.open_object_mut().progs_mut() {
        let section = program.section().to_string_lossy().into_owned();
        let Some(hook) = section.strip_prefix("lsm/").filter(|_| program.autoload()) else { continue };
        let function = Attachment::SecurityFunctions.function_of(hook);
        let watches = hook == "inode_free_security";
        program.set_prog_type(ProgramType::Tracing);
        program.set_attach_type(if watches { ProgramAttachType::TraceFentry } else { ProgramAttachType::ModifyReturn });
        program
            .set_attach_target(0, Some(function.clone()))
            .map_err(|_| MissingHook { missing: format!("the function {function}") })?;
    }
    Ok(())
}

/// Leaves only the programs of tracepoints. An exec has one before the task is changed from 6.10 on, and one after it in every version.
fn attach_to_exec_tracepoints(open: &mut OpenMooringSkel<'_>, btf: &Btf<'_>) -> Result<(), MissingHook> {
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.kills = true;
        rodata.watches_files = false;
    }
    for mut program in open.open_object_mut().progs_mut() {
        if program.section().to_string_lossy().starts_with("lsm/") {
            program.set_autoload(false);
        }
    }
    let comes_before = btf.type_by_name::<Typedef<'_>>("btf_trace_sched_prepare_exec").is_some();
    if comes_before {
        if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
            rodata.exec_is_prepared = true;
        }
        let name = "sched_prepare_exec".to_owned();
        let missing = MissingHook { missing: format!("the tracepoint {name}") };
        open.progs.mooring_exec.set_attach_target(0, Some(name)).map_err(|_| missing)?;
    }
    Ok(())
}

/// Has the programs know containers by the cgroups of a v1 hierarchy: its number, and a controller that it has, by its name in
/// `/proc/PID/cgroup`.
///
/// # Errors
/// When the kernel has no such controller.
pub fn use_hierarchy(open: &mut OpenMooringSkel<'_>, number: u32, controller: &str) -> Result<(), MissingHook> {
    let btf = vmlinux()?;
    let name = format!("{controller}_cgrp_id");
    let missing = || MissingHook { missing: format!("the cgroup controller {controller}") };
    let controllers: Enum<'_> = btf.type_by_name("cgroup_subsys_id").ok_or_else(missing)?;
    let found = controllers.iter().find(|member| member.name.is_some_and(|it| *it == *name)).ok_or_else(missing)?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.hierarchy = number;
        rodata.hierarchy_controller = i32::try_from(found.value).map_err(|_| missing())?;
    }
    Ok(())
}

fn vmlinux() -> Result<Btf<'static>, MissingHook> {
    Btf::from_vmlinux().map_err(|_| MissingHook { missing: "type information (/sys/kernel/btf/vmlinux)".into() })
}

/// Tells the programs where these hooks have their dentry: some got another first argument, the mount's idmapping, in 5.12,
/// others in 6.0 (`include/linux/lsm_hook_defs.h`). Leaves out the programs of hooks that this kernel does not have: what they
/// would tell, a comparison finds out later.
///
/// # Errors
/// When the kernel has no BTF, or one of the hooks is not in it.
pub fn configure(open: &mut OpenMooringSkel<'_>, attachment: Attachment) -> Result<(), MissingHook> {
    let btf = vmlinux()?;
    if attachment == Attachment::ExecTracepoints {
        return attach_to_exec_tracepoints(open, &btf);
    }
    open.progs.mooring_exec.set_autoload(false);
    let setattr = dentry_argument(&btf, attachment, "inode_setattr")?;
    let setxattr = dentry_argument(&btf, attachment, "inode_setxattr")?;
    let removexattr = dentry_argument(&btf, attachment, "inode_removexattr")?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.setattr_dentry_argument = setattr;
        rodata.setxattr_dentry_argument = setxattr;
        rodata.removexattr_dentry_argument = removexattr;
    }
    let has = |hook, argument| dentry_argument(&btf, attachment, hook) == Ok(argument);
    let progs = &mut open.progs;
    progs.mooring_inode_set_acl.set_autoload(has("inode_set_acl", 1));
    progs.mooring_inode_remove_acl.set_autoload(has("inode_remove_acl", 1));
    progs.mooring_inode_file_setattr.set_autoload(has("inode_file_setattr", 0));
    match attachment {
        Attachment::LsmHooks | Attachment::ExecTracepoints => Ok(()),
        Attachment::SecurityFunctions => attach_to_functions(open),
    }
}

/// The position of the first `struct dentry *`, which must be 0 or 1.
fn dentry_argument(btf: &Btf<'_>, attachment: Attachment, hook: &str) -> Result<u32, MissingHook> {
    let function = attachment.function_of(hook);
    let missing = || MissingHook { missing: format!("the function {function} with a dentry argument") };
    let function: Func<'_> = btf.type_by_name(&function).ok_or_else(missing)?;
    let prototype = FuncProto::try_from(function.referenced_type()).map_err(|_| missing())?;
    let is_dentry = |id| {
        btf.type_by_id::<Ptr<'_>>(id)
            .and_then(|pointer| Struct::try_from(pointer.referenced_type()).ok())
            .is_some_and(|it| it.name().is_some_and(|name| name == "dentry"))
    };
    let position = prototype.iter().position(|parameter| is_dentry(parameter.ty));
    position.filter(|position| *position < 2).and_then(|position| u32::try_from(position).ok()).ok_or_else(missing)
}
