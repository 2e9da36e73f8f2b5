// SPDX-License-Identifier: GPL-2.0
/*
 * sriov_admin, as Documentation/ABI/testing/sysfs-driver-intel-xe-sriov has it:
 *
 *   sriov_admin/.bulk_profile/{exec_quantum_ms,preempt_timeout_us,sched_priority,vram_quota}
 *   sriov_admin/{pf,vfN}/device -> the PCI device
 *   sriov_admin/{pf,vfN}/profile/{exec_quantum_ms,preempt_timeout_us,sched_priority}
 *   sriov_admin/vfN/profile/vram_quota
 *   sriov_admin/vfN/stop
 */
#include <linux/kstrtox.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include "xe.h"

/* A directory: a function's, or the root of all. */
struct xe_kobj {
	struct kobject kobj;
	struct xe_gpu *xe;
	unsigned int vfid;
};

struct xe_attr {
	struct attribute attr;
	ssize_t (*show)(struct xe_gpu *xe, unsigned int vfid, char *buf);
	int (*store)(struct xe_gpu *xe, unsigned int vfid, const char *buf);
};

static struct xe_kobj *to_xe_kobj(struct kobject *kobj)
{
	return container_of(kobj, struct xe_kobj, kobj);
}

static ssize_t xe_show(struct kobject *kobj, struct attribute *attr, char *buf)
{
	struct xe_attr *xattr = container_of(attr, struct xe_attr, attr);
	struct xe_kobj *dir = to_xe_kobj(kobj);

	if (!xattr->show)
		return -EPERM;
	guard(mutex)(&dir->xe->lock);
	return xattr->show(dir->xe, dir->vfid, buf);
}

static ssize_t xe_store(struct kobject *kobj, struct attribute *attr,
			const char *buf, size_t count)
{
	struct xe_attr *xattr = container_of(attr, struct xe_attr, attr);
	struct xe_kobj *dir = to_xe_kobj(kobj);

	if (!xattr->store)
		return -EPERM;
	guard(mutex)(&dir->xe->lock);
	return xattr->store(dir->xe, dir->vfid, buf) ?: count;
}

static const struct sysfs_ops xe_sysfs_ops = {
	.show = xe_show,
	.store = xe_store,
};

#define XE_ATTR(name, mode, show, store) \
	static struct xe_attr attr_##name = __ATTR(name, mode, show, store)
#define XE_BULK_ATTR(name, store) \
	static struct xe_attr attr_bulk_##name = __ATTR(name, 0200, NULL, store)

/* exec_quantum_ms and preempt_timeout_us: of a function, and of all */
#define XE_TIME_ATTR(name)						\
static ssize_t name##_show(struct xe_gpu *xe, unsigned int vfid,	\
			   char *buf)					\
{									\
	return sysfs_emit(buf, "%u\n", xe->shares[vfid].name);		\
}									\
									\
