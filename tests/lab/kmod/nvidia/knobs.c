// SPDX-License-Identifier: GPL-2.0
/* /sys/kernel/debug/simgpu/<address of the PF>/nvidia/; README.md has the table. */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include "nvidia.h"

/* Brings in one of these words: its place among them. */
static int copy_choice(const char * const *words, size_t most,
		       const char __user *buf, size_t count)
{
	char word[16];

	if (count == 0 || count >= sizeof(word))
		return -EINVAL;
	if (copy_from_user(word, buf, count))
		return -EFAULT;
	word[count] = '\0';
	return match_string(words, most, strim(word));
}

static const char * const type_order_words[] = {
	[NV_ID_FIRST] = "id",
	[NV_NAME_FIRST] = "name",
};

static int type_order_show(struct seq_file *m, void *unused)
{
	struct nv_card *card = m->private;

	seq_printf(m, "%s\n", type_order_words[READ_ONCE(card->knobs.type_order)]);
	return 0;
}

static ssize_t type_order_write(struct file *file, const char __user *buf,
				size_t count, loff_t *ppos)
{
	struct nv_card *card = file_inode(file)->i_private;
	int order = copy_choice(type_order_words, ARRAY_SIZE(type_order_words),
				buf, count);

	if (order < 0)
		return order;
	WRITE_ONCE(card->knobs.type_order, order);
	return count;
}
DEFINE_SHOW_STORE_ATTRIBUTE(type_order);

static const char * const framework_words[] = {
	[NV_VENDOR_VFIO] = "vendor",
	[NV_MEDIATED] = "mdev",
};

static int framework_show(struct seq_file *m, void *unused)
{
	struct nv_card *card = m->private;

	seq_printf(m, "%s\n", framework_words[READ_ONCE(card->knobs.framework)]);
	return 0;
}

static ssize_t framework_write(struct file *file, const char __user *buf,
			       size_t count, loff_t *ppos)
{
	struct nv_card *card = file_inode(file)->i_private;
	int framework = copy_choice(framework_words,
				    ARRAY_SIZE(framework_words), buf, count);

	if (framework < 0)
		return framework;
	WRITE_ONCE(card->knobs.framework, framework);
	return count;
}
DEFINE_SHOW_STORE_ATTRIBUTE(framework);

static const char * const sriov_manage_words[] = {
	[NV_SRIOV_MANAGE_WORK] = "work",
	[NV_SRIOV_MANAGE_LIE] = "lie",
	[NV_SRIOV_MANAGE_STRAND] = "strand",
};

static int sriov_manage_show(struct seq_file *m, void *unused)
{
	struct nv_card *card = m->private;

	seq_printf(m, "%s\n",
		   sriov_manage_words[READ_ONCE(card->knobs.sriov_manage)]);
	return 0;
}

static ssize_t sriov_manage_write(struct file *file, const char __user *buf,
				  size_t count, loff_t *ppos)
{
	struct nv_card *card = file_inode(file)->i_private;
	int how = copy_choice(sriov_manage_words,
			      ARRAY_SIZE(sriov_manage_words), buf, count);

	if (how < 0)
		return how;
	WRITE_ONCE(card->knobs.sriov_manage, how);
	return count;
}
DEFINE_SHOW_STORE_ATTRIBUTE(sriov_manage);

static const char * const nvidia_smi_words[] = {
	[NV_NVIDIA_SMI_WORK] = "work",
	[NV_NVIDIA_SMI_LIE] = "lie",
	[NV_NVIDIA_SMI_HANG] = "hang",
	[NV_NVIDIA_SMI_NEW] = "new",
};

static int nvidia_smi_show(struct seq_file *m, void *unused)
{
	struct nv_card *card = m->private;

	seq_printf(m, "%s\n",
		   nvidia_smi_words[READ_ONCE(card->knobs.nvidia_smi)]);
	return 0;
}

static ssize_t nvidia_smi_write(struct file *file, const char __user *buf,
				size_t count, loff_t *ppos)
{
	struct nv_card *card = file_inode(file)->i_private;
	int how = copy_choice(nvidia_smi_words, ARRAY_SIZE(nvidia_smi_words),
			      buf, count);

	if (how < 0)
		return how;
	WRITE_ONCE(card->knobs.nvidia_smi, how);
	return count;
}
DEFINE_SHOW_STORE_ATTRIBUTE(nvidia_smi);

static int held_errno_get(void *data, u64 *value)
{
	struct nv_card *card = data;

	*value = READ_ONCE(card->knobs.held_errno);
	return 0;
}

static int held_errno_set(void *data, u64 value)
{
	struct nv_card *card = data;

	if (value == 0 || value > MAX_ERRNO)
		return -EINVAL;
	WRITE_ONCE(card->knobs.held_errno, value);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(held_errno_fops, held_errno_get, held_errno_set,
			 "%llu\n");

void nv_knobs_add(struct nv_card *card)
{
	struct nv_knobs *knobs = &card->knobs;
	struct dentry *dir = debugfs_create_dir("nvidia", card->gpu->debugfs);

	card->debugfs = dir;
	debugfs_create_u32("clients", 0600, dir, &knobs->clients);
	debugfs_create_u32("refuse_type", 0600, dir, &knobs->refuse_type);
	debugfs_create_file_unsafe("held_errno", 0600, dir, card,
				   &held_errno_fops);
	debugfs_create_file("type_order", 0600, dir, card, &type_order_fops);
	debugfs_create_file("framework", 0600, dir, card, &framework_fops);
	debugfs_create_file("sriov_manage", 0600, dir, card,
			    &sriov_manage_fops);
	debugfs_create_file("nvidia_smi", 0600, dir, card, &nvidia_smi_fops);
	debugfs_create_file("smi", 0600, dir, card, &nv_smi_fops);
}

/* Waits for readers and writers that are inside. */
void nv_knobs_remove(struct nv_card *card)
{
	debugfs_remove(card->debugfs);
}
