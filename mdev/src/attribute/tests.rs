use super::*;
use nix::errno::Errno;
use std::os::unix::fs::symlink;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_write_is_one_and_neither_creates_nor_truncates() {
    let folder = folder();
    let host = Host::new(folder.path());
    let path = host.path("sys/attribute");
    fs::create_dir(host.path("sys")).unwrap();
    let error = host.write_attr(&path, "4").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Cannot write \"4\" to {}: the attribute is not there: the device is gone, or its driver lacks it",
            path.display()
        )
    );
    assert!(!exists(&path));
    fs::write(&path, "0000").unwrap();
    host.write_attr(&path, "4").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "4000");
}

#[test]
fn texts_are_trimmed_bounded_and_may_be_missing() {
    let folder = folder();
    let path = folder.path().join("a");
    assert_eq!(read(&path).unwrap(), None);
    assert_eq!(read(&path.join("below")).unwrap(), None);
    assert_eq!(link(&path).unwrap(), None);
    assert_eq!(names(&path).unwrap(), Vec::<String>::new());
    assert_eq!(parse::<u16>(&path, "a number").unwrap(), None);
    fs::write(&path, b" 0x1002\n").unwrap();
    assert_eq!(read(&path).unwrap().as_deref(), Some("0x1002"));
    fs::write(&path, vec![b'x'; 100 << 10]).unwrap();
    assert_eq!(read(&path).unwrap().unwrap().len(), 64 << 10);
    fs::write(&path, b"\xff8\n").unwrap();
    assert_eq!(read(&path).unwrap().as_deref(), Some("\u{fffd}8"));
    let error = parse::<u16>(&path, "a number").unwrap_err();
    assert_eq!(error.to_string(), format!("{} holds \"\u{fffd}8\", which is not a number", path.display()));
}

#[test]
fn what_is_there_and_cannot_be_read_is_an_error() {
    let folder = folder();
    let told = |error: Error| error.to_string();
    let expected = format!("Cannot read {}", folder.path().display());
    assert_eq!(told(read(folder.path()).unwrap_err()), expected);
    assert_eq!(told(link(folder.path()).unwrap_err()), expected);
}

#[test]
fn names_come_in_order_and_links_by_their_last_part() {
    let folder = folder();
    for name in ["b", "a"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    symlink("../../drivers/vfio-pci", folder.path().join("driver")).unwrap();
    assert_eq!(names(folder.path()).unwrap(), ["a", "b", "driver"]);
    assert_eq!(link(&folder.path().join("driver")).unwrap().as_deref(), Some("vfio-pci"));
    assert!(!exists(&folder.path().join("driver")), "leads nowhere");
}

/// Counts pauses instead of sleeping.
#[derive(Debug, Default)]
struct Clock(std::sync::atomic::AtomicUsize);

impl Kernel for Clock {
    fn write(&self, _: &Path, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn pause(&self, _: Duration) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_wait_ends_when_found_or_when_patience_does() {
    let clock = std::sync::Arc::new(Clock::default());
    let kernel: std::sync::Arc<dyn Kernel> = clock.clone();
    let host = Host::new("/").with_kernel(kernel).with_patience(Duration::from_millis(50));
    let pauses = || clock.0.load(std::sync::atomic::Ordering::Relaxed);
    let mut looks = 0;
    let found = host.wait_for(String::new, || {
        looks += 1;
        Ok((looks == 4).then_some(looks))
    });
    assert_eq!((found.unwrap(), pauses()), (4, 3));
    let never = host.wait_for::<()>(|| "a node".to_owned(), || Ok(None));
    assert_eq!(never.unwrap_err().to_string(), "Waited 0.05 s for a node, in vain");
    assert_eq!(pauses(), 13);
    let impatient = host.with_patience(Duration::ZERO);
    assert_eq!(impatient.wait_for(String::new, || Ok(Some(1))).unwrap(), 1, "looks once at least");
}

#[test]
fn an_errno_means_something_else_for_each_attribute() {
    let told = |attribute: &str, errno: Errno| hint::hint(Path::new(attribute), &errno.into());
    let cases = [
        ("sriov_numvfs", Errno::EPERM, ": the GPU's driver forbids VFs now; is vgpud root?"),
        ("bind", Errno::ENODEV, ": the driver does not take this device, or the device is gone"),
        ("bind", Errno::EBUSY, ": the device is on another driver, or something holds its resources"),
        ("bind", Errno::EAGAIN, ": the driver waits for another driver"),
        ("unbind", Errno::ENODEV, ": the device is not on this driver any more"),
        ("create", Errno::EEXIST, ": a mediated device of that UUID exists already"),
        ("remove", Errno::EAGAIN, ": something still holds the device; end its VM first"),
        ("remove", Errno::ENODEV, ": the device is being removed already"),
        ("reset", Errno::EAGAIN, ": something holds the device; end its VM first"),
        ("driver_override", Errno::EINVAL, ": the kernel takes no such driver name"),
        ("anything", Errno::EPERM, ": vgpud must be root"),
        ("anything", Errno::ENODEV, ": the device is gone"),
        ("anything", Errno::EIO, ""),
    ];
    for (attribute, errno, text) in cases {
        assert_eq!(told(attribute, errno), text, "{attribute} {errno}");
    }
}
