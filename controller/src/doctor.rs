//! `patchbay doctor`: whether this machine can run workers as sandboxes, property by property.

use crate::{args::DoctorArgs, local::worker_program};
use patchbay_orchestrator::local::sandbox::{Cgroups, Instance, Tools, doctor};
use std::process::ExitCode;

/// Prints each property and, where one is missing, what to do. Fails if any is missing.
pub(crate) fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let worker = worker_program(args.sandbox.worker)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let properties = runtime.block_on(async {
        let cgroups = Cgroups::open(&Instance::new()?);
        anyhow::Ok(doctor::probe(Tools::with_worker(&worker), cgroups).await)
    })?;
    let mut all_good = true;
    for property in properties {
        let mark = if property.ok { "ok  " } else { "FAIL" };
        println!("{mark}  {}: {}", property.name, property.detail);
        if let Some(fix) = property.fix {
            println!("      fix: {fix}");
        }
        all_good &= property.ok;
    }
    if all_good {
        println!("this machine can run workers as sandboxes");
        return Ok(ExitCode::SUCCESS);
    }
    println!("workers cannot be run here until this is fixed");
    Ok(ExitCode::FAILURE)
}
