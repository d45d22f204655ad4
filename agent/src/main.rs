//! The `bellows` command: see `bellows --help`.

fn main() -> std::process::ExitCode {
    bellows::cli::main()
}
