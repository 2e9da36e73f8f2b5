// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/debug/simgpu/<address of the PF>/: what goes wrong, and what
 * happened. README.md has the table.
 */
#include <linux/debugfs.h>
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include "simgpu.h"

static struct dentry *root;

static const char * const flr_words[] = {
	[SIMGPU_FLR_CLEAR] = "clear",
	[SIMGPU_FLR_LEAVE] = "leave",
	[SIMGPU_FLR_TABLE] = "table",
	[SIMGPU_FLR_LATE] = "late",
	[SIMGPU_FLR_FAIL] = "fail",
	[SIMGPU_FLR_FAIL_FAST] = "fail-fast",
};

/* Brings in one word, without the newline of echo. */
static int copy_word(char *word, size_t size, const char __user *buf,
		     size_t count)
{
	if (count == 0 || count >= size)
		return -EINVAL;
	if (copy_from_user(word, buf, count))
		return -EFAULT;
	word[count] = '\0';
	strim(word);
	return 0;
}

/* Brings in one of these words: its place among them. */
static int copy_choice(const char * const *words, size_t most,
		       const char __user *buf, size_t count)
{
	char word[16];
	int ret;

	ret = copy_word(word, sizeof(word), buf, count);
	if (ret)
		return ret;
	return match_string(words, most, word);
}

static int flr_show(struct seq_file *m, void *unused)
{
	struct simgpu *gpu = m->private;

	seq_printf(m, "%s\n", flr_words[READ_ONCE(gpu->knobs.flr)]);
	return 0;
}

static ssize_t flr_write(struct file *file, const char __user *buf,
			 size_t count, loff_t *ppos)
{
	struct simgpu *gpu = file_inode(file)->i_private;
	int how = copy_choice(flr_words, ARRAY_SIZE(flr_words), buf,
			      count);

	if (how < 0)
		return how;
	WRITE_ONCE(gpu->knobs.flr, how);
	if (how != SIMGPU_FLR_FAIL && how != SIMGPU_FLR_FAIL_FAST)
		simgpu_revive(gpu);
	return count;
}
DEFINE_SHOW_STORE_ATTRIBUTE(flr);

static const char * const clrvffb_words[] = {
	[SIMGPU_CLRVFFB_CLEAR] = "clear",
	[SIMGPU_CLRVFFB_LIE] = "lie",
	[SIMGPU_CLRVFFB_FAIL] = "fail",
};

static int clrvffb_show(struct seq_file *m, void *unused)
{
	struct simgpu *gpu = m->private;

	seq_printf(m, "%s\n", clrvffb_words[READ_ONCE(gpu->knobs.clrvffb)]);
	return 0;
}

static ssize_t clrvffb_write(struct file *file, const char __user *buf,
			     size_t count, loff_t *ppos)
{
	struct simgpu *gpu = file_inode(file)->i_private;
	int how = copy_choice(clrvffb_words, ARRAY_SIZE(clrvffb_words), buf,
			      count);

	if (how < 0)
		return how;
	WRITE_ONCE(gpu->knobs.clrvffb, how);
	return count;
}
DEFINE_SHOW_STORE_ATTRIBUTE(clrvffb);

static int unplug_show(struct seq_file *m, void *unused)
{
	struct simgpu *gpu = m->private;

	for (unsigned int i = 0; i < gpu->nr_functions; i++) {
		if (READ_ONCE(gpu->functions[i].state) != SIMGPU_GONE)
			continue;
		if (i == 0)
			seq_puts(m, "pf\n");
		else
			seq_printf(m, "%u\n", i - 1);
	}
	return 0;
}

static ssize_t unplug_write(struct file *file, const char __user *buf,
			    size_t count, loff_t *ppos)
{
	struct simgpu *gpu = file_inode(file)->i_private;
	unsigned int vf;
	char word[16];
	int ret;

	ret = copy_word(word, sizeof(word), buf, count);
	if (ret)
		return ret;

	if (!strcmp(word, "none"))
		ret = simgpu_replug(gpu);
	else if (!strcmp(word, "pf"))
		ret = simgpu_unplug(gpu, 0);
	else if (!kstrtouint(word, 10, &vf) && vf < gpu->nr_functions - 1)
		ret = simgpu_unplug(gpu, vf + 1);
	else
		ret = -EINVAL;
	return ret ?: count;
}
DEFINE_SHOW_STORE_ATTRIBUTE(unplug);

