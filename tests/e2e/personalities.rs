//! The simulated GPUs behave like the vendors' drivers where it matters: one test a quirk of the table in
//! `tests/lab/kmod/README.md`, by plain reads and writes of sysfs. vgpud is not here.

#![allow(clippy::unwrap_used)]

mod support;

use nix::libc;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use support::{SimGpu, pf_driver, wait_for};

const MIB: u64 = 1 << 20;
const SECRET: &[u8] = b"tenant A";

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim_end().to_owned()
}

fn write(path: impl AsRef<Path>, value: &str) {
    let path = path.as_ref();
    fs::write(path, value).unwrap_or_else(|error| panic!("{} = {value}: {error}", path.display()));
}

#[track_caller]
fn refused<T: std::fmt::Debug>(tried: io::Result<T>, errno: i32) {
    assert_eq!(tried.unwrap_err().raw_os_error(), Some(errno));
}

fn vf(gpu: &SimGpu, index: u32) -> PathBuf {
    fs::canonicalize(gpu.sysfs(&format!("virtfn{index}"))).unwrap()
}

fn reset(gpu: &SimGpu, index: u32) {
    write(vf(gpu, index).join("reset"), "1");
}

fn vfs(gpus: &[SimGpu]) -> Vec<String> {
    gpus.iter().map(|gpu| gpu.read("sriov_numvfs")).collect()
}

mod gim {
    use super::*;

    fn load(parameters: &[&str]) -> Vec<SimGpu> {
        pf_driver::load("gim", parameters)
    }

    /// NPS mode, compute mode and profile index, as the files say.
    fn partitions(gpu: &SimGpu) -> (String, String, String) {
        let memory = gpu.read("memory_partition_mode");
        let profile = gpu.read("accelerator_partition_profile");
        let word = |line: &str, index| line.split_whitespace().nth(index).unwrap().to_owned();
        assert_eq!(word(profile.lines().nth(1).unwrap(), 1), gpu.read("spatial_partition_mode"));
        (
            word(memory.lines().next().unwrap(), 1),
            gpu.read("spatial_partition_mode"),
            word(profile.lines().nth(1).unwrap(), 0),
        )
    }

    #[track_caller]
    fn assert_partitions(gpu: &SimGpu, memory: &str, compute: &str, index: &str) {
        assert_eq!(partitions(gpu), (memory.to_owned(), compute.to_owned(), index.to_owned()));
    }

    #[test]
    fn vfs_come_with_the_module_and_go_with_it() {
        let gpus = load(&[]);
        assert_eq!(vfs(&gpus), ["1", "1"]);
        assert_eq!(read("/sys/module/gim/version"), "8.0.0.K");
        assert_eq!(read("/sys/module/gim/parameters/vf_num"), "1");
        for gpu in &gpus {
            assert_eq!(gpu.read("device"), "0x74a1");
            assert!(Path::new("/sys/bus/pci/drivers/gim").join(&gpu.address).is_symlink());
        }
        assert_eq!(vfs(&load(&["vf_num=8,4"])), ["8", "4"]);
        assert_eq!(read("/sys/module/gim/parameters/vf_num"), "8,4");
        assert_eq!(read(vf(&gpus[1], 3).join("device")), "0x74b5");
        // A GPU without a number of its own has one VF.
        assert_eq!(vfs(&load(&["vf_num=8"])), ["8", "1"]);
        pf_driver::unload("gim");
        assert_eq!(vfs(&gpus), ["0", "0"]);
        assert!(!gpus[0].sysfs("virtfn0").is_symlink());
        pf_driver::load("gim", &[]);
    }

    #[test]
    fn a_number_of_vfs_that_the_card_does_not_support_is_none() {
        assert_eq!(vfs(&load(&["vf_num=3,8"])), ["0", "8"]);
        assert_eq!(vfs(&load(&["vf_num=16,1"])), ["0", "1"]);
        pf_driver::unload("gim");
        for bad in ["vf_num=0", "vf_num=32", "vf_num=1,0"] {
            assert_ne!(pf_driver::insert("gim", &[bad]).code, 0, "{bad}");
        }
        pf_driver::load("gim", &[]);
    }

