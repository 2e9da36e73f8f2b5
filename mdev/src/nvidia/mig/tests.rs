use super::*;
use crate::{
    Instance, InstanceName, Mechanism, Taken,
    fake::{FakeGpu, FakeHost, FakeRival, FakeSmi, FakeTurn, FakeVgpus},
    instance, inventory,
    nvidia::{SmiCommand, Turn, mdev::NvidiaMdev, vfio::NvidiaVfio},
};
use nix::errno::Errno;
use std::{collections::BTreeMap, error::Error as _, panic};

const GPU: &str = "0000:41:00.0";

fn gpu() -> PciAddress {
    GPU.parse().unwrap()
}

fn vf(index: u16) -> InstanceName {
    InstanceName::Vf(VfIndex(index))
}

fn mdev() -> InstanceName {
    InstanceName::Mdev(crate::MdevUuid(uuid::Uuid::nil()))
}

fn profile(name: &str) -> ProfileName {
    name.parse().unwrap()
}

/// An A100 of 8 VFs.
fn machine(vgpus: &FakeVgpus, wanted: Option<MigMode>) -> (FakeHost, Host) {
    let fake = FakeHost::machine().gpu(FakeGpu::new(GPU).nvidia(8, vgpus).id("10de:20b5")).build();
    let wanted: BTreeMap<_, _> = wanted.map(|mode| (gpu(), mode)).into_iter().collect();
    let host = fake.host().with_mig(wanted);
    (fake, host)
}

/// With MIG on, as the operator has it.
fn on() -> (FakeHost, Host) {
    machine(&FakeVgpus::a100(MigMode::On), None)
}

fn seen(host: &Host) -> Gpu {
    inventory::gpu(host, &vgpud_config::GpuSelection::default(), gpu()).unwrap()
}

fn mig(host: &Host) -> MigSeen {
    seen(host).mig.unwrap().seen.unwrap()
}

fn create(host: &Host, name: &str, index: u16) -> Result<Instance, Error> {
    NvidiaVfio.create(host, gpu(), &profile(name), vf(index))
}

fn destroy(host: &Host, index: u16) {
    NvidiaVfio.destroy(host, gpu(), vf(index)).unwrap();
}

fn places(host: &Host) -> Vec<String> {
    mig(host).instances.iter().map(|instance| instance.place.to_string()).collect()
}

/// What can be created, by the name's end, with how many of it.
fn free(host: &Host, taken: &[(&str, bool)]) -> Vec<(String, u32)> {
    let taken: Vec<_> =
        taken.iter().map(|(name, exists)| Taken { profile: profile(name), exists: *exists }).collect();
    let profiles = NvidiaVfio.profiles(&seen(host), &taken);
    let short = |name: &ProfileName| name.as_ref().trim_start_matches("A100D-").to_owned();
    profiles.into_iter().filter(|of| of.available > 0).map(|of| (short(&of.name), of.available)).collect()
}

fn of(free: &[(&str, u32)]) -> Vec<(String, u32)> {
    free.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn told<T: fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n{error}"));
        cause = error.source();
    }
    text
}

#[track_caller]
fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

const ALL_FREE: [(&str, u32); 7] =
    [("1-10C", 7), ("1-10CME", 1), ("1-20C", 4), ("2-20C", 3), ("3-40C", 2), ("4-40C", 1), ("7-80C", 1)];

