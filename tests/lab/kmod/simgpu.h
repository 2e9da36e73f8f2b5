/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Simulated GPUs for a host without any.
 *
 * A GPU is a PCI root bus of its own with one physical function at 00.0 and,
 * when its model can, SR-IOV virtual functions beside it. Config space is
 * emulated here; VRAM is physical RAM that the host kernel was told not to use
 * (mem=), so that a BAR can be mapped by a driver, by VFIO and by a guest at
 * the speed of memory, without any code of ours in the way.
 */
#ifndef SIMGPU_H
#define SIMGPU_H

#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <asm/pci.h>

#define SIMGPU_CONFIG_SIZE	PCI_CFG_SPACE_EXP_SIZE
#define SIMGPU_DOMAIN		0

/* BAR2 of every function: its MSI-X table and pending bits, and nothing else. */
#define SIMGPU_REGS_SIZE	SZ_16K
#define SIMGPU_MSIX_VECTORS	4
#define SIMGPU_MSIX_TABLE	0
#define SIMGPU_MSIX_PBA		SZ_8K

/* 1234 is the vendor id that QEMU uses for hardware that exists nowhere else. */
#define SIMGPU_VENDOR_ID	0x1234
#define SIMGPU_SIM_ID		0x51a0
#define SIMGPU_SIMMDEV_ID	0x51a1
#define SIMGPU_VGPU_ID		0x51a2
#define SIMGPU_SIM_VF_ID	0x51a8

/* AMD FirePro S7150 and its VFs */
#define SIMGPU_S7150_ID		0x6929
#define SIMGPU_S7150_VF_ID	0x692f

/* How a function level reset ends; the words of the "flr" knob. */
enum simgpu_flr {
	SIMGPU_FLR_CLEAR,	/* VRAM reads zero afterwards */
	SIMGPU_FLR_LEAVE,	/* VRAM keeps what the last user wrote */
	SIMGPU_FLR_TABLE,	/* zero, but for a table of the firmware */
	SIMGPU_FLR_LATE,	/* zero a while after the function answers */
	SIMGPU_FLR_FAIL,	/* function stays away until the kernel gives up */
	SIMGPU_FLR_FAIL_FAST,	/* the same, and the kernel is told at once */
};

/* Which PF driver takes a GPU. Several models may have one card's identity. */
enum simgpu_driver {
	SIMGPU_DRIVER_SRIOV,	/* the plain PF driver, driver.c */
	SIMGPU_DRIVER_DISPLAY,	/* one that knows no SR-IOV, driver.c */
	SIMGPU_DRIVER_MDEV,	/* simgpu_mdev.ko */
	SIMGPU_DRIVER_GIM,	/* gim.ko */
	SIMGPU_DRIVER_XE,	/* simgpu_xe.ko */
	SIMGPU_DRIVER_NVIDIA,	/* nvidia.ko */
};

/**
 * struct simgpu_model - a kind of GPU, one row of the table
 * @name:	word for the gpus= parameter
 * @driver:	which PF driver takes it
 * @flr:	what the "flr" knob says at first
 * @vendor:	vendor id of the PF, and so of its VFs
 * @device:	device id of the PF
 * @subvendor:	subsystem vendor id
 * @subdevice:	subsystem id of the PF; a VF's is its device id
 * @class:	24-bit class code
 * @vram_size:	bytes behind BAR0 of the PF, a power of two
 * @total_vfs:	0 for a model without the SR-IOV capability
 * @vf_device:	device id of the VFs
 * @vf_offset:	routing id of the first VF, less that of the PF
 * @vf_stride:	from the routing id of one VF to that of the next
 * @clrvffb:	its VFs have the attribute "clrvffb"
 */
struct simgpu_model {
	const char *name;
	enum simgpu_driver driver;
	enum simgpu_flr flr;
	u16 vendor;
	u16 device;
	u16 subvendor;
	u16 subdevice;
	u32 class;
	u64 vram_size;
	u16 total_vfs;
	u16 vf_device;
	u16 vf_offset;
	u16 vf_stride;
	bool clrvffb;
};