    #[test]
    fn the_number_of_vfs_is_not_set_by_sysfs() {
        let gpus = load(&["vf_num=4,4"]);
        for number in ["0", "8"] {
            refused(fs::write(gpus[0].sysfs("sriov_numvfs"), number), libc::ENOENT);
        }
        // The kernel asks no driver for the number that there is.
        write(gpus[0].sysfs("sriov_numvfs"), "4");
        assert_eq!(vfs(&gpus), ["4", "4"]);
    }

    #[test]
    fn what_it_cannot_follow_is_written_with_success_and_changes_nothing() {
        let gpu = &load(&["vf_num=2,2"])[0];
        assert_partitions(gpu, "NPS1", "DPX", "0");
        for (file, value) in [
            ("memory_partition_mode", "NPS2"),
            ("memory_partition_mode", "NPS4"),
            ("accelerator_partition_profile", "7"),
        ] {
            write(gpu.sysfs(file), value);
            assert_partitions(gpu, "NPS1", "DPX", "0");
        }
        refused(fs::write(gpu.sysfs("memory_partition_mode"), "NPS3"), libc::EINVAL);
        refused(fs::write(gpu.sysfs("accelerator_partition_profile"), "CPX"), libc::EINVAL);
        refused(fs::write(gpu.sysfs("spatial_partition_mode"), "CPX"), libc::EACCES);
        write(gpu.sysfs("accelerator_partition_profile"), "1");
        assert_partitions(gpu, "NPS1", "CPX", "1");
    }

    #[test]
    fn the_combinations_are_those_of_the_number_of_vfs() {
        // By number of VFs: the compute mode under NPS1 and under NPS4, each the default.
        let expected = BTreeMap::from([
            ("1", ("SPX", Some("CPX"))),
            ("2", ("DPX", None)),
            ("4", ("QPX", Some("QPX"))),
            ("8", ("CPX", Some("CPX"))),
        ]);
        for (number, (plain, split)) in expected {
            let gpu = &load(&[&format!("vf_num={number},{number}")])[0];
            assert_eq!(partitions(gpu).1, plain);
            let modes = gpu.read("memory_partition_config");
            assert_eq!(modes, if split.is_some() { "NPS1 NPS4" } else { "NPS1" }, "{number}");
            write(gpu.sysfs("memory_partition_mode"), "NPS4");
            let (memory, compute, _) = partitions(gpu);
            assert_eq!((memory == "NPS4").then_some(compute.as_str()), split, "{number}");
        }
        let gpu = &load(&["vf_num=1,1"])[0];
        let config = gpu.read("accelerator_partition_profile_config");
        let (_, profiles) = config.split_once("profiles:\nprofile_index").unwrap();
        let profiles: Vec<Vec<_>> =
            profiles.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(profiles[0][..4], ["0", "SPX", "1", "NPS1"]);
        assert_eq!(profiles[1][..5], ["1", "CPX", "8", "NPS1", "NPS4"]);
        // SPX does not go with NPS4.
        write(gpu.sysfs("memory_partition_mode"), "NPS4");
        write(gpu.sysfs("accelerator_partition_profile"), "0");
        assert_partitions(gpu, "NPS4", "CPX", "1");
        assert!(gpu.read("memory_partition_mode").contains("numa_count: 4\nNUMA0 type=0 start=0x0000"));
    }

    #[test]
    fn a_partition_mode_is_the_whole_hives() {
        let gpus = load(&["vf_num=1,1"]);
        write(gpus[1].sysfs("memory_partition_mode"), "NPS4");
        for gpu in &gpus {
            assert_partitions(gpu, "NPS4", "CPX", "1");
        }
        write(gpus[0].sysfs("memory_partition_mode"), "NPS1");
        assert_partitions(&gpus[1], "NPS1", "SPX", "0");
    }