#[test]
fn a_vgpu_has_a_gpu_instance_that_goes_with_it() {
    let (fake, host) = on();
    let before = fake.snapshot();
    assert_eq!(free(&host, &[]), of(&ALL_FREE));
    let three_sevenths = NvidiaVfio.profiles(&seen(&host), &[])[4].compute.unwrap();
    assert_eq!(three_sevenths.to_string(), "42.85%");

    let made = create(&host, "A100D-3-40C", 0).unwrap();
    assert_eq!(made.profile, profile("type-701"), "no more fits that is free");
    assert!(made.may_be(&profile("A100D-3-40C")));
    let [instance] = &mig(&host).instances[..] else { panic!("{:?}", mig(&host)) };
    assert_eq!((instance.name.as_str(), instance.used_by), ("3g.40gb", InstanceUse::Vgpu(VfIndex(0))));
    assert!(instance.ours);
    create(&host, "A100D-1-10C", 1).unwrap();
    assert_eq!(seen(&host).mig.unwrap().to_string(), "on, 2 GPU instances");

    create(&host, "A100D-1-10C", 1).unwrap();
    assert_eq!(fake.gpu_instances(gpu()).len(), 2, "made again, it has the place of the one before");
    assert_holds(&told(NvidiaVfio.retire(&host, gpu())), &["is not empty", "the vGPU on VF 0"]);
    for _ in 0..2 {
        destroy(&host, 0);
        destroy(&host, 1);
    }
    assert_eq!(fake.gpu_instances(gpu()), []);
    assert_eq!(instance::list(&host, gpu()).unwrap(), []);
    for _ in 0..2 {
        NvidiaVfio.retire(&host, gpu()).unwrap();
    }
    assert_eq!(fake.snapshot(), before);
    assert_eq!(mig(&host).mode, MigMode::On, "as the operator had it");
}

/// Sizes in one order and another: what is offered can be made, and nothing else.
#[test]
fn sizes_are_mixed_as_far_as_they_are_offered() {
    let orders: [(&[&str], &[&str]); 4] = [
        (&["3-40C", "2-20C", "1-10C", "1-10C"], &["3g at 4", "2g at 2", "1g at 1", "1g at 0"]),
        // The last slice of memory is no place for the smallest, so one in the middle costs another.
        (&["1-10C", "3-40C", "2-20C", "1-10C"], &["1g at 6", "3g at 0", "2g at 4"]),
        (
            &["4-40C", "1-20C", "1-10C", "1-10CME"],
            &["4g at 0", "1g with double memory at 6", "1g at 5", "1g+me at 4"],
        ),
        (&["7-80C", "1-10C"], &["7g at 0"]),
    ];
    for (names, made) in orders {
        let (_fake, host) = on();
        let mut taken: Vec<(String, bool)> = Vec::new();
        for (index, short) in names.iter().enumerate() {
            let name = format!("A100D-{short}");
            let there: Vec<_> = taken.iter().map(|(name, exists)| (name.as_str(), *exists)).collect();
            let is_offered = free(&host, &there).iter().any(|(free, _)| free == short);
            let before = places(&host);
            match create(&host, &name, index.try_into().unwrap()) {
                Ok(_) => {
                    assert!(is_offered, "{name} after {before:?}");
                    taken.push((name, true));
                }
                Err(error) => {
                    assert!(!is_offered, "{name} after {before:?}: {error}");
                    let text = told::<()>(Err(error));
                    assert_holds(&text, &["GPU 0000:41:00.0 cannot hold another", "There is no room for"]);
                    assert!(!text.contains("somebody else"), "{text}");
                    assert_eq!(places(&host), before);
                }
            }
        }
        assert_eq!(places(&host), made);
    }
}

#[test]
fn what_is_coming_takes_its_room_before_it_is_there() {
    let (_fake, host) = on();
    let coming = [("A100D-4-40C", false), ("A100D-2-20C", false)];
    let left = [("1-10C", 1), ("1-10CME", 1), ("1-20C", 1)];
    assert_eq!(free(&host, &coming), of(&left));
    create(&host, "A100D-4-40C", 0).unwrap();
    let one_there = [("A100D-4-40C", true), ("A100D-2-20C", false)];
    assert_eq!(free(&host, &one_there), of(&left));
    // Between two owners its vGPU is not there, and its room is kept.
    destroy(&host, 0);
    assert_eq!(free(&host, &one_there), of(&left));
    let empty = NvidiaVfio.when_empty(&seen(&host));
    assert_eq!(empty.iter().map(|of| of.available).max(), Some(7));
}

