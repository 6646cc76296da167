//! Flags in, exit code out; everything else is the library's.

fn main() -> std::process::ExitCode {
    rouse::cli::main()
}
