/* SPDX-License-Identifier: GPL-2.0 */
/*
 * simgpu_xe: an Intel GPU as the kernel's own driver, xe, shows it (Linux 7.0,
 * drivers/gpu/drm/xe/xe_pci_sriov.c, xe_sriov_pf_*.c). README.md has the quirks.
 */
#ifndef XE_H
#define XE_H

#include <linux/kobject.h>
#include <linux/mutex.h>
#include "../simgpu.h"

/* xe counts functions like the SR-IOV specification: the first VF is 1. */
#define XE_PF	0

enum xe_priority {
	XE_PRIORITY_LOW,
	XE_PRIORITY_NORMAL,
	XE_PRIORITY_HIGH,
};

/* What a function is given. */
struct xe_share {
	u32 exec_quantum_ms;		/* 0: unlimited */
	u32 preempt_timeout_us;		/* 0: unlimited */
	enum xe_priority priority;
	u64 vram;			/* bytes; a VF's only, 0: none yet */
	struct kobject *kobj;		/* sriov_admin/{pf,vfN} */
	struct xe_gpu *xe;
};

struct xe_gpu {
	struct simgpu *gpu;
	struct pci_dev *pdev;
	struct kobject *kobj;		/* sriov_admin; NULL: debugfs instead */
	struct dentry *debugfs;
	struct mutex lock;		/* guards what shares say */
	unsigned int total_vfs;
	struct xe_share shares[];	/* the PF's, then the VFs' */
};

/* provision.c */
int xe_provision(struct xe_gpu *xe, unsigned int nr);
void xe_unprovision(struct xe_gpu *xe, unsigned int first, unsigned int last);
int xe_set_vram(struct xe_gpu *xe, unsigned int vfid, u64 size);
int xe_set_all_vram(struct xe_gpu *xe, u64 size);

/* debugfs.c */
void xe_debugfs_init(void);
void xe_debugfs_exit(void);
void xe_debugfs_add(struct xe_gpu *xe, bool tiles);
void xe_debugfs_remove(struct xe_gpu *xe);

/* sysfs.c */
int xe_sysfs_add(struct xe_gpu *xe);
void xe_sysfs_remove(struct xe_gpu *xe);
void xe_sysfs_link(struct xe_gpu *xe, unsigned int nr);
void xe_sysfs_unlink(struct xe_gpu *xe, unsigned int nr);

#endif /* XE_H */