#[test]
fn mig_decides_which_types_there_are() {
    let (fake, host) = machine(&FakeVgpus::a100(MigMode::Off), None);
    let before = fake.snapshot();
    let names = free(&host, &[]);
    assert!(names.iter().any(|(name, _)| name == "40C") && !names.iter().any(|(name, _)| name == "3-40C"));
    assert_holds(
        &told(create(&host, "A100D-3-40C", 0)),
        &["MIG is off", "lives in a GPU instance", "mig = \"on\""],
    );
    assert_eq!(fake.snapshot(), before);
    create(&host, "A100D-40C", 0).unwrap();
    assert_eq!(seen(&host).mig.unwrap().to_string(), "off");

    let (fake, host) = on();
    let before = fake.snapshot();
    assert_holds(
        &told(create(&host, "A100D-40C", 0)),
        &["MIG is on", "shares the whole GPU by time", "mig = \"off\""],
    );
    assert_eq!(fake.snapshot(), before);
}

/// A creation that fails takes nothing from the slices that there are.
#[test]
fn a_refusal_leaves_the_gpu_instances_of_other_slices_as_they_are() {
    for wanted in [None, Some(MigMode::On)] {
        let mode = if wanted.is_some() { MigMode::Off } else { MigMode::On };
        let (fake, host) = machine(&FakeVgpus::a100(mode), wanted);
        create(&host, "A100D-3-40C", 0).unwrap();
        let before = fake.snapshot();
        let told = told(create(&host, "A100D-40C", 1));
        assert!(told.starts_with("GPU 0000:41:00.0 cannot be cut: MIG is on"), "{told}");
        fake.nvidia_smi(Some(FakeSmi::Hangs));
        create(&host, "A100D-1-10C", 1).unwrap_err();
        fake.nvidia_smi(None);
        assert_eq!(fake.snapshot(), before);
        destroy(&host, 0);
        assert_eq!(fake.gpu_instances(gpu()), []);
        NvidiaVfio.retire(&host, gpu()).unwrap();
        assert_eq!(mig(&host).mode, mode);
    }
}

#[test]
fn mig_is_set_as_the_settings_ask_and_set_back() {
    for (before, wanted, name) in
        [(MigMode::Off, MigMode::On, "A100D-3-40C"), (MigMode::On, MigMode::Off, "A100D-40C")]
    {
        let (_fake, host) = machine(&FakeVgpus::a100(before), Some(wanted));
        let short = name.trim_start_matches("A100D-");
        assert!(free(&host, &[]).iter().any(|(free, _)| free == short), "offered before it is so");
        assert_eq!(seen(&host).mig.unwrap().to_string(), format!("{before}, {wanted} for its slices"));
        create(&host, name, 0).unwrap();
        assert_eq!(mig(&host).mode, wanted);
        destroy(&host, 0);
        NvidiaVfio.retire(&host, gpu()).unwrap();
        assert_eq!(mig(&host).mode, before);
        // With VFs of somebody else it stays as it is, and so do their types.
        host.kernel().turn_vfs(&host, gpu(), Turn::On).unwrap();
        assert_holds(&told(create(&host, name, 0)), &[&format!("MIG is {before}")]);
        assert!(!free(&host, &[]).iter().any(|(free, _)| free == short));
    }
}

#[test]
fn a_change_of_mig_that_takes_a_reset_is_refused_and_taken_back() {
    let (fake, host) = machine(&FakeVgpus::a100(MigMode::Off).mig_by_reset(), Some(MigMode::On));
    let before = fake.snapshot();
    let text = told(create(&host, "A100D-3-40C", 0));
    assert_holds(&text, &["MIG becomes on by a reset of the GPU alone", "-mig 1", "--gpu-reset"]);
    assert_eq!((mig(&host).mode, mig(&host).pending), (MigMode::Off, MigMode::Off));
    assert_eq!(fake.snapshot(), before);
    // Somebody else began it.
    fake.nvidia_smi(Some(FakeSmi::Says("Disabled, Enabled\n".to_owned())));
    let why = NvidiaVfio.unusable(&seen(&host)).unwrap();
    assert_holds(
        &why,
        &["MIG is off and will be on after the next reset", "nvidia-smi -i 0000:41:00.0 --gpu-reset"],
    );
}

