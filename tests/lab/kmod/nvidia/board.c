// SPDX-License-Identifier: GPL-2.0
/*
 * What the driver knows of the models.
 *
 * Names and numbers of the types are the real cards': L40S and A100 PCIe 80GB
 * as their hosts list them, MIG-backed ones as the table in NVIDIA's
 * open-gpu-kernel-modules (g_vgpu_resman_specific.h). MIG geometry: MIG User
 * Guide, "Supported MIG Profiles".
 */
#include <linux/string.h>
#include "nvidia.h"

#define TYPE(id_, name_, gb_)	\
	{ .id = id_, .name = name_, .gb = gb_, .profile = NV_TIME_SLICED }
#define MIG_TYPE(id_, name_, gb_, profile_)	\
	{ .id = id_, .name = name_, .gb = gb_, .profile = profile_ }

static const struct nv_type l40s_types[] = {
	TYPE(1145, "NVIDIA L40S-1B", 1), TYPE(1146, "NVIDIA L40S-2B", 2),
	TYPE(1147, "NVIDIA L40S-1Q", 1), TYPE(1148, "NVIDIA L40S-2Q", 2),
	TYPE(1149, "NVIDIA L40S-3Q", 3), TYPE(1150, "NVIDIA L40S-4Q", 4),
	TYPE(1151, "NVIDIA L40S-6Q", 6), TYPE(1152, "NVIDIA L40S-8Q", 8),
	TYPE(1153, "NVIDIA L40S-12Q", 12), TYPE(1154, "NVIDIA L40S-16Q", 16),
	TYPE(1155, "NVIDIA L40S-24Q", 24), TYPE(1156, "NVIDIA L40S-48Q", 48),
	TYPE(1157, "NVIDIA L40S-1A", 1), TYPE(1158, "NVIDIA L40S-2A", 2),
	TYPE(1159, "NVIDIA L40S-3A", 3), TYPE(1160, "NVIDIA L40S-4A", 4),
	TYPE(1161, "NVIDIA L40S-6A", 6), TYPE(1162, "NVIDIA L40S-8A", 8),
	TYPE(1163, "NVIDIA L40S-12A", 12), TYPE(1164, "NVIDIA L40S-16A", 16),
	TYPE(1165, "NVIDIA L40S-24A", 24), TYPE(1166, "NVIDIA L40S-48A", 48),
	TYPE(2164, "NVIDIA L40S-3B", 3),
};

static const struct nv_type t4_types[] = {
	TYPE(222, "GRID T4-1B", 1), TYPE(223, "GRID T4-2B", 2),
	TYPE(225, "GRID T4-1A", 1), TYPE(226, "GRID T4-2A", 2),
	TYPE(227, "GRID T4-4A", 4), TYPE(228, "GRID T4-8A", 8),
	TYPE(229, "GRID T4-16A", 16), TYPE(230, "GRID T4-1Q", 1),
	TYPE(231, "GRID T4-2Q", 2), TYPE(232, "GRID T4-4Q", 4),
	TYPE(233, "GRID T4-8Q", 8), TYPE(234, "GRID T4-16Q", 16),
};

static const struct nv_type a100_types[] = {
	TYPE(692, "GRID A100D-4C", 4), TYPE(693, "GRID A100D-8C", 8),
	TYPE(694, "GRID A100D-10C", 10), TYPE(695, "GRID A100D-16C", 16),
	TYPE(696, "GRID A100D-20C", 20), TYPE(697, "GRID A100D-40C", 40),
	TYPE(698, "GRID A100D-80C", 80),
	MIG_TYPE(699, "GRID A100D-1-10C", 10, 19),
	MIG_TYPE(700, "GRID A100D-2-20C", 20, 14),
	MIG_TYPE(701, "GRID A100D-3-40C", 40, 9),
	MIG_TYPE(702, "GRID A100D-4-40C", 40, 5),
	MIG_TYPE(703, "GRID A100D-7-80C", 80, 0),
	MIG_TYPE(707, "GRID A100D-1-10CME", 10, 20),
	MIG_TYPE(1054, "GRID A100D-1-20C", 20, 15),
};

/* In the order in which nvidia-smi lists them. */
static const struct nv_profile a100_profiles[] = {
	{ 19, "1g.10gb", 1, 0x7f, 7, 7, "9.50", { 14, 0, 1, 0, 0 } },
	{ 20, "1g.10gb+me", 1, 0x7f, 1, 7, "9.50", { 14, 1, 1, 1, 1 } },
	{ 15, "1g.20gb", 2, 0x55, 4, 3, "19.50", { 14, 1, 1, 0, 0 } },
	{ 14, "2g.20gb", 2, 0x15, 3, 3, "19.50", { 28, 1, 2, 0, 0 } },
	{ 9, "3g.40gb", 4, 0x11, 2, 1, "39.25", { 42, 2, 3, 0, 0 } },
	{ 5, "4g.40gb", 4, 0x01, 1, 1, "39.25", { 56, 2, 4, 0, 0 } },
	{ 0, "7g.80gb", 8, 0x01, 1, 0, "79.00", { 98, 5, 7, 1, 1 } },
};

static const struct nv_board boards[] = {
	{
		.model = "t4", .product = "Tesla T4",
		.memory_mib = 16384, .gb = 16,
		.types = t4_types, .nr_types = ARRAY_SIZE(t4_types),
	}, {
		.model = "l40s", .product = "NVIDIA L40S",
		.memory_mib = 46068, .gb = 48,
		.types = l40s_types, .nr_types = ARRAY_SIZE(l40s_types),
	}, {
		.model = "a100", .product = "NVIDIA A100 80GB PCIe",
		.memory_mib = 81920, .gb = 80,
		.types = a100_types, .nr_types = ARRAY_SIZE(a100_types),
		.profiles = a100_profiles,
		.nr_profiles = ARRAY_SIZE(a100_profiles),
	},
};

const struct nv_board *nv_board_find(const char *model)
{
	for (size_t i = 0; i < ARRAY_SIZE(boards); i++)
		if (!strcmp(boards[i].model, model))
			return &boards[i];
	return NULL;
}
