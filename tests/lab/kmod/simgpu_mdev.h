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

/* mdev_vgpu.c, which other PF drivers use too */

/**
 * struct vgpu_window - the VRAM that a mediated device shows
 * @gpu:	whose
 * @offset:	where it begins, in bytes
 * @size:	its size, a power of two
 * @put:	gives it back; called once, whatever becomes of the device
 * @owner:	what @put gets
 */
struct vgpu_window {
	struct simgpu *gpu;
	u64 offset;
	u64 size;
	void (*put)(void *owner);
	void *owner;
};

int simgpu_vgpu_make(struct mdev_device *mdev, const struct vgpu_window *window);
void simgpu_vgpu_remove(struct mdev_device *mdev);
extern const struct attribute_group *simgpu_vgpu_groups[];

static inline struct vgpu_type *to_vgpu_type(struct mdev_type *type)
{
	return container_of(type, struct vgpu_type, type);
}

static inline struct vgpu_parent *to_vgpu_parent(struct mdev_type *type)
{
	return container_of(type->parent, struct vgpu_parent, parent);
}

#endif /* SIMGPU_MDEV_H */