static int name##_store(struct xe_gpu *xe, unsigned int vfid,		\
			const char *buf)				\
{									\
	return kstrtou32(buf, 0, &xe->shares[vfid].name);		\
}									\
XE_ATTR(name, 0644, name##_show, name##_store);				\
									\
static int bulk_##name##_store(struct xe_gpu *xe, unsigned int unused,	\
			       const char *buf)				\
{									\
	u32 value;							\
	int ret = kstrtou32(buf, 0, &value);				\
									\
	for (unsigned int i = 0; i <= xe->total_vfs && !ret; i++)	\
		xe->shares[i].name = value;				\
	return ret;							\
}									\
XE_BULK_ATTR(name, bulk_##name##_store)

XE_TIME_ATTR(exec_quantum_ms);
XE_TIME_ATTR(preempt_timeout_us);

static const char * const priorities[] = {
	[XE_PRIORITY_LOW] = "low",
	[XE_PRIORITY_NORMAL] = "normal",
	[XE_PRIORITY_HIGH] = "high",
};

/* The highest is for the PF alone. */
static unsigned int priorities_of(unsigned int vfid)
{
	return vfid == XE_PF ? ARRAY_SIZE(priorities) : XE_PRIORITY_HIGH;
}

static ssize_t sched_priority_show(struct xe_gpu *xe, unsigned int vfid,
				   char *buf)
{
	ssize_t len = 0;

	for (unsigned int i = 0; i < priorities_of(vfid); i++)
		len += sysfs_emit_at(buf, len,
				     i == xe->shares[vfid].priority ?
				     "%s[%s]" : "%s%s",
				     i ? " " : "", priorities[i]);
	return len + sysfs_emit_at(buf, len, "\n");
}

static int sched_priority_store(struct xe_gpu *xe, unsigned int vfid,
				const char *buf)
{
	int priority;

	/* The firmware changes the PF's alone; a VF's file is read-only. */
	if (vfid != XE_PF)
		return -EOPNOTSUPP;
	priority = __sysfs_match_string(priorities, priorities_of(vfid), buf);
	if (priority < 0)
		return -EINVAL;
	xe->shares[vfid].priority = priority;
	return 0;
}
XE_ATTR(sched_priority, 0644, sched_priority_show, sched_priority_store);

static int bulk_sched_priority_store(struct xe_gpu *xe, unsigned int unused,
				     const char *buf)
{
	int priority = __sysfs_match_string(priorities, priorities_of(1), buf);

	if (priority < 0)
		return -EINVAL;
	for (unsigned int i = 0; i <= xe->total_vfs; i++)
		xe->shares[i].priority = priority;
	return 0;
}
XE_BULK_ATTR(sched_priority, bulk_sched_priority_store);

static ssize_t vram_quota_show(struct xe_gpu *xe, unsigned int vfid, char *buf)
{
	return sysfs_emit(buf, "%llu\n", xe->shares[vfid].vram);
}

static int vram_quota_store(struct xe_gpu *xe, unsigned int vfid,
			    const char *buf)
{
	u64 size;

	return kstrtou64(buf, 0, &size) ?: xe_set_vram(xe, vfid, size);
}
XE_ATTR(vram_quota, 0644, vram_quota_show, vram_quota_store);

static int bulk_vram_quota_store(struct xe_gpu *xe, unsigned int unused,
				 const char *buf)
{
	u64 size;

	return kstrtou64(buf, 0, &size) ?: xe_set_all_vram(xe, size);
}
XE_BULK_ATTR(vram_quota, bulk_vram_quota_store);

/* Nothing runs on a simulated VF, so there is nothing to stop. */
static int stop_store(struct xe_gpu *xe, unsigned int vfid, const char *buf)
{
	bool stop;
	int ret = kstrtobool(buf, &stop);

	if (!ret && stop && vfid > pci_num_vf(xe->pdev))
		ret = -EPERM;
	return ret;
}
XE_ATTR(stop, 0200, NULL, stop_store);

static umode_t profile_is_visible(struct kobject *kobj, struct attribute *attr,
				  int index)
{
	bool is_pf = to_xe_kobj(kobj)->vfid == XE_PF;

	if (attr == &attr_vram_quota.attr && is_pf)
		return 0;
	if (attr == &attr_sched_priority.attr && !is_pf)
		return attr->mode & 0444;
	return attr->mode;
}

static struct attribute *profile_attrs[] = {
	&attr_exec_quantum_ms.attr,
	&attr_preempt_timeout_us.attr,
	&attr_sched_priority.attr,
	&attr_vram_quota.attr,
	NULL
};

static const struct attribute_group profile_group = {
	.name = "profile",
	.attrs = profile_attrs,
	.is_visible = profile_is_visible,
};

static umode_t control_is_visible(struct kobject *kobj, struct attribute *attr,
				  int index)
{
	return to_xe_kobj(kobj)->vfid == XE_PF ? 0 : attr->mode;
}

static struct attribute *control_attrs[] = {
	&attr_stop.attr,
	NULL
};

static const struct attribute_group control_group = {
	.attrs = control_attrs,
	.is_visible = control_is_visible,
};

static const struct attribute_group *function_groups[] = {
	&profile_group,
	&control_group,
	NULL
};

static struct attribute *bulk_attrs[] = {
	&attr_bulk_exec_quantum_ms.attr,
	&attr_bulk_preempt_timeout_us.attr,
	&attr_bulk_sched_priority.attr,
	&attr_bulk_vram_quota.attr,
	NULL
};

static const struct attribute_group bulk_group = {
	.name = ".bulk_profile",
	.attrs = bulk_attrs,
};

static const struct attribute_group *root_groups[] = {
	&bulk_group,
	NULL
};

static void xe_release(struct kobject *kobj)
{
	kfree(to_xe_kobj(kobj));
}

static const struct kobj_type root_ktype = {
	.release = xe_release,
	.sysfs_ops = &xe_sysfs_ops,
	.default_groups = root_groups,
};

static const struct kobj_type function_ktype = {
	.release = xe_release,
	.sysfs_ops = &xe_sysfs_ops,
	.default_groups = function_groups,
};

static struct kobject *add_dir(struct xe_gpu *xe, unsigned int vfid,
			       const struct kobj_type *ktype,
			       struct kobject *parent, const char *name)
{
	struct xe_kobj *dir = kzalloc(sizeof(*dir), GFP_KERNEL);

	if (!dir)
		return NULL;
	dir->xe = xe;
	dir->vfid = vfid;
	if (!kobject_init_and_add(&dir->kobj, ktype, parent, "%s", name))
		return &dir->kobj;
	kobject_put(&dir->kobj);
	return NULL;
}

int xe_sysfs_add(struct xe_gpu *xe)
{
	struct device *dev = &xe->pdev->dev;
	char name[8];

	xe->kobj = add_dir(xe, XE_PF, &root_ktype, &dev->kobj, "sriov_admin");
	if (!xe->kobj)
		return -ENOMEM;
	for (unsigned int i = 0; i <= xe->total_vfs; i++) {
		snprintf(name, sizeof(name), i ? "vf%u" : "pf", i);
		xe->shares[i].kobj = add_dir(xe, i, &function_ktype, xe->kobj,
					     name);
		if (!xe->shares[i].kobj)
			goto err_remove;
	}
	if (!sysfs_create_link(xe->shares[XE_PF].kobj, &dev->kobj, "device"))
		return 0;

err_remove:
	xe_sysfs_remove(xe);
	return -ENOMEM;
}

/* Waits for who is inside an attribute. */
void xe_sysfs_remove(struct xe_gpu *xe)
{
	if (!xe->kobj)
		return;
	for (unsigned int i = 0; i <= xe->total_vfs; i++) {
		if (!xe->shares[i].kobj)
			break;
		kobject_del(xe->shares[i].kobj);
		kobject_put(xe->shares[i].kobj);
	}
	kobject_del(xe->kobj);
	kobject_put(xe->kobj);
}

/* A link that cannot be made is done without, as in the real driver. */
void xe_sysfs_link(struct xe_gpu *xe, unsigned int nr)
{
	for (unsigned int i = 1; xe->kobj && i <= nr; i++) {
		struct pci_dev *vf = simgpu_get_pci_dev(&xe->gpu->functions[i]);

		if (!vf || sysfs_create_link(xe->shares[i].kobj, &vf->dev.kobj,
					     "device"))
			dev_notice(&xe->pdev->dev, "no link to VF %u\n", i);
		pci_dev_put(vf);
	}
}

void xe_sysfs_unlink(struct xe_gpu *xe, unsigned int nr)
{
	for (unsigned int i = 1; xe->kobj && i <= nr; i++)
		sysfs_remove_link(xe->shares[i].kobj, "device");
}
