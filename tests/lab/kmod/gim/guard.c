// SPDX-License-Identifier: GPL-2.0
/*
 * The guard: a VF whose FLRs come too often is not reset any more for a while.
 *
 * Formats are those of GIM's gim_shim/sysfs/gim_guard.c. Only FLRs happen here;
 * the other events are always none. Off unless asked for: the lab's tests reset
 * VFs more often than that.
 */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include "gim.h"

/* libgv/core/amdgv_guard.h and libgv/inc/amdgv_api.h */
static const struct gim_thresholds defaults = {
	.flr = 3, .ex = 9, .ext = 2, .all = 56,
};
static const struct gim_thresholds most = {
	.flr = SIMGPU_GUARD_MOST, .ex = 10, .ext = 3, .all = 57,
};

static bool guard_on;
module_param_named(guard, guard_on, bool, 0444);
MODULE_PARM_DESC(guard, "refuse a VF's FLRs beyond guard_threshold in 60 s (default: off)");

static void set_thresholds(struct gim_gpu *gim,
			   const struct gim_thresholds *thresholds)
{
	gim->thresholds = *thresholds;
	for (unsigned int i = 1; i < gim->gpu->nr_functions; i++)
		simgpu_guard_set(&gim->gpu->functions[i], guard_on,
				 thresholds->flr);
}

void gim_guard_init(struct gim_gpu *gim)
{
	set_thresholds(gim, &defaults);
}

void gim_guard_exit(struct gim_gpu *gim)
{
	for (unsigned int i = 1; i < gim->gpu->nr_functions; i++)
		simgpu_guard_set(&gim->gpu->functions[i], false, 0);
}

/* A line for each VF: its address, and what stands in the columns. */
#define HEAD	"VF[bdf]\t\t\tflr\tex\text\tint\n"

static ssize_t emit_vf(char *buf, ssize_t len, struct simgpu_func *vf)
{
	return sysfs_emit_at(buf, len, "VF[%04x:%02x:%02x.%u]:", SIMGPU_DOMAIN,
			     vf->gpu->busnr, PCI_SLOT(vf->devfn),
			     PCI_FUNC(vf->devfn));
}

static ssize_t guard_status_show(struct device *dev,
				 struct device_attribute *attr, char *buf)
{
	struct gim_gpu *gim = dev_get_drvdata(dev);
	ssize_t len = sysfs_emit(buf, HEAD);

	for (unsigned int i = 1; i <= gim->nr_vfs; i++) {
		struct simgpu_func *vf = &gim->gpu->functions[i];
		struct simgpu_guard_state state = simgpu_guard_read(vf);

		len += emit_vf(buf, len, vf);
		len += sysfs_emit_at(buf, len,
				     "\t[%u:%u:%u]\t[0:0:0]\t[0:0:0]\t[0:0:0]\n",
				     state.level, state.recent, state.total);
	}
	len += sysfs_emit_at(buf, len,
			     "Notes:\n1)flr: function level reset;\n"
			     "2)ex: exclusive access mode\n"
			     "3)ext: exclusive access timeout\n"
			     "4)int: interrupt\n"
			     "5)event status data format: [state:valid:total]\n"
			     "6)state: 0->normal; 1->full; 2->overflower\n"
			     "7)valid: event number in the latest interval\n"
			     "8)total: total event number\n");
	return len;
}
static DEVICE_ATTR_RO(guard_status);

/* Read as a table, written as a line. What is no such line is not followed. */
static ssize_t guard_threshold_show(struct device *dev,
				    struct device_attribute *attr, char *buf)
{
	struct gim_gpu *gim = dev_get_drvdata(dev);
	ssize_t len = sysfs_emit(buf, HEAD);

	guard(mutex)(&gim_hive_lock);
	for (unsigned int i = 1; i <= gim->nr_vfs; i++) {
		len += emit_vf(buf, len, &gim->gpu->functions[i]);
		len += sysfs_emit_at(buf, len, "\t[%u]\t[%u]\t[%u]\t[%u]\n",
				     gim->thresholds.flr, gim->thresholds.ex,
				     gim->thresholds.ext, gim->thresholds.all);
	}
	return len;
}

static ssize_t guard_threshold_store(struct device *dev,
				     struct device_attribute *attr,
				     const char *buf, size_t count)
{
	struct gim_gpu *gim = dev_get_drvdata(dev);
	struct gim_thresholds asked;

	if (sscanf(buf, "flr=%x,ex=%x,ext=%x,int=%x", &asked.flr, &asked.ex,
		   &asked.ext, &asked.all) != 4) {
		dev_warn(dev, "invalid parameter\n");
		return count;
	}
	guard(mutex)(&gim_hive_lock);
	/* Each for itself: one that is too large stays as it was. */
	if (asked.flr > most.flr)
		asked.flr = gim->thresholds.flr;
	if (asked.ex > most.ex)
		asked.ex = gim->thresholds.ex;
	if (asked.ext > most.ext)
		asked.ext = gim->thresholds.ext;
	if (asked.all > most.all)
		asked.all = gim->thresholds.all;
	set_thresholds(gim, &asked);
	return count;
}
static DEVICE_ATTR_RW(guard_threshold);

static struct attribute *guard_attrs[] = {
	&dev_attr_guard_status.attr,
	&dev_attr_guard_threshold.attr,
	NULL
};

const struct attribute_group gim_guard_group = {
	.attrs = guard_attrs,
};
