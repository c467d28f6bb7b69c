/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What the agent is told. Nothing here changes a verdict. */
#ifndef MOORING_REPORT_H
#define MOORING_REPORT_H

#include "names.h"

/* True when somebody has to be told: the first of its kind, or none could be counted. */
static __always_inline bool count_violation(struct flood_key *key, __u64 *aggregated)
{
	struct flood *flood = bpf_map_lookup_elem(&floods, key);
	struct flood first = {.count = 1, .last_seen = bpf_ktime_get_ns()};

	*aggregated = 1;
	if (!flood) {
		if (!bpf_map_update_elem(&floods, key, &first, BPF_NOEXIST))
			return true;
		flood = bpf_map_lookup_elem(&floods, key);
		if (!flood) {
			*aggregated = 0;
			return true;
		}
	}
	__sync_fetch_and_add(&flood->count, 1);
	flood->last_seen = bpf_ktime_get_ns();
	return !flood->reported;
}

static __always_inline void fill_process(struct violation_record *record)
{
	struct task_struct *task = current_task();
	struct task_struct *parent = READ(task, real_parent);
	__u64 id = bpf_get_current_pid_tgid();
	__u64 user = bpf_get_current_uid_gid();

	record->time = bpf_ktime_get_ns();
	record->pid = id >> 32;
	record->tid = (__u32)id;
	record->uid = (__u32)user;
	record->gid = user >> 32;
	record->args_len = 0;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	if (parent) {
		record->parent_pid = READ(parent, tgid);
		bpf_core_read(record->parent_comm, sizeof(record->parent_comm), &parent->comm);
	}
}

static __always_inline void send_violation(struct violation_record *record)
{
	if (bpf_ringbuf_output(&violations, record, sizeof(*record), 0)) {
		count(COUNTER_LOST_REPORTS);
		return;
	}
	if (record->aggregated) {
		struct flood *flood = bpf_map_lookup_elem(&floods, &record->key);

		if (flood)
			flood->reported = 1;
	}
}

static __always_inline struct lifecycle_record *reserve_lifecycle(__u32 kind)
{
	struct lifecycle_record *record = bpf_ringbuf_reserve(&lifecycle, sizeof(*record), 0);

	if (!record) {
		count(COUNTER_LOST_LIFECYCLE);
		return NULL;
	}
	record->kind = kind;
	record->pid = bpf_get_current_pid_tgid() >> 32;
	record->cgroup = 0;
	record->parent = 0;
	record->inode = 0;
	record->lower_inode = 0;
	record->dev = 0;
	record->lower_dev = 0;
	record->path[0] = 0;
	record->lower_path[0] = 0;
	return record;
}

#endif
