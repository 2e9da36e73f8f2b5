// SPDX-License-Identifier: GPL-2.0
/* A VF: its VFIO device and its directory "nvidia". */
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include "nvidia.h"

/*
 * Header type of a VF that was unbound. No driver finds a vfio_pci_core_device
 * for it any more: vfio_pci_core registers none for a header that is not an
 * endpoint's, which is how vfio-pci comes to answer EINVAL, and this driver too.
 * It is the kernel's copy, and a VF gets a new one when SR-IOV is off and on.
 */
#define UNBOUND_HDR_TYPE	0x7f

struct nv_vf *nv_vf_of(struct pci_dev *pdev)
{
	struct simgpu_func *fn = simgpu_func_of(pdev);
	struct nv_card *card = fn ? nv_card_get(fn->gpu) : NULL;

	return card && fn->index ? &card->vfs[fn->index - 1] : NULL;
}

/* The attributes are there only while the VF is. */
static struct nv_vf *vf_of(struct device *dev)
{
	return nv_vf_of(to_pci_dev(dev));
}

static ssize_t creatable_vgpu_types_show(struct device *dev,
					 struct device_attribute *attr,
					 char *buf)
{
	struct nv_vf *vf = vf_of(dev);
	const struct nv_board *board = vf->card->board;
	bool name_first =
		READ_ONCE(vf->card->knobs.type_order) == NV_NAME_FIRST;
	int at;

	guard(mutex)(&vf->card->lock);
	at = sysfs_emit(buf, "%s\n", name_first ? "vGPU Name  ID" :
						  "ID    : vGPU Name");
	for (unsigned int i = 0; i < board->nr_types; i++) {
		const struct nv_type *type = &board->types[i];

		if (!nv_vgpu_creatable(vf, type))
			continue;
		if (name_first)
			at += sysfs_emit_at(buf, at, "%s  %u\n", type->name,
					    type->id);
		else
			at += sysfs_emit_at(buf, at, "%-5u : %s\n", type->id,
					    type->name);
	}
	return at;
}
static DEVICE_ATTR_RO(creatable_vgpu_types);

static ssize_t current_vgpu_type_show(struct device *dev,
				      struct device_attribute *attr, char *buf)
{
	struct nv_vf *vf = vf_of(dev);

	guard(mutex)(&vf->card->lock);
	return sysfs_emit(buf, "%u\n", vf->type ? vf->type->id : 0);
}

static ssize_t current_vgpu_type_store(struct device *dev,
				       struct device_attribute *attr,
				       const char *buf, size_t count)
{
	unsigned int id;
	int ret;

	ret = kstrtouint(buf, 10, &id);
	if (!ret)
		ret = nv_vgpu_write(vf_of(dev), id);
	return ret ?: count;
}
static DEVICE_ATTR_RW(current_vgpu_type);

static ssize_t gpu_instance_id_show(struct device *dev,
				    struct device_attribute *attr, char *buf)
{
	struct nv_vf *vf = vf_of(dev);

	guard(mutex)(&vf->card->lock);
	if (!vf->type)
		return -ENXIO;
	return sysfs_emit(buf, "%u\n", vf->gi ? nv_gi_id(vf->gi) :
						NV_NO_GPU_INSTANCE);
}
static DEVICE_ATTR_RO(gpu_instance_id);

static ssize_t placement_id_show(struct device *dev,
				 struct device_attribute *attr, char *buf)
{
	struct nv_vf *vf = vf_of(dev);

	guard(mutex)(&vf->card->lock);
	if (!vf->type)
		return -ENXIO;
	return sysfs_emit(buf, "%u\n", vf->placement);
}
static DEVICE_ATTR_RO(placement_id);

static ssize_t vgpu_params_show(struct device *dev,
				struct device_attribute *attr, char *buf)
{
	struct nv_vf *vf = vf_of(dev);

	guard(mutex)(&vf->card->lock);
	return sysfs_emit(buf, "%s\n", vf->params);
}

/* A single space clears them. */
static ssize_t vgpu_params_store(struct device *dev,
				 struct device_attribute *attr,
				 const char *buf, size_t count)
{
	struct nv_vf *vf = vf_of(dev);

	if (count >= NV_PARAMS_SIZE)
		return -EINVAL;
	guard(mutex)(&vf->card->lock);
	if (!vf->type)
		return -ENXIO;
	strscpy(vf->params, skip_spaces(buf), NV_PARAMS_SIZE);
	strim(vf->params);
	return count;
}
static DEVICE_ATTR_RW(vgpu_params);

static struct attribute *vf_attrs[] = {
	&dev_attr_creatable_vgpu_types.attr,
	&dev_attr_current_vgpu_type.attr,
	&dev_attr_gpu_instance_id.attr,
	&dev_attr_placement_id.attr,
	&dev_attr_vgpu_params.attr,
	NULL,
};

static const struct attribute_group vf_group = {
	.name = "nvidia",
	.attrs = vf_attrs,
};

static int vf_open(struct nv_vf *vf)
{
	guard(mutex)(&vf->card->lock);
	if (!vf->type)
		return -ENODEV;
	vf->open = true;
	return 0;
}

static void vf_close(struct nv_vf *vf)
{
	guard(mutex)(&vf->card->lock);
	vf->open = false;
}

static const struct nv_vfio_ops vf_vfio_ops = {
	.open = vf_open,
	.close = vf_close,
};

static void set_vfio(struct nv_vf *vf, bool vfio)
{
	guard(mutex)(&vf->card->lock);
	vf->vfio = vfio;
	nv_vgpu_drop(vf);
}

/* One that was unbound is dead here too. */
static int parent_probe(struct nv_vf *vf, struct pci_dev *pdev)
{
	struct nv_parent *parent;

	if (pdev->hdr_type == UNBOUND_HDR_TYPE)
		return 0;
	set_vfio(vf, true);
	parent = nv_mdev_add(vf->card, vf, pdev);
	if (IS_ERR(parent)) {
		set_vfio(vf, false);
		return PTR_ERR(parent);
	}
	vf->parent = parent;
	return 0;
}

int nv_vf_probe(struct pci_dev *pdev)
{
	struct nv_vf *vf = nv_vf_of(pdev);
	int ret;

	if (!vf)
		return -ENODEV;
	/* While the PF is on another driver, VFs are not for this one. */
	scoped_guard(mutex, &vf->card->lock)
		if (!vf->card->pf)
			return -ENODEV;

	if (READ_ONCE(vf->card->knobs.framework) == NV_MEDIATED)
		return parent_probe(vf, pdev);
	ret = nv_vfio_add(pdev, &vf_vfio_ops, vf);
	if (ret && pdev->hdr_type != UNBOUND_HDR_TYPE)
		return ret;
	set_vfio(vf, !ret);
	ret = device_add_group(&pdev->dev, &vf_group);
	if (ret && vf->vfio)
		nv_vfio_remove(pdev);
	vf->files = !ret;
	return ret;
}

/* Waits for the VFIO user. */
void nv_vf_remove(struct pci_dev *pdev)
{
	struct nv_vf *vf = nv_vf_of(pdev);

	if (vf->files) {
		device_remove_group(&pdev->dev, &vf_group);
		if (vf->vfio)
			nv_vfio_remove(pdev);
	} else if (vf->parent) {
		nv_mdev_remove(vf->parent);
	}
	vf->files = false;
	vf->parent = NULL;
	set_vfio(vf, false);
	pdev->hdr_type = UNBOUND_HDR_TYPE;
}
