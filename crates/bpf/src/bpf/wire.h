/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What the kernel programs and the agent say to each other: map keys, map values and ring buffer records.
 * The Rust types are made from this header's BTF at build time; a test compares their layout with the one written here.
 */
#ifndef MOORING_WIRE_H
#define MOORING_WIRE_H

#include "kernel_types.h"

#define MOORING_WIRE_VERSION 2

/* Names (paths) fill their buffer from the right, with zeros before them: they are built from the leaf towards the root. */
#define NAME_LEN 256
#define COMM_LEN 16
#define ARGS_LEN 256
#define ARG_LEN 128

#define MAX_CONTAINERS 8192

/* What a file is to a container. The order is the one in which reasons are reported. */
enum file_class {
	CLASS_IMAGE = 0,
	CLASS_NEW_BINARY = 1,
	CLASS_MODIFIED_BINARY = 2,
	CLASS_VOLUME_BINARY = 3,
	CLASS_FILELESS = 4,
	CLASS_FOREIGN_MOUNT = 5,
	CLASSES = 6,
};

/* How the file is used: executed, or mapped with PROT_EXEC. */
enum file_use {
	USE_EXECUTE = 0,
	USE_MAP = 1,
	USES = 2,
};

/* Could a name be found out, and can it be in a list? */
enum name_state {
	NAME_NONE = 0,
	NAME_PATH = 1,
	NAME_TOO_LONG = 2,
	NAME_UNRESOLVED = 3,
};

/* Indexes of a record's names. */
enum name_index {
	NAME_INDEX_PATH = 0,  /* in the container's root or volume */
	NAME_INDEX_LOWER = 1, /* of the image's own file, when it was copied up */
	NAME_INDEX_INVOKED = 2,
	NAMES_TOLD = 3,
	NAME_INDEX_ALIAS = 3, /* the file's own path, "/", and the last component of the name it was invoked with */
	NAMES = 4,
};

struct path_key {
	__u8 bytes[NAME_LEN];
};

struct name {
	struct path_key key;
	/* Nothing is written past the key; the tail is there because the verifier bounds offset and length apart. */
	__u8 tail[NAME_LEN];
	__u32 offset; /* of the first byte; NAME_LEN when empty */
	__u32 state;  /* enum name_state */
} __attribute__((aligned(8)));

/* One per generation. Each mask has a bit for each policy slot. */
struct rules {
	__u64 detects[USES][CLASSES];
	__u64 prevents;
	__u64 except_lists;   /* slots that have exceptions */
	__u64 prohibit_lists; /* slots that have prohibited binaries */
	__u64 unknown_member; /* slots that a container not yet resolved is a member of */
	__u64 generation;
};

struct path_rule {
	__u64 excepted;
	__u64 prohibited;
};

/* One write of this word switches the instance whose programs decide and the tables that they read. */
struct control {
	__u16 instance; /* programs loaded with another number return at once */
	__u16 relieved; /* but for this one's, which are about to be detached */
	__u32 tables;   /* 0 or 1: which half of the outer maps is in force */
};

enum container_flag {
	CONTAINER_ROOT_OVERLAY = 1,
	CONTAINER_UNKNOWN = 2, /* entered by the kernel at its first exec, not yet resolved by the agent */
};

struct container {
	__u64 root_inode;
	__u64 started; /* seconds of the epoch; files of a root that is no overlay are judged by it */
	__u32 root_dev;
	__u32 flags; /* enum container_flag */
};

/* A declared volume, by its superblock and the inode of the mount's root. inode 0: the container has some volume on this superblock. */
struct volume_key {
	__u64 container;
	__u64 inode;
	__u32 dev;
	__u32 zero;
};

struct volume {
	__u8 destination[NAME_LEN]; /* right-aligned */
	__u32 destination_len;
	__u32 zero;
};

/*
 * What is known of an overlay inode, by its address. Another inode may come to live there: the mark counts for this one. (Its
 * number alone is not unique: hard links of a lower layer share it.)
 */
struct mark {
	__u64 inode;
	__u32 dev;
	__u32 zero;
	__u64 state;
};

/* In clean_marks. */
enum clean_state {
	COMPARED_NOW = 0, /* whoever writes sees that it counts */
	CLEAN = 1,
};

/* In written_marks. */
enum written_state {
	WRITTEN = 0,
	COMPARED_AND_DIFFERENT = 1, /* until the next write, it need not be compared again */
};

