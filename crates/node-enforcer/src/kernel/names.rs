//! What the agent has to look up in the kernel's own type information before it loads.

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Func, FuncProto};

use super::KernelError;

/// The position of the dentry among the arguments of `inode_setattr`, `inode_setxattr` and `inode_removexattr`: 0 up to
/// 5.19, 1 since 6.0, which put the mount's idmapping before it (include/linux/lsm_hook_defs.h).
///
/// # Errors
/// When the kernel has no BTF, or no such hook.
pub fn setattr_dentry_argument() -> Result<u32, KernelError> {
    let missing = |missing: &str| KernelError::Unsupported {
        missing: missing.into(),
        fix: "run a kernel built with CONFIG_DEBUG_INFO_BTF=y and CONFIG_BPF_LSM=y".into(),
    };
    let btf = Btf::from_vmlinux().map_err(|_| missing("the kernel's BTF (/sys/kernel/btf/vmlinux)"))?;
    let hook: Func<'_> =
        btf.type_by_name("bpf_lsm_inode_setattr").ok_or_else(|| missing("the BPF LSM hook inode_setattr"))?;
    let arguments = hook.next_type().and_then(|proto| FuncProto::try_from(proto).ok()).map(|proto| proto.iter().count());
    match arguments {
        Some(2) => Ok(0),
        Some(3) => Ok(1),
        _ => Err(missing("a known form of the LSM hook inode_setattr")),
    }
}
