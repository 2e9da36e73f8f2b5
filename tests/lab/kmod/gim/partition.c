// SPDX-License-Identifier: GPL-2.0
/*
 * How an MI300X is cut into compute and memory partitions.
 *
 * Formats are those of GIM's gim_shim/sysfs/gim_monitor.c; what goes together
 * is the table of libgv/core/hw/AI/mi300/mi300_nbio.c. A write that is read but
 * cannot be followed succeeds all the same and changes nothing.
 */
#include <linux/kernel.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include "gim.h"

#define NUM_XCC		8
#define MOST_PROFILES	2

#define NPS1	BIT(1)
#define NPS4	BIT(4)

/* A compute partitioning, and the memory modes that it goes with. */
struct gim_profile {
	unsigned int partitions;
	unsigned int nps;
};

/* The profiles of a number of VFs; the first is the default under NPS1. */
static const struct gim_layout {
	unsigned int nr_vfs;
	unsigned int nr_profiles;
	struct gim_profile profiles[MOST_PROFILES];
} layouts[] = {
	{ 1, 2, { { 1, NPS1 }, { 8, NPS1 | NPS4 } } },
	{ 2, 2, { { 2, NPS1 }, { 8, NPS1 } } },
	{ 4, 2, { { 4, NPS1 | NPS4 }, { 8, NPS1 | NPS4 } } },
	{ 8, 1, { { 8, NPS1 | NPS4 } } },
};

static const struct gim_layout *layout_of(const struct gim_gpu *gim)
{
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++)
		if (layouts[i].nr_vfs == gim->nr_vfs)
			return &layouts[i];
	return NULL;
}

static const char *name_of(unsigned int partitions)
{
	switch (partitions) {
	case 1:
		return "SPX";
	case 2:
		return "DPX";
	case 4:
		return "QPX";
	default:
		return "CPX";
	}
}

/* Whether there is a layout for this number of VFs. */
bool gim_partition_init(struct gim_gpu *gim)
{
	const struct gim_layout *layout = layout_of(gim);

	if (!layout)
		return false;
	gim->memory_partitions = 1;
	gim->partitions = layout->profiles[0].partitions;
	return true;
}

/* A VF is active while somebody has it enabled: VFIO does when it is opened. */
static bool is_busy(struct gim_gpu *gim)
{
	for (unsigned int i = 1; i < gim->gpu->nr_functions; i++) {
		struct pci_dev *vf = simgpu_get_pci_dev(&gim->gpu->functions[i]);
		bool enabled = vf && pci_is_enabled(vf);

		pci_dev_put(vf);
		if (enabled)
			return true;
	}
	return false;
}

static bool hive_is_busy(void)
{
	struct gim_gpu *gim;

	list_for_each_entry(gim, &gim_hive, node)
		if (is_busy(gim))
			return true;
	return false;
}

static void set_profile(struct gim_gpu *gim, unsigned int index)
{
	const struct gim_layout *layout = layout_of(gim);

	if (index < layout->nr_profiles &&
	    layout->profiles[index].nps & BIT(gim->memory_partitions))
		gim->partitions = layout->profiles[index].partitions;
}

/* With the memory mode comes the first compute partitioning that fits it. */
static void set_memory_mode(struct gim_gpu *gim, unsigned int nps)
{
	const struct gim_layout *layout = layout_of(gim);

	if (gim->memory_partitions == nps)
		return;
	for (unsigned int i = 0; i < layout->nr_profiles; i++) {
		if (!(layout->profiles[i].nps & BIT(nps)))
			continue;
		gim->memory_partitions = nps;
		gim->partitions = layout->profiles[i].partitions;
		return;
	}
}

/* All GPUs of the hive, each as far as it can; or none. */
static void set_hive(struct device *dev, void (*set)(struct gim_gpu *, unsigned int),
		     unsigned int value)
{
	struct gim_gpu *gim;

	guard(mutex)(&gim_hive_lock);
	if (hive_is_busy()) {
		dev_err(dev, "set partition mode not allowed when active VM/VFs running!\n");
		return;
	}
	list_for_each_entry(gim, &gim_hive, node)
		set(gim, value);
}

/* One resource stands for all: the compute dies, shared by none. */
static ssize_t emit_resources(char *buf, ssize_t len, unsigned int index,
			      unsigned int partitions)
{
	ssize_t start = len;

	len += sysfs_emit_at(buf, len, "[");
	for (unsigned int i = 0; i < partitions; i++)
		len += sysfs_emit_at(buf, len, "[%u ]", index);
	len += sysfs_emit_at(buf, len, "]\n");
	return len - start;
}

static ssize_t accelerator_partition_profile_show(struct device *dev,
						  struct device_attribute *attr,
						  char *buf)
{
	struct gim_gpu *gim = dev_get_drvdata(dev);
	const struct gim_layout *layout = layout_of(gim);
	unsigned int index = 0;
	ssize_t len;

	guard(mutex)(&gim_hive_lock);
	while (layout->profiles[index].partitions != gim->partitions)
		index++;
	len = sysfs_emit(buf, "%-20s%-20s%-20s%-20s%-20s\n", "profile_index",
			 "profile_type", "num_of_partitions",
			 "num_of_resources",
			 "resource_index_in_resource_profiles");
	len += sysfs_emit_at(buf, len, "%-20u%-20s%-20u%-20u", index,
			     name_of(gim->partitions), gim->partitions, 1);
	return len + emit_resources(buf, len, index, gim->partitions);
}

