//! The `picored` binary: see [`picored::cli`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    picored::cli::main()
}
