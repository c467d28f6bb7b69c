/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The buffers of the slow path. It is cut into global functions, which the verifier looks at once instead of once a call;
 * 5.10 lets those take numbers only, so what they work on lies in a slot here and the slot's number is passed.
 */
#ifndef MOORING_SCRATCH_H
#define MOORING_SCRATCH_H

#include "task.h"

/* One use of one file: what the fast path found out. Kernel pointers are numbers here, which LOAD or a helper reads through. */
struct request {
	__u64 cgroup;
	__u64 member;
	__u64 inode;
	__u64 dentry;
	__u64 mnt;
	__u64 volume;  /* dentry of the declared volume's root */
	__u64 invoked; /* the name that it was invoked with, or 0 */
	__u64 number;  /* i_ino */
	__u32 dev;
	__u32 root_dev;
	__u32 root_is_overlay;
	__u32 file_class;
	__u32 use;
	__u32 unproved; /* has upper and lower, and nobody knows whether they are the same */
	__u32 half;     /* of the tables that decide */
	__u32 tell;     /* it was counted, and the agent has to know of it */
};

/* Where a walk towards the root starts and ends. */
struct walk {
	__u64 dentry;
	__u64 stop; /* a dentry before the superblock's root, or 0 */
};

struct scratch {
	struct request request;
	struct walk walk;
	struct verdict verdict;
	struct path_rule said;   /* what the lists say of the names */
	struct path_rule caller; /* what the lists of processes say of the program that executes */
	__u64 lower_inode;
	struct name names[NAMES];
	struct violation_record record;
	__u32 invoked_len; /* without its zero */
	__u32 leaf_len;    /* of its last component */
	__u8 invoked[PATH_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8); /* the agent makes it SCRATCH_SLOTS_PER_CPU */
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* Slots in use. Adding a key that is not there is the one test-and-set that 5.10 offers to these programs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} claimed_scratches SEC(".maps");

#define SCRATCH_SLOTS_PER_CPU 4
#define SCRATCH_TRIES 32

/*
 * A program can be preempted by another on the same CPU, so a per-CPU buffer would not be its own. A CPU begins with its own
 * slots and goes on with its neighbours'. When all that it may try are taken, names stay unresolved, which is the strict answer.
 */
static __always_inline struct scratch *claim_scratch(__u32 *slot)
{
	__u32 first = bpf_get_smp_processor_id() * SCRATCH_SLOTS_PER_CPU;
	__u32 claim = 1;

	for (__u32 i = 0; i < SCRATCH_TRIES; i++) {
		*slot = (first + i) % scratch_slots;
		if (!bpf_map_update_elem(&claimed_scratches, slot, &claim, BPF_NOEXIST))
			return bpf_map_lookup_elem(&scratches, slot);
	}
	count(COUNTER_UNRESOLVED_NAMES);
	return NULL;
}

static __always_inline void release_scratch(__u32 slot)
{
	bpf_map_delete_elem(&claimed_scratches, &slot);
}

#endif
