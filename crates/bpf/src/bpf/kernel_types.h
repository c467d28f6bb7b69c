/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The few fields of kernel types that the programs read. Offsets are relocated against the running kernel's BTF (CO-RE), so
 * order and what is left out do not matter; names do. A suffix after three underscores is a flavour: the same kernel type
 * with the fields of another version.
 */
#ifndef MOORING_KERNEL_TYPES_H
#define MOORING_KERNEL_TYPES_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_NO_PREALLOC = 1,
};

/* Only to ask whether the running kernel has these helpers. */
enum bpf_func_id___known {
	BPF_FUNC_get_current_task_btf___known = 158,
	BPF_FUNC_task_pt_regs___known = 175,
};

/* include/uapi/asm-generic/mman-common.h, include/linux/fs.h, include/linux/mm.h, include/uapi/linux/stat.h, mman.h, magic.h */
#define PROT_READ 0x1
#define PROT_EXEC 0x4
#define FMODE_WRITE 0x2
#define FMODE_EXEC_FLAG 0x20 /* __FMODE_EXEC, in file->f_flags */
#define VM_EXEC 0x4
#define ATTR_SIZE (1 << 3)
#define S_IFMT 0170000
#define S_IFREG 0100000
#define SB_KERNMOUNT (1 << 22)
#define S_PRIVATE (1 << 9)
#define MAP_ANONYMOUS 0x20
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6

#define READ_IMPLIES_EXEC 0x0400000 /* include/uapi/linux/personality.h */
#define MNT_NOEXEC 0x04             /* include/linux/mount.h */

#define PR_SET_MM 35 /* include/uapi/linux/prctl.h */
#define PR_SET_MM_EXE_FILE 13
#define PR_SET_MM_MAP 14

#define EPERM 1
#define SIGKILL 9
#define I_CTIME_QUERIED (1U << 31) /* fs.h: in i_ctime_nsec, 6.13 and later */
#define PATH_MAX 4096
#define MNT_NS_INTERNAL ((void *)-22) /* fs/mount.h */

/* include/uapi/linux/bpf.h */
struct bpf_raw_tracepoint_args {
	__u64 args[0];
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct qstr {
	__u32 len;
	const unsigned char *name;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_flags;
	unsigned long s_magic;
};

struct inode {
	__u16 i_mode;
	unsigned int i_flags;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	atomic_t i_writecount;
	struct hlist_head i_dentry;
	__s64 i_size;
};

/* Also a number at offset 0, which word_at() borrows. i_ctime was a timespec64, became __i_ctime in 6.6 and two plain fields in 6.11. */
struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};
struct inode___timespec {
	struct timespec64 i_ctime;
};
struct inode___hidden_timespec {
	struct timespec64 __i_ctime;
};
struct inode___seconds {
	__s64 i_ctime_sec;
	__u32 i_ctime_nsec;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	void *d_fsdata;
	union {
		struct hlist_node d_alias;
	} d_u;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
	int mnt_flags;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	void *mnt_ns;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	unsigned int f_mode;
	unsigned int f_flags;
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};

/* fs/file_table.c: a file that overlayfs opened for a mapping; user_path is what the process opened (6.5 and later). */
struct backing_file {
	struct file file;
	struct path user_path;
};

struct iattr {
	unsigned int ia_valid;
};

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
};

struct linux_binprm {
	struct file *file;
	const char *interp; /* the name of what is executed: of a script, then of its interpreter */
	char buf[256];      /* the file's first bytes */
};

struct kernfs_node {
	__u64 id;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
	int level;                   /* 0 is the root's */
	struct cgroup *ancestors[1]; /* from the root down, 6.1 and later */
};

struct cgroup___ids {
	__u64 ancestor_ids[1]; /* up to 6.0 */
};

struct css_set {
	struct cgroup *dfl_cgrp;
	struct cgroup_subsys_state *subsys[1]; /* by enum cgroup_subsys_id */
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct ns_common {
	unsigned int inum;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	struct file *exe_file;
};

struct task_struct {
	int pid;
	int tgid;
	unsigned int personality;
	char comm[16];
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct nsproxy *nsproxy;
	struct files_struct *files;
	struct css_set *cgroups;
	struct task_struct *real_parent;
	void *signal; /* one a process */
	void *stack;
};

/* fs/overlayfs/ovl_entry.h, in the overlay module's BTF (5.11 and later, when it is loaded before us). */
struct ovl_path {
	const void *layer;
	struct dentry *dentry;
};

struct ovl_entry {
	unsigned int __numlower;
	struct ovl_path __lowerstack[1];
};

struct ovl_inode {
	struct inode vfs_inode;
	struct dentry *__upperdentry;
	struct ovl_entry *oe; /* 6.5 and later */
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long si;
	unsigned long dx;
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__s32 syscallno;
};
#endif

struct ovl_inode___lowerpath {
	struct ovl_path lowerpath; /* 5.19 to 6.4 */
};

#pragma clang attribute pop

/* The same on kernels whose modules have no BTF, 5.8 to 5.10: struct ovl_entry, hung at a dentry's d_fsdata. */
struct ovl_path_fixed {
	void *layer;
	struct dentry *dentry;
};

struct ovl_entry_fixed {
	unsigned long flags_or_rcu[2];
	unsigned int numlower;
	struct ovl_path_fixed lowest;
};

#endif
