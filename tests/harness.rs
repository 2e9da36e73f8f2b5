//! The lab itself, tested on the machine (not inside a host): hosts of each kind, jobs, trouble, and
//! one micro-VM that owns a virtual function. `./x test` runs it; by hand, as root:
//! `cargo test -p vgpud-lab --features harness --test harness`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use vgpud_lab::{
    Error, Host, HostSpec, Job, Lab, Length, Progress, Stream, TestOutcome, VfioFlavour, run_test_binary,
};

fn boot(spec: &HostSpec) -> Host {
    Lab::prepare(Progress::Lines).unwrap().boot(spec).unwrap()
}

fn sh(host: &Host, script: &str) -> String {
    let job = Job::script(script).deadline(Duration::from_secs(180));
    host.run(&job).unwrap().success().unwrap().stdout
}

/// Cuts the first SR-IOV GPU and gives one VF to a micro-VM by the group node.
const MICRO_VM: &str = r#"
pf=$(dirname "$(ls /sys/bus/pci/devices/*/sriov_totalvfs | head -n1)")
echo 0 > $pf/sriov_drivers_autoprobe
echo 2 > $pf/sriov_numvfs
vf=$(basename "$(readlink $pf/virtfn0)")
echo vfio-pci > /sys/bus/pci/devices/$vf/driver_override
echo $vf > /sys/bus/pci/drivers_probe
code=0
timeout 120 qemu-system-x86_64 -machine microvm,pcie=on,acpi=on,rtc=on,pit=off -accel kvm -cpu host -m 256 \
  -nodefaults -nographic -no-reboot -serial file:/tmp/console -monitor none \
  -kernel /lab/vm/vmlinuz -initrd /lab/vm/initrd \
  -append "console=ttyS0 quiet panic=-1 -- gpu $*" \
  -device isa-debug-exit,iobase=0x501,iosize=1 -device vfio-pci,host=$vf < /dev/null || code=$?
cat /tmp/console
echo "qemu ended with $code"
echo 0 > $pf/sriov_numvfs
"#;

fn micro_vm(host: &Host, arguments: &str) -> String {
    sh(host, &format!("set -- {arguments}\n{MICRO_VM}"))
}

#[test]
fn debians_vfio_has_group_nodes_only_and_a_micro_vm_owns_a_vf() {
    let host = boot(&HostSpec::new(VfioFlavour::Debian).gpus(["mi300x"]));
    assert_eq!(sh(&host, "ls /dev/vfio; test -e /dev/iommu || echo none"), "vfio\nnone\n");

    let begun = Instant::now();
    let said = micro_vm(&host, "list write tenant-a read check tenant-a");
    eprintln!("micro-VM: {:.1} s\n{said}", begun.elapsed().as_secs_f32());
    let gpus: Vec<&str> = said.lines().filter(|line| line.contains(" class ")).collect();
    assert_eq!(gpus.len(), 1, "{said}");
    assert!(gpus[0].contains("1002:74b5"), "{said}");
    assert!(said.contains("wrote tenant-a: 0 of 4096 pages differ"), "{said}");
    assert!(said.contains("nonzero 4096 of 4096 pages, text tenant-a"), "{said}");
    assert!(said.contains("qemu ended with 0\n"), "{said}");

    let said = micro_vm(&host, "check somebody-elses");
    // isa-debug-exit turns the exit code n into QEMU's 2n + 1.
    assert!(said.contains("qemu ended with 3\n"), "{said}");
    host.shutdown().unwrap();
}

