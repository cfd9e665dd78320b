//! The README's snippets: what it tells people to type is what works.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use crate::process::{Process, binary};
use crate::test;

const README: &str = include_str!("../README.md");

/// What the README says.
pub fn tests() -> Vec<Trial> {
    vec![test("every flag and setting that the README names is in some --help", names_real_settings)]
}

async fn names_real_settings() -> Result<()> {
    let mut help = String::new();
    for arguments in [
        &["superhero", "wait"][..],
        &["superhero", "up"],
        &["superhero", "trial", "scale"],
        &["superhero", "verify"],
        &["superhero", "broker"],
        &["superhero-server"],
        &["superhero-player"],
        &["superhero-worker"],
        &["superhero-build-db"],
    ] {
        let mut command = binary(arguments[0]);
        command.args(&arguments[1..]).arg("--help");
        help += &Process::spawn(arguments[0], command)?.succeed().await?;
    }
    let fenced = README.split("```").skip(1).step_by(2);
    let code: String = fenced.filter_map(|block| block.strip_prefix("console")).collect();
    ensure!(!code.is_empty(), "the README shows no commands");
    for word in code.split_whitespace() {
        let flag = word.split('=').next().context("split yields once")?;
        if let Some(name) = flag.strip_prefix("--").filter(|name| !name.is_empty()) {
            ensure!(help.contains(&format!("--{name}")) || CARGO_FLAGS.contains(&name), "the README names --{name}");
        }
        let is_word = flag != word && flag.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        ensure!(!is_word || help.contains(&format!("--{flag} ")) || flag == JUST_SETTING, "the README names {flag}=…");
        let setting =
            !flag.is_empty() && flag.chars().all(|c| c.is_ascii_uppercase() || c == '_') && flag.contains('_');
        ensure!(!setting || help.contains(flag) || flag == TEST_SETTING, "the README names {flag}");
    }
    Ok(())
}

/// Where `just up` plays.
const JUST_SETTING: &str = "on";

/// Flags in the README that belong to cargo.
const CARGO_FLAGS: [&str; 6] = ["release", "bin", "workspace", "bins", "locked", "test"];

/// What the tests run on, which is no setting of a binary.
const TEST_SETTING: &str = "TEST_SERVICES";
