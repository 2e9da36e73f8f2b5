use super::*;

#[test]
fn levels_are_read_as_they_are_written_and_go_deeper() {
    for level in Level::ALL {
        assert_eq!(level.to_string().parse(), Ok(level));
    }
    assert!(Level::Sysfs < Level::Open && Level::Open < Level::Full);
    assert!("deep".parse::<Level>().unwrap_err().to_string().contains("sysfs, open or full"));
}

#[test]
fn a_check_is_one_flat_object_in_json() {
    let check = Check::fail(CheckName::IommuGroup, "shared", "move it");
    let text = serde_json::to_string(&check).unwrap();
    assert_eq!(text, r#"{"name":"iommu-group","outcome":"fail","seen":"shared","mend":"move it"}"#);
    assert_eq!(serde_json::from_str::<Check>(&text).unwrap(), check);
    assert_eq!(check.to_string(), "FAIL iommu-group   shared; move it");
}
