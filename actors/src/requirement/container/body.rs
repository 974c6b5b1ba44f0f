//! From a [`Part`] to what the engine's API is told. Pure.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountType, NetworkingConfig,
    PortBinding, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use super::spec::{Network, Part};
use crate::process::Limits;

/// What the engine itself may keep of a container's output: it is in our log already, and serves only to bridge the time in
/// which the engine was gone.
const ENGINE_LOG_BYTES: &str = "4m";

/// What belongs to a part and is known by then.
pub(super) struct Given<'a> {
    /// Its labels.
    pub(super) labels: HashMap<String, String>,
    /// The name of each volume in the engine, by its name in the preset.
    pub(super) volumes: &'a HashMap<String, String>,
    /// The network that the parts of the unit share, if there are several.
    pub(super) network: Option<&'a str>,
}

/// Makes the body of the request that creates a container.
pub(super) fn body(part: &Part, network: Network, given: Given<'_>) -> ContainerCreateBody {
    let texts = |texts: &[String]| (!texts.is_empty()).then(|| texts.to_vec());
    let published = network == Network::Bridge && !part.publish.is_empty();
    let shared = given.network.filter(|_| network == Network::Bridge);
    ContainerCreateBody {
        image: Some(part.image.clone()),
        entrypoint: texts(&part.entrypoint),
        cmd: texts(&part.command),
        env: Some(part.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        user: part.user.clone(),
        labels: Some(given.labels),
        stop_signal: Some(part.stop_signal.to_string()),
        exposed_ports: published.then(|| part.publish.iter().map(|port| tcp(port.inside)).collect()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            mounts: Some(part.volumes.iter().filter_map(|volume| mount(volume, given.volumes)).collect()),
            port_bindings: published.then(|| part.publish.iter().map(|port| binding(port.inside, port.port)).collect()),
            network_mode: match (network, shared) {
                (Network::Host, _) => Some("host".to_owned()),
                (Network::Bridge, shared) => shared.map(str::to_owned),
            },
            // Whether it is started again is the supervisor's decision, and nobody else's.
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            auto_remove: Some(false),
            log_config: Some(log_config()),
            ..limited(&part.limits)
        }),
        networking_config: shared.map(|name| NetworkingConfig {
            endpoints_config: Some(HashMap::from([(name.to_owned(), known_as(&part.name))])),
        }),
        ..ContainerCreateBody::default()
    }
}

fn limited(limits: &Limits) -> HostConfig {
    let whole = |number: Option<u64>| number.and_then(|number| i64::try_from(number).ok());
    let ulimit = |name: &str, value: Option<u64>| {
        // The engine's word for no limit is -1.
        let value = value.map(|value| i64::try_from(value).unwrap_or(-1))?;
        Some(ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) })
    };
    let ulimits = [("nofile", limits.open_files), ("core", limits.core), ("fsize", limits.file_size)];
    let ulimits: Vec<_> = ulimits.into_iter().filter_map(|(name, value)| ulimit(name, value)).collect();
    HostConfig {
        memory: whole(limits.memory),
        // The same number: no swap on top, as in a cgroup of ours.
        memory_swap: whole(limits.memory),
        nano_cpus: whole(limits.cpu_milli.map(|milli| milli.saturating_mul(1_000_000))),
        pids_limit: whole(limits.processes),
        ulimits: (!ulimits.is_empty()).then_some(ulimits),
        ..HostConfig::default()
    }
}

fn log_config() -> HostConfigLogConfig {
    let options = [("max-size", ENGINE_LOG_BYTES), ("max-file", "1")];
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
    }
}

fn mount(volume: &super::spec::Volume, names: &HashMap<String, String>) -> Option<Mount> {
    Some(Mount {
        target: Some(volume.path.clone()),
        source: Some(names.get(&volume.name)?.clone()),
        typ: Some(MountType::VOLUME),
        ..Mount::default()
    })
}

fn binding(inside: u16, port: u16) -> (String, Option<Vec<PortBinding>>) {
    let loopback = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(port.to_string()) };
    (tcp(inside), Some(vec![loopback]))
}

fn known_as(name: &str) -> EndpointSettings {
    EndpointSettings { aliases: Some(vec![name.to_owned()]), ..EndpointSettings::default() }
}

fn tcp(port: u16) -> String {
    format!("{port}/tcp")
}