    #[test]
    fn nps8_is_taken_for_nps4() {
        let gpu = &load(&["vf_num=8,8"])[0];
        write(gpu.sysfs("memory_partition_mode"), "NPS8");
        assert_partitions(gpu, "NPS4", "CPX", "0");
    }

    #[test]
    fn partitions_do_not_change_while_a_vf_of_the_hive_is_in_use() {
        let gpus = load(&["vf_num=1,1"]);
        let enable = vf(&gpus[1], 0).join("enable");
        write(&enable, "1");
        write(gpus[0].sysfs("memory_partition_mode"), "NPS4");
        write(gpus[0].sysfs("accelerator_partition_profile"), "1");
        assert_partitions(&gpus[0], "NPS1", "SPX", "0");
        write(&enable, "0");
        write(gpus[0].sysfs("accelerator_partition_profile"), "1");
        assert_partitions(&gpus[0], "NPS1", "CPX", "1");
    }

    #[test]
    fn a_reset_leaves_the_memory() {
        let gpu = &load(&[])[0];
        assert_eq!(gpu.knob("flr"), "leave");
        gpu.write_vram(0, SECRET);
        let before = gpu.resets();
        reset(gpu, 0);
        assert_eq!(gpu.resets(), before + 1);
        assert_eq!(gpu.read_vram(0, SECRET.len()), SECRET);
    }

    /// The events of the VF with this number, of which the first kind are FLRs.
    fn guarded(gpu: &SimGpu, file: &str, index: usize) -> String {
        let text = gpu.read(file);
        let line = text.lines().nth(1 + index).unwrap();
        line.split_once("]:\t").unwrap().1.to_owned()
    }

    fn refused_resets(gpu: &SimGpu) -> u64 {
        let counters = gpu.knob("counters");
        counters.lines().find_map(|line| line.strip_prefix("flr_refused ")).unwrap().parse().unwrap()
    }

    #[test]
    fn the_guard_refuses_resets_beyond_its_threshold() {
        let gpu = &load(&["guard=1", "vf_num=2,1"])[0];
        // So that a reset which happens shows.
        let _knob = gpu.set("flr", "clear", "leave");
        let before = refused_resets(gpu);
        assert_eq!(guarded(gpu, "guard_threshold", 0), "[3]\t[9]\t[2]\t[56]");
        for count in 1..=3 {
            gpu.write_vram(0, SECRET);
            reset(gpu, 0);
            assert_eq!(gpu.read_vram(0, SECRET.len()), [0; SECRET.len()]);
            let full = u8::from(count == 3);
            assert_eq!(
                guarded(gpu, "guard_status", 0),
                format!("[{full}:{count}:{count}]\t[0:0:0]\t[0:0:0]\t[0:0:0]")
            );
        }
        gpu.write_vram(0, SECRET);
        reset(gpu, 0);
        assert_eq!(gpu.read_vram(0, SECRET.len()), SECRET, "reset all the same");
        assert_eq!(guarded(gpu, "guard_status", 0), "[2:3:3]\t[0:0:0]\t[0:0:0]\t[0:0:0]");
        assert_eq!(refused_resets(gpu), before + 1);
        assert_eq!(guarded(gpu, "guard_status", 1), "[0:0:0]\t[0:0:0]\t[0:0:0]\t[0:0:0]", "another VF's");
        write(gpu.sysfs("guard_threshold"), "flr=5,ex=9,ext=2,int=38");
        reset(gpu, 0);
        assert_eq!(gpu.read_vram(0, SECRET.len()), [0; SECRET.len()]);
    }

