// SPDX-License-Identifier: GPL-2.0
/*
 * vGPUs as mediated devices: of a PF without SR-IOV, or one of each VF, as the
 * driver has it on kernels without the vendor-specific framework.
 *
 * The device itself is simgpu_mdev's. Its BAR shows the largest power of two of
 * its framebuffer, one MiB for a GB of the real card's.
 */
#include <linux/kref.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/vfio.h>
#include "nvidia.h"
#include "../simgpu_mdev.h"

struct nv_mdev_type {
	struct mdev_type type;
	const struct nv_type *nv;
	char sysfs_name[8];
};

struct nv_parent {
	struct kref kref;		/* its driver's, and one a device */
	struct mdev_parent parent;
	struct nv_card *card;
	struct nv_vf *vf;		/* NULL: the PF is the parent */
	struct mdev_type **list;
	struct nv_mdev_type types[];
};

/* A vGPU that was made: its place, and who keeps its type. */
struct nv_claim {
	struct nv_parent *parent;
	struct nv_vf *place;
};

static struct nv_parent *parent_of(struct mdev_type *type)
{
	return container_of(type->parent, struct nv_parent, parent);
}

static const struct nv_type *nv_type_of(struct mdev_type *type)
{
	return container_of(type, struct nv_mdev_type, type)->nv;
}

static void parent_free(struct kref *kref)
{
	struct nv_parent *parent = container_of(kref, struct nv_parent, kref);

	kfree(parent->list);
	kfree(parent);
}

static void claim_put(void *owner)
{
	struct nv_claim *claim = owner;

	scoped_guard(mutex, &claim->parent->card->lock)
		nv_vgpu_drop(claim->place);
	kref_put(&claim->parent->kref, parent_free);
	kfree(claim);
}

/* A VF is its own only place. card->lock is held. */
static struct nv_vf *find_place(struct nv_parent *parent)
{
	struct nv_card *card = parent->card;

	if (parent->vf)
		return parent->vf;
	for (unsigned int i = 0; i < card->nr_vfs; i++)
		if (!card->vfs[i].type)
			return &card->vfs[i];
	return NULL;
}

static int make(struct mdev_device *mdev, struct nv_parent *parent)
{
	const struct nv_type *type = nv_type_of(mdev->type);
	struct nv_card *card = parent->card;
	struct nv_claim *claim;
	struct nv_vf *place;
	u64 offset;
	int ret;

	claim = kzalloc(sizeof(*claim), GFP_KERNEL);
	if (!claim)
		return -ENOMEM;
	scoped_guard(mutex, &card->lock) {
		place = find_place(parent);
		/* What is there must not be lost by setting another. */
		ret = place && !place->type ? nv_vgpu_set(place, type->id) : -EIO;
		offset = ret ? 0 : (u64)place->placement * SZ_1M;
	}
	if (ret) {
		kfree(claim);
		return ret;
	}
	claim->parent = parent;
	claim->place = place;
	kref_get(&parent->kref);
	return simgpu_vgpu_make(mdev, &(struct vgpu_window) {
		.gpu = card->gpu,
		.offset = offset,
		.size = (u64)rounddown_pow_of_two(type->gb) * SZ_1M,
		.put = claim_put,
		.owner = claim,
	});
}

static int nv_mdev_probe(struct mdev_device *mdev)
{
	struct nv_parent *parent = parent_of(mdev->type);
	int ret;

	ret = simgpu_create_begin(parent->card->gpu);
	if (!ret)
		ret = make(mdev, parent);
	simgpu_create_end(parent->card->gpu, ret);
	return ret;
}

/* What the types of a PF share is the whole card's; a VF holds one device. */
static unsigned int nv_mdev_get_available(struct mdev_type *mtype)
{
	const struct nv_type *type = nv_type_of(mtype);
	struct nv_parent *parent = parent_of(mtype);
	struct nv_card *card = parent->card;
	unsigned int used = 0;
	struct nv_vf *place;

	guard(mutex)(&card->lock);
	place = find_place(parent);
	if (!place || !nv_vgpu_creatable(place, type))
		return 0;
	if (parent->vf)
		return 1;
	for (unsigned int i = 0; i < card->nr_vfs; i++)
		if (card->vfs[i].type)
			used += card->vfs[i].type->gb;
	return (card->board->gb - used) / type->gb;
}

static ssize_t nv_mdev_show_description(struct mdev_type *mtype, char *buf)
{
	const struct nv_type *type = nv_type_of(mtype);
	const struct nv_card *card = parent_of(mtype)->card;

	return sysfs_emit(buf,
			  "num_heads=4, frl_config=60, framebuffer=%uM, max_resolution=7680x4320, max_instance=%u\n",
			  type->gb * 1024,
			  min_t(unsigned int, card->board->gb / type->gb, card->nr_vfs));
}

static struct mdev_driver nv_mdev_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.probe = nv_mdev_probe,
	.remove = simgpu_vgpu_remove,
	.get_available = nv_mdev_get_available,
	.show_description = nv_mdev_show_description,
	.driver = {
		.name = "nvidia-vgpu-vfio",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
		.dev_groups = simgpu_vgpu_groups,
	},
};

/*
 * Ids of types begin with the name of the driver that the parent is on when it
 * is registered. That of every other VF is vfio-pci's, as on a host whose VFs
 * were on another driver at that moment.
 */
static struct device_driver other_driver = { .name = "vfio-pci" };

static int register_parent(struct nv_parent *parent, struct pci_dev *pdev,
			   unsigned int nr_types)
{
	struct device_driver *driver = pdev->dev.driver;
	bool odd = parent->vf && (parent->vf - parent->card->vfs) % 2;
	int ret;

	/* The device's lock is held while it is probed. */
	if (odd)
		pdev->dev.driver = &other_driver;
	ret = mdev_register_parent(&parent->parent, &pdev->dev, &nv_mdev_driver,
				   parent->list, nr_types);
	pdev->dev.driver = driver;
	return ret;
}

struct nv_parent *nv_mdev_add(struct nv_card *card, struct nv_vf *vf,
			      struct pci_dev *pdev)
{
	unsigned int nr = card->board->nr_types;
	struct nv_parent *parent;
	int ret = -ENOMEM;

	parent = kzalloc(struct_size(parent, types, nr), GFP_KERNEL);
	if (!parent)
		return ERR_PTR(-ENOMEM);
	kref_init(&parent->kref);
	parent->card = card;
	parent->vf = vf;
	parent->list = kcalloc(nr, sizeof(*parent->list), GFP_KERNEL);
	if (!parent->list)
		goto err;
	for (unsigned int i = 0; i < nr; i++) {
		struct nv_mdev_type *type = &parent->types[i];

		type->nv = &card->board->types[i];
		snprintf(type->sysfs_name, sizeof(type->sysfs_name), "%u",
			 type->nv->id);
		type->type.sysfs_name = type->sysfs_name;
		type->type.pretty_name = type->nv->name;
		parent->list[i] = &type->type;
	}
	ret = register_parent(parent, pdev, nr);
	if (!ret)
		return parent;
err:
	kref_put(&parent->kref, parent_free);
	return ERR_PTR(ret);
}

/* Waits for the VFIO users of its devices. */
void nv_mdev_remove(struct nv_parent *parent)
{
	mdev_unregister_parent(&parent->parent);
	kref_put(&parent->kref, parent_free);
}

int nv_mdev_init(void)
{
	return mdev_register_driver(&nv_mdev_driver);
}

void nv_mdev_exit(void)
{
	mdev_unregister_driver(&nv_mdev_driver);
}
