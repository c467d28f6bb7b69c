/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What a file is to a container. The fast path: no buffer, no name. */
#ifndef MOORING_FILE_H
#define MOORING_FILE_H

#include "overlay.h"
#include "task.h"

/* Folders between an executed file and the volume's root that are looked at. */
#define VOLUME_DEPTH 64

struct target {
	struct inode *inode;
	struct dentry *dentry;
	struct vfsmount *mnt;
	__u64 number; /* i_ino */
	__u64 volume; /* dentry of the declared volume's root folder or file */
	__u32 dev;
	__u32 links;
	__u32 file_class; /* enum file_class */
	bool unproved;    /* has upper and lower, and nobody knows whether they are the same */
};

static __always_inline void fill_target(struct target *target, struct inode *inode, struct dentry *dentry, struct vfsmount *mnt)
{
	struct super_block *sb = READ(inode, i_sb);

	target->inode = inode;
	target->dentry = dentry;
	target->mnt = mnt;
	target->number = READ(inode, i_ino);
	target->dev = READ(sb, s_dev);
	target->links = READ(inode, i_nlink);
}

/* The same where these are addresses only, which READ cannot read through on every kernel. */
static __always_inline void fill_target_at(struct target *target, struct inode *inode, struct dentry *dentry, struct vfsmount *mnt)
{
	struct super_block *sb = LOAD(inode, i_sb);

	target->inode = inode;
	target->dentry = dentry;
	target->mnt = mnt;
	target->number = LOAD(inode, i_ino);
	target->dev = LOAD(sb, s_dev);
	target->links = LOAD(inode, i_nlink);
}

/* What was opened as this file, where that is not an overlay's mapping. */
static __always_inline void fill_target_of(struct target *target, struct file *file)
{
	fill_target(target, READ(file, f_inode), READ(file, f_path.dentry), READ(file, f_path.mnt));
}

static __always_inline __s64 changed_at(struct inode *inode)
{
	if (bpf_core_field_exists(struct inode___seconds, i_ctime_sec))
		return BPF_CORE_READ((struct inode___seconds *)inode, i_ctime_sec);
	if (bpf_core_field_exists(struct inode___hidden_timespec, __i_ctime))
		return BPF_CORE_READ((struct inode___hidden_timespec *)inode, __i_ctime.tv_sec);
	return BPF_CORE_READ((struct inode___timespec *)inode, i_ctime.tv_sec);
}

static __always_inline bool is_volume_root(__u64 cgroup, __u32 dev, __u64 inode)
{
	struct volume_key key = {.container = cgroup, .inode = inode, .dev = dev};

	return bpf_map_lookup_elem(&volumes, &key) != NULL;
}

/*
 * The dentry of the declared volume that the file is in, or 0: the mount's root, or one above it when the container bound a
 * part of the volume elsewhere.
 */
__noinline __u64 find_volume(__u64 cgroup, __u32 dev, __u64 start)
{
	struct dentry *dentry = (struct dentry *)start;

	/* Inode 0 stands for "some volume of this container is on this superblock". */
	if (!is_volume_root(cgroup, dev, 0))
		return 0;
	for (int depth = 0; depth < VOLUME_DEPTH; depth++) {
		struct dentry *parent;

		if (is_volume_root(cgroup, dev, BPF_CORE_READ(dentry, d_inode, i_ino)))
			return (__u64)dentry;
		parent = BPF_CORE_READ(dentry, d_parent);
		if (!parent || parent == dentry)
			return 0;
		dentry = parent;
	}
	return 0;
}

/* By itself: most programs have no upper, and the stack is short. */
static __noinline void classify_upper(struct target *target)
{
	struct marked marked = {.address = (__u64)target->inode, .inode = target->number, .dev = target->dev};

	if (is_clean(target->inode, &marked)) {
		target->file_class = CLASS_IMAGE;
		return;
	}
	/* Overlayfs forgets, with the inode, the lower of a file that has several names in its layer. */
	target->file_class = lower_inode_of(target->inode) ? CLASS_MODIFIED_BINARY : CLASS_NEW_BINARY;
	target->unproved = target->file_class == CLASS_MODIFIED_BINARY;
}

static __always_inline void classify(struct subject *subject, struct target *target)
{
	struct container *container = subject->container;

	if (target->links == 0) {
		target->file_class = CLASS_FILELESS;
		return;
	}
	if (target->dev == container->root_dev) {
		struct vfsmount *mnt = target->mnt;

		if (container->flags & CONTAINER_ROOT_OVERLAY) {
			if (upper_of(target->inode))
				classify_upper(target);
			else
				target->file_class = CLASS_IMAGE;
			return;
		}
		/* A plain folder shares its superblock with others: the mount's root tells them apart. */
		if (BPF_CORE_READ(mnt, mnt_root, d_inode, i_ino) == container->root_inode) {
			target->file_class = changed_at(target->inode) > (__s64)container->started ? CLASS_NEW_BINARY : CLASS_IMAGE;
			return;
		}
	}
	target->volume = find_volume(subject->cgroup, target->dev, value_of(target->dentry));
	target->file_class = target->volume ? CLASS_VOLUME_BINARY : CLASS_FOREIGN_MOUNT;
}

/* What hugetlb_file_setup() calls the file behind anonymous huge pages. A memfd's name begins with "memfd:", whatever its maker wrote. */
static const char ANONYMOUS_HUGE_PAGES[] = "anon_hugepage";

/*
 * Memory that the kernel keeps in a file of its own, on an internal mount, and gives nobody a descriptor of: shared anonymous
 * memory and System V segments (private inodes), anonymous huge pages. It is memory, not a file that somebody dropped. A memfd
 * is on the same superblocks, but its inode is not private.
 */
static __always_inline bool is_kernel_memory(struct inode *inode, struct dentry *dentry)
{
	unsigned long magic = BPF_CORE_READ(inode, i_sb, s_magic);
	char name[sizeof(ANONYMOUS_HUGE_PAGES) + 1] = {};
	char different = 0;

	if (!(BPF_CORE_READ(inode, i_sb, s_flags) & SB_KERNMOUNT) || (magic != TMPFS_MAGIC && magic != HUGETLBFS_MAGIC))
		return false;
	if (BPF_CORE_READ(inode, i_flags) & S_PRIVATE)
		return true;
	if (magic != HUGETLBFS_MAGIC)
		return false;
	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name));
	for (unsigned int i = 0; i < sizeof(ANONYMOUS_HUGE_PAGES); i++)
		different |= name[i] ^ ANONYMOUS_HUGE_PAGES[i];
	return !different;
}

/* Is the program that the current task runs not of the container's root? */
__noinline int runs_foreign_program(__u64 cgroup)
{
	struct container *container = bpf_map_lookup_elem(&containers, &cgroup);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	__u32 dev = BPF_CORE_READ(dentry, d_inode, i_sb, s_dev);

	if (!container || !dentry)
		return 0;
	if (dev == container->root_dev && ((container->flags & CONTAINER_ROOT_OVERLAY) ||
					   BPF_CORE_READ(file, f_path.mnt, mnt_root, d_inode, i_ino) == container->root_inode))
		return 0;
	return 1;
}

/*
 * Still the container runtime on its way into the container: it is in the host's mount namespace, and runs a program that is
 * not of the container's root. Whoever was in the container runs one of its programs, until it is allowed to execute another.
 */
static __always_inline bool is_runtime(struct task_struct *task, struct subject *subject)
{
	return is_in_host_mount_namespace(task) && runs_foreign_program(subject->cgroup) > 0;
}

#endif
