//! The targets on the stable toolchain: their corpora, and a bounded number of mutations of those.

// Panics are how a test fails, in its helpers too.
#![allow(clippy::unwrap_used)]

mod mutation;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    panic,
    path::{Path, PathBuf},
    sync::{
        Once,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

/// Mutations a target, where VGPUD_FUZZ_INPUTS says nothing else.
const INPUTS: u32 = 2000;
/// Names a file to run instead of all of them.
const FILE: &str = "VGPUD_FUZZ_FILE";
/// An input takes some milliseconds.
const HANG: Duration = Duration::from_secs(60);
/// The name of threads that run inputs.
const WORKER: &str = "fuzzing";
/// Memory that one input may have at once: some for the target itself, and this much for each of its bytes.
const MEMORY: u64 = 2 << 20;
const MEMORY_A_BYTE: u64 = 256;

/// A number out of the environment.
fn number(name: &str, otherwise: u32) -> u32 {
    env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}")))
}

fn folder(of: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of).join(target)
}

/// The files of a target's corpus, in order of name.
fn corpus(target: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder("corpus", target)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    assert!(!files.is_empty(), "there is no corpus of {target}");
    files
}

/// Runs one input, and says what it did wrong.
fn run(target: fn(&[u8]), input: &[u8]) -> Result<(), TestCaseError> {
    let ended = RefCell::new(Ok(()));
    let used = allocation_counter::measure(|| {
        *ended.borrow_mut() = panic::catch_unwind(|| target(input));
    });
    if let Err(panic) = ended.into_inner() {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        return Err(TestCaseError::fail(text.unwrap_or("it panicked").to_owned()));
    }
    let allowed = MEMORY + MEMORY_A_BYTE * input.len() as u64;
    if used.bytes_max > allowed {
        let text = format!("it took {} bytes of memory, and {allowed} are allowed", used.bytes_max);
        return Err(TestCaseError::fail(text));
    }
    Ok(())
}

/// Runs a target's corpus and mutations of it, or only the file that VGPUD_FUZZ_FILE names; each input is
/// announced to `begun`.
fn run_all(name: &str, target: fn(&[u8]), begun: &Sender<Vec<u8>>) -> Result<(), TestError<Vec<u8>>> {
    let (files, cases) = match env::var_os(FILE) {
        Some(file) => (vec![file.into()], 0),
        None => (corpus(name), number("VGPUD_FUZZ_INPUTS", INPUTS)),
    };
    let each = |input: Vec<u8>| {
        // The receiver lives as long as this thread.
        let _ = begun.send(input.clone());
        run(target, &input)
    };
    let mut corpus = Vec::new();
    for file in files {
        let input = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if let Err(TestCaseError::Fail(why) | TestCaseError::Reject(why)) = each(input.clone()) {
            return Err(TestError::Fail(format!("{}: {why}", file.display()).into(), input));
        }
        corpus.push(input);
    }
    // The same inputs everywhere: a change that breaks one is seen by whoever made it.
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&number("VGPUD_FUZZ_SEED", 1).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 5000, ..Config::default() };
    TestRunner::new_with_rng(config, rng).run(&mutation::of(corpus), each)
}

fn test(name: &'static str, target: fn(&[u8])) {
    let (begun, inputs) = mpsc::channel();
    if env::var_os(FILE).is_none() {
        keep_quiet();
    }
    let worker = thread::Builder::new().name(WORKER.into()).spawn(move || run_all(name, target, &begun));
    let worker = worker.unwrap();
    let (mut count, mut last) = (0, Vec::new());
    loop {
        match inputs.recv_timeout(HANG) {
            Ok(input) => (count, last) = (count + 1, input),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("{name} hangs: {}", keep(name, &last)),
        }
    }
    let ended = worker.join().unwrap();
    report(name, count, u32::from(ended.is_err()));
    match ended {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!("{name}: {why}\n{}", keep(name, &input)),
        Err(TestError::Abort(why)) => panic!("{name}: {why}"),
    }
}

/// While a failing input is shrunk, it fails a thousand times: only the last is told.
fn keep_quiet() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if thread::current().name() != Some(WORKER) {
                tell(panic);
            }
        }));
    });
}

/// Past the harness's capture, in one write.
fn report(name: &str, inputs: u32, failures: u32) {
    let line = format!("\nfuzz: {name} {inputs} inputs, {failures} failures\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// Writes an input where cargo-fuzz keeps its own, and says how to run it again.
fn keep(name: &str, input: &[u8]) -> String {
    let folder = folder("artifacts", name);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("bounded");
    fs::write(&file, input).unwrap();
    format!("the input is in {}", file.display())
}

macro_rules! tests {
    ($($name:ident,)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                test(stringify!($name), vgpud_fuzz::$name);
            }
        )*
    };
}
vgpud_fuzz::for_each_target!(tests);

#[test]
fn every_target_is_a_program_of_cargo_fuzz_and_has_a_corpus() {
    let names: BTreeSet<_> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let manifest: toml::Table = toml::from_str(include_str!("../../Cargo.toml")).unwrap();
    let programs =
        manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap().to_owned());
    assert_eq!(programs.collect::<BTreeSet<_>>(), names);
    let folders = fs::read_dir(folder("corpus", "")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(folders.collect::<BTreeSet<_>>(), names);
    for name in NAMES {
        let program = fs::read_to_string(folder("fuzz_targets", &format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("vgpud_fuzz::fuzz!({name});")), "{name}.rs: {program}");
    }
}
