//! The volumes of a worker's pod, and which container sees which, and how. All of them that can be written
//! are memory.

use super::{
    boot, places,
    places::{AGENT_JSON, CA_CRT, CONFIGURATION, HOST_JSON, TOKEN_FILE},
};
use crate::settings::Settings;
use k8s_openapi::{
    api::core::v1::{
        ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, ProjectedVolumeSource,
        ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use patchbay_core::{
    class::WorkerClass,
    launch::{self, HOME},
};

const BIN: &str = "bin";
const HOME_VOLUME: &str = "home";
const TMP: &str = "tmp";
const RUN: &str = "run";
const AGENT_SIDE: &str = "agent-side";
const SERVER_SIDE: &str = "server-side";
const AGENT_BOOT: &str = "agent-boot";
const SERVER_BOOT: &str = "server-boot";
const CA: &str = "control-plane-ca";
const TOKEN: &str = "patchbay-token";

/// The worker's program has a few mebibytes.
const BIN_BYTES: u64 = 32 << 20;
/// A socket has none.
const SOCKETS_BYTES: u64 = 64 << 10;
/// The shortest life that Kubernetes gives a token. The kubelet replaces it in time.
const TOKEN_SECONDS: i64 = 600;
/// For its owner and the pod's group.
const FILE_MODE: i32 = 0o440;

pub(super) fn volumes(class: &WorkerClass, settings: &Settings, revision: &str) -> Vec<Volume> {
    let boot = boot::name(class, revision);
    let mut server_boot = vec![HOST_JSON];
    if launch::configuration(class).is_some() {
        server_boot.push(CONFIGURATION);
    }
    vec![
        memory(BIN, BIN_BYTES),
        memory(HOME_VOLUME, class.tmpfs.home),
        memory(TMP, class.tmpfs.tmp),
        memory(RUN, class.tmpfs.run),
        memory(AGENT_SIDE, SOCKETS_BYTES),
        memory(SERVER_SIDE, SOCKETS_BYTES),
        config_map(AGENT_BOOT, &boot, &[AGENT_JSON]),
        config_map(SERVER_BOOT, &boot, &server_boot),
        config_map(CA, &settings.control_plane_ca, &[CA_CRT]),
        token(&settings.audience),
    ]
}

/// What prepares the server's container writes what the server then finds.
pub(super) fn of_install(class: &WorkerClass) -> Vec<VolumeMount> {
    let home = launch::configuration(class).map(|_| writable(HOME_VOLUME, HOME));
    [writable(BIN, places::BIN)].into_iter().chain(home).collect()
}

pub(super) fn of_agent() -> Vec<VolumeMount> {
    vec![
        read_only(AGENT_BOOT, places::BOOT),
        read_only(CA, places::CA),
        read_only(TOKEN, places::TOKEN),
        writable(AGENT_SIDE, places::AGENT_SIDE),
        read_only(SERVER_SIDE, places::SERVER_SIDE),
    ]
}

pub(super) fn of_server(class: &WorkerClass) -> Vec<VolumeMount> {
    let mut mounts = vec![
        read_only(BIN, places::BIN),
        read_only(SERVER_BOOT, places::BOOT),
        read_only(AGENT_SIDE, places::AGENT_SIDE),
        writable(SERVER_SIDE, places::SERVER_SIDE),
        writable(HOME_VOLUME, HOME),
        writable(TMP, "/tmp"),
        writable(RUN, "/run"),
    ];
    mounts.extend(launch::configuration(class).map(|configuration| VolumeMount {
        // the one file: the directory around it is the server's to write
        sub_path: Some(CONFIGURATION.into()),
        ..read_only(SERVER_BOOT, &configuration.path.display().to_string())
    }));
    mounts
}

fn memory(name: &str, bytes: u64) -> Volume {
    Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".into()),
            size_limit: Some(Quantity(bytes.to_string())),
        }),
        ..Volume::default()
    }
}

fn config_map(name: &str, of: &str, keys: &[&str]) -> Volume {
    let items = keys.iter().map(|key| KeyToPath {
        key: (*key).into(),
        path: (*key).into(),
        ..KeyToPath::default()
    });
    Volume {
        name: name.into(),
        config_map: Some(ConfigMapVolumeSource {
            name: of.into(),
            items: Some(items.collect()),
            default_mode: Some(FILE_MODE),
            optional: None,
        }),
        ..Volume::default()
    }
}

fn token(audience: &str) -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(audience.into()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: TOKEN_FILE.into(),
    };
    let source =
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() };
    Volume {
        name: TOKEN.into(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![source]),
            default_mode: Some(FILE_MODE),
        }),
        ..Volume::default()
    }
}

fn writable(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.into(), mount_path: path.into(), ..VolumeMount::default() }
}

fn read_only(name: &str, path: &str) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..writable(name, path) }
}