    #[test]
    fn a_threshold_is_read_as_a_table_and_written_as_a_line() {
        let gpu = &load(&["vf_num=2,1"])[0];
        for unheeded in ["3", "flr=1", "flr=6,ex=b,ext=4,int=3a"] {
            write(gpu.sysfs("guard_threshold"), unheeded);
            assert_eq!(guarded(gpu, "guard_threshold", 1), "[3]\t[9]\t[2]\t[56]", "{unheeded}");
        }
        write(gpu.sysfs("guard_threshold"), "flr=1,ex=a,ext=1,int=10");
        assert_eq!(guarded(gpu, "guard_threshold", 1), "[1]\t[10]\t[1]\t[16]");
    }

    #[test]
    fn without_the_guard_no_reset_is_refused() {
        let gpu = &load(&[])[0];
        let before = (gpu.resets(), refused_resets(gpu));
        (0..5).for_each(|_| reset(gpu, 0));
        assert_eq!((gpu.resets(), refused_resets(gpu)), (before.0 + 5, before.1));
    }
}

mod xe {
    use super::*;

    /// No VFs, nothing set. Returns the Flex 170.
    fn load(parameters: &[&str]) -> SimGpu {
        pf_driver::load("simgpu_xe", parameters).remove(0)
    }

    fn path(gpu: &SimGpu, whose: &str, file: &str) -> PathBuf {
        let folder = gpu.sysfs("sriov_admin").join(whose);
        if whose == ".bulk_profile" { folder.join(file) } else { folder.join("profile").join(file) }
    }

    fn admin(gpu: &SimGpu, whose: &str, file: &str, value: &str) {
        write(path(gpu, whose, file), value);
    }

    fn shown(gpu: &SimGpu, whose: &str, file: &str) -> String {
        read(path(gpu, whose, file))
    }

    fn quota(gpu: &SimGpu, number: u32) -> u64 {
        shown(gpu, &format!("vf{number}"), "vram_quota").parse().unwrap()
    }

    #[test]
    fn the_cards_are_on_a_driver_of_this_name() {
        let gpus = SimGpu::of_driver("simgpu_xe");
        let ids: Vec<_> = gpus.iter().map(|gpu| (gpu.read("device"), gpu.read("sriov_totalvfs"))).collect();
        let id = |device: &str, total: &str| (device.to_owned(), total.to_owned());
        assert_eq!(ids, [id("0x56c0", "31"), id("0xe211", "24")]);
        for gpu in &gpus {
            assert!(Path::new("/sys/bus/pci/drivers/xe").join(&gpu.address).is_symlink());
        }
    }

    #[test]
    fn too_many_vfs_and_other_numbers_of_vfs_are_refused() {
        let gpu = load(&[]);
        let numvfs = gpu.sysfs("sriov_numvfs");
        refused(fs::write(&numvfs, "32"), libc::ERANGE);
        write(&numvfs, "2");
        refused(fs::write(&numvfs, "3"), libc::EBUSY);
        assert_eq!(gpu.read("sriov_numvfs"), "2");
        write(&numvfs, "0");
    }

    #[test]
    fn every_possible_vf_has_its_files_and_those_enabled_a_link() {
        let gpu = load(&[]);
        let admin = gpu.sysfs("sriov_admin");
        let link = |whose: &str| fs::canonicalize(admin.join(whose).join("device"));
        for number in 1..=31 {
            assert!(admin.join(format!("vf{number}/profile/vram_quota")).try_exists().unwrap());
            assert!(link(&format!("vf{number}")).is_err());
        }
        assert!(!admin.join("vf0").try_exists().unwrap() && !admin.join("vf32").try_exists().unwrap());
        assert!(!path(&gpu, "pf", "vram_quota").try_exists().unwrap());
        assert_eq!(link("pf").unwrap(), fs::canonicalize(gpu.sysfs("")).unwrap());
        write(gpu.sysfs("sriov_numvfs"), "2");
        // The kernel counts from 0, xe from 1.
        assert_eq!(link("vf1").unwrap(), vf(&gpu, 0));
        assert_eq!(link("vf2").unwrap(), vf(&gpu, 1));
        assert!(link("vf3").is_err());
        write(gpu.sysfs("sriov_numvfs"), "0");
        assert!(link("vf1").is_err());
    }

