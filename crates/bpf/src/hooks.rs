//! What has to be looked up in the running kernel's own type information before the programs are loaded.

use libbpf_rs::btf::types::{Func, FuncProto, Ptr, Struct};
use libbpf_rs::btf::{Btf, ReferencesType as _};

use crate::OpenMooringSkel;

/// A hook that this kernel does not have in a form that the programs know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingHook {
    /// What was looked for.
    pub missing: String,
}

/// Tells the programs where these hooks have their dentry: some got another first argument, the mount's idmapping, in 5.12,
/// others in 6.0 (`include/linux/lsm_hook_defs.h`). Leaves out the programs of hooks that this kernel does not have: what they
/// would tell, a comparison finds out later.
///
/// # Errors
/// When the kernel has no BTF, or one of the hooks is not in it.
pub fn configure(open: &mut OpenMooringSkel<'_>) -> Result<(), MissingHook> {
    let btf = Btf::from_vmlinux()
        .map_err(|_| MissingHook { missing: "type information (/sys/kernel/btf/vmlinux)".into() })?;
    let setattr = dentry_argument(&btf, "inode_setattr")?;
    let setxattr = dentry_argument(&btf, "inode_setxattr")?;
    let removexattr = dentry_argument(&btf, "inode_removexattr")?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.setattr_dentry_argument = setattr;
        rodata.setxattr_dentry_argument = setxattr;
        rodata.removexattr_dentry_argument = removexattr;
    }
    let has = |hook, argument| dentry_argument(&btf, hook) == Ok(argument);
    let progs = &mut open.progs;
    progs.mooring_inode_set_acl.set_autoload(has("inode_set_acl", 1));
    progs.mooring_inode_remove_acl.set_autoload(has("inode_remove_acl", 1));
    progs.mooring_inode_file_setattr.set_autoload(has("inode_file_setattr", 0));
    Ok(())
}

/// The position of the first `struct dentry *`, which must be 0 or 1.
fn dentry_argument(btf: &Btf<'_>, hook: &str) -> Result<u32, MissingHook> {
    let missing = || MissingHook { missing: format!("the BPF LSM hook {hook} with a dentry argument") };
    let function: Func<'_> = btf.type_by_name(&format!("bpf_lsm_{hook}")).ok_or_else(missing)?;
    let prototype = FuncProto::try_from(function.referenced_type()).map_err(|_| missing())?;
    let is_dentry = |id| {
        btf.type_by_id::<Ptr<'_>>(id)
            .and_then(|pointer| Struct::try_from(pointer.referenced_type()).ok())
            .is_some_and(|it| it.name().is_some_and(|name| name == "dentry"))
    };
    let position = prototype.iter().position(|parameter| is_dentry(parameter.ty));
    position.filter(|position| *position < 2).and_then(|position| u32::try_from(position).ok()).ok_or_else(missing)
}
