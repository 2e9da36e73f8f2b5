// SPDX-License-Identifier: GPL-2.0
/*
 * A VF's attribute "clrvffb", as AMD's GIM for the S7150 has it (GPUOpen
 * MxGPU-Virtualization, drv/gim_monitor_ioctl.c and gim_monitor.c): a byte in
 * decimal is repeated over the VF's memory before the write returns. The write
 * succeeds whatever came of it. Reading says "OK" after success; after a
 * failure the text is a complaint, of which as many bytes are shown as the last
 * success had, which is none at first.
 *
 * Not as there: the real one makes its VFs when it is loaded, and refuses one
 * whose guest driver is loaded.
 */
#include <linux/device.h>
#include <linux/kstrtox.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include "simgpu.h"

#define OK	"OK\n"
#define REFUSAL	"Failed to do clrvffb with error: "

static ssize_t clrvffb_show(struct device *dev, struct device_attribute *attr,
			    char *buf)
{
	struct simgpu_func *vf = simgpu_func_of(to_pci_dev(dev));

	if (!vf || !vf->clear_answer)
		return 0;
	return sysfs_emit(buf, "%.*s", vf->clear_answer_len, vf->clear_answer);
}

static ssize_t clrvffb_store(struct device *dev, struct device_attribute *attr,
			     const char *buf, size_t count)
{
	struct simgpu_func *vf = simgpu_func_of(to_pci_dev(dev));
	enum simgpu_clrvffb how;
	unsigned int pattern;

	if (!vf)
		return -ENODEV;
	how = READ_ONCE(vf->gpu->knobs.clrvffb);
	if (kstrtouint(buf, 10, &pattern)) {
		vf->clear_answer = REFUSAL "Invalid Parameters\n";
		return count;
	}
	if (how == SIMGPU_CLRVFFB_FAIL) {
		vf->clear_answer = REFUSAL "The VF is in use. FB can't be cleared\n";
		return count;
	}
	if (how == SIMGPU_CLRVFFB_CLEAR)
		simgpu_vram_fill(vf->gpu, vf->vram_offset, vf->vram_size,
				 pattern);
	vf->clear_answer = OK;
	vf->clear_answer_len = strlen(OK);
	return count;
}
static DEVICE_ATTR_RW(clrvffb);

/* For VFs that are there; the attributes go with them. */
int simgpu_clrvffb_add(struct simgpu *gpu, unsigned int nr)
{
	for (unsigned int i = 1; i <= nr; i++) {
		struct pci_dev *pdev = simgpu_get_pci_dev(&gpu->functions[i]);
		int ret;

		if (!pdev)
			return -ENODEV;
		gpu->functions[i].clear_answer = NULL;
		gpu->functions[i].clear_answer_len = 0;
		ret = device_create_file(&pdev->dev, &dev_attr_clrvffb);
		pci_dev_put(pdev);
		if (ret)
			return ret;
	}
	return 0;
}
