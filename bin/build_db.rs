//! `superhero-build-db`: loads the heroes into Redis.

use std::process::ExitCode;

use superhero_roles::BuildDb;

fn main() -> ExitCode {
    superhero_service::run(env!("SUPERHERO_VERSION"), BuildDb::run)
}