    #[test]
    fn time_is_unlimited_unless_set_for_one_or_for_all() {
        let gpu = load(&[]);
        for file in ["exec_quantum_ms", "preempt_timeout_us"] {
            admin(&gpu, ".bulk_profile", file, "0");
            admin(&gpu, "vf2", file, "40");
            let all = || ["pf", "vf1", "vf2", "vf31"].map(|whose| shown(&gpu, whose, file));
            assert_eq!(all(), ["0", "0", "40", "0"]);
            refused(fs::write(path(&gpu, "vf2", file), "-1"), libc::EINVAL);
            refused(fs::write(path(&gpu, ".bulk_profile", file), "soon"), libc::EINVAL);
            refused(fs::read(path(&gpu, ".bulk_profile", file)), libc::EACCES);
            assert_eq!(all(), ["0", "0", "40", "0"]);
            admin(&gpu, ".bulk_profile", file, "0x19");
            assert_eq!(all(), ["25"; 4]);
        }
    }

    #[test]
    fn only_the_pfs_priority_is_set_on_its_own() {
        let gpu = load(&[]);
        let priority = |whose: &str| shown(&gpu, whose, "sched_priority");
        assert_eq!((priority("pf"), priority("vf1")), ("[low] normal high".into(), "[low] normal".into()));
        admin(&gpu, "pf", "sched_priority", "high");
        assert_eq!((priority("pf"), priority("vf1")), ("low normal [high]".into(), "[low] normal".into()));
        refused(fs::write(path(&gpu, "vf1", "sched_priority"), "normal"), libc::EACCES);
        refused(fs::write(path(&gpu, "pf", "sched_priority"), "highest"), libc::EINVAL);
        refused(fs::write(path(&gpu, ".bulk_profile", "sched_priority"), "high"), libc::EINVAL);
        admin(&gpu, ".bulk_profile", "sched_priority", "normal");
        assert_eq!((priority("pf"), priority("vf31")), ("low [normal] high".into(), "low [normal]".into()));
    }

    #[test]
    fn enabled_vfs_get_fair_shares_of_vram_until_they_go() {
        let gpu = load(&[]);
        for (number, share) in [(1, 128), (3, 42), (4, 32), (31, 4)] {
            assert_eq!(quota(&gpu, 1), 0);
            write(gpu.sysfs("sriov_numvfs"), &number.to_string());
            assert_eq!(quota(&gpu, 1), share * MIB);
            assert_eq!(quota(&gpu, number), share * MIB);
            write(gpu.sysfs("sriov_numvfs"), "0");
        }
        assert_eq!(quota(&gpu, 31), 0);
    }

    #[test]
    fn a_share_set_beforehand_stands_and_the_others_get_none() {
        let gpu = load(&[]);
        // Rounded up to 2 MiB.
        admin(&gpu, "vf2", "vram_quota", "10485761");
        assert_eq!(quota(&gpu, 2), 12 * MIB);
        write(gpu.sysfs("sriov_numvfs"), "3");
        assert_eq!([1, 2, 3].map(|number| quota(&gpu, number)), [0, 12 * MIB, 0]);
        // Changed while VFs are enabled, too.
        admin(&gpu, "vf1", "vram_quota", &(16 * MIB).to_string());
        refused(fs::write(path(&gpu, "vf3", "vram_quota"), (101 * MIB).to_string()), libc::ENOSPC);
        refused(fs::write(path(&gpu, "vf3", "vram_quota"), u64::MAX.to_string()), libc::ENOSPC);
        refused(fs::write(path(&gpu, "vf3", "vram_quota"), "4MiB"), libc::EINVAL);
        assert_eq!([1, 2, 3].map(|number| quota(&gpu, number)), [16 * MIB, 12 * MIB, 0]);
        write(gpu.sysfs("sriov_numvfs"), "0");
        assert_eq!([1, 2, 3].map(|number| quota(&gpu, number)), [0; 3]);
        admin(&gpu, ".bulk_profile", "vram_quota", &(4 * MIB).to_string());
        assert_eq!([1, 31].map(|number| quota(&gpu, number)), [4 * MIB; 2]);
    }