/* In proofs. */
enum proof_state {
	PROOF_BEGUN = 0,
	PROOF_EQUAL = 1,
	PROOF_DIFFERENT = 2,
};

/*
 * Where nobody watches files: what came of comparing a copied-up file, for as long as its upper is what it was then. Its change time moves
 * with everything that happens to it, and nobody can set it.
 */
struct proof {
	__u64 inode; /* of the overlay; see struct mark */
	__u32 dev;
	__u32 state; /* enum proof_state */
	__u64 upper; /* its inode number */
	__u64 size;
	__u64 changed; /* seconds of the epoch */
	__u64 changed_ns;
};

/* The same file, used the same way, with the same outcome, in the same container: one report, then a count. */
struct flood_key {
	__u64 container;
	__u64 inode;
	__u64 generation;
	__u64 drift;
	__u64 prohibited;
	__u32 dev;
	__u16 file_class;
	__u16 use;
};

struct flood {
	__u64 count;
	__u64 reported;  /* 1 once a record of it has reached the ring buffer */
	__u64 last_seen; /* ns since boot */
};

struct violation_record {
	struct flood_key key;
	__u64 denied;
	__u64 time; /* ns since boot */
	__u32 pid;
	__u32 tid;
	__u32 uid;
	__u32 gid;
	__u32 parent_pid;
	__u32 args_len;
	__u8 comm[COMM_LEN];
	__u8 parent_comm[COMM_LEN];
	__u64 aggregated;              /* 0: this record is not in the floods table, count it as one */
	__u32 name_states[NAMES_TOLD]; /* enum name_state */
	__u32 killed;                  /* the programs that told of it kill what they cannot refuse */
	struct path_key names[NAMES_TOLD];
	__u8 args[ARGS_LEN + ARG_LEN]; /* args_len bytes, each argument with its zero, each cut to ARG_LEN */
};

enum lifecycle_kind {
	LIFECYCLE_CGROUP_MADE = 1,
	LIFECYCLE_CGROUP_RELEASED = 2,
	LIFECYCLE_UNKNOWN_CONTAINER = 3,
	LIFECYCLE_PROVE = 4,
};

struct lifecycle_record {
	__u32 kind; /* enum lifecycle_kind */
	__u32 pid;  /* who made the cgroup, or who executed */
	__u64 cgroup;
	__u64 parent;
	__u64 inode; /* LIFECYCLE_PROVE: the overlay file, and the image's own */
	__u64 lower_inode;
	__u32 dev;
	__u32 lower_dev;
	__u8 path[NAME_LEN]; /* cgroup path from the left, or the file's path from the right */
	__u8 lower_path[NAME_LEN];
};

/* Indexes of the counters array. */
enum counter {
	COUNTER_LOST_REPORTS = 0,
	COUNTER_LOST_LIFECYCLE = 1,
	COUNTER_UNRESOLVED_NAMES = 2,
	COUNTER_CONTAINERS_FULL = 3,
	COUNTERS = 4,
};

/* The program that a task was last allowed to execute: its own mapping is no library, and what it opens for execution next is its interpreter. */
struct executing {
	__u64 task;
	__u64 mm;
	__u64 inode;
};

enum prove_step {
	PROVE_BEGIN = 0,
	PROVE_COMMIT = 1,
	PROVE_REFUTE = 2,
};

/* A generated case for the comparison of the kernel's verdict with the pure one. */
struct verdict_case {
	__u64 member;
	__u32 use;
	__u32 file_class;
	struct name names[NAMES];
};

struct verdict {
	__u64 drift;
	__u64 prohibited;
	__u64 denied;
};

/* Never made: a pointer to it keeps in the BTF what no map has as its key or value. */
struct wire_types {
	struct rules rules;
	struct path_key path_key;
	struct path_rule path_rule;
	struct mark mark;
	struct violation_record violation_record;
	struct lifecycle_record lifecycle_record;
	enum file_class file_class;
	enum file_use file_use;
	enum name_state name_state;
	enum name_index name_index;
	enum container_flag container_flag;
	enum lifecycle_kind lifecycle_kind;
	enum counter counter;
	enum prove_step prove_step;
	enum clean_state clean_state;
	enum written_state written_state;
	enum proof_state proof_state;
};

#endif
