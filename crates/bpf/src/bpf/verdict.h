/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The verdict: masks in, masks out. crates/policy has the same function in Rust, and a test compares the two. */
#ifndef MOORING_VERDICT_H
#define MOORING_VERDICT_H

#include "scratch.h"

static __always_inline void verdict_of(struct rules *rules, __u64 member, __u32 use, __u32 file_class, __u64 excepted,
				       __u64 prohibited, __u64 prohibited_process, struct verdict *verdict)
{
	__u32 index = use * CLASSES + file_class;
	/* What cannot be would be drift. */
	__u64 detects = ~0ULL;

	/* Made anew before its check, or the compiler may use a copy that the verifier does not know to be checked. */
	barrier_var(index);
	if (use < USES && file_class < CLASSES && index < USES * CLASSES)
		detects = rules->detects[0][index];
	verdict->drift = member & detects & ~excepted;
	verdict->prohibited = member & prohibited;
	verdict->prohibited_process = member & prohibited_process;
	verdict->denied = (verdict->drift | verdict->prohibited | verdict->prohibited_process) & rules->prevents;
}

static __always_inline __u64 violated(struct verdict *verdict)
{
	return verdict->drift | verdict->prohibited | verdict->prohibited_process;
}

/* Whether a list can change the answer: only then are the names found out. */
static __always_inline bool lists_matter(struct rules *rules, __u64 member, __u64 drift)
{
	return (drift & rules->except_lists) || (member & rules->prohibit_lists);
}

/* The same of the lists of processes: only then is the program looked at that executes. */
static __always_inline bool process_lists_matter(struct rules *rules, __u64 member, __u64 drift)
{
	return (drift & rules->except_process_lists) || (member & rules->prohibit_process_lists);
}

/* The state that a name leads to in the table of patterns in `half`; negative where there is none. */
__noinline int walk_patterns(__u32 slot, __u32 index, __u32 half)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	void *patterns = bpf_map_lookup_elem(&patterns_tables, &half);
	struct rules *rules = rules_of(half);
	__u32 state = PATTERN_START, offset;
	struct name *name;

	if (!scratch || !patterns || !rules || index >= NAMES)
		return -1;
	name = &scratch->names[index];
	offset = name->offset;
	for (__u32 i = 0; i < NAME_LEN; i++) {
		struct pattern_state *from;
		__u32 at = offset + i;
		__u8 class;

		if (at >= NAME_LEN || !state)
			break;
		/* The compiler knows that the mask below changes nothing; the verifier does not. */
		barrier_var(at);
		from = bpf_map_lookup_elem(patterns, &state);
		if (!from)
			return -1;
		class = rules->pattern_classes[name->key.bytes[at & (NAME_LEN - 1)]];
		state = from->next[class & (PATTERN_CLASSES - 1)];
	}
	return state;
}

static __always_inline void add_rule(struct path_rule *said, struct path_rule *rule)
{
	said->excepted |= rule->excepted;
	said->prohibited |= rule->prohibited;
	said->excepted_process |= rule->excepted_process;
	said->prohibited_process |= rule->prohibited_process;
}

/*
 * Adds what the lists say of one name to what is said in the scratch. A name that could not be found out is in every list of prohibited
 * ones, and excepted by none.
 */
__noinline int look_up_name(__u32 slot, __u32 index, __u32 half)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	void *paths = bpf_map_lookup_elem(&paths_tables, &half);
	void *patterns = bpf_map_lookup_elem(&patterns_tables, &half);
	struct rules *rules = rules_of(half);
	struct pattern_state *end;
	struct path_rule *rule;
	struct name *name;
	int state;

	if (!scratch || !rules || index >= NAMES)
		return -1;
	name = &scratch->names[index];
	if (name->state == NAME_PATH) {
		rule = paths ? bpf_map_lookup_elem(paths, &name->key) : NULL;
		if (rule)
			add_rule(&scratch->said, rule);
		if (!(scratch->request.member & rules->pattern_lists))
			return 0;
		state = walk_patterns(slot, index, half);
		end = patterns && state >= 0 ? bpf_map_lookup_elem(patterns, &state) : NULL;
		if (end) {
			add_rule(&scratch->said, &end->rule);
			return 0;
		}
	} else if (name->state != NAME_UNRESOLVED) {
		return 0;
	}
	scratch->said.prohibited |= rules->prohibit_lists;
	scratch->said.prohibited_process |= rules->prohibit_process_lists;
	return 0;
}

