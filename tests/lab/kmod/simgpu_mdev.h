/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SIMGPU_MDEV_H
#define SIMGPU_MDEV_H

#include <linux/bitmap.h>
#include <linux/kref.h>
#include <linux/mdev.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include "simgpu.h"

/* VRAM is given out in units of the smallest type. */
#define VGPU_UNIT	SZ_16M
#define VGPU_MAX_UNITS	64
#define VGPU_NR_TYPES	3

struct vgpu_type {
	struct mdev_type type;
	unsigned int units;
};

/* A simulated GPU in its role as the parent of mediated devices. */
struct vgpu_parent {
	struct kref kref;		/* its driver's, and one a device */
	struct mdev_parent parent;
	struct simgpu *gpu;
	struct vgpu_type types[VGPU_NR_TYPES];
	struct mdev_type *type_list[VGPU_NR_TYPES];
	unsigned int nr_units;
	struct mutex lock;		/* guards used */
	DECLARE_BITMAP(used, VGPU_MAX_UNITS);
};

/* mdev_parent.c */
void vgpu_parent_put(struct vgpu_parent *vp);
int vgpu_window_get(struct vgpu_parent *vp, unsigned int units,
		    unsigned int *unit);
void vgpu_window_put(struct vgpu_parent *vp, unsigned int units,
		     unsigned int unit);

/* mdev_vgpu.c */
extern struct mdev_driver vgpu_mdev_driver;

static inline struct vgpu_type *to_vgpu_type(struct mdev_type *type)
{
	return container_of(type, struct vgpu_type, type);
}

static inline struct vgpu_parent *to_vgpu_parent(struct mdev_type *type)
{
	return container_of(type->parent, struct vgpu_parent, parent);
}

#endif /* SIMGPU_MDEV_H */
