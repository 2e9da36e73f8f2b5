//! The definition of the command line.

use super::args::{Cli, Command, OutputFormat};
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

fn refusal(line: &str) -> ErrorKind {
    parse(line).expect_err(line).kind()
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_help_with_an_example() {
    let mut cli = Cli::command();
    cli.build();
    for command in cli.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let help = command.render_long_help().to_string();
        assert!(help.contains("Example:\n  vgpuctl "), "{help}");
        assert!(command.get_about().is_some(), "{help}");
    }
    assert!(Cli::command().render_help().to_string().contains("Exit codes:"));
}

#[test]
fn create_needs_a_size() {
    assert_eq!(refusal("vgpuctl create"), ErrorKind::MissingRequiredArgument);
    assert_eq!(refusal("vgpuctl create --gpu 41:00.0"), ErrorKind::MissingRequiredArgument);
    for line in [
        "vgpuctl create vf-8",
        "vgpuctl create --memory 20GiB",
        "vgpuctl create --compute 25% --count 3",
        "vgpuctl create --compute 25%+ --enforced",
        "vgpuctl create --class inference-small --gpu 41:00.0",
        "vgpuctl profiles --class inference-small",
        "vgpuctl create vf-8 --memory 20GiB --compute 12.5% --gpu 0000:41:00.0 --owner a/b --dry-run",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn a_class_stands_for_a_whole_request() {
    for line in [
        "vgpuctl create vf-8 --class small",
        "vgpuctl create --class small --memory 20GiB",
        "vgpuctl create --class small --compute 25%",
        "vgpuctl create --class small --compute 25% --enforced",
        "vgpuctl profiles --class small --memory 20GiB",
    ] {
        assert_eq!(refusal(line), ErrorKind::ArgumentConflict, "{line}");
    }
    for line in ["vgpuctl create --memory 1GiB --enforced", "vgpuctl profiles --enforced"] {
        assert_eq!(refusal(line), ErrorKind::MissingRequiredArgument, "{line}");
    }
}

#[test]
fn wrong_values_are_refused_with_what_would_be_right() {
    for (line, words) in [
        ("vgpuctl create --memory 20GB", "20GiB"),
        ("vgpuctl create --compute 250%", "100%"),
        ("vgpuctl create --compute 25%-", "25%+"),
        ("vgpuctl create --class Big", "a-z"),
        ("vgpuctl create vf-8 --count 0", "1.."),
        ("vgpuctl gpus 41:00", "0000:41:00.0"),
        ("vgpuctl lease s1 --owner a,b", "A-Z"),
        ("vgpuctl history --since yesterday", "2026-11-24"),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{line}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(refusal("vgpuctl lease s1"), ErrorKind::MissingRequiredArgument);
    assert_eq!(refusal("vgpuctl destroy"), ErrorKind::MissingRequiredArgument);
    assert_eq!(refusal("vgpuctl slice"), ErrorKind::InvalidSubcommand);
}

#[test]
fn global_options_stand_anywhere() {
    for line in ["vgpuctl --output json -q slices", "vgpuctl slices --output json --quiet"] {
        let cli = parse(line).unwrap();
        assert!(cli.globals.output == OutputFormat::Json && cli.globals.quiet, "{line}");
    }
}

#[test]
fn a_guest_command_keeps_its_own_options() {
    let cli = parse("vgpuctl run s17 --memory 2GiB -- /bin/check --output none -q").unwrap();
    assert!(!cli.globals.quiet);
    let Command::Run(args) = cli.command else { panic!("{:?}", cli.command) };
    assert!(format!("{args:?}").contains(r#"command: ["/bin/check", "--output", "none", "-q"]"#), "{args:?}");
    assert_eq!(refusal("vgpuctl run s17 /bin/check"), ErrorKind::UnknownArgument);
}