#[test]
fn gpu_instances_of_somebody_else_are_used_or_named_and_left() {
    let (fake, host) = on();
    host.kernel().turn_vfs(&host, gpu(), Turn::On).unwrap();
    let small = fake.gpu_instance(gpu(), 19, 6, false);
    let large = fake.gpu_instance(gpu(), 9, 0, true);
    assert_eq!(free(&host, &[]), of(&[("1-10C", 3), ("1-10CME", 1), ("1-20C", 1), ("2-20C", 1)]));
    create(&host, "A100D-1-10C", 0).unwrap();
    assert_eq!(fake.gpu_instances(gpu()), [small, large], "one that nobody uses is used");
    destroy(&host, 0);
    assert_eq!(fake.gpu_instances(gpu()), [small, large], "and left");
    let text = told(create(&host, "A100D-4-40C", 0));
    assert_holds(
        &text,
        &[
            "no room for 4g: at 0 is 3g at 0",
            &format!(
                "somebody else made GPU instance {small} (1g.10gb at 6), GPU instance {large} (3g.40gb at 0)"
            ),
            &format!("`nvidia-smi mig -i 0000:41:00.0 -dgi -gi {small}` ends the first"),
        ],
    );
    assert_eq!(mig(&host).instances[1].used_by, InstanceUse::Compute);
}

/// Turning VFs on ends all GPU instances, and somebody else's are not vgpud's to end.
#[test]
fn vfs_stay_off_where_somebody_else_has_gpu_instances() {
    for wanted in [None, Some(MigMode::On), Some(MigMode::Off)] {
        let (fake, host) = machine(&FakeVgpus::a100(MigMode::On), wanted);
        let ours = fake.gpu_instance(gpu(), 19, 6, false);
        let notes = Notes { host: &host, gpu: gpu() };
        notes.add(19, 6).unwrap();
        let large = fake.gpu_instance(gpu(), 9, 0, true);
        let before = (fake.snapshot(), fake.gpu_instances(gpu()));
        let words = [
            "its VFs are off, and turning them on would end all its GPU instances",
            &format!(
                "; somebody else made GPU instance {large} (3g.40gb at 0): `nvidia-smi mig -i {GPU} -dci -gi"
            ),
            &format!("and then `nvidia-smi mig -i {GPU} -dgi -gi {large}` ends it"),
            "or leave the GPU to its user",
        ];
        assert_holds(&NvidiaVfio.unusable(&seen(&host)).unwrap(), &words);
        let name = if wanted == Some(MigMode::Off) { "A100D-40C" } else { "A100D-1-10C" };
        assert_holds(&told(create(&host, name, 0)), &words);
        assert_holds(&told(NvidiaMdev.create(&host, gpu(), &profile(name), mdev())), &words);
        let changes = fake.writes().into_iter().filter(|(path, _)| path == "nvidia-smi").count();
        assert_eq!((changes, (fake.snapshot(), fake.gpu_instances(gpu()))), (0, before));

        // Its user has ended it: what vgpud made itself is in nobody's way.
        host.kernel().nvidia_smi(&host, gpu(), SmiCommand::DestroyCompute(large)).unwrap();
        host.kernel().nvidia_smi(&host, gpu(), SmiCommand::Destroy(large)).unwrap();
        assert_eq!(fake.gpu_instances(gpu()), [ours]);
        assert_eq!(NvidiaVfio.unusable(&seen(&host)), None);
        if wanted != Some(MigMode::Off) {
            create(&host, name, 0).unwrap();
            // VFs are on: whoever makes one now knows that they share the GPU.
            fake.gpu_instance(gpu(), 9, 0, true);
            assert_eq!(NvidiaVfio.unusable(&seen(&host)), None);
            create(&host, name, 1).unwrap();
        }
    }
}

