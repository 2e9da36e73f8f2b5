// SPDX-License-Identifier: GPL-2.0
/*
 * MIG: a card in GPU instances, each some memory slices long and at one of the
 * places that its profile allows. The compute slices need no account of their
 * own: no set of instances that fits into the memory exceeds them.
 */
#include <linux/errno.h>
#include <linux/pci.h>
#include "nvidia.h"

#define for_each_gi(gi, card)						\
	for ((gi) = (card)->gis; (gi) < (card)->gis + NV_MAX_GIS; (gi)++) \
		if (!(gi)->profile) {} else

unsigned int nv_gi_id(const struct nv_gi *gi)
{
	return gi->profile->first_id + gi->start / gi->profile->slices;
}

static struct nv_gi *find(struct nv_card *card, unsigned int id)
{
	struct nv_gi *gi;

	for_each_gi(gi, card)
		if (nv_gi_id(gi) == id)
			return gi;
	return NULL;
}

static bool has_vgpu(const struct nv_card *card, const struct nv_gi *gi)
{
	for (unsigned int i = 0; i < card->nr_vfs; i++)
		if (card->vfs[i].gi == gi)
			return true;
	return false;
}

/* An instance of this profile that backs no vGPU. */
const struct nv_gi *nv_mig_unused(const struct nv_card *card, u8 profile)
{
	const struct nv_gi *gi;

	for_each_gi(gi, card)
		if (gi->profile->id == profile && !has_vgpu(card, gi))
			return gi;
	return NULL;
}

/* Bit n: an instance of this profile could start at slice n now. */
static unsigned int free_starts(const struct nv_card *card,
				const struct nv_profile *profile)
{
	unsigned int used = 0, starts = 0, alike = 0;
	const struct nv_gi *gi;

	for_each_gi(gi, card) {
		used |= GENMASK(gi->start + gi->profile->slices - 1, gi->start);
		alike += gi->profile == profile;
	}
	if (alike >= profile->max)
		return 0;
	for (unsigned int at = 0; at + profile->slices <= NV_MIG_SLICES; at++)
		if (profile->starts & BIT(at) &&
		    !(used & GENMASK(at + profile->slices - 1, at)))
			starts |= BIT(at);
	return starts;
}

/* How many more of them fit. */
unsigned int nv_mig_room(const struct nv_card *card,
			 const struct nv_profile *profile)
{
	unsigned int alike = 0;
	const struct nv_gi *gi;

	for_each_gi(gi, card)
		alike += gi->profile == profile;
	return min_t(unsigned int, hweight32(free_starts(card, profile)),
		     profile->max - alike);
}

static const struct nv_profile *find_profile(const struct nv_board *board,
					     unsigned int id)
{
	for (unsigned int i = 0; i < board->nr_profiles; i++)
		if (board->profiles[i].id == id)
			return &board->profiles[i];
	return NULL;
}

static bool has_instances(struct nv_card *card)
{
	struct nv_gi *gi;

	for_each_gi(gi, card)
		return true;
	return false;
}

/* Resets the card, so nobody may use it. */
int nv_mig_set_mode(struct nv_card *card, unsigned int on)
{
	if (!card->board->nr_profiles)
		return -EOPNOTSUPP;
	if (card->mig == !!on)
		return 0;
	if (pci_num_vf(card->pf) || has_instances(card) ||
	    READ_ONCE(card->knobs.clients))
		return -EBUSY;
	card->mig = on;
	card->heterogeneous = false;
	return 0;
}

/*
 * Where it is told to, or from the far end on, so that the large ones find room
 * at the front.
 */
int nv_mig_create(struct nv_card *card, unsigned int id, int start)
{
	const struct nv_profile *profile = find_profile(card->board, id);
	unsigned int starts;

	if (!card->mig)
		return -ENODEV;
	if (!profile)
		return -EINVAL;
	starts = free_starts(card, profile);
	if (start >= 0)
		starts &= start < NV_MIG_SLICES ? BIT(start) : 0;
	if (!starts)
		return -ENOSPC;
	for (unsigned int i = 0; i < NV_MAX_GIS; i++) {
		struct nv_gi *gi = &card->gis[i];

		if (gi->profile)
			continue;
		gi->profile = profile;
		gi->start = fls(starts) - 1;
		gi->compute = false;
		card->made = gi;
		return 0;
	}
	return -ENOSPC;
}

int nv_mig_destroy(struct nv_card *card, unsigned int id)
{
	struct nv_gi *gi = find(card, id);

	if (!card->mig)
		return -ENODEV;
	if (!gi)
		return -ENOENT;
	if (gi->compute || has_vgpu(card, gi))
		return -EBUSY;
	gi->profile = NULL;
	return 0;
}

/* One that takes the whole GPU instance, which is all that is simulated. */
int nv_mig_create_compute(struct nv_card *card, unsigned int id)
{
	struct nv_gi *gi = find(card, id);

	if (!card->mig)
		return -ENODEV;
	if (!gi)
		return -ENOENT;
	if (gi->compute)
		return -ENOSPC;
	gi->compute = true;
	return 0;
}

int nv_mig_destroy_compute(struct nv_card *card, unsigned int id)
{
	struct nv_gi *gi = find(card, id);

	if (!card->mig)
		return -ENODEV;
	if (!gi || !gi->compute)
		return -ENOENT;
	if (has_vgpu(card, gi))
		return -EBUSY;
	gi->compute = false;
	return 0;
}

void nv_mig_wipe(struct nv_card *card)
{
	memset(card->gis, 0, sizeof(card->gis));
	card->made = NULL;
}
