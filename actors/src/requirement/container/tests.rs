//! What presets become in an engine, without one.

use std::collections::BTreeMap;

use super::body::{Given as BodyGiven, body};
use super::error::EngineError;
use super::find::{Address, Surroundings, find};
use super::labels::Owner;
use super::plan::{Wish, pod};
use super::spec::{Network, Part, Pod};
use crate::requirement::preset::{self, Given, HOST, Preset};

const SECRET: &str = "5ec2e7";

fn ports(preset: &Preset) -> BTreeMap<String, u16> {
    preset.ports.keys().cloned().zip(40_000..).collect()
}

/// The pod of a built-in preset, each secret of it `5ec2e7-NAME`.
fn pod_of(name: &str, wish: &Wish) -> (Preset, Pod) {
    let preset = preset::builtin(name).unwrap();
    let given = Given {
        project: "my-shop",
        unit: "it",
        host: HOST,
        ports: ports(&preset),
        secrets: preset.secrets.keys().map(|secret| (secret.clone(), format!("{SECRET}-{secret}"))).collect(),
        ..Given::default()
    };
    let pod = pod(&preset, &preset.scope(&given).unwrap(), &ports(&preset), wish).unwrap();
    (preset, pod)
}

fn part<'a>(pod: &'a Pod, name: &str) -> &'a Part {
    pod.parts.iter().find(|part| part.name == name).unwrap()
}

fn owner() -> Owner {
    Owner { id: "me".into(), session: "default".into(), scope: "repo-1".into(), project: "main".into() }
}

#[test]
fn every_built_in_preset_with_a_container_is_whole_on_either_network() {
    for name in preset::builtin_names() {
        for network in [Network::Bridge, Network::Host] {
            let (preset, pod) = pod_of(name, &Wish { network, ..Wish::default() });
            assert_eq!(pod.parts.len(), preset.all_containers().count(), "{name}");
            let last = pod.parts.last().unwrap();
            let main = ports(&preset)["port"];
            assert!(last.publish.iter().any(|publish| publish.port == main), "{name}: the last is the one to talk to");
            for part in &pod.parts {
                assert!(part.image.contains(':') && !part.image.ends_with(':'), "{name}: {}", part.image);
                let words: Vec<&String> = part.entrypoint.iter().chain(&part.command).collect();
                assert!(!words.iter().any(|word| word.contains(SECRET)), "{name}: a secret in an argument list");
                assert!(!words.iter().any(|word| word.contains("${")), "{name}: {words:?}");
                assert!(part.volumes.iter().all(|volume| volume.path.starts_with('/')), "{name}");
            }
        }
    }
}

#[test]
fn supabase_starts_database_auth_and_gateway_in_this_order_with_keys_of_its_own() {
    let (_, pod) = pod_of("supabase", &Wish::default());
    let names: Vec<&str> = pod.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["db", "auth", "gateway"]);
    let (db, auth, gateway) = (part(&pod, "db"), part(&pod, "auth"), part(&pod, "gateway"));
    assert_ne!(db.publish[0].port, gateway.publish[0].port, "API and database have ports of their own");
    assert_eq!((auth.after.as_slice(), gateway.after.as_slice()), (&["db".to_owned()][..], &["auth".to_owned()][..]));
    assert!(db.probe.is_some() && auth.probe.is_some(), "who is waited for is asked");
    assert_eq!(
        auth.env["GOTRUE_DB_DATABASE_URL"],
        format!("postgres://supabase_auth_admin:{SECRET}-password@db:5432/postgres")
    );
    assert_eq!(auth.env["GOTRUE_JWT_SECRET"], format!("{SECRET}-jwt_secret"));
    let routes = &gateway.files["/home/kong/kong.yml"];
    for expected in ["/auth/v1/health", "http://auth:9999/health", "5ec2e7-anon_key", "5ec2e7-service_role_key"] {
        assert!(routes.contains(expected), "{expected}: {routes}");
    }
    assert!(db.files.values().any(|text| text.contains(&format!("supabase_auth_admin PASSWORD '{SECRET}-password'"))));
}

