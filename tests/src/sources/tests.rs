use super::*;

const INSTALLER: &str = "\
Types: deb deb-src
# a comment inside
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

#[test]
fn deb822_with_comments_and_continuation_lines() {
    let sources = parse_deb822(INSTALLER);
    assert_eq!(sources.len(), 2);
    assert_eq!(sources[0].components, ["main", "contrib"]);
    assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
    assert_eq!(
        best(sources, "bookworm").and_then(|source| source.line_for("trixie")).unwrap(),
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian/ trixie main"
    );
}

#[test]
fn deb822_leaves_out_disabled_and_source_only_stanzas() {
    let text = "Types: deb\nEnabled: no\nURIs: a:\nSuites: s\n\n\nTypes: deb-src\nURIs: b:\nSuites: s\n";
    assert_eq!(parse_deb822(text), []);
}

#[test]
fn one_line_entries() {
    let plain = parse_line("deb http://mirror.example/debian bookworm main contrib # why").unwrap();
    assert_eq!(plain.components, ["main", "contrib"]);
    assert_eq!(plain.line_for("trixie").unwrap(), "deb http://mirror.example/debian trixie main");
    let signed = parse_line("deb\t[arch=amd64 signed-by=/k.gpg] https://h/x  bookworm main").unwrap();
    assert_eq!(signed.signed_by.as_deref(), Some("/k.gpg"));
    assert_eq!(signed.uris, ["https://h/x"]);
    for other in
        ["deb-src http://h/debian bookworm main", "# deb http://h/debian bookworm main", "", "deb [x"]
    {
        assert_eq!(parse_line(other), None, "{other}");
    }
}

#[test]
fn a_third_party_with_debians_code_name_is_not_debian() {
    let third = parse_line(
        "deb [signed-by=/usr/share/keyrings/vendor.gpg] https://vendor.example/debian bookworm main",
    )
    .unwrap();
    let unsigned = parse_line("deb https://other.example/apt bookworm main").unwrap();
    let debian = parse_line("deb http://mirror.example/debian bookworm main").unwrap();
    assert_eq!(best(vec![third.clone()], "bookworm"), None);
    assert_eq!(best(vec![third, unsigned, debian.clone()], "bookworm"), Some(debian));
}

#[test]
fn security_and_backports_alone_are_not_the_archive() {
    let entries = ["bookworm-security", "bookworm-backports", "bookworm-updates"]
        .map(|suite| parse_line(&format!("deb http://mirror.example/debian {suite} main")).unwrap());
    assert_eq!(best(entries.to_vec(), "bookworm"), None);
}

#[test]
fn cloud_images_name_a_list_of_mirrors() {
    let cloud = parse_deb822(
        "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: trixie\nComponents: main\n",
    );
    assert!(best(cloud, "trixie").is_some());
}

#[test]
fn a_machines_folder_is_read_whole_and_strangers_are_skipped() {
    let apt = tempfile::tempdir().unwrap();
    let release = apt.path().join("os-release");
    fs::write(&release, "ID=debian\nVERSION_CODENAME=bookworm\n").unwrap();
    let none = debian_archive(apt.path(), &release);
    assert!(matches!(none, Err(Error::NoArchive { .. })), "{none:?}");
    fs::create_dir(apt.path().join("sources.list.d")).unwrap();
    fs::write(apt.path().join("sources.list.d/debian.sources"), INSTALLER).unwrap();
    fs::write(apt.path().join("sources.list.d/x.list.disabled"), "deb http://no/debian bookworm main\n")
        .unwrap();
    let found = debian_archive(apt.path(), &release).unwrap();
    assert_eq!(found.uris, ["http://mirror.example/debian/"]);
}
