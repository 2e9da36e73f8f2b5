use super::*;
use nix::sys::stat::{makedev, mknod};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};
use tempfile::TempDir;

fn tree() -> (TempDir, Host, VfioNodes) {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path());
    fs::create_dir_all(host.path("/dev/vfio/devices")).unwrap();
    let (group, cdev) = (host.path("/dev/vfio/12"), host.path("/dev/vfio/devices/vfio3"));
    fs::write(&group, "").unwrap();
    fs::write(&cdev, "").unwrap();
    (dir, host, VfioNodes { group: Some(group), cdev: Some(cdev) })
}

#[test]
fn settings_choose_and_auto_prefers_the_cdev() {
    let (_dir, host, nodes) = tree();
    let group = Node::Group(nodes.group.clone().unwrap());
    let cdev = Node::Cdev(nodes.cdev.clone().unwrap());
    assert_eq!(choose(&host, &nodes, NodeKind::Auto).unwrap(), cdev);
    assert_eq!(choose(&host, &nodes, NodeKind::Cdev).unwrap(), cdev);
    assert_eq!(choose(&host, &nodes, NodeKind::Group).unwrap(), group);
    let only_group = VfioNodes { cdev: None, ..nodes };
    assert_eq!(choose(&host, &only_group, NodeKind::Auto).unwrap(), group);
}

#[test]
fn a_kind_that_the_host_lacks_is_refused_with_the_way_out() {
    let (_dir, host, nodes) = tree();
    let refusal = |nodes: &VfioNodes, kind| choose(&host, nodes, kind).unwrap_err().to_string();
    let only_group = VfioNodes { cdev: None, ..nodes.clone() };
    assert!(refusal(&only_group, NodeKind::Cdev).contains("set node = \"group\" under [vfio]"));
    let only_cdev = VfioNodes { group: None, ..nodes.clone() };
    assert!(refusal(&only_cdev, NodeKind::Group).contains("set node = \"cdev\" under [vfio]"));
    assert!(refusal(&VfioNodes::default(), NodeKind::Auto).contains("bind it to its VFIO driver"));
    fs::remove_file(nodes.group.as_ref().unwrap()).unwrap();
    assert!(refusal(&nodes, NodeKind::Group).contains("has vanished"));
}

#[test]
fn paths_tell_the_kinds_of_nodes_apart() {
    assert_eq!(Node::from_path("/dev/vfio/12").unwrap(), Node::Group("/dev/vfio/12".into()));
    let cdev = "/dev/vfio/devices/vfio3";
    assert_eq!(Node::from_path(cdev).unwrap(), Node::Cdev(cdev.into()));
    for other in ["/dev/vfio/vfio", "/dev/iommu", "/dev/vfio/devices/3", "/dev/vfio/noiommu-1", "12", ""] {
        assert!(Node::from_path(other).is_err(), "{other}");
    }
}

#[test]
fn links_and_folders_are_refused() {
    let (_dir, host, nodes) = tree();
    let path = nodes.group.clone().unwrap();
    fs::remove_file(&path).unwrap();
    symlink(nodes.cdev.as_ref().unwrap(), &path).unwrap();
    let node = Node::Group(path.clone());
    let refusal = grant(&host, &node, Consumer::default()).unwrap_err().to_string();
    assert!(refusal.contains("is a symbolic link, not a character device"), "{refusal}");
    assert!(choose(&host, &nodes, NodeKind::Group).is_err());
    assert!(revoke(&host, &node).is_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(grant(&host, &node, Consumer::default()).unwrap_err().to_string().contains("is a folder"));
}

#[test]
fn a_plain_file_is_no_node_on_a_real_host() {
    let (_dir, _, nodes) = tree();
    let refusal = choose(&Host::default(), &nodes, NodeKind::Auto).unwrap_err().to_string();
    assert!(refusal.contains("is a plain file"), "{refusal}");
}

#[test]
fn grant_narrows_the_mode_and_a_node_that_is_gone_needs_no_revoking() {
    let (_dir, host, nodes) = tree();
    let node = Node::Group(nodes.group.unwrap());
    fs::set_permissions(node.path(), fs::Permissions::from_mode(0o666)).unwrap();
    let found = fs::metadata(node.path()).unwrap();
    let own = Consumer { uid: found.uid(), gid: Some(found.gid()) };
    grant(&host, &node, own).unwrap();
    assert_eq!(fs::metadata(node.path()).unwrap().mode() & 0o7777, 0o660);
    // Without a group it is root's, which a user who is not root cannot give it.
    if !nix::unistd::geteuid().is_root() {
        vgpud_mdev::fake::skip("giving a file away needs root");
        return;
    }
    let own = Consumer { gid: None, ..own };
    grant(&host, &node, own).unwrap();
    assert_eq!(fs::metadata(node.path()).unwrap().mode() & 0o7777, 0o600);
    fs::remove_file(node.path()).unwrap();
    assert!(grant(&host, &node, own).unwrap_err().to_string().contains("has vanished"));
    revoke(&host, &node).unwrap();
}

#[test]
fn a_device_changes_hands_and_comes_back() {
    let (_dir, _, nodes) = tree();
    let path = nodes.group.unwrap();
    fs::remove_file(&path).unwrap();
    // The null device, under a node's name.
    if let Err(errno) = mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)) {
        vgpud_mdev::fake::skip(format_args!("making a device node needs root: {errno}"));
        return;
    }
    let (host, node) = (Host::default(), Node::Group(path));
    let seen = || fs::metadata(node.path()).map(|now| (now.uid(), now.gid(), now.mode() & 0o7777)).unwrap();
    grant(&host, &node, Consumer { uid: 1234, gid: None }).unwrap();
    assert_eq!(seen(), (1234, 0, 0o600));
    grant(&host, &node, Consumer { uid: 1234, gid: Some(2345) }).unwrap();
    assert_eq!(seen(), (1234, 2345, 0o660));
    revoke(&host, &node).unwrap();
    assert_eq!(seen(), (0, 0, 0o600));
}
