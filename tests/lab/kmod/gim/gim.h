/* SPDX-License-Identifier: GPL-2.0 */
/*
 * gim: an MI300X as AMD's GIM runs it (amd/MxGPU-Virtualization on GitHub,
 * gim_shim/ and libgv/). README.md has the quirks.
 */
#ifndef GIM_H
#define GIM_H

#include <linux/device.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include "../simgpu.h"

/* How many events of a kind a VF may have in a while. */
struct gim_thresholds {
	unsigned int flr;
	unsigned int ex;	/* exclusive access */
	unsigned int ext;	/* its timeouts */
	unsigned int all;	/* interrupts */
};

/* A PF. All of them are one XGMI hive. */
struct gim_gpu {
	struct list_head node;		/* in gim_hive */
	struct simgpu *gpu;
	unsigned int nr_vfs;
	unsigned int memory_partitions;	/* the N of NPSN */
	struct gim_thresholds thresholds;
	unsigned int partitions;	/* 1: SPX, 2: DPX, 4: QPX, 8: CPX */
};

/* main.c */
extern struct mutex gim_hive_lock;	/* guards gim_hive and the partitions */
extern struct list_head gim_hive;

/* partition.c */
extern const struct attribute_group gim_partition_group;
bool gim_partition_init(struct gim_gpu *gim);

/* guard.c */
extern const struct attribute_group gim_guard_group;
void gim_guard_init(struct gim_gpu *gim);
void gim_guard_exit(struct gim_gpu *gim);

#endif /* GIM_H */