static __always_inline void clear_said(struct scratch *scratch)
{
	__builtin_memset(&scratch->said, 0, sizeof(scratch->said));
}

/*
 * Whether the lists have been asked of this name under another index. An image's file has nearly always one name only, and to compare two
 * costs a fraction of a look-up.
 */
static __always_inline bool is_same_name(struct scratch *scratch, __u32 index, __u32 asked)
{
	struct name *one = &scratch->names[index], *other = &scratch->names[asked];
	__u64 different = (one->state ^ other->state) | (one->offset ^ other->offset);

	/* Before its first byte a name is zeros. */
	for (__u32 at = one->offset & ~(sizeof(__u64) - 1); at < NAME_LEN; at += sizeof(__u64)) {
		__u32 word = at;

		/* The compiler knows that the mask below changes nothing; the verifier does not. */
		barrier_var(word);
		word &= NAME_LEN - sizeof(__u64);
		different |= *(__u64 *)&one->key.bytes[word] ^ *(__u64 *)&other->key.bytes[word];
	}
	return !different;
}

/*
 * What the lists of processes say of the program that executes, whose names and class are in the scratch. It gains an exception only as
 * the image's own, by its path in the image, and is prohibited whatever became of its file.
 */
__noinline int judge_caller(__u32 slot, __u32 half)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	bool in_image;

	if (!scratch)
		return -1;
	scratch->caller.excepted_process = 0;
	scratch->caller.prohibited_process = 0;
	/* A foreign mount's file is in no list by its path: whoever may mount could give it any. */
	if (scratch->request.file_class == CLASS_FOREIGN_MOUNT)
		return 0;
	in_image = scratch->names[NAME_INDEX_LOWER].state != NAME_NONE;
	clear_said(scratch);
	look_up_name(slot, NAME_INDEX_PATH, half);
	scratch->caller.prohibited_process = scratch->said.prohibited_process;
	if (in_image && !is_same_name(scratch, NAME_INDEX_LOWER, NAME_INDEX_PATH)) {
		clear_said(scratch);
		look_up_name(slot, NAME_INDEX_LOWER, half);
		scratch->caller.prohibited_process |= scratch->said.prohibited_process;
	}
	if (scratch->request.file_class == CLASS_IMAGE)
		scratch->caller.excepted_process = scratch->said.excepted_process;
	return 0;
}

/* What the lists say of the file of the request, beside what they say of who executes it. */
static __always_inline int judge_by_names(__u32 slot, __u32 half)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct rules *rules = rules_of(half);
	__u64 excepted = 0;
	bool foreign;

	if (!scratch || !rules)
		return -1;
	clear_said(scratch);
	/* A foreign mount's file is in no list by its path: whoever may mount could give it any. */
	foreign = scratch->request.file_class == CLASS_FOREIGN_MOUNT;
	if (!foreign) {
		look_up_name(slot, NAME_INDEX_PATH, half);
		excepted = scratch->said.excepted;
	}
	if (foreign || !is_same_name(scratch, NAME_INDEX_LOWER, NAME_INDEX_PATH))
		look_up_name(slot, NAME_INDEX_LOWER, half);
	if (scratch->request.use == USE_EXECUTE) {
		if (foreign || !is_same_name(scratch, NAME_INDEX_INVOKED, NAME_INDEX_PATH))
			look_up_name(slot, NAME_INDEX_INVOKED, half);
		look_up_name(slot, NAME_INDEX_ALIAS, half);
	}
	/* What they say of this file as a process is of no concern here. */
	verdict_of(rules, scratch->request.member, scratch->request.use, scratch->request.file_class,
		   excepted | scratch->caller.excepted_process, scratch->said.prohibited, scratch->caller.prohibited_process,
		   &scratch->verdict);
	return 0;
}

#endif
