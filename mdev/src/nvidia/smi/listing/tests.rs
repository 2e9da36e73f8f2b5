use super::*;
use proptest::prelude::*;

/// As NVIDIA's guide prints it (NVIDIA Multi-Instance GPU User Guide, "List GPU Instance Profiles").
const PROFILES: &str = "\
+-----------------------------------------------------------------------------+
| GPU instance profiles:                                                      |
| GPU   Name             ID    Instances   Memory     P2P    SM    DEC   ENC  |
|                              Free/Total   GiB              CE    JPEG  OFA  |
|=============================================================================|
|   0  MIG 1g.5gb        19     7/7        4.75       No     14     0     0   |
|                                                             1     0     0   |
+-----------------------------------------------------------------------------+
|   0  MIG 1g.5gb+me     20     1/1        4.75       No     14     1     0   |
|                                                             1     1     1   |
+-----------------------------------------------------------------------------+
|   0  MIG 7g.40gb        0     0/1        39.50      No     98     5     0   |
|                                                             7     1     1   |
+-----------------------------------------------------------------------------+
";

const INSTANCES: &str = "\
+---------------------------------------------------------+
| GPU instances:                                          |
| GPU   Name               Profile  Instance   Placement  |
|                            ID       ID       Start:Size |
|=========================================================|
|   0  MIG 1g.10gb+me        20       13          6:1     |
+---------------------------------------------------------+
|   0  MIG 3g.40gb            9        2          0:4     |
+---------------------------------------------------------+
";

const COMPUTE: &str = "\
+--------------------------------------------------------------------+
| Compute instances:                                                 |
| GPU     GPU       Name             Profile   Instance   Placement  |
|       Instance                       ID        ID       Start:Size |
|         ID                                                         |
|====================================================================|
|   0      2       MIG 1c.3g.40gb       0         0          0:1     |
+--------------------------------------------------------------------+
";

#[test]
fn profiles_with_their_counts() {
    let read = profiles(PROFILES).unwrap();
    let told: Vec<_> = read.iter().map(|row| (row.name.to_string(), row.id, row.free, row.total)).collect();
    assert_eq!(
        told,
        [
            ("1g.5gb".to_owned(), 19, 7, 7),
            ("1g.5gb+me".to_owned(), 20, 1, 1),
            ("7g.40gb".to_owned(), 0, 0, 1)
        ]
    );
}

#[test]
fn the_id_of_what_was_made() {
    const MADE: &str =
        "Successfully created GPU instance ID 13 on GPU  0 using profile MIG 3g.40gb (ID  9)\n";
    const COMPUTE: &str =
        "Successfully created compute instance ID  0 on GPU  0 GPU instance ID 13 using profile";
    assert_eq!(created(MADE), Some(13));
    assert_eq!(created(&format!("{MADE}{COMPUTE}\n")), Some(13));
    for none in ["", "All done.", COMPUTE, &MADE.replace("13", "x"), &MADE.repeat(2)] {
        assert_eq!(created(none), None, "{none}");
    }
}

#[test]
fn instances_with_their_places() {
    let read = instances(INSTANCES).unwrap();
    let told: Vec<_> =
        read.iter().map(|row| (row.name.to_string(), row.profile, row.id, row.start, row.size)).collect();
    assert_eq!(told, [("1g.10gb+me".to_owned(), 20, 13, 6, 1), ("3g.40gb".to_owned(), 9, 2, 0, 4)]);
    assert_eq!(compute_instances(COMPUTE).unwrap(), [ComputeRow { instance: 2 }]);
}

#[test]
fn modes() {
    let row = |current, pending| Ok(Some(ModeRow { current, pending }));
    assert_eq!(mode("Enabled, Enabled\n"), row(MigMode::On, MigMode::On));
    assert_eq!(mode("Disabled, Enabled"), row(MigMode::Off, MigMode::On));
    assert_eq!(mode("[N/A], [N/A]"), Ok(None));
    for odd in ["", "Enabled", "Enabled, [N/A]", "enabled, enabled", "Enabled, Enabled\nDisabled, Disabled"] {
        mode(odd).unwrap_err();
    }
    assert_eq!(
        mode("Maybe, Enabled\n").unwrap_err().to_string(),
        "the line \"Maybe, Enabled\", which is no line of MIG modes"
    );
}

#[test]
fn anything_new_is_shown() {
    let new = INSTANCES.replace("|   0  MIG 3g.40gb ", "|   0  MIG 3g.40gb  new ");
    assert_eq!(
        instances(&new).unwrap_err().to_string(),
        "the line \"|   0  MIG 3g.40gb  new            9        2          0:4     |\", which is no line of \
         GPU instances"
    );
    for (text, old, new) in [
        (INSTANCES, "0:4", "0:400"),
        (INSTANCES, "0:4", "04"),
        (INSTANCES, "3g.40gb", "3g.fast"),
        (INSTANCES, "Placement", "Position"),
        (INSTANCES, "+-\n| GPU", "+-\nWarning: persistence mode is off\n| GPU"),
    ] {
        assert!(instances(&text.replace(old, new)).is_err() || !text.contains(old), "{new}");
    }
    for (old, new) in [("7/7", "7"), (" 4.75  ", " lots  "), (" No ", " ? "), ("1     1     1", "1     1")] {
        assert!(PROFILES.contains(old), "{old}");
        profiles(&PROFILES.replace(old, new)).unwrap_err();
    }
    compute_instances(&COMPUTE.replace("|   0      2", "|   0      x")).unwrap_err();
    assert_eq!(instances("").unwrap_err().to_string(), "GPU instances without their end");
}

#[test]
fn a_table_that_was_cut_off_is_no_table() {
    let ends = |text: &str| -> Vec<usize> { text.match_indices('\n').map(|(at, _)| at).collect() };
    for text in [INSTANCES, PROFILES] {
        for end in ends(text).into_iter().rev().skip(1).step_by(2) {
            let cut = &text[..end];
            if !cut.ends_with("-+") {
                assert!(instances(cut).is_err() && profiles(cut).is_err(), "{cut}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_readers(text in "(\\+--\\+|\\||\\|=\\||\n| |MIG|1g.5gb|[0-9]{1,11}|[0-9]:[0-9]|7/7|No|GPU|ID|.){0,40}") {
        let _ = (mode(&text), profiles(&text), instances(&text), compute_instances(&text));
    }
}
