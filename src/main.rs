//! Flags in, exit code out, and the allocator; everything else is the library's.

mod memory;

fn main() -> std::process::ExitCode {
    memory::few_pools();
    rouse::cli::main()
}
