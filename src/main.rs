//! Flags in, exit code out; everything else is the library's.

mod memory;

fn main() -> std::process::ExitCode {
    rouse::cli::main()
}
