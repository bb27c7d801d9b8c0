//! What a worker's pod is: whole, as snapshots, and each field that keeps a tenant to itself by name, so that
//! no snapshot that is accepted unread can drop one.

use super::{fixtures, *};
use k8s_openapi::{
    api::core::v1::{Container, PodSpec, Volume, VolumeMount},
    apimachinery::pkg::util::intstr::IntOrString,
};
use patchbay_core::{
    boot::{AgentBoot, HostBoot},
    class::{Scheduling, Start, Toleration, WorkerClass},
    fixtures::{class, quilt_class},
    template::Template,
};
use std::{collections::BTreeSet, time::Duration};

fn built(class: &WorkerClass) -> Worker {
    worker(fixtures::of(class), &fixtures::settings()).unwrap()
}

fn spec(class: &WorkerClass) -> PodSpec {
    built(class).pod.spec.unwrap()
}

fn both() -> [PodSpec; 2] {
    [spec(&class("tools", "/mcp")), spec(&quilt_class("data", "/data/mcp"))]
}

fn all_containers(spec: &PodSpec) -> Vec<&Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers).collect()
}

fn container<'a>(spec: &'a PodSpec, name: &str) -> &'a Container {
    all_containers(spec).into_iter().find(|each| each.name == name).unwrap()
}

fn mounts(container: &Container) -> &[VolumeMount] {
    container.volume_mounts.as_deref().unwrap()
}

fn volume<'a>(spec: &'a PodSpec, name: &str) -> &'a Volume {
    spec.volumes.iter().flatten().find(|volume| volume.name == name).unwrap()
}

#[test]
fn a_generic_worker_is_exactly_this() {
    let Worker { revision: _, boot, pod } = built(&class("tools", "/mcp"));
    insta::assert_yaml_snapshot!("generic_pod", pod);
    insta::assert_yaml_snapshot!("generic_boot", boot);
}

#[test]
fn a_quilt_worker_is_exactly_this() {
    let Worker { revision: _, boot, pod } = built(&quilt_class("data", "/data/mcp"));
    insta::assert_yaml_snapshot!("quilt_pod", pod);
    insta::assert_yaml_snapshot!("quilt_boot", boot);
}

#[test]
fn templates_and_their_start_are_told_to_the_parts_and_are_nothing_of_the_pods() {
    let mut class = class("tools", "/mcp");
    let plain = built(&class);
    class.start = Start::OnBind;
    class.templates.env.insert("WHO".into(), Template::parse("${user.subject}").unwrap());
    let Worker { revision, boot, pod } = built(&class);
    assert_ne!(revision, plain.revision, "workers that run would not be replaced");
    let data = boot.data.unwrap();
    let agent: AgentBoot = serde_json::from_str(&data["agent.json"]).unwrap();
    assert_eq!((agent.start, agent.templates), (Start::OnBind, class.templates));
    let host: HostBoot = serde_json::from_str(&data["host.json"]).unwrap();
    assert_eq!(host.start, Start::OnBind);
    assert!(!host.env.contains_key("WHO"));
    let pod = serde_json::to_string(&pod).unwrap();
    assert!(!pod.contains("WHO") && !pod.contains("user.subject"), "{pod}");
}