const struct simgpu_model *simgpu_model_find(const char *name);
const struct simgpu_model *simgpu_model_next(const struct simgpu_model *model);
u64 simgpu_model_vf_size(const struct simgpu_model *model);
u64 simgpu_model_span(const struct simgpu_model *model);

/* What the vendor's clear of a VF does; the words of the "clrvffb" knob. */
enum simgpu_clrvffb {
	SIMGPU_CLRVFFB_CLEAR,
	SIMGPU_CLRVFFB_LIE,	/* reports success and clears nothing */
	SIMGPU_CLRVFFB_FAIL,
};

/* Whether a function answers config cycles. Guarded by simgpu.lock. */
enum simgpu_state {
	SIMGPU_ABSENT,		/* a VF that is not enabled */
	SIMGPU_READY,
	SIMGPU_RESETTING,	/* FLR under way, ends in reset_work */
	SIMGPU_DEAD,		/* FLR failed, ends when the flr knob is changed */
	SIMGPU_GONE,		/* unplugged */
};

struct simgpu;

/* As many FLRs as a guard can be told to admit. */
#define SIMGPU_GUARD_MOST	5U

enum simgpu_guard_level {
	SIMGPU_GUARD_NORMAL,
	SIMGPU_GUARD_FULL,		/* the next FLR is refused */
	SIMGPU_GUARD_OVERFLOW,		/* one was refused */
};

/* The FLRs that flr_guard.c admitted. Guarded by simgpu.lock. */
struct simgpu_guard {
	bool on;
	enum simgpu_guard_level level;
	unsigned int threshold;
	unsigned int total;
	unsigned int recent;
	u64 times[SIMGPU_GUARD_MOST];	/* of the recent ones, the oldest first */
};

struct simgpu_guard_state {
	enum simgpu_guard_level level;
	unsigned int recent;
	unsigned int total;
};

/* One PCI function: the PF is functions[0], VF n is functions[n + 1]. */
struct simgpu_func {
	struct simgpu *gpu;
	unsigned int index;
	unsigned int devfn;
	enum simgpu_state state;
	struct simgpu_guard guard;
	enum simgpu_flr flr;		/* what reset_work is to do to VRAM */
	const char *clear_answer;	/* what its clrvffb reads */
	int clear_answer_len;
	u64 vram_offset;		/* in the GPU's VRAM */
	u64 vram_size;
	struct delayed_work reset_work;
	struct delayed_work late_work;	/* clears VRAM after the reset */
	struct work_struct unplug_work;
	u8 config[SIMGPU_CONFIG_SIZE];
};

/* What a kind of function looks like after power-on, and what is writable. */
struct simgpu_image {
	u8 config[SIMGPU_CONFIG_SIZE];
	u8 writable[SIMGPU_CONFIG_SIZE];
};

struct simgpu_knobs {
	enum simgpu_flr flr;
	enum simgpu_clrvffb clrvffb;
	u32 flr_ms;
	u32 vf_short;
	u32 create_errno;
	u32 create_ms;
};

struct simgpu_counters {
	atomic_t flr;
	atomic_t flr_failed;
	atomic_t flr_refused;
	atomic_t create;
	atomic_t create_failed;
};

struct simgpu {
	const struct simgpu_model *model;
	struct list_head node;
	int busnr;
	unsigned int nth;		/* of those that its driver takes */
	struct pci_bus *bus;
	struct pci_sysdata sysdata;
	struct resource vram_res;
	struct resource regs_res;
	struct resource busn_res;
	void __iomem *vram;
	void __iomem *regs;		/* SIMGPU_REGS_SIZE each function */

	/*
	 * x86 does not serialise config accesses (PCI_LOCKLESS_CONFIG), and
	 * they come from any context.
	 */
	raw_spinlock_t lock;
	struct simgpu_image pf_image;
	struct simgpu_image vf_image;

