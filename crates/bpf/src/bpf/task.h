/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Whose container is a task in, and what does it see? */
#ifndef MOORING_TASK_H
#define MOORING_TASK_H

#include "maps.h"
#include <bpf/bpf_core_read.h>

/* Cgroups from a task's own upwards that are looked at one by one; most tasks are less deep. */
#define CGROUP_DEPTH 16
/* Cgroups from the root downwards that are looked at where one is deeper. A container's own is never deeper; those made in it may be. */
#define CONTAINER_DEPTH 32

#define HAS_TASK_BTF bpf_core_enum_value_exists(enum bpf_func_id___known, BPF_FUNC_get_current_task_btf___known)

extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/*
 * The eight bytes at an address of the kernel's; 0 where there is none. From 6.2 on the verifier lets a program load them, as it does
 * the fields of a type that it knows: what no BTF describes is read through a type with a number at its start. Before, a helper
 * reads them, which costs twenty times as much.
 */
static __always_inline __u64 word_at(const void *address, __u32 offset)
{
	__u64 word = 0;

	if (bpf_ksym_exists(bpf_rdonly_cast)) {
		struct timespec64 *view = bpf_rdonly_cast(address + offset, bpf_core_type_id_kernel(struct timespec64));

		return view->tv_sec;
	}
	bpf_probe_read_kernel(&word, sizeof(word), address + offset);
	return word;
}

/* A field of at most eight bytes, not among the last of its type, of any address: by word_at. */
#define LOAD(pointer, field) ((typeof((pointer)->field))word_at(pointer, bpf_core_field_offset((pointer)->field)))

/*
 * 5.10 gives the current task as a number, whose fields only a helper may read. From 6.2 on a pointer that the verifier trusts makes it
 * search all of the kernel's types for each pointer that is read through it, which takes milliseconds.
 */
#define READ(pointer, field) \
	({ \
		typeof((pointer)->field) value_; \
		if (bpf_ksym_exists(bpf_rdonly_cast)) \
			value_ = LOAD(pointer, field); \
		else if (HAS_TASK_BTF) \
			value_ = (pointer)->field; \
		else \
			bpf_core_read(&value_, sizeof(value_), &(pointer)->field); \
		value_; \
	})

static __always_inline struct task_struct *current_task(void)
{
	if (HAS_TASK_BTF)
		return bpf_get_current_task_btf();
	return (struct task_struct *)bpf_get_current_task();
}

/* A global function takes no kernel pointer, only its value. */
static __always_inline __u64 value_of(const void *pointer)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), &pointer);
	return value;
}

struct subject {
	__u64 cgroup;
	struct container *container;
};

/* The topmost tracked cgroup above one that is too deep to be walked from, or 0. */
__noinline __u64 find_container_from_root(__u64 start)
{
	struct cgroup *cgroup = (struct cgroup *)start;
	__u32 deepest = LOAD(cgroup, level);

	for (__u32 level = 0; level < CONTAINER_DEPTH; level++) {
		__u64 id = 0;

		/* What is behind the last one is not of this cgroup. */
		if (level > deepest)
			break;

		if (bpf_core_field_exists(cgroup->ancestors)) {
			struct cgroup *ancestor = NULL;

			bpf_probe_read_kernel(&ancestor, sizeof(ancestor),
					      (void *)cgroup + bpf_core_field_offset(cgroup->ancestors) + level * sizeof(ancestor));
			id = BPF_CORE_READ(ancestor, kn, id);
		} else {
			/* Up to 6.0. */
			struct cgroup___ids *old = (void *)cgroup;

			bpf_probe_read_kernel(&id, sizeof(id),
					      (void *)cgroup + bpf_core_field_offset(old->ancestor_ids) + level * sizeof(id));
		}
		if (bpf_map_lookup_elem(&containers, &id))
			return id;
	}
	return 0;
}

/* The nearest tracked cgroup at or above this one; of those too far above, the topmost. */
static __always_inline bool find_container(struct cgroup *cgroup, struct subject *subject)
{
	struct cgroup *own = cgroup;

	for (int depth = 0; depth < CGROUP_DEPTH; depth++) {
		struct kernfs_node *node;
		struct cgroup_subsys_state *parent;

		if (!cgroup)
			return false;
		node = READ(cgroup, kn);
		if (!node)
			return false;
		subject->cgroup = READ(node, id);
		subject->container = bpf_map_lookup_elem(&containers, &subject->cgroup);
		if (subject->container)
			return true;
		parent = READ(cgroup, self.parent);
		if (!parent)
			return false;
		cgroup = READ(parent, cgroup);
	}
	subject->cgroup = find_container_from_root(value_of(own));
	subject->container = bpf_map_lookup_elem(&containers, &subject->cgroup);
	return subject->container != NULL;
}

static __noinline struct cgroup *cgroup_of_controller(struct css_set *set)
{
	const void *place = (void *)set + bpf_core_field_offset(set->subsys) + hierarchy_controller * sizeof(void *);
	struct cgroup_subsys_state *state;

	/* Of a type that READ can read through on this kernel. */
	if (HAS_TASK_BTF && !bpf_ksym_exists(bpf_rdonly_cast))
		state = *(struct cgroup_subsys_state *const *)place;
	else
		state = (struct cgroup_subsys_state *)word_at(place, 0);
	return state ? READ(state, cgroup) : NULL;
}

static __always_inline struct cgroup *cgroup_of(struct task_struct *task)
{
	struct css_set *set = READ(task, cgroups);

	if (!set)
		return NULL;
	return hierarchy_controller < 0 ? READ(set, dfl_cgrp) : cgroup_of_controller(set);
}

static __always_inline bool is_in_host_mount_namespace(struct task_struct *task)
{
	struct nsproxy *namespaces = READ(task, nsproxy);
	struct mnt_namespace *mounts = namespaces ? READ(namespaces, mnt_ns) : NULL;

	return mounts && READ(mounts, ns.inum) == host_mount_namespace;
}

/* Does this task see the host's root folder as its own? */
static __always_inline bool sees_host_root(struct task_struct *task)
{
	struct fs_struct *fs = READ(task, fs);
	struct dentry *root;
	struct inode *inode;
	struct super_block *sb;

	if (!fs)
		return false;
	root = READ(fs, root.dentry);
	if (!root)
		return false;
	inode = READ(root, d_inode);
	if (!inode)
		return false;
	sb = READ(inode, i_sb);
	return sb && READ(sb, s_dev) == host_root_dev && READ(inode, i_ino) == host_root_inode;
}

#endif