/// Somebody makes one where ours was to be: it is theirs, whatever our run comes to.
#[test]
fn a_gpu_instance_that_somebody_made_at_the_same_place_is_not_adopted() {
    let named_none = ["is new, and not named by vgpud's own run, after", "which said that all went well"];
    let cases: [(FakeRival, &[&str]); 4] = [
        (FakeRival::Fails, &[named_none[0], "which failed (Failed to create GPU instances: Insufficient"]),
        (FakeRival::Lies, &named_none),
        (FakeRival::NamesAnother, &named_none),
        (FakeRival::Hangs, &["which was cut short (Waited 0.2 s for", "and left alone"]),
    ];
    for (rival, words) in cases {
        let (fake, host) = on();
        create(&host, "A100D-1-10C", 1).unwrap();
        let before = fake.gpu_instances(gpu());
        fake.forestall_gpu_instance(rival);
        let text = told(create(&host, "A100D-3-40C", 0));
        assert_holds(&text, words);
        let after = fake.gpu_instances(gpu());
        assert_eq!(after.len(), before.len() + 1, "{rival:?}: it is left");
        let theirs = after[after.len() - 1];
        let named = format!("GPU instance {theirs} (3g.40gb at");
        assert_holds(&text, &[&named, &format!("`nvidia-smi mig -i {GPU} -dgi -gi {theirs}` ends it")]);
        let ours = |id| mig(&host).instances.iter().any(|gi| gi.id == id && gi.ours);
        assert!(!ours(theirs) && ours(before[0]));
        // Nothing of vgpud's takes it along: used as somebody else's, it is left again.
        create(&host, "A100D-3-40C", 0).unwrap();
        destroy(&host, 0);
        destroy(&host, 1);
        assert_eq!(fake.gpu_instances(gpu()), [theirs], "{rival:?}");
    }
}

#[test]
fn a_vgpu_is_in_no_gpu_instance_that_programs_of_the_host_use() {
    let (fake, host) = on();
    host.kernel().turn_vfs(&host, gpu(), Turn::On).unwrap();
    let theirs = fake.gpu_instance(gpu(), 19, 6, true);
    // The driver takes it, though there is another.
    let text = told(create(&host, "A100D-1-10C", 0));
    assert_holds(
        &text,
        &["is in GPU instance 0 (1g.10gb at 6), which has compute instances of somebody else"],
    );
    assert_eq!(instance::list(&host, gpu()).unwrap(), []);
    assert_eq!(fake.gpu_instances(gpu()), [theirs]);
    create(&host, "A100D-3-40C", 0).unwrap();
}

#[test]
fn gpu_instances_that_somebody_ended_are_made_again() {
    let (fake, host) = on();
    create(&host, "A100D-3-40C", 0).unwrap();
    for turn in [Turn::Off, Turn::On] {
        host.kernel().turn_vfs(&host, gpu(), turn).unwrap();
    }
    assert_eq!((instance::list(&host, gpu()).unwrap(), places(&host)), (vec![], vec![]));
    destroy(&host, 0);
    let notes = || Notes { host: &host, gpu: gpu() }.read().unwrap();
    assert_eq!(notes(), notes::Noted::default(), "nor is it noted any more");
    create(&host, "A100D-3-40C", 0).unwrap();
    assert_eq!(fake.gpu_instances(gpu()).len(), 1);
    host.kernel().turn_vfs(&host, gpu(), Turn::Off).unwrap();
    destroy(&host, 0);
    NvidiaVfio.retire(&host, gpu()).unwrap();
    assert_eq!(notes(), notes::Noted::default());
}

#[test]
fn what_nvidia_smi_says_is_only_a_claim() {
    let cases: [(usize, &[&str]); 3] = [
        (0, &["MIG is off after `nvidia-smi -i 0000:41:00.0 -mig 1`, which said that all went well"]),
        (
            1,
            &[
                "there is no new GPU instance, and 3g at 4 was wanted",
                "-cgi 9:4`, which said that all went well",
            ],
        ),
        (2, &[]),
    ];
    for (n, words) in cases {
        let (fake, host) = machine(&FakeVgpus::a100(MigMode::Off), Some(MigMode::On));
        fake.ignore("nvidia-smi", n);
        let made = create(&host, "A100D-3-40C", 0);
        if words.is_empty() {
            made.unwrap();
            assert_holds(
                &told(NvidiaVfio.destroy(&host, gpu(), vf(0))),
                &["(3g.40gb at 4) is still there", "which said that all went well"],
            );
            destroy(&host, 0);
            NvidiaVfio.retire(&host, gpu()).unwrap();
        } else {
            assert_holds(&told(made), words);
        }
        assert_eq!((mig(&host).mode, fake.gpu_instances(gpu())), (MigMode::Off, vec![]));
        assert_eq!(seen(&host).sriov.unwrap().enabled, 0);
    }
    let (fake, host) = machine(&FakeVgpus::a100(MigMode::Off), Some(MigMode::On));
    create(&host, "A100D-3-40C", 0).unwrap();
    destroy(&host, 0);
    fake.fail("nvidia-smi", 0, Errno::EBUSY);
    let text = told(NvidiaVfio.retire(&host, gpu()));
    assert_holds(
        &text,
        &["MIG is on after `nvidia-smi -i 0000:41:00.0 -mig 0`, which failed (Device or resource busy)"],
    );
    NvidiaVfio.retire(&host, gpu()).unwrap();
    assert_eq!(mig(&host).mode, MigMode::Off);
}

