// SPDX-License-Identifier: GPL-2.0
/*
 * Cards. One stays when its PF is unbound, as its firmware would: MIG mode is
 * kept there. What the driver itself keeps is gone with the driver.
 */
#include <linux/errno.h>
#include <linux/slab.h>
#include "nvidia.h"

static LIST_HEAD(cards);
static DEFINE_MUTEX(cards_lock);

static struct nv_card *find(struct simgpu *gpu)
{
	struct nv_card *card;

	list_for_each_entry(card, &cards, node)
		if (card->gpu == gpu)
			return card;
	return NULL;
}

/* NULL if its PF was never seen. */
struct nv_card *nv_card_get(struct simgpu *gpu)
{
	guard(mutex)(&cards_lock);
	return find(gpu);
}

struct nv_card *nv_card_make(struct simgpu *gpu)
{
	const struct nv_board *board = nv_board_find(gpu->model->name);
	unsigned int nr_vfs = gpu->nr_functions - 1;
	bool places = !nr_vfs;
	struct nv_card *card;

	if (!board)
		return ERR_PTR(-ENODEV);
	if (places)
		nr_vfs = board->gb;
	guard(mutex)(&cards_lock);
	card = find(gpu);
	if (card)
		return card;

	card = kzalloc(struct_size(card, vfs, nr_vfs), GFP_KERNEL);
	if (!card)
		return ERR_PTR(-ENOMEM);
	card->gpu = gpu;
	card->board = board;
	card->nr_vfs = nr_vfs;
	card->knobs.held_errno = EBUSY;
	mutex_init(&card->lock);
	for (unsigned int i = 0; i < nr_vfs; i++) {
		card->vfs[i].card = card;
		/* Those of a PF are no functions that could be bound. */
		card->vfs[i].vfio = places;
	}
	nv_knobs_add(card);
	list_add_tail(&card->node, &cards);
	return card;
}

void nv_card_bind(struct nv_card *card, struct pci_dev *pf)
{
	guard(mutex)(&card->lock);
	card->pf = pf;
}

/* All that does not outlive the driver's hold on the PF. */
void nv_card_unbind(struct nv_card *card)
{
	guard(mutex)(&card->lock);
	card->pf = NULL;
	card->unbind_lock = false;
	card->heterogeneous = false;
	for (unsigned int i = 0; i < card->nr_vfs; i++)
		nv_vgpu_drop(&card->vfs[i]);
	nv_mig_wipe(card);
}

/* card->lock is held. */
bool nv_card_has_vgpus(const struct nv_card *card)
{
	for (unsigned int i = 0; i < card->nr_vfs; i++)
		if (card->vfs[i].type)
			return true;
	return false;
}

/* No driver and no VFIO user is left. */
void nv_cards_free(void)
{
	struct nv_card *card, *next;

	list_for_each_entry_safe(card, next, &cards, node) {
		nv_knobs_remove(card);
		kfree(card);
	}
}
