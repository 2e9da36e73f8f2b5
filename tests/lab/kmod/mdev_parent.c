// SPDX-License-Identifier: GPL-2.0
/*
 * simgpu_mdev: the simmdev GPU as a parent of mediated devices.
 *
 * The types share the GPU's VRAM. A device owns a window of it that is aligned
 * to its size, so that the window is a BAR; with windows of several sizes
 * coming and going, what is free may be too scattered for a large one, and
 * available_instances says so.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/vfio.h>
#include "simgpu_mdev.h"

static const struct {
	const char *sysfs_name;
	const char *pretty_name;
	unsigned int units;
} vgpu_types[VGPU_NR_TYPES] = {
	{ "small", "simgpu small", SZ_16M / VGPU_UNIT },
	{ "medium", "simgpu medium", SZ_32M / VGPU_UNIT },
	{ "large", "simgpu large", SZ_64M / VGPU_UNIT },
};

static bool window_is_free(struct vgpu_parent *vp, unsigned int unit,
			   unsigned int units)
{
	return find_next_bit(vp->used, unit + units, unit) >= unit + units;
}

static int vgpu_window_get(struct vgpu_parent *vp, unsigned int units,
			   unsigned int *unit)
{
	guard(mutex)(&vp->lock);
	for (*unit = 0; *unit + units <= vp->nr_units; *unit += units) {
		if (!window_is_free(vp, *unit, units))
			continue;
		bitmap_set(vp->used, *unit, units);
		return 0;
	}
	return -ENOSPC;
}

static void vgpu_parent_free(struct kref *kref)
{
	kfree(container_of(kref, struct vgpu_parent, kref));
}

static void vgpu_parent_put(struct vgpu_parent *vp)
{
	kref_put(&vp->kref, vgpu_parent_free);
}

/* A window of a device that was made. */
struct vgpu_claim {
	struct vgpu_parent *vp;
	unsigned int unit;
	unsigned int units;
};

static void vgpu_claim_put(void *owner)
{
	struct vgpu_claim *claim = owner;
	struct vgpu_parent *vp = claim->vp;

	scoped_guard(mutex, &vp->lock)
		bitmap_clear(vp->used, claim->unit, claim->units);
	kfree(claim);
	vgpu_parent_put(vp);
}

static int vgpu_make(struct mdev_device *mdev)
{
	struct vgpu_parent *vp = to_vgpu_parent(mdev->type);
	struct vgpu_claim *claim = kzalloc(sizeof(*claim), GFP_KERNEL);
	int ret;

	if (!claim)
		return -ENOMEM;
	claim->vp = vp;
	claim->units = to_vgpu_type(mdev->type)->units;
	ret = vgpu_window_get(vp, claim->units, &claim->unit);
	if (ret) {
		kfree(claim);
		return ret;
	}
	/* A file of the device that is still open may outlive the parent. */
	kref_get(&vp->kref);
	return simgpu_vgpu_make(mdev, &(struct vgpu_window) {
		.gpu = vp->gpu,
		.offset = (u64)claim->unit * VGPU_UNIT,
		.size = (u64)claim->units * VGPU_UNIT,
		.put = vgpu_claim_put,
		.owner = claim,
	});
}

static int vgpu_probe(struct mdev_device *mdev)
{
	struct simgpu *gpu = to_vgpu_parent(mdev->type)->gpu;
	int ret;

	ret = simgpu_create_begin(gpu);
	if (!ret)
		ret = vgpu_make(mdev);
	simgpu_create_end(gpu, ret);
	return ret;
}

static unsigned int vgpu_get_available(struct mdev_type *mtype)
{
	struct vgpu_parent *vp = to_vgpu_parent(mtype);
	unsigned int units = to_vgpu_type(mtype)->units;
	unsigned int available = 0;

	guard(mutex)(&vp->lock);
	for (unsigned int unit = 0; unit + units <= vp->nr_units; unit += units)
		available += window_is_free(vp, unit, units);
	return available;
}

/* In the form of NVIDIA's vGPU types, which tools know how to read. */
static ssize_t vgpu_show_description(struct mdev_type *mtype, char *buf)
{
	struct vgpu_parent *vp = to_vgpu_parent(mtype);
	unsigned int units = to_vgpu_type(mtype)->units;

	return sysfs_emit(buf,
			  "num_heads=1, frl_config=60, framebuffer=%uM, max_resolution=1920x1080, max_instance=%u\n",
			  units * (VGPU_UNIT / SZ_1M), vp->nr_units / units);
}

static struct mdev_driver vgpu_mdev_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.probe = vgpu_probe,
	.remove = simgpu_vgpu_remove,
	.get_available = vgpu_get_available,
	.show_description = vgpu_show_description,
	.driver = {
		.name = "simgpu_vgpu",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
		.dev_groups = simgpu_vgpu_groups,
	},
};

static int vgpu_pci_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct simgpu *gpu = simgpu_of(pdev);
	struct vgpu_parent *vp;
	int ret;

	ret = simgpu_pf_probe(pdev, SIMGPU_DRIVER_MDEV);
	if (ret)
		return ret;

	vp = kzalloc(sizeof(*vp), GFP_KERNEL);
	if (!vp) {
		ret = -ENOMEM;
		goto err_remove;
	}
	kref_init(&vp->kref);
	vp->gpu = gpu;
	vp->nr_units = min_t(u64, simgpu_vram_size(gpu) / VGPU_UNIT,
			     VGPU_MAX_UNITS);
	mutex_init(&vp->lock);
	for (unsigned int i = 0; i < VGPU_NR_TYPES; i++) {
		struct vgpu_type *type = &vp->types[i];

		type->units = vgpu_types[i].units;
		type->type.sysfs_name = vgpu_types[i].sysfs_name;
		type->type.pretty_name = vgpu_types[i].pretty_name;
		vp->type_list[i] = &type->type;
	}

	pci_set_drvdata(pdev, vp);
	ret = mdev_register_parent(&vp->parent, &pdev->dev, &vgpu_mdev_driver,
				   vp->type_list, VGPU_NR_TYPES);
	if (ret)
		goto err_put;
	return 0;

err_put:
	vgpu_parent_put(vp);
err_remove:
	simgpu_pf_remove(pdev);
	return ret;
}

/* Waits for the VFIO users of the parent's devices. */
static void vgpu_pci_remove(struct pci_dev *pdev)
{
	struct vgpu_parent *vp = pci_get_drvdata(pdev);

	mdev_unregister_parent(&vp->parent);
	simgpu_pf_remove(pdev);
	vgpu_parent_put(vp);
}

static struct pci_driver vgpu_pci_driver = {
	.name = "simgpu_mdev",
	.probe = vgpu_pci_probe,
	.remove = vgpu_pci_remove,
};

static int __init vgpu_init(void)
{
	int ret;

	ret = mdev_register_driver(&vgpu_mdev_driver);
	if (ret)
		return ret;
	ret = simgpu_register_driver(&vgpu_pci_driver, SIMGPU_DRIVER_MDEV);
	if (ret)
		mdev_unregister_driver(&vgpu_mdev_driver);
	return ret;
}

static void __exit vgpu_exit(void)
{
	pci_unregister_driver(&vgpu_pci_driver);
	mdev_unregister_driver(&vgpu_mdev_driver);
}

module_init(vgpu_init);
module_exit(vgpu_exit);
MODULE_DESCRIPTION("Mediated devices of a simulated GPU");
MODULE_LICENSE("GPL");
