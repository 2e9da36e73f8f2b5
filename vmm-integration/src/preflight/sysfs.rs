//! What sysfs shows without the device being touched.

use super::{Check, CheckName, check::chain};
use crate::{Error, isolation};
use vgpud_mdev::{Host, Instance, InstanceName, attribute};

pub(super) fn checks(host: &Host, instance: &Instance) -> Vec<Check> {
    vec![
        driver(instance),
        parent(instance),
        group(host, instance),
        reset_methods(instance),
        numa_node(instance),
    ]
}

fn driver(instance: &Instance) -> Check {
    let name = CheckName::Driver;
    let mend = "bind it to vfio-pci or its vendor's VFIO driver";
    match (&instance.driver, instance.nodes.is_empty()) {
        (None, _) => Check::fail(name, "it is on no driver", mend),
        (Some(driver), true) => Check::fail(name, format!("{driver} gives it no VFIO node"), mend),
        (Some(driver), false) => Check::pass(name, driver.to_string()),
    }
}

/// The link on the mdev bus leads to .../<parent>/<UUID>, and the parent may be a VF of the GPU.
fn parent_of_mdev(instance: &Instance) -> Result<Option<String>, vgpud_mdev::Error> {
    let Some(real) = attribute::folder(&instance.sysfs)? else { return Ok(None) };
    let Some(parent) = real.parent() else { return Ok(None) };
    let name = parent.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(attribute::link(&parent.join("physfn"))?.or(name))
}

fn parent(instance: &Instance) -> Check {
    let name = CheckName::Parent;
    let parent = match instance.name {
        InstanceName::Vf(_) => attribute::link(&instance.sysfs.join("physfn")),
        InstanceName::Mdev(_) => parent_of_mdev(instance),
        InstanceName::Whole => return Check::skip(name, "it is the GPU itself"),
    };
    let gpu = instance.gpu.to_string();
    match parent {
        Ok(Some(parent)) if parent == gpu => Check::pass(name, gpu),
        Ok(Some(parent)) => Check::fail(
            name,
            format!("it is a slice of {parent} and not of {gpu}"),
            "look who divides these GPUs beside vgpud",
        ),
        Ok(None) => Check::fail(
            name,
            format!("it is no longer a slice of {gpu}"),
            "look in the kernel log for what became of the GPU",
        ),
        Err(error) => Check::fail(name, chain(&error), "look in the kernel log"),
    }
}

fn group(host: &Host, instance: &Instance) -> Check {
    let name = CheckName::IommuGroup;
    match isolation::check_group(host, instance) {
        Ok(()) => {
            let group = instance.iommu_group.as_ref();
            let seen = group.map_or_else(String::new, |group| format!("{} alone", group.number));
            let shared = group.filter(|group| group.members.len() > 1);
            let seen = shared.map_or(seen, |group| {
                format!("{} with {} members, none of them in use", group.number, group.members.len())
            });
            Check::pass(name, seen)
        }
        Err(Error::Isolation(error)) => {
            Check::fail(name, error.fault(), error.mend().unwrap_or("look in the kernel log"))
        }
        Err(error) => Check::fail(name, chain(&error), "look in the kernel log"),
    }
}

fn reset_methods(instance: &Instance) -> Check {
    let name = CheckName::ResetMethods;
    if let InstanceName::Mdev(_) = instance.name {
        return Check::skip(name, "a mediated device's reset is its driver's");
    }
    match attribute::read(&instance.sysfs.join("reset_method")) {
        Ok(Some(methods)) if !methods.is_empty() => Check::pass(name, methods),
        Ok(_) => Check::fail(name, "it has none", "keep it for one owner: nothing makes it clean"),
        Err(error) => Check::fail(name, chain(&error), "look in the kernel log"),
    }
}

fn numa_node(instance: &Instance) -> Check {
    let name = CheckName::NumaNode;
    let file = match instance.name {
        InstanceName::Vf(_) | InstanceName::Whole => instance.sysfs.join("numa_node"),
        InstanceName::Mdev(_) => return Check::skip(name, "a mediated device has its parent's"),
    };
    match attribute::read(&file) {
        Ok(Some(node)) if node != "-1" => Check::pass(name, node),
        Ok(_) => Check::skip(name, "the firmware names none"),
        Err(error) => Check::fail(name, chain(&error), "look in the kernel log"),
    }
}
