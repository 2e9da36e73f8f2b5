// SPDX-License-Identifier: GPL-2.0
/*
 * The file "smi": what the stand-in of nvidia-smi asks the driver, as the real
 * one does by ioctl. Reading gives the state, a key and its values a line;
 * writing "COMMAND NUMBER" changes it. README.md has both.
 */
#include <linux/debugfs.h>
#include <linux/errno.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include "nvidia.h"

void nv_uuid(const struct nv_card *card, char *buf, size_t size)
{
	snprintf(buf, size, "GPU-51a00000-%04x-4000-8000-%012x", SIMGPU_DOMAIN,
		 card->gpu->busnr);
}

static void show_mig(struct seq_file *m, struct nv_card *card)
{
	for (unsigned int i = 0; i < card->board->nr_profiles; i++) {
		const struct nv_profile *profile = &card->board->profiles[i];

		seq_printf(m, "profile %u %s %u %u %s", profile->id,
			   profile->name, nv_mig_room(card, profile),
			   profile->max, profile->gib);
		for (unsigned int j = 0; j < ARRAY_SIZE(profile->engines); j++)
			seq_printf(m, " %u", profile->engines[j]);
		seq_putc(m, '\n');
	}
	for (unsigned int i = 0; i < NV_MAX_GIS; i++) {
		const struct nv_gi *gi = &card->gis[i];

		if (!gi->profile)
			continue;
		seq_printf(m, "gi %u %u %s %u %u %s\n", nv_gi_id(gi),
			   gi->profile->id, gi->profile->name, gi->start,
			   gi->profile->slices, gi->compute ? "ci" : "-");
	}
	if (card->made && card->made->profile)
		seq_printf(m, "made %u\n", nv_gi_id(card->made));
}

static int smi_show(struct seq_file *m, void *unused)
{
	struct nv_card *card = m->private;
	const struct nv_board *board = card->board;
	char uuid[64];

	nv_uuid(card, uuid, sizeof(uuid));
	guard(mutex)(&card->lock);
	seq_printf(m, "product %s\n", board->product);
	seq_printf(m, "uuid %s\n", uuid);
	seq_printf(m, "memory %u\n", board->memory_mib);
	seq_printf(m, "heterogeneous %u\n", card->heterogeneous);
	if (board->nr_profiles)
		seq_printf(m, "mig %u\n", card->mig);
	if (card->mig)
		show_mig(m, card);
	return 0;
}

/* Before the first vGPU only; with MIG it would be each instance's. */
static int set_heterogeneous(struct nv_card *card, unsigned int on)
{
	if (on > 1)
		return -EINVAL;
	if (card->mig)
		return -EOPNOTSUPP;
	if (nv_card_has_vgpus(card))
		return -EBUSY;
	card->heterogeneous = on;
	return 0;
}

static int create_anywhere(struct nv_card *card, unsigned int profile)
{
	return nv_mig_create(card, profile, -1);
}

static const struct {
	const char *word;
	int (*run)(struct nv_card *card, unsigned int number);
} commands[] = {
	{ "shm", set_heterogeneous },
	{ "mig", nv_mig_set_mode },
	{ "cgi", create_anywhere },
	{ "dgi", nv_mig_destroy },
	{ "cci", nv_mig_create_compute },
	{ "dci", nv_mig_destroy_compute },
};

static ssize_t smi_write(struct file *file, const char __user *buf,
			 size_t count, loff_t *ppos)
{
	struct nv_card *card = file_inode(file)->i_private;
	char line[32], word[8];
	unsigned int number, start;
	int values;

	if (count >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, buf, count))
		return -EFAULT;
	line[count] = '\0';
	values = sscanf(line, "%7s %u:%u", word, &number, &start);
	if (values < 2)
		return -EINVAL;

	guard(mutex)(&card->lock);
	/* The driver speaks only for a card that it has. */
	if (!card->pf)
		return -ENODEV;
	if (values == 3)
		return strcmp(word, "cgi") ? -EINVAL :
			nv_mig_create(card, number, start & INT_MAX) ?: count;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].word, word))
			return commands[i].run(card, number) ?: count;
	return -EINVAL;
}

static int smi_open(struct inode *inode, struct file *file)
{
	return single_open(file, smi_show, inode->i_private);
}

const struct file_operations nv_smi_fops = {
	.owner = THIS_MODULE,
	.open = smi_open,
	.read = seq_read,
	.write = smi_write,
	.llseek = seq_lseek,
	.release = single_release,
};