#[test]
fn the_built_vfio_has_device_nodes() {
    let host = boot(&HostSpec::new(VfioFlavour::Cdev).gpus(["mi300x"]));
    sh(
        &host,
        r"test -c /dev/iommu
        pf=$(dirname $(ls /sys/bus/pci/devices/*/sriov_totalvfs | head -n1))
        echo 0 > $pf/sriov_drivers_autoprobe
        echo 1 > $pf/sriov_numvfs
        vf=$(basename $(readlink $pf/virtfn0))
        echo vfio-pci > /sys/bus/pci/devices/$vf/driver_override
        echo $vf > /sys/bus/pci/drivers_probe
        test -c /dev/vfio/devices/$(ls /sys/bus/pci/devices/$vf/vfio-dev)",
    );
    host.shutdown().unwrap();
}

#[test]
fn a_host_without_an_iommu_has_no_groups() {
    let host = boot(&HostSpec::default().gpus(["mi300x"]).without_iommu());
    assert_eq!(sh(&host, "ls /sys/kernel/iommu_groups | wc -l"), "0\n");
    host.shutdown().unwrap();
}

#[test]
fn jobs() {
    let host = boot(&HostSpec::default());

    let failed = host.run(&Job::script("echo out; echo err >&2; exit 3")).unwrap();
    assert_eq!((failed.code, failed.stdout.as_str(), failed.stderr.as_str()), (3, "out\n", "err\n"));
    assert!(matches!(failed.success(), Err(Error::Job { code: 3, .. })));
    assert_eq!(host.run(&Job::new(["no-such-program"])).unwrap().code, 127);
    assert_eq!(
        host.run(&Job::new(["sh", "-c", "pwd; echo $A"]).folder("/tmp").env("A", "it's")).unwrap().stdout,
        "/tmp\nit's\n"
    );

    // Lines come while the program runs: the second is only written once the first has come.
    let go = host.share().join("go");
    let job = Job::script("echo first; until [ -e /mnt/host/go ]; do sleep 0.1; done; printf second");
    let mut lines = Vec::new();
    host.run_streaming(&job, |stream, line| {
        lines.push((stream, line.to_owned()));
        std::fs::write(&go, "").unwrap();
    })
    .unwrap();
    assert_eq!(lines, [(Stream::Stdout, "first".to_owned()), (Stream::Stdout, "second".to_owned())]);

    // Two at once: each waits for the other.
    let meet = |mine: &str, other: &str| {
        Job::script(&format!("touch /tmp/{mine}; until [ -e /tmp/{other} ]; do sleep 0.1; done"))
    };
    let (a, b) = (meet("a", "b"), meet("b", "a"));
    let (a, b) = (host.start(&a).unwrap(), host.start(&b).unwrap());
    assert_eq!(b.wait().unwrap().code, 0);
    assert_eq!(a.wait().unwrap().code, 0);

    // Killed with all that it started, by hand and by its deadline.
    let running = host.start(&Job::script("setsid sleep 1000 & sleep 1000")).unwrap();
    assert_eq!(running.kill().unwrap().code, 137);
    // Even when the order comes before the program has begun.
    let running = host.start(&Job::new(["sleep", "1000"])).unwrap();
    assert_eq!(running.kill().unwrap().code, 137);
    let late = host.run(&Job::script("echo before; sleep 1000").deadline(Duration::from_secs(3)));
    let text = late.unwrap_err().to_string();
    assert!(text.contains("sleep 1000") && text.contains("before"), "{text}");
    assert!(!text.contains("does not answer"), "{text}");
    assert_eq!(sh(&host, "pgrep -c sleep || true"), "0\n");

    host.shutdown().unwrap();
}

#[test]
fn a_host_that_panics_ends_in_an_error_with_its_console() {
    let host = boot(&HostSpec::default());
    let error = host.run(&Job::script("echo c > /proc/sysrq-trigger")).unwrap_err();
    assert!(matches!(error, Error::HostDown { .. }), "{error}");
    assert!(error.to_string().contains("Kernel panic - not syncing: sysrq triggered crash"), "{error}");
}

#[test]
fn a_module_that_does_not_load_is_an_error_of_boot() {
    let lab = Lab::prepare(Progress::Lines).unwrap();
    let spec = HostSpec::default().kernel_parameter("module_blacklist=vfio_pci");
    let error = lab.boot(&spec).unwrap_err();
    assert!(matches!(&error, Error::HostTrouble { trouble, .. } if trouble.contains("vfio-pci")), "{error}");
}

/// What [`test_binaries_run_in_a_host`] runs in the host, from this very binary.
mod sample {
    #[test]
    fn passes() {}

    #[test]
    fn passes_on_the_machine_and_fails_in_the_host() {
        assert!(!std::path::Path::new(vgpud_lab::SHARE).is_dir());
    }

    #[test]
    #[ignore = "long: a sample"]
    fn takes_long() {}
}

#[test]
fn test_binaries_run_in_a_host() {
    let host = boot(&HostSpec::default());
    let binary = std::env::current_exe().unwrap();
    let mut lines = 0;
    let limit = Duration::from_secs(60);
    let report =
        run_test_binary(&host, &binary, &["sample::"], Length::Default, limit, |_, _| lines += 1).unwrap();
    let results: Vec<_> =
        report.results.iter().map(|result| (result.name.as_str(), result.outcome.clone())).collect();
    assert_eq!(
        results,
        [
            ("sample::passes", TestOutcome::Passed),
            ("sample::passes_on_the_machine_and_fails_in_the_host", TestOutcome::Failed),
            ("sample::takes_long", TestOutcome::Skipped("long: a sample".to_owned())),
        ]
    );
    assert!(!report.success() && report.code == 101 && lines > 3, "{report:?}");
    assert!(report.text.contains("is_dir"), "{}", report.text);
    let long = run_test_binary(&host, &binary, &["takes_long"], Length::Long, limit, |_, _| {}).unwrap();
    assert!(long.success() && long.results[0].outcome == TestOutcome::Passed, "{long:?}");
    host.shutdown().unwrap();
}