	/*
	 * Held while VFs join or leave the PCI tree: unbinding the PF's driver
	 * does that without pci_rescan_remove_lock. Nests inside that lock.
	 */
	struct mutex vf_lock;

	struct simgpu_knobs knobs;
	struct simgpu_counters counters;
	struct dentry *debugfs;

	unsigned int nr_functions;
	struct simgpu_func functions[] __counted_by(nr_functions);
};

/* config.c */
extern struct pci_ops simgpu_pci_ops;
void simgpu_config_init(struct simgpu *gpu);
void simgpu_config_power_on(struct simgpu_func *fn);

/* function.c */
extern struct workqueue_struct *simgpu_wq;
void simgpu_func_init(struct simgpu *gpu, unsigned int index);
void simgpu_func_flr(struct simgpu_func *fn);
void simgpu_enable_vfs(struct simgpu *gpu, unsigned int nr);
void simgpu_revive(struct simgpu *gpu);
void simgpu_release_driver(struct pci_dev *pdev);
int simgpu_unplug(struct simgpu *gpu, unsigned int index);
int simgpu_replug(struct simgpu *gpu);

/* flr_guard.c */
bool simgpu_guard_admits(struct simgpu_func *fn);

/* main.c */
void simgpu_bus_scan(struct simgpu *gpu);

/* driver.c */
int simgpu_drivers_register(void);
void simgpu_drivers_unregister(void);
const char *simgpu_driver_module(enum simgpu_driver which);

/* clrvffb.c */
int simgpu_clrvffb_add(struct simgpu *gpu, unsigned int nr);

/* knobs.c */
void simgpu_knobs_init(void);
void simgpu_knobs_exit(void);
void simgpu_knobs_add(struct simgpu *gpu);
void simgpu_knobs_remove(struct simgpu *gpu);

/*
 * For PF drivers, which may be modules of their own: all of the following is
 * exported. A driver is registered without an id table: it gets the ids of the
 * models that name it, and its probe calls simgpu_pf_probe() first.
 */
#define simgpu_register_driver(driver, which) \
	__simgpu_register_driver(driver, which, THIS_MODULE, KBUILD_MODNAME)
int __simgpu_register_driver(struct pci_driver *driver,
			     enum simgpu_driver which, struct module *owner,
			     const char *mod_name);
struct simgpu *simgpu_of(struct pci_dev *pdev);
struct simgpu_func *simgpu_func_of(struct pci_dev *pdev);
int simgpu_pf_probe(struct pci_dev *pdev, enum simgpu_driver which);
void simgpu_pf_remove(struct pci_dev *pdev);
int simgpu_enable_sriov(struct pci_dev *pdev, int nr);
void simgpu_disable_sriov(struct pci_dev *pdev);

struct pci_dev *simgpu_get_pci_dev(struct simgpu_func *fn);
void simgpu_guard_set(struct simgpu_func *fn, bool on, unsigned int threshold);
struct simgpu_guard_state simgpu_guard_read(struct simgpu_func *fn);

/* vram.c, faults.c */
u64 simgpu_vram_size(struct simgpu *gpu);
phys_addr_t simgpu_vram_phys(struct simgpu *gpu, u64 offset);
void simgpu_regs_reset(struct simgpu_func *fn);
void simgpu_vram_fill(struct simgpu *gpu, u64 offset, u64 size, u8 value);
void simgpu_vram_reset(struct simgpu *gpu, enum simgpu_flr how, u64 offset,
		       u64 size);
ssize_t simgpu_vram_read(struct simgpu *gpu, char __user *buf, size_t count,
			 u64 offset);
ssize_t simgpu_vram_write(struct simgpu *gpu, const char __user *buf,
			  size_t count, u64 offset);
int simgpu_create_begin(struct simgpu *gpu);
void simgpu_create_end(struct simgpu *gpu, int ret);
int simgpu_window_reset(struct simgpu *gpu, u64 offset, u64 size);

#endif /* SIMGPU_H */