#[test]
fn supabase_keys_are_signed_with_the_secret_of_their_own_directory() {
    let preset = preset::builtin("supabase").unwrap();
    let [one, two] = [(); 2].map(|()| {
        let dir = tempfile::tempdir().unwrap();
        preset::secrets(&preset, dir.path()).unwrap()
    });
    for key in ["anon_key", "service_role_key"] {
        assert_eq!(one[key].split('.').count(), 3, "a token has three parts");
        assert_ne!(one[key], two[key], "no two projects share a key");
    }
    assert_ne!(one["anon_key"], one["service_role_key"]);
}

#[test]
fn on_the_machines_network_a_server_listens_on_its_leased_port_for_us_alone() {
    let (preset, pod) = pod_of("redis", &Wish { network: Network::Host, ..Wish::default() });
    let port = ports(&preset)["port"].to_string();
    let command = &pod.parts[0].command;
    assert!(command.windows(2).any(|pair| pair == ["--port", &port]), "{command:?}");
    assert!(command.windows(2).any(|pair| pair == ["--bind", "127.0.0.1"]), "{command:?}");
    let (volumes, labels) = (std::collections::HashMap::new(), owner().labels("it"));
    let made = body(&pod.parts[0], Network::Host, BodyGiven { labels, volumes: &volumes, network: None });
    let host = made.host_config.unwrap();
    assert_eq!((host.network_mode.as_deref(), host.port_bindings), (Some("host"), None));
}

#[test]
fn ports_are_published_on_loopback_and_nothing_restarts_by_itself() {
    let (_, pod) = pod_of("postgres", &Wish { version: Some("15".into()), ..Wish::default() });
    assert_eq!(pod.parts[0].image, "postgres:15-alpine");
    let volumes = std::collections::HashMap::from([("data".to_owned(), "v".to_owned())]);
    let labels = owner().labels("it");
    let made = body(&pod.parts[0], Network::Bridge, BodyGiven { labels, volumes: &volumes, network: None });
    let host = made.host_config.unwrap();
    let bindings = host.port_bindings.unwrap();
    let bound = &bindings["5432/tcp"].as_ref().unwrap()[0];
    assert_eq!(bound.host_ip.as_deref(), Some("127.0.0.1"));
    assert_eq!(host.restart_policy.unwrap().name.unwrap().to_string(), "no");
    assert_eq!((host.auto_remove, host.mounts.unwrap().len()), (Some(false), 1));
    assert!(made.env.unwrap().contains(&format!("POSTGRES_PASSWORD={SECRET}-password")), "secrets go through the API");
}

#[test]
fn no_debug_text_of_a_pod_holds_a_secret() {
    for name in preset::builtin_names() {
        let (_, pod) = pod_of(name, &Wish::default());
        assert!(!format!("{pod:?}").contains(SECRET), "{name}");
    }
}

#[test]
fn what_lacks_one_label_of_ours_is_not_ours() {
    let mut labels = owner().labels("it");
    assert!(owner().owns(&labels));
    for (name, other) in [(super::labels::OWNER, "you"), (super::labels::SESSION, "s"), (super::labels::PROJECT, "p")] {
        let before = labels.insert(name.to_owned(), other.to_owned()).unwrap();
        assert!(!owner().owns(&labels), "{name}");
        labels.insert(name.to_owned(), before);
    }
    labels.remove(super::labels::SCOPE);
    assert!(!owner().owns(&labels));
    assert!(!owner().owns(&std::collections::HashMap::new()), "a name alone is no proof");
}

#[test]
fn the_engine_that_somebody_names_is_the_only_one() {
    let named = |configured: Option<&str>, host: Option<&str>| {
        let text = |text: Option<&str>| text.map(str::to_owned);
        find(&Surroundings { configured: text(configured), docker_host: text(host), ..Surroundings::default() })
    };
    let unix = |path: &str| Ok(vec![Address::Unix(path.into())]);
    assert_eq!(named(Some("unix:///a.sock"), Some("unix:///b.sock")), unix("/a.sock"));
    assert_eq!(named(None, Some("unix:///b.sock")), unix("/b.sock"));
    assert_eq!(named(None, Some("tcp://127.0.0.1:2375")), Ok(vec![Address::Http("127.0.0.1:2375".into())]));
    for far in ["tcp://10.0.0.1:2375", "ssh://me@host", "npipe:////./pipe/docker_engine"] {
        let error = named(None, Some(far)).unwrap_err();
        assert!(matches!(&error, EngineError::BadAddress { from, .. } if from == "DOCKER_HOST"), "{error}");
        assert!(error.hint().is_some() && !error.into_start_error().retry);
    }
}