    #[test]
    fn a_vf_that_is_not_there_cannot_be_stopped() {
        let gpu = load(&[]);
        let stop = gpu.sysfs("sriov_admin/vf1/stop");
        refused(fs::write(&stop, "1"), libc::EPERM);
        write(gpu.sysfs("sriov_numvfs"), "1");
        write(&stop, "1");
        refused(fs::write(&stop, "maybe"), libc::EINVAL);
        refused(fs::read(&stop), libc::EACCES);
        assert!(!gpu.sysfs("sriov_admin/pf/stop").try_exists().unwrap());
        write(gpu.sysfs("sriov_numvfs"), "0");
    }

    #[test]
    fn a_reset_clears_the_memory_after_it_has_returned() {
        let gpu = load(&[]);
        write(gpu.sysfs("sriov_numvfs"), "2");
        gpu.write_vram(1, SECRET);
        let asked = Instant::now();
        reset(&gpu, 1);
        assert_eq!(gpu.read_vram(1, SECRET.len()), SECRET);
        wait_for("the memory to be cleared", Duration::from_secs(10), || {
            (gpu.read_vram(1, SECRET.len()) == [0; SECRET.len()]).then_some(())
        });
        assert!(asked.elapsed() >= Duration::from_secs(2), "{:?}", asked.elapsed());
        write(gpu.sysfs("sriov_numvfs"), "0");
    }

    #[test]
    fn an_older_one_has_its_shares_in_debugfs() {
        let older = [
            ("admin=debugfs-tiles", "sriov/{}/tile0/vram_quota", "sriov/{}/tile0/gt0/"),
            ("admin=debugfs-gts", "gt0/{}/lmem_quota", "gt0/{}/"),
        ];
        for (admin, vram, times) in older {
            let gpu = load(&[admin]);
            assert!(!gpu.sysfs("sriov_admin").try_exists().unwrap());
            let file = |of: &str, name: &str| {
                format!("/sys/kernel/debug/dri/{}/{}", gpu.address, name.replace("{}", of))
            };
            let vram = |of: &str| file(of, vram);
            let time = |of: &str, name: &str| file(of, &format!("{times}{name}"));
            write(vram("vf2"), &(7 * MIB).to_string());
            assert_eq!(read(vram("vf2")), (8 * MIB).to_string());
            write(time("pf", "exec_quantum_ms"), "20");
            assert_eq!(read(time("pf", "exec_quantum_ms")), "20");
            assert_eq!(read(time("vf31", "preempt_timeout_us")), "0");
            assert!(!Path::new(&vram("pf")).try_exists().unwrap());
            write(gpu.sysfs("sriov_numvfs"), "2");
            assert_eq!(read(vram("vf1")), "0");
            write(gpu.sysfs("sriov_numvfs"), "0");
            assert_eq!(read(vram("vf2")), "0");
        }
        let gpu = load(&[]);
        assert!(gpu.sysfs("sriov_admin/vf31").try_exists().unwrap());
    }

    #[test]
    fn memory_is_cleared_when_vfs_go() {
        let gpu = load(&[]);
        write(gpu.sysfs("sriov_numvfs"), "2");
        gpu.write_vram(1, SECRET);
        write(gpu.sysfs("sriov_numvfs"), "0");
        assert_eq!(gpu.read_vram(1, SECRET.len()), [0; SECRET.len()]);
    }
}
