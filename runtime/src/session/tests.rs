//! A whole session in this process, with real units, and actors that fail in it.

use std::future::Future;
use std::path::PathBuf;

use envctl_actors::process::identity::Identity;

use super::*;
use crate::control::view::{EventView, ExitView, ProjectView, UnitState, UnitView};
use crate::control::wire::{Kill, ProjectRef, Ps, Up, WatchProject};
use crate::places::PlacesInput;

/// Far more than anything here needs.
const DEADLINE: Duration = Duration::from_secs(20);

/// A project that is up in a session of its own; all of it is in one directory.
struct Stage {
    dir: PathBuf,
    session: Session,
    client: Client,
    project: ProjectRef,
}

// === impl Stage ===

impl Stage {
    async fn up(dir: PathBuf, toml: &str) -> Self {
        let at = |name: &str| dir.join(name);
        for name in ["run", "state", "project"] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::create_dir(at(name)).and_then(|()| std::fs::set_permissions(at(name), mode)).unwrap();
        }
        put(&at("project/envctl.toml"), toml);
        let input = PlacesInput {
            uid: nix::unistd::geteuid().as_raw(),
            session: envctl_supervisors::Name::new("test").unwrap(),
            runtime_dir: Some(at("run")),
            state_home: at("state"),
            state_override: None,
        };
        let options = SessionOptions {
            places: Places::resolve(&input).unwrap(),
            spawner: Spawner::Direct { stub: None },
            idle_after: None,
        };
        let session = Session::start(options).await.unwrap();
        let client = session.client().await.unwrap();
        let project = ProjectRef { root: at("project").canonicalize().unwrap() };
        let environment = vec![(b"PATH".to_vec().into(), b"/usr/bin:/bin".to_vec().into())];
        let up =
            Up { project: project.clone(), file: None, user_config: None, units: vec![], no_deps: false, environment };
        client.request(up).await.unwrap();
        Self { dir, session, client, project }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join("project").join(name)
    }

    async fn view(&self) -> ProjectView {
        let ps = Ps { project: Some(self.project.clone()), usage: false };
        self.client.request(ps).await.unwrap().projects.remove(0)
    }

    async fn unit(&self, name: &str) -> UnitView {
        self.view().await.units.into_iter().find(|unit| unit.name == name).unwrap()
    }

    /// Waits until a unit is as `is` wants it.
    async fn until(&self, name: &str, is: impl Fn(&UnitView) -> bool) -> UnitView {
        let mut views = self.client.subscribe(WatchProject { project: self.project.clone() }).await.unwrap();
        let mut last = None;
        let found = async {
            while let Some(view) = views.next().await {
                let unit = view.unwrap().units.into_iter().find(|unit| unit.name == name).unwrap();
                if is(&unit) {
                    return unit;
                }
                last = Some(unit);
            }
            panic!("no further views of {name}")
        };
        let found = tokio::time::timeout(DEADLINE, found).await;
        found.unwrap_or_else(|_| panic!("{name} never became so: {last:?}"))
    }

    /// What the journal has of a unit's actors.
    async fn failures(&self, unit: &str) -> Vec<EventView> {
        let journal = self.session.root.journal().await.unwrap();
        let projects = self.session.root.projects().await.unwrap();
        let key = projects[0].key().await.unwrap();
        journal.sync(&key).await.unwrap();
        let name = envctl_supervisors::Name::new("project").unwrap();
        let places = self.session.places.for_project(&self.project.root, &name).unwrap();
        let events = crate::journal::events(&places.events()).unwrap();
        events.filter(|event| event.event == "actor.failed" && event.unit.as_deref() == Some(unit)).collect()
    }

    /// Nothing is left: every unit works in the project's directory.
    async fn end(self) {
        assert_eq!(self.session.shutdown().await.unwrap(), []);
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let left = processes
            .filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&self.dir)));
        assert_eq!(left.map(|entry| entry.file_name()).collect::<Vec<_>>(), [""; 0]);
    }
}

#[expect(clippy::disallowed_methods, reason = "a project's own files")]
fn put(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// What has ended is no more alive while it waits to be reaped.
fn alive(pid: Option<u32>) -> bool {
    pid.is_some_and(|pid| Identity::of(pid).is_some())
}

/// Runs a test with a directory that outlives everything of it: a session whose directories vanish makes them anew.
fn run<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F) {
    let dir = tempfile::Builder::new().prefix("evs").tempdir_in("/tmp").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let test = test(dir.path().to_owned());
    runtime.block_on(async { tokio::time::timeout(DEADLINE * 3, test).await.unwrap() });
    drop(runtime);
    dir.close().unwrap();
}

const UNITS: &str = r#"
    [services.hurt]
    sh = "echo life >> hurt; exec sleep 1000"
    ready = { sh = "test -e go", every = "20ms" }
    backoff = { base = "10ms", max = "20ms" }
    [services.other]
    sh = "exec sleep 1000"
"#;

#[test]
fn b06_a_units_actor_that_panics_is_started_again_its_process_stays_and_nobody_else_notices() {
    run(|dir| async {
        let stage = Stage::up(dir, UNITS).await;
        let before = stage.until("hurt", |unit| unit.pid.is_some()).await;
        let other = stage.until("other", |unit| unit.pid.is_some()).await;
        put(&stage.path("panic-hurt"), "");
        // The next thing that its actor has to say is that it is ready.
        put(&stage.path("go"), "");
        let after = stage.until("hurt", |unit| unit.state == UnitState::Ready).await;
        assert_eq!((after.pid, after.incarnation, after.restarts), (before.pid, 1, 0));
        assert!(!stage.path("panic-hurt").exists(), "nothing has failed");
        let failures = stage.failures("hurt").await;
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].details["error"].as_str().unwrap().contains("told to fail"), "{failures:?}");
        assert_eq!(stage.unit("other").await, other);
        // Its new actor looks after it as the first one did.
        let kill = Kill { project: stage.project.clone(), signal: nix::libc::SIGKILL, units: vec!["hurt".to_owned()] };
        stage.client.request(kill).await.unwrap();
        let next = stage.until("hurt", |unit| unit.state == UnitState::Ready && unit.incarnation == 2).await;
        assert_eq!((next.restarts, alive(before.pid)), (1, false));
        assert_eq!(std::fs::read_to_string(stage.path("hurt")).unwrap(), "life\nlife\n");
        stage.end().await;
    });
}

#[test]
fn b07_a_unit_whose_actors_always_panic_is_given_up_and_the_session_answers() {
    run(|dir| async {
        let stage = Stage::up(dir, UNITS).await;
        let other = stage.until("other", |unit| unit.pid.is_some()).await;
        std::fs::create_dir(stage.path("panic-hurt")).unwrap();
        put(&stage.path("go"), "");
        let given_up = stage.until("hurt", |unit| unit.state == UnitState::Failed).await;
        let told = matches!(&given_up.exit, Some(ExitView::Unknown(why)) if why.contains("its actor failed"));
        assert!(told && given_up.restarts == 5, "{given_up:?}");
        assert_eq!(given_up.pid, None, "nobody looks after a process");
        assert!(stage.failures("hurt").await.len() >= 4);
        assert_eq!(stage.unit("other").await, other);
        std::fs::remove_dir(stage.path("panic-hurt")).unwrap();
        stage.end().await;
        assert!(!alive(other.pid));
    });
}
