//! Expected outputs as files: `golden/CASE.text` has what people see, `golden/CASE.json` what
//! programs read. `VGPUCTL_REGENERATE=1 cargo test --test vgpuctl` writes them anew.

use crate::{
    canned::Canned,
    process::{Finished, vgpuctl},
};
use std::{env, fmt::Write as _, fs, path::PathBuf};

/// Runs the command in both forms and compares all that came out, the exit code too.
pub async fn check(case: &str, server: &Canned, args: &[&str]) {
    let text = vgpuctl(server.socket(), args).await;
    compare(&format!("{case}.text"), &server.neutral(&transcript(&text)));
    let json = vgpuctl(server.socket(), &[args, &["--output", "json"]].concat()).await;
    let json = Finished { stdout: pretty(&json.stdout), stderr: pretty(&json.stderr), ..json };
    compare(&format!("{case}.json"), &server.neutral(&transcript(&json)));
}

fn transcript(finished: &Finished) -> String {
    let mut text = finished.stdout.clone();
    if !finished.stderr.is_empty() {
        let _ = write!(text, "--- stderr\n{}", finished.stderr);
    }
    let _ = writeln!(text, "--- exit {}", finished.code);
    text
}

/// Each line is a JSON document; indented for the reader of the golden file.
fn pretty(lines: &str) -> String {
    lines.lines().fold(String::new(), |mut text, line| {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert_eq!(value["version"], 1, "{line}");
        let _ = writeln!(text, "{value:#}");
        text
    })
}

/// Compares one text with its file.
pub fn compare(file: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/cli/tests/golden").join(file);
    if env::var_os("VGPUCTL_REGENERATE").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(actual == expected, "{file} differs\n--- expected\n{expected}\n--- got\n{actual}");
}