#[test]
fn a_pod_shares_nothing_with_its_node_and_its_containers_no_processes() {
    for spec in both() {
        let no = Some(false);
        assert_eq!(spec.host_network, no);
        assert_eq!(spec.host_pid, no);
        assert_eq!(spec.host_ipc, no);
        assert_eq!(spec.share_process_namespace, no);
        assert_eq!(spec.enable_service_links, no);
        assert_eq!(spec.ephemeral_containers, None);
        let pod = spec.security_context.as_ref().unwrap();
        assert_eq!(pod.run_as_non_root, Some(true));
        assert_eq!(pod.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
        assert_eq!((pod.sysctls.as_ref(), pod.supplemental_groups.as_ref()), (None, None));
        for volume in spec.volumes.iter().flatten() {
            assert_eq!((volume.host_path.as_ref(), volume.secret.as_ref()), (None, None));
        }
    }
}

#[test]
fn every_container_is_without_rights() {
    for spec in both() {
        for container in all_containers(&spec) {
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.run_as_non_root, Some(true), "{}", container.name);
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert_eq!(security.privileged, Some(false));
            assert_eq!(security.read_only_root_filesystem, Some(true));
            assert_eq!(security.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
            assert_eq!(security.proc_mount, None);
            let capabilities = security.capabilities.as_ref().unwrap();
            assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
            assert_eq!(capabilities.add, None);
            assert_eq!((container.env.as_ref(), container.env_from.as_ref()), (None, None));
            assert_eq!((container.lifecycle.as_ref(), container.stdin), (None, None));
            assert_eq!(container.termination_message_policy.as_deref(), Some("File"));
        }
    }
}

#[test]
fn agent_and_server_are_two_users() {
    for spec in both() {
        let user = |name| {
            let security = container(&spec, name).security_context.clone().unwrap();
            (security.run_as_user.unwrap(), security.run_as_group.unwrap())
        };
        assert_eq!(user(AGENT), (10_002, 10_002));
        assert_eq!(user(SERVER), (10_001, 10_001));
        // what it makes in HOME is the server's own
        assert_eq!(user("install"), user(SERVER));
        let group = spec.security_context.as_ref().unwrap().fs_group;
        assert_eq!(group, Some(10_003), "neither's own");
    }
}

#[test]
fn the_token_and_the_ca_are_the_agents_alone() {
    for spec in both() {
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!(spec.service_account_name.as_deref(), Some("patchbay-worker"));
        let sources = volume(&spec, "patchbay-token").projected.clone().unwrap().sources.unwrap();
        let token = sources[0].service_account_token.as_ref().unwrap();
        assert_eq!(token.audience.as_deref(), Some("patchbay"));
        assert_eq!(token.expiration_seconds, Some(600));
        let with_tokens = |volume: &&Volume| volume.projected.is_some();
        assert_eq!(spec.volumes.iter().flatten().filter(with_tokens).count(), 1);
        for private in ["patchbay-token", "control-plane-ca", "agent-boot"] {
            let has_it = |each: &&Container| mounts(each).iter().any(|it| it.name == private);
            let have_it: Vec<_> = all_containers(&spec).into_iter().filter(has_it).collect();
            assert_eq!(have_it.len(), 1, "{private}");
            assert_eq!(have_it[0].name, AGENT, "{private}");
        }
    }
}

#[test]
fn all_that_can_be_written_is_bounded_memory() {
    for spec in both() {
        for container in all_containers(&spec) {
            for mount in mounts(container).iter().filter(|mount| mount.read_only != Some(true)) {
                let directory = volume(&spec, &mount.name).empty_dir.as_ref().unwrap();
                assert_eq!(directory.medium.as_deref(), Some("Memory"), "{}", mount.name);
                assert!(directory.size_limit.is_some(), "{}", mount.name);
            }
            let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
            let limited: Vec<_> = limits.keys().map(String::as_str).collect();
            assert_eq!(limited, ["ephemeral-storage", "memory"], "{}", container.name);
        }
        let size = |name| volume(&spec, name).empty_dir.clone().unwrap().size_limit.unwrap().0;
        assert_eq!((size("home"), size("tmp"), size("run")), {
            let text = |mib: u64| (mib << 20).to_string();
            (text(16), text(16), text(1))
        });
    }
}

#[test]
fn neither_side_can_replace_a_socket_of_the_other_or_the_program_that_runs() {
    for spec in both() {
        let is_read_only = |name, volume| {
            let mount = mounts(container(&spec, name)).iter().find(|it| it.name == volume);
            mount.unwrap().read_only == Some(true)
        };
        assert!(is_read_only(SERVER, "agent-side") && !is_read_only(AGENT, "agent-side"));
        assert!(is_read_only(AGENT, "server-side") && !is_read_only(SERVER, "server-side"));
        assert!(is_read_only(SERVER, "bin") && is_read_only(SERVER, "server-boot"));
    }
}

#[test]
fn the_configuration_of_a_quilt_worker_is_one_read_only_file_in_a_home_that_is_its_own() {
    let quilt = spec(&quilt_class("data", "/data/mcp"));
    let path = "/home/worker/.local/share/Quilt/config.yml";
    let mount = mounts(container(&quilt, SERVER)).iter().find(|it| it.mount_path == path).unwrap();
    assert_eq!(mount.read_only, Some(true));
    assert_eq!(mount.sub_path.as_deref(), Some("configuration"));
    let install = container(&quilt, "install").command.as_ref().unwrap().join(" ");
    assert!(install.ends_with("--directory /home/worker/.local/share/Quilt"), "{install}");
    let boot = built(&quilt_class("data", "/data/mcp")).boot.data.unwrap();
    assert!(boot["configuration"].contains("navigator_url: http://catalog.example"));
    let host: HostBoot = serde_json::from_str(&boot["host.json"]).unwrap();
    assert_eq!(host.command, ["/opt/quilt/bin/python", "/tmp/patchbay-quilt-launcher.py"]);
    assert_eq!(host.files.len(), 1);
    assert_eq!(host.env["QUILT_DEPLOYMENT"], "legacy");
}

#[test]
fn a_pod_ends_once_and_has_time_for_what_is_in_flight() {
    let mut slow = class("slow", "/mcp");
    slow.drain = Duration::from_mins(10);
    let Worker { pod, boot, .. } = built(&slow);
    let spec = pod.spec.unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
    let data = boot.data.unwrap();
    let agent: AgentBoot = serde_json::from_str(&data["agent.json"]).unwrap();
    let host: HostBoot = serde_json::from_str(&data["host.json"]).unwrap();
    let grace = spec.termination_grace_period_seconds.unwrap().cast_unsigned();
    assert_eq!(agent.drain_seconds, 600);
    assert!(host.agent_leaves_seconds.unwrap() > agent.drain_seconds);
    assert!(grace > host.agent_leaves_seconds.unwrap() + 5, "the server ends after its agent");
    let annotations = pod.metadata.annotations.unwrap();
    assert_eq!(annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"], "false");
}

#[test]
fn probes_connect_to_the_link_and_begin_no_process() {
    for spec in both() {
        let agent = container(&spec, AGENT);
        let probes = [agent.startup_probe.as_ref(), agent.readiness_probe.as_ref()];
        for probe in probes.map(Option::unwrap) {
            let expected = IntOrString::Int(places::LINK_PORT.into());
            assert_eq!(probe.tcp_socket.as_ref().unwrap().port, expected);
            assert!(probe.http_get.is_none() && probe.exec.is_none() && probe.grpc.is_none());
        }
        assert_eq!(agent.liveness_probe, None, "a worker is never ended for being slow");
        let server = container(&spec, SERVER);
        assert!(server.readiness_probe.is_none() && server.ports.is_none());
    }
}

#[test]
fn a_pod_runs_where_its_class_says() {
    let mut placed = class("placed", "/mcp");
    let text = |text: &str| Some(text.to_owned());
    placed.scheduling = Scheduling {
        runtime: text("gvisor"),
        nodes: [("disk".to_owned(), "ssd".to_owned())].into(),
        tolerations: vec![Toleration { key: text("k"), seconds: Some(3), ..Toleration::default() }],
    };
    let spec = spec(&placed);
    assert_eq!(spec.runtime_class_name.as_deref(), Some("gvisor"));
    assert_eq!(spec.node_selector.unwrap()["disk"], "ssd");
    assert_eq!(spec.tolerations.unwrap()[0].toleration_seconds, Some(3));
    let spread = spec.topology_spread_constraints.unwrap();
    let strict = spread.iter().filter(|each| each.when_unsatisfiable != "ScheduleAnyway").count();
    assert_eq!((spread.len(), strict), (2, 0));
}

#[test]
fn the_class_owns_its_workers_and_labels_say_which_they_are() {
    let Worker { revision, boot, pod } = built(&class("tools", "/mcp"));
    assert_eq!(boot.metadata.name, Some(format!("tools-{revision}")));
    assert_eq!(boot.immutable, Some(true));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("tools-"));
    assert_eq!(pod.metadata.name, None);
    for metadata in [&boot.metadata, &pod.metadata] {
        let owners = metadata.owner_references.as_ref().unwrap();
        assert_eq!((owners.len(), owners[0].kind.as_str()), (1, "WorkerClass"));
        assert_eq!(owners[0].uid, "6f1c7b1e-0000-4000-8000-000000000001");
        let labels = metadata.labels.as_ref().unwrap();
        assert_eq!(
            (&labels[labels::CLASS], &labels[labels::REVISION]),
            (&"tools".into(), &revision)
        );
        assert!(!labels.contains_key(labels::BOUND));
    }
}

#[test]
fn a_revision_changes_with_what_a_worker_is_and_with_nothing_else() {
    let base = class("tools", "/mcp");
    let settings = fixtures::settings();
    let revision = |class: &WorkerClass, settings: &crate::Settings| {
        worker(fixtures::of(class), settings).unwrap().revision
    };
    let first = revision(&base, &settings);
    assert_eq!(first, revision(&base, &settings));

    let mut pool = base.clone();
    pool.warm = 50;
    pool.limits.tenants = Some(3);
    pool.path = "/elsewhere".into();
    assert_eq!(
        first,
        revision(&pool, &settings),
        "what bounds the pool or the route is no part of it"
    );

    let changes: [fn(&mut WorkerClass); 6] = [
        |class| class.image = "registry.example/server:2".into(),
        |class| class.env = [("A".to_owned(), "b".to_owned())].into(),
        |class| class.resources.memory_bytes += 1,
        |class| class.idle.idle_timeout += Duration::from_secs(1),
        |class| class.drain += Duration::from_secs(1),
        |class| class.scheduling.runtime = Some("gvisor".into()),
    ];
    let mut revisions = BTreeSet::from([first]);
    for change in changes {
        let mut altered = base.clone();
        change(&mut altered);
        assert!(revisions.insert(revision(&altered, &settings)), "{altered:?}");
    }
    let other = crate::Settings { worker_image: "registry.example/worker:2".into(), ..settings };
    assert!(revisions.insert(revision(&base, &other)), "another worker image");
}

#[test]
fn a_class_whose_server_would_take_a_port_of_the_worker_is_refused_by_name() {
    for taken in [places::LINK_PORT, 3128] {
        let mut class = class("tools", "/mcp");
        let patchbay_core::class::Transport::Http { port, .. } = &mut class.transport else {
            panic!("the fixture listens");
        };
        *port = taken;
        let refused = worker(fixtures::of(&class), &fixtures::settings()).unwrap_err();
        assert!(refused.to_string().starts_with("spec.server.port: "), "{refused}");
    }
}
