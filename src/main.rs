//! The program; everything else is in the library, so that tests and tools can name it.

fn main() -> std::process::ExitCode {
    harmonia::main()
}
