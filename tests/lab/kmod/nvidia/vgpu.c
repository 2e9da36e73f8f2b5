// SPDX-License-Identifier: GPL-2.0
/*
 * Which vGPU a VF may become, and becoming it.
 *
 * Time-sliced vGPUs share the card's framebuffer. By default all are of the
 * size of the first; on a heterogeneous card they may differ, and each begins
 * at a multiple of its size, so that fewer fit. MIG-backed ones need a GPU
 * instance of their profile each, and the driver picks it.
 */
#include <linux/errno.h>
#include <linux/pci.h>
#include "nvidia.h"

void nv_vgpu_drop(struct nv_vf *vf)
{
	vf->type = NULL;
	vf->gi = NULL;
	vf->placement = 0;
	vf->params[0] = '\0';
}

/* In GB; negative if there is no room. */
static int find_placement(const struct nv_card *card, unsigned int gb)
{
	DECLARE_BITMAP(used, NV_MAX_GB) = { };

	for (unsigned int i = 0; i < card->nr_vfs; i++) {
		const struct nv_vf *vf = &card->vfs[i];

		if (!vf->type)
			continue;
		if (!card->heterogeneous && vf->type->gb != gb)
			return -EBUSY;
		bitmap_set(used, vf->placement, vf->type->gb);
	}
	for (unsigned int at = 0; at + gb <= card->board->gb; at += gb)
		if (find_next_bit(used, at + gb, at) >= at + gb)
			return at;
	return -ENOSPC;
}

bool nv_vgpu_creatable(const struct nv_vf *vf, const struct nv_type *type)
{
	const struct nv_card *card = vf->card;

	if (vf->type || !vf->vfio || !card->pf)
		return false;
	if (card->mig != (type->profile != NV_TIME_SLICED))
		return false;
	if (card->mig)
		return nv_mig_unused(card, type->profile);
	return find_placement(card, type->gb) >= 0;
}

static const struct nv_type *find_type(const struct nv_board *board,
				       unsigned int id)
{
	for (unsigned int i = 0; i < board->nr_types; i++)
		if (board->types[i].id == id)
			return &board->types[i];
	return NULL;
}

int nv_vgpu_set(struct nv_vf *vf, unsigned int id)
{
	struct nv_card *card = vf->card;
	const struct nv_type *type = find_type(card->board, id);

	if (!vf->vfio)
		pr_err("NVRM: vfio_pci_core_device not found\n");
	/* The driver refuses what it does not list, and this VF's is lost. */
	if (!type || !nv_vgpu_creatable(vf, type) ||
	    id == READ_ONCE(card->knobs.refuse_type)) {
		nv_vgpu_drop(vf);
		pr_err("NVRM: Failed to add vgpu create request: 0x38\n");
		return -EIO;
	}
	if (card->mig)
		vf->gi = nv_mig_unused(card, type->profile);
	else
		vf->placement = find_placement(card, type->gb);
	vf->type = type;
	return 0;
}

/* What writing current_vgpu_type does; 0 destroys the vGPU. */
int nv_vgpu_write(struct nv_vf *vf, unsigned int id)
{
	struct nv_card *card = vf->card;
	int ret = 0;

	if (id)
		ret = simgpu_create_begin(card->gpu);
	scoped_guard(mutex, &card->lock) {
		if (vf->open)
			ret = -(int)READ_ONCE(card->knobs.held_errno);
		else if (ret || !id)
			nv_vgpu_drop(vf);
		else
			ret = nv_vgpu_set(vf, id);
	}
	if (id)
		simgpu_create_end(card->gpu, ret);
	return ret;
}
