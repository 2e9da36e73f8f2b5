//! The command line of vgpud.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    vgpud::cli::main()
}
