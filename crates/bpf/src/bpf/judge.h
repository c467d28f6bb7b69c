/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* One use of one file by one task: cheapest question first, decide, then report. */
#ifndef MOORING_JUDGE_H
#define MOORING_JUDGE_H

#include "file.h"
#include "report.h"
#include "verdict.h"

static __always_inline __u64 member_of(struct tables *tables, struct subject *subject)
{
	void *members = bpf_map_lookup_elem(&members_tables, &tables->half);
	__u64 *member = members ? bpf_map_lookup_elem(members, &subject->cgroup) : NULL;

	/* Entered, but not yet in the tables: it gets what the node says for unknown containers. */
	return member ? *member : tables->rules->unknown_member;
}

static __always_inline void ask_for_proof(struct scratch *scratch)
{
	struct request *request = &scratch->request;
	struct marked marked = {.address = request->inode, .inode = request->number, .dev = request->dev};
	struct lifecycle_record *record;

	if (!ask_for_comparison((struct inode *)request->inode, &marked))
		return;
	record = reserve_lifecycle(LIFECYCLE_PROVE);
	if (!record)
		return;
	record->cgroup = request->cgroup;
	record->inode = request->number;
	record->dev = request->dev;
	if (scratch->lower_inode) {
		struct inode *inode = (struct inode *)scratch->lower_inode;

		record->lower_inode = BPF_CORE_READ(inode, i_ino);
		record->lower_dev = BPF_CORE_READ(inode, i_sb, s_dev);
	}
	bpf_probe_read_kernel(record->path, NAME_LEN, &scratch->names[NAME_INDEX_PATH].key);
	bpf_probe_read_kernel(record->lower_path, NAME_LEN, &scratch->names[NAME_INDEX_LOWER].key);
	bpf_ringbuf_submit(record, 0);
}

/* What a violation is counted under. */
static __always_inline void fill_key(struct flood_key *key, __u64 cgroup, __u64 number, __u32 dev, __u32 file_class, __u32 use,
				     struct rules *rules, struct verdict *verdict)
{
	key->container = cgroup;
	key->inode = number;
	key->generation = rules->generation;
	key->drift = verdict->drift;
	key->prohibited = verdict->prohibited;
	key->dev = dev;
	key->file_class = file_class;
	key->use = use;
}

/* With the names: asks the lists, and counts. Positive: refused. */
__noinline int judge_slowly(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct tables tables = {};
	struct violation_record *record;
	struct request *request;
	struct verdict *verdict;

	if (!scratch)
		return 0;
	request = &scratch->request;
	/* Those that the fast path saw, whatever is switched meanwhile. */
	tables.half = request->half;
	tables.rules = rules_of(tables.half);
	scratch->verdict.drift = 0;
	scratch->verdict.prohibited = 0;
	if (!tables.rules)
		return 1;
	record = &scratch->record;
	verdict = &scratch->verdict;
	if (request->by_names) {
		judge_by_names(&tables, request->member, request->use, request->file_class, scratch->names, verdict);
		if (!(verdict->drift | verdict->prohibited))
			return 0;
	} else {
		verdict_of(tables.rules, request->member, request->use, request->file_class, 0, 0, verdict);
	}
	/* Without lists the fast path has counted it. */
	if (request->by_names) {
		fill_key(&record->key, request->cgroup, request->number, request->dev, request->file_class, request->use,
			 tables.rules, verdict);
		request->tell = count_violation(&record->key, &record->aggregated);
	}
	/* A new file is asked for with its first report only: most are what they seem. */
	request->unproved |= request->file_class == CLASS_NEW_BINARY && request->root_is_overlay && request->tell;
	return verdict->denied ? 1 : 0;
}

/* Tells the agent what it has to know of a violation. */
__noinline int tell(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);

	if (!scratch || !(scratch->verdict.drift | scratch->verdict.prohibited))
		return 0;
	if (scratch->request.unproved)
		ask_for_proof(scratch);
	if (!scratch->request.tell)
		return 0;
	scratch->record.denied = scratch->verdict.denied;
	scratch->record.killed = kills;
	for (int i = 0; i < NAMES_TOLD; i++) {
		scratch->record.name_states[i] = scratch->names[i].state;
		scratch->record.names[i] = scratch->names[i].key;
	}
	fill_process(&scratch->record);
	fill_arguments(slot);
	send_violation(&scratch->record);
	return 0;
}

/*
 * True: refused. `invoked` is the name it was invoked with, or NULL. `early`: only what no list can change is decided, the
 * rest is left to the hook that comes later.
 */
static __always_inline bool judge(struct tables *tables, struct subject *subject, struct target *target, __u32 use,
				  const char *invoked, bool early)
{
	struct rules *rules = tables->rules;
	__u64 member = member_of(tables, subject);
	struct verdict verdict = {};
	struct scratch *scratch;
	struct flood_key key;
	__u64 drift, aggregated = 1;
	bool by_names, counted = false, refused;
	__u32 file_class, slot;

	if (!member)
		return false;
	classify(subject, target);
	file_class = target->file_class;
	if (file_class >= CLASSES)
		file_class = CLASS_FOREIGN_MOUNT;
	drift = member & rules->detects[use][file_class];
	by_names = lists_matter(rules, member, drift);
	/* Which of the two uses an early open leads to is not certain: only what both refuse is refused there. */
	if (early && (by_names || target->unproved || !(drift & rules->prevents & rules->detects[USE_MAP][file_class])))
		return false;
	if (!drift && !by_names)
		return false;

	if (!by_names) {
		verdict_of(rules, member, use, file_class, 0, 0, &verdict);
		fill_key(&key, subject->cgroup, target->number, target->dev, file_class, use, rules, &verdict);
		counted = count_violation(&key, &aggregated);
		if (!counted && !target->unproved)
			return verdict.denied != 0;
	}
	scratch = claim_scratch(&slot);
	if (!scratch) {
		if (by_names)
			verdict_of(rules, member, use, file_class, 0, rules->prohibit_lists, &verdict);
		return verdict.denied != 0;
	}
	scratch->request.cgroup = subject->cgroup;
	scratch->request.member = member;
	scratch->request.inode = (__u64)target->inode;
	scratch->request.dentry = (__u64)target->dentry;
	scratch->request.mnt = (__u64)target->mnt;
	scratch->request.volume = target->volume;
	scratch->request.invoked = (__u64)invoked;
	scratch->request.number = target->number;
	scratch->request.dev = target->dev;
	scratch->request.root_dev = subject->container->root_dev;
	scratch->request.root_is_overlay = subject->container->flags & CONTAINER_ROOT_OVERLAY;
	scratch->request.file_class = file_class;
	scratch->request.use = use;
	scratch->request.by_names = by_names;
	scratch->request.unproved = target->unproved;
	scratch->request.tell = counted;
	scratch->request.half = tables->half;
	if (counted) {
		scratch->record.key = key;
		scratch->record.aggregated = aggregated;
	}
	name_path(slot);
	name_lower(slot);
	name_invoked(slot);
	name_alias(slot);
	refused = judge_slowly(slot) > 0;
	tell(slot);
	release_scratch(slot);
	return refused || verdict.denied;
}

#endif
