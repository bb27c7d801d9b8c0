//! The worker's binary. What it does is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    patchbay_worker::main()
}
