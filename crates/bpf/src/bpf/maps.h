/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Every map, and what the agent sets before it loads the programs. Sizes that depend on the machine are set by the agent. */
#ifndef MOORING_MAPS_H
#define MOORING_MAPS_H

#include "wire.h"
#include <bpf/bpf_helpers.h>

const volatile __u32 instance = 0;      /* this load's number; see struct control */
const volatile __u32 host_root_dev = 0; /* the host's root folder */
const volatile __u64 host_root_inode = 0;
const volatile __u32 host_mount_namespace = 0; /* its number in nsfs */
const volatile __u32 scratch_slots = 1;        /* entries of the scratch map */
/* The programs are attached to the functions security_…() instead of the LSM hooks that these call. */
const volatile bool attached_to_functions = false;
/* Executions cannot be refused: whoever makes one is killed. */
const volatile bool kills = false;
/* mooring_exec is attached to sched_prepare_exec. */
const volatile bool exec_is_prepared = false;
/* The programs see every way in which a file can change. */
const volatile bool watches_files = true;
/* The hierarchy by whose cgroups containers are known, and where it is not the unified one, the controller that it has (enum cgroup_subsys_id). */
const volatile __u32 hierarchy = 0;
const volatile __s32 hierarchy_controller = -1;
/* Where these hooks have their dentry: older kernels pass no mount before it. */
const volatile __u32 setattr_dentry_argument = 1;
const volatile __u32 setxattr_dentry_argument = 1;
const volatile __u32 removexattr_dentry_argument = 1;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

/* Facts of a container by cgroup id; filled by the agent, or by the kernel at an unknown container's first exec. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CONTAINERS);
	__type(key, __u64);
	__type(value, struct container);
} containers SEC(".maps");

/* Sizes, not types: clang leaves the types of an inner map out of the BTF. */
struct rules_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct rules));
};

struct members_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CONTAINERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, sizeof(__u64));
	__uint(value_size, sizeof(__u64));
};

struct paths_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, sizeof(struct path_key));
	__uint(value_size, sizeof(struct path_rule));
};

/* Two of each table: one in force, one being filled. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct rules_table);
} rules_tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct members_table);
} members_tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct paths_table);
} paths_tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct volume_key);
	__type(value, struct volume);
} volumes SEC(".maps");

/*
 * Two maps, not one state, because nothing compares and swaps on 5.10: writers only add to the first, proofs only to the
 * second, and the first is read first. What falls out of either makes the answer stricter.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct mark); /* enum written_state */
} written_marks SEC(".maps");

/* Same content as the image's: metadata changed while there was no upper, or compared by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct mark); /* enum clean_state */
} clean_marks SEC(".maps");

/* By the overlay inode's address. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct proof);
} proofs SEC(".maps");

/* 1 once a file without a known lower was compared. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} lowerless_marks SEC(".maps");

/* When the agent was asked to compare a file: ns since boot. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct mark);
} asked_comparisons SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct executing);
} executing SEC(".maps");

/* Cgroups made since the agent first came: only they can be containers that it has not resolved. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u32);
} fresh_cgroups SEC(".maps");

/*
 * Two, in turn: the agent takes the counts out of the one that nobody counts in any more. A count that is added to an entry
 * while it is taken out would be lost.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct flood_key);
	__type(value, struct flood);
} floods_0 SEC(".maps"), floods_1 SEC(".maps");

/* The number of the one that is counted in. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} floods_turn SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 * 1024 * 1024);
} violations SEC(".maps");

/* Apart from the violations, so that no flood of those hides a new container. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 512 * 1024);
} lifecycle SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		__sync_fetch_and_add(value, 1);
}

/* The tables in force, or NULL while this load is not the one that decides. */
struct tables {
	__u32 half;
	struct rules *rules;
};

static __always_inline struct rules *rules_of(__u32 half)
{
	__u32 zero = 0;
	void *rules = bpf_map_lookup_elem(&rules_tables, &half);

	return rules ? bpf_map_lookup_elem(rules, &zero) : NULL;
}

/* NULL: this load decides nothing. One that has just been relieved goes on until it is detached, or a hook could fall between. */
static __always_inline struct control *control_in_force(void)
{
	__u32 zero = 0;
	struct control *now = bpf_map_lookup_elem(&control, &zero);

	return now && (now->instance == instance || now->relieved == instance) ? now : NULL;
}

static __always_inline bool decides(struct tables *tables)
{
	struct control *now = control_in_force();

	if (!now)
		return false;
	tables->half = now->tables;
	tables->rules = rules_of(tables->half);
	return tables->rules != NULL;
}

static __always_inline bool is_in_force(void)
{
	return control_in_force() != NULL;
}

#endif