static int counters_show(struct seq_file *m, void *unused)
{
	struct simgpu *gpu = m->private;
	struct simgpu_counters *counters = &gpu->counters;

	seq_printf(m, "flr %d\n", atomic_read(&counters->flr));
	seq_printf(m, "flr_failed %d\n", atomic_read(&counters->flr_failed));
	seq_printf(m, "flr_refused %d\n", atomic_read(&counters->flr_refused));
	seq_printf(m, "create %d\n", atomic_read(&counters->create));
	seq_printf(m, "create_failed %d\n", atomic_read(&counters->create_failed));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

static int windows_show(struct seq_file *m, void *unused)
{
	struct simgpu *gpu = m->private;

	for (unsigned int i = 0; i < gpu->nr_functions; i++) {
		struct simgpu_func *fn = &gpu->functions[i];

		if (i == 0)
			seq_puts(m, "pf");
		else
			seq_printf(m, "%u", i - 1);
		seq_printf(m, " %llu %llu\n", fn->vram_offset, fn->vram_size);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(windows);

static int driver_show(struct seq_file *m, void *unused)
{
	struct simgpu *gpu = m->private;

	seq_printf(m, "%s\n", simgpu_driver_module(gpu->model->driver));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(driver);

static ssize_t vram_read(struct file *file, char __user *buf, size_t count,
			 loff_t *ppos)
{
	struct simgpu *gpu = file->private_data;
	ssize_t done = simgpu_vram_read(gpu, buf, count, *ppos);

	if (done > 0)
		*ppos += done;
	return done;
}

static ssize_t vram_write(struct file *file, const char __user *buf,
			  size_t count, loff_t *ppos)
{
	struct simgpu *gpu = file->private_data;
	ssize_t done = simgpu_vram_write(gpu, buf, count, *ppos);

	if (done > 0)
		*ppos += done;
	return done;
}

static const struct file_operations vram_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = vram_read,
	.write = vram_write,
	.llseek = default_llseek,
};

void simgpu_knobs_add(struct simgpu *gpu)
{
	struct simgpu_knobs *knobs = &gpu->knobs;
	struct dentry *dir;
	char name[16];

	snprintf(name, sizeof(name), "%04x:%02x:00.0", SIMGPU_DOMAIN,
		 gpu->busnr);
	dir = debugfs_create_dir(name, root);
	gpu->debugfs = dir;

	debugfs_create_file("flr", 0600, dir, gpu, &flr_fops);
	if (gpu->model->clrvffb)
		debugfs_create_file("clrvffb", 0600, dir, gpu, &clrvffb_fops);
	debugfs_create_u32("flr_ms", 0600, dir, &knobs->flr_ms);
	debugfs_create_u32("vf_short", 0600, dir, &knobs->vf_short);
	debugfs_create_u32("create_errno", 0600, dir, &knobs->create_errno);
	debugfs_create_u32("create_ms", 0600, dir, &knobs->create_ms);
	debugfs_create_file("unplug", 0600, dir, gpu, &unplug_fops);
	debugfs_create_file("counters", 0400, dir, gpu, &counters_fops);
	debugfs_create_file("driver", 0400, dir, gpu, &driver_fops);
	debugfs_create_file("windows", 0400, dir, gpu, &windows_fops);
	debugfs_create_file_size("vram", 0600, dir, gpu, &vram_fops,
				 simgpu_vram_size(gpu));
}

/* Waits for readers and writers that are inside. */
void simgpu_knobs_remove(struct simgpu *gpu)
{
	debugfs_remove(gpu->debugfs);
}

void simgpu_knobs_init(void)
{
	root = debugfs_create_dir("simgpu", NULL);
}

void simgpu_knobs_exit(void)
{
	debugfs_remove(root);
}
