//! `patchbay doctor`: whether this machine can run workers as sandboxes, property by property.

use crate::{args::DoctorArgs, local::worker_program};
use patchbay_broker::{AwsSts, OwnIdentity};
use patchbay_orchestrator::local::sandbox::{Cgroups, Instance, Tools, doctor};
use rustls::crypto::aws_lc_rs;
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long this machine's own AWS identity is looked for: outside of AWS, one of the places gives no answer.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// What this process has of an AWS identity, and who gets it. None is as good as any: no class needs one by itself.
async fn own_identity() -> anyhow::Result<&'static str> {
    let sts = AwsSts::new(Arc::new(aws_lc_rs::default_provider()))?;
    Ok(match timeout(LOOK_LIMIT, sts.own_identity()).await {
        Ok(Ok(OwnIdentity::Temporary)) => {
            "temporary keys; a class with `source: ambient` gives them to its one user, and no other does"
        }
        Ok(Ok(OwnIdentity::LongTerm)) => {
            "long-term keys, which no worker ever gets; a class with `source: ambient` has temporary ones made of \
             them for its one user, and no other does"
        }
        Ok(Err(_)) | Err(_) => {
            "none is found; a class with `source: ambient` or `source: assumeRole` would need one"
        }
    })
}

/// Prints each property and, where one is missing, what to do. Fails if any is missing.
pub(crate) fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let worker = worker_program(args.sandbox.worker)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let properties = runtime.block_on(async {
        let cgroups = Cgroups::open(&Instance::new()?);
        anyhow::Ok(doctor::probe(Tools::with_worker(&worker), cgroups).await)
    })?;
    println!("ok    own AWS identity: {}", runtime.block_on(own_identity())?);
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