#[test]
fn a_tool_that_cannot_be_asked_is_told_and_nothing_is_guessed() {
    let says = |text: &str| FakeSmi::Says(text.to_owned());
    let cases: [(FakeSmi, &[&str]); 5] = [
        (FakeSmi::Missing, &["Cannot run", "/usr/bin/nvidia-smi"]),
        (FakeSmi::Hangs, &["Waited 0.2 s for", "nvidia-smi to end"]),
        (
            FakeSmi::Fails("NVIDIA-SMI has failed because it couldn't communicate".to_owned()),
            &["failed (NVIDIA-SMI has failed because it couldn't communicate)"],
        ),
        (
            says("Perhaps, Enabled\n"),
            &["printed the line \"Perhaps, Enabled\", which is no line of MIG modes"],
        ),
        (says(""), &["printed the line \"\""]),
    ];
    for (how, words) in cases {
        let (fake, host) = on();
        let before = fake.snapshot();
        fake.nvidia_smi(Some(how));
        let gpu = seen(&host);
        let why = NvidiaVfio.unusable(&gpu).unwrap();
        assert_holds(&why, &["whether MIG is on is not known"]);
        assert_holds(&why, words);
        assert_eq!(NvidiaVfio.profiles(&gpu, &[]), []);
        assert_eq!(gpu.mig.unwrap().to_string(), "not known");
        assert_holds(&told(create(&host, "A100D-3-40C", 0)), words);
        assert_eq!(fake.snapshot(), before, "and nothing is done");
        fake.nvidia_smi(None);
        create(&host, "A100D-3-40C", 0).unwrap();
    }
    // Without MIG in its firmware.
    let (fake, host) = on();
    fake.nvidia_smi(Some(says("[N/A], [N/A]\n")));
    assert_eq!(seen(&host).mig, None);
    // A card without MIG is not asked.
    let fake = FakeHost::machine().gpu(FakeGpu::new(GPU).nvidia(8, &FakeVgpus::l40s())).build();
    fake.nvidia_smi(Some(FakeSmi::Missing));
    create(&fake.host(), "L40S-8Q", 0).unwrap();
}

#[test]
fn a_refused_type_or_a_failed_tool_leaves_no_gpu_instance() {
    let (fake, host) = machine(&FakeVgpus::a100(MigMode::Off).refuse(701), Some(MigMode::On));
    assert_holds(&told(create(&host, "A100D-3-40C", 0)), &["refuses A100D-3-40C (type 701)"]);
    assert_eq!((mig(&host).mode, fake.gpu_instances(gpu())), (MigMode::Off, vec![]));
    let (fake, host) = machine(&FakeVgpus::a100(MigMode::Off), Some(MigMode::On));
    fake.sriov_manage(&[FakeTurn::Lie]);
    assert_holds(&told(create(&host, "A100D-3-40C", 0)), &["0 of 8 VFs on after `sriov-manage -e`"]);
    assert_eq!(mig(&host).mode, MigMode::Off);
    assert_eq!(Notes { host: &host, gpu: gpu() }.read().unwrap(), notes::Noted::default());
}