#[test]
fn a_context_of_docker_is_read_from_its_files() {
    let home = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(path, text).unwrap();
    };
    let around = Surroundings { home: Some(home.path().to_owned()), ..Surroundings::default() };
    write(".docker/config.json", r#"{"currentContext": "colima", "auths": {}}"#);
    assert!(matches!(find(&around), Err(EngineError::NoContext { context }) if context == "colima"));
    // sha256 of "colima"
    let digest = "f24fd3749c1368328e2b149bec149cb6795619f244c5b584e844961215dadd16";
    let meta = format!(".docker/contexts/meta/{digest}/meta.json");
    write(&meta, r#"{"Name": "colima", "Endpoints": {"docker": {"Host": "unix:///colima.sock"}}}"#);
    assert_eq!(find(&around), Ok(vec![Address::Unix("/colima.sock".into())]));
}

#[test]
fn the_engines_words_become_ours() {
    let of = |status_code, message: &str| {
        let error = bollard::errors::Error::DockerResponseServerError { status_code, message: message.to_owned() };
        EngineError::of(&error, "create its container", "/x.sock")
    };
    let port =
        "driver failed programming external connectivity: Bind for 127.0.0.1:6379 failed: port is already allocated";
    assert!(matches!(of(500, port), EngineError::PortTaken { .. }));
    assert!(matches!(of(500, "listen tcp4 127.0.0.1:1: bind: address already in use"), EngineError::PortTaken { .. }));
    assert!(matches!(of(500, "write /x: no space left on device"), EngineError::DiskFull { .. }));
    assert!(
        matches!(of(404, "No such image: redis:7"), EngineError::ImageMissing { image, .. } if image == "redis:7" || image == "7")
    );
    assert!(matches!(
        of(409, "Conflict. The container name \"/a\" is already in use by container 1"),
        EngineError::NameTaken { .. }
    ));
    assert!(matches!(of(404, "No such container: 1"), EngineError::NotFound { .. }));
    let io = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let error = EngineError::of(&bollard::errors::Error::IOError { err: io }, "x", "/x.sock");
    assert!(matches!(&error, EngineError::NoPermission { .. }));
    assert!(error.hint().unwrap().contains("usermod"), "the hint says what to do");
}

/// An engine that starts containers and never says so.
async fn slow_engine(listener: tokio::net::UnixListener, is_running: bool) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut connection, _)) = listener.accept().await {
        connections.spawn(async move {
            let mut request = vec![0; 4096];
            let read = connection.read(&mut request).await.unwrap_or_default();
            if String::from_utf8_lossy(&request[..read]).contains("/start") {
                std::future::pending::<()>().await;
            }
            let body = format!("{{\"Id\": \"1\", \"State\": {{\"Running\": {is_running}}}}}");
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = connection.write_all(format!("{head}{body}").as_bytes()).await;
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a21_a_container_that_runs_is_started_though_the_engine_did_not_say_so_in_time() {
    for is_running in [true, false] {
        let dir = tempfile::TempDir::new().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let mut server = tokio::task::JoinSet::new();
        server.spawn(slow_engine(listener, is_running));
        let engine = super::engine::Engine::at(&Address::Unix(socket)).unwrap();
        let started = engine.start("1").await;
        assert_eq!(started.is_ok(), is_running, "{started:?}");
    }
}

#[test]
fn an_archive_is_what_tar_makes_of_it() {
    let files = BTreeMap::from([("/etc/a.conf".to_owned(), "x = 1\n".to_owned()), ("/b".to_owned(), "y".repeat(600))]);
    let archive = super::archive::tar(&files);
    assert_eq!(archive.len(), 512 * (1 + 1 + 1 + 2 + 2));
    assert!(archive.starts_with(b"b\0") && &archive[257..262] == b"ustar");
    let sum: u32 = archive[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    let told = std::str::from_utf8(&archive[148..154]).unwrap();
    assert_eq!(u32::from_str_radix(told, 8).unwrap(), sum);
}
