// SPDX-License-Identifier: GPL-2.0
/*
 * /proc/driver/nvidia/gpus/<address of the PF>/, while the PF is this driver's.
 *
 * unbindLock is as in NVIDIA's open-gpu-kernel-modules,
 * kernel-open/nvidia/nv-procfs.c: writing 1 takes it unless the GPU is in use,
 * and succeeds either way; reading it says.
 */
#include <linux/errno.h>
#include <linux/kstrtox.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include "nvidia.h"

static struct proc_dir_entry *root, *gpus;

static int unbind_lock_show(struct seq_file *m, void *unused)
{
	struct nv_card *card = m->private;

	guard(mutex)(&card->lock);
	seq_printf(m, "%u\n", card->unbind_lock);
	return 0;
}

static ssize_t unbind_lock_write(struct file *file, const char __user *buf,
				 size_t count, loff_t *ppos)
{
	struct nv_card *card = pde_data(file_inode(file));
	unsigned int value;
	int ret;

	ret = kstrtouint_from_user(buf, count, 10, &value);
	if (ret)
		return ret;
	if (value > 1)
		return -EINVAL;
	guard(mutex)(&card->lock);
	if (!value)
		card->unbind_lock = false;
	else if (!READ_ONCE(card->knobs.clients))
		card->unbind_lock = true;
	return count;
}

static int unbind_lock_open(struct inode *inode, struct file *file)
{
	return single_open(file, unbind_lock_show, pde_data(inode));
}

static const struct proc_ops unbind_lock_ops = {
	.proc_open = unbind_lock_open,
	.proc_read = seq_read,
	.proc_write = unbind_lock_write,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

static int information_show(struct seq_file *m, void *unused)
{
	struct nv_card *card = m->private;
	char uuid[64];

	nv_uuid(card, uuid, sizeof(uuid));
	seq_printf(m, "Model: \t\t %s\n", card->board->product);
	seq_printf(m, "GPU UUID: \t %s\n", uuid);
	seq_puts(m, "Bus Type: \t PCIe\n");
	seq_printf(m, "Bus Location: \t %04x:%02x:00.0\n", SIMGPU_DOMAIN,
		   card->gpu->busnr);
	return 0;
}

int nv_proc_add(struct nv_card *card)
{
	char name[16];

	snprintf(name, sizeof(name), "%04x:%02x:00.0", SIMGPU_DOMAIN,
		 card->gpu->busnr);
	card->proc = proc_mkdir(name, gpus);
	if (!card->proc)
		return -ENOMEM;
	if (!proc_create_single_data("information", 0444, card->proc,
				     information_show, card) ||
	    !proc_create_data("unbindLock", 0644, card->proc,
			      &unbind_lock_ops, card)) {
		proc_remove(card->proc);
		return -ENOMEM;
	}
	return 0;
}

/* Waits for readers and writers that are inside. */
void nv_proc_remove(struct nv_card *card)
{
	proc_remove(card->proc);
}

int nv_proc_init(void)
{
	root = proc_mkdir("driver/nvidia", NULL);
	if (root)
		gpus = proc_mkdir("gpus", root);
	if (!gpus) {
		proc_remove(root);
		return -ENOMEM;
	}
	return 0;
}

void nv_proc_exit(void)
{
	proc_remove(root);
}