static ssize_t accelerator_partition_profile_store(struct device *dev,
						   struct device_attribute *attr,
						   const char *buf, size_t count)
{
	unsigned int index;

	if (sscanf(buf, "%u", &index) != 1)
		return -EINVAL;
	set_hive(dev, set_profile, index);
	return count;
}
static DEVICE_ATTR_ADMIN_RW(accelerator_partition_profile);

static ssize_t accelerator_partition_profile_config_show(struct device *dev,
							 struct device_attribute *attr,
							 char *buf)
{
	const struct gim_layout *layout = layout_of(dev_get_drvdata(dev));
	ssize_t len;

	len = sysfs_emit(buf, "resource_profiles:\n%-20s%-20s%-20s%-20s\n",
			 "resource_index", "resource_type",
			 "resource_in_partition",
			 "num_partitions_share_resource");
	for (unsigned int i = 0; i < layout->nr_profiles; i++)
		len += sysfs_emit_at(buf, len, "%-20u%-20s%-20u%-20u\n", i,
				     "XCC",
				     NUM_XCC / layout->profiles[i].partitions,
				     1);
	len += sysfs_emit_at(buf, len,
			     "profiles:\n%-20s%-20s%-20s%-20s%-20s%-20s\n",
			     "profile_index", "profile_type",
			     "num_of_partitions", "memory_caps",
			     "num_of_resources", "resource_index");
	for (unsigned int i = 0; i < layout->nr_profiles; i++) {
		const struct gim_profile *profile = &layout->profiles[i];

		len += sysfs_emit_at(buf, len, "%-20u%-20s%-20u%-20s%-20u", i,
				     name_of(profile->partitions),
				     profile->partitions,
				     profile->nps & NPS4 ? "NPS1 NPS4 " : "NPS1 ",
				     1);
		len += emit_resources(buf, len, i, profile->partitions);
	}
	return len;
}
static DEVICE_ATTR_ADMIN_RO(accelerator_partition_profile_config);

static ssize_t memory_partition_mode_show(struct device *dev,
					  struct device_attribute *attr,
					  char *buf)
{
	struct gim_gpu *gim = dev_get_drvdata(dev);
	u64 size;
	ssize_t len;

	guard(mutex)(&gim_hive_lock);
	size = gim->gpu->model->vram_size / gim->memory_partitions;
	len = sysfs_emit(buf, "memory_partition_mode: NPS%u\nnuma_count: %u\n",
			 gim->memory_partitions, gim->memory_partitions);
	for (unsigned int i = 0; i < gim->memory_partitions; i++)
		len += sysfs_emit_at(buf, len,
				     "NUMA%u type=%u start=0x%016llx end=0x%016llx\n",
				     i, 0, i * size, (i + 1) * size - 1);
	return len;
}

static ssize_t memory_partition_mode_store(struct device *dev,
					   struct device_attribute *attr,
					   const char *buf, size_t count)
{
	/* As GIM has it, 8 is taken for 4; and what follows is not looked at. */
	static const struct {
		const char *word;
		unsigned int nps;
	} words[] = {
		{ "NPS1", 1 }, { "NPS2", 2 }, { "NPS4", 4 }, { "NPS8", 4 },
	};

	buf = skip_spaces(buf);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strncasecmp(buf, words[i].word, strlen(words[i].word)))
			continue;
		set_hive(dev, set_memory_mode, words[i].nps);
		return count;
	}
	return -EINVAL;
}
static DEVICE_ATTR_ADMIN_RW(memory_partition_mode);

static ssize_t memory_partition_config_show(struct device *dev,
					    struct device_attribute *attr,
					    char *buf)
{
	const struct gim_layout *layout = layout_of(dev_get_drvdata(dev));
	unsigned int nps = 0;

	for (unsigned int i = 0; i < layout->nr_profiles; i++)
		nps |= layout->profiles[i].nps;
	return sysfs_emit(buf, nps & NPS4 ? "NPS1 NPS4 \n" : "NPS1 \n");
}
static DEVICE_ATTR_ADMIN_RO(memory_partition_config);

static ssize_t spatial_partition_mode_show(struct device *dev,
					   struct device_attribute *attr,
					   char *buf)
{
	struct gim_gpu *gim = dev_get_drvdata(dev);

	guard(mutex)(&gim_hive_lock);
	return sysfs_emit(buf, "%s\n", name_of(gim->partitions));
}
static DEVICE_ATTR_ADMIN_RO(spatial_partition_mode);

static struct attribute *partition_attrs[] = {
	&dev_attr_accelerator_partition_profile.attr,
	&dev_attr_accelerator_partition_profile_config.attr,
	&dev_attr_memory_partition_mode.attr,
	&dev_attr_memory_partition_config.attr,
	&dev_attr_spatial_partition_mode.attr,
	NULL
};

const struct attribute_group gim_partition_group = {
	.attrs = partition_attrs,
};
