//! `superhero-worker`: a member of the consumer group that turns topics into files.

use std::process::ExitCode;

use superhero_roles::Worker;

fn main() -> ExitCode {
    superhero_service::run(env!("SUPERHERO_VERSION"), Worker::run)
}