/// The life of two slices, killed after the first write of any kind, after the second, and so on: what is
/// asked for again is done, and in the end nothing is left.
#[test]
fn a_vgpud_that_is_killed_at_any_write_goes_on_and_leaves_nothing() {
    type Step = (&'static str, fn(&Host));
    let steps: [Step; 5] = [
        ("create the first", |host| drop(create(host, "A100D-3-40C", 0).unwrap())),
        ("create the second", |host| drop(create(host, "A100D-4-40C", 1).unwrap())),
        ("destroy the first", |host| destroy(host, 0)),
        ("destroy the second", |host| destroy(host, 1)),
        ("retire", |host| NvidiaVfio.retire(host, gpu()).unwrap()),
    ];
    let mut killed = Vec::new();
    for n in 0.. {
        let (fake, host) = machine(&FakeVgpus::a100(MigMode::Off), Some(MigMode::On));
        fake.die_at(n);
        let mut died = None;
        for (what, step) in steps {
            let run = || panic::catch_unwind(panic::AssertUnwindSafe(|| step(&host)));
            if let Err(how) = run() {
                assert_eq!(how.downcast_ref::<&str>(), Some(&"killed"), "{what}: {how:?}");
                died = Some(what);
                run().unwrap();
            }
            let there = mig(&host).instances;
            assert!(there.iter().all(|gi| matches!(gi.used_by, InstanceUse::Vgpu(_))), "{what}: {there:?}");
        }
        assert_eq!((mig(&host).mode, fake.gpu_instances(gpu())), (MigMode::Off, vec![]), "{died:?}");
        assert_eq!(Notes { host: &host, gpu: gpu() }.read().unwrap(), notes::Noted::default());
        match died {
            Some(what) => killed.push(what),
            None => break,
        }
    }
    let count = |what: &str| killed.iter().filter(|step| **step == what).count();
    let counts: Vec<_> = steps.iter().map(|(what, _)| count(what)).collect();
    assert_eq!(counts, [4, 2, 2, 2, 2], "mode, VFs, instance, type; instance, type; and back");
}

/// A fault at every write: what was done before it is undone.
#[test]
fn a_fault_at_any_write_leaves_nothing_behind() {
    type Plant = fn(&FakeHost, usize);
    let faults: [Plant; 2] = [|fake, n| fake.fail("", n, Errno::EIO), |fake, n| fake.ignore("", n)];
    for plant in faults {
        for with_vfs in [false, true] {
            let mut failed = 0;
            loop {
                let (fake, host) = match with_vfs {
                    true => on(),
                    false => machine(&FakeVgpus::a100(MigMode::Off), Some(MigMode::On)),
                };
                if with_vfs {
                    create(&host, "A100D-1-10C", 3).unwrap();
                }
                let before = (mig(&host), Notes { host: &host, gpu: gpu() }.read().unwrap());
                plant(&fake, failed);
                match create(&host, "A100D-3-40C", 0) {
                    Ok(_) => break,
                    Err(error) => {
                        assert!(!matches!(error, Error::Undo { .. }), "{error}");
                        let after = (mig(&host), Notes { host: &host, gpu: gpu() }.read().unwrap());
                        assert_eq!(after, before, "after a fault at write {failed}: {error}");
                        assert_eq!(seen(&host).has_vfs(), with_vfs);
                        failed += 1;
                    }
                }
            }
            assert!(failed >= 2, "{failed}");
        }
    }
}

/// A driver may put several vGPUs of a type into one GPU instance: here each owner has one for itself.
#[test]
fn a_vgpu_beside_another_in_one_gpu_instance_is_refused() {
    let (_fake, host) = on();
    let first = create(&host, "A100D-1-10C", 0).unwrap();
    let second = create(&host, "A100D-1-10C", 1).unwrap();
    let folder = |made: &Instance| host.pci_device(made.address.unwrap());
    let check = || change::check(&host, gpu(), &profile("A100D-1-10C"), &folder(&second));
    check().unwrap();
    let id = |made: &Instance| folder(made).join("nvidia/gpu_instance_id");
    std::fs::copy(id(&first), id(&second)).unwrap();
    assert_holds(&told(check()), &["with the vGPU on VF 0", "an instance of its own"]);
}

/// Somebody turned VFs off and on under a slice, and then made a GPU instance of their own at the place that was
/// noted.
#[test]
fn what_ended_when_vfs_were_turned_on_is_not_vgpuds_any_more() {
    let (_fake, host) = on();
    let notes = Notes { host: &host, gpu: gpu() };
    notes.add(9, 4).unwrap();
    create(&host, "A100D-1-10C", 0).unwrap();
    let noted = notes.read().unwrap();
    assert!(!noted.made(9, 4) && !noted.is_without_instances(), "{noted:?}");
}
