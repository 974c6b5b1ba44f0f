//! A container engine of one's own: docker's daemon with its own socket, data, bridge and images made on the spot.
//!
//! Nothing is fetched from anywhere, and nothing of the machine's own engine is used. Dropping it proves that it has gone.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{FIXTURE, is_root, proc, until};

/// The engine takes half a second; a busy machine with a cold disk some.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// It stops its containers first, which have ten seconds each unless they listen.
const DOWN_WITHIN: Duration = Duration::from_secs(60);
/// Bridges that tests have at the same time.
const BRIDGES_MAX: u8 = 100;

/// A running engine; it may be stopped and started again.
#[derive(Debug)]
pub(crate) struct Engine {
    root: tempfile::TempDir,
    bridge: Bridge,
    daemon: Option<Child>,
}

/// A network device of the test's own, with a network nobody else has.
#[derive(Debug)]
struct Bridge {
    name: String,
}

// === impl Engine ===

impl Engine {
    /// Starts one with a redis and a fixture image; says why if that cannot be done here.
    pub(crate) fn start() -> Result<Self, String> {
        if !is_root() {
            return Err("docker's daemon needs root".to_owned());
        }
        for program in ["dockerd", "docker", "containerd", "runc", "ip", "redis-server"] {
            if which(program).is_none() {
                return Err(format!("there is no `{program}` here"));
            }
        }
        let root = tempfile::Builder::new().prefix("ed").rand_bytes(8).tempdir_in("/tmp").map_err(|e| e.to_string())?;
        for name in ["data", "exec"] {
            fs::DirBuilder::new().mode(0o700).create(root.path().join(name)).map_err(|error| error.to_string())?;
        }
        let mut engine = Self { root, bridge: Bridge::make()?, daemon: None };
        engine.run()?;
        engine.import("envctl-test/redis:7", "redis-server")?;
        engine.import("envctl-test/fixture:1", FIXTURE)?;
        Ok(engine)
    }

    /// Its socket, as in a configuration.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts it again after [`Engine::stop`] or [`Engine::kill`].
    #[track_caller]
    pub(crate) fn run_again(&mut self) {
        self.run().unwrap_or_else(|why| panic!("the engine does not come back: {why}"));
    }

    /// Kills it where it stands.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.end(Signal::SIGKILL);
        // Its containerd dies with it. Where nobody reaps the orphans of a machine, the next one would take it for alive.
        let _ = fs::remove_file(self.root.path().join("exec/containerd/containerd.pid"));
    }

    /// Stops it in order: its containers end first.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// Runs docker's command line on it; gives what it printed.
    #[track_caller]
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap_or_else(|why| panic!("docker {arguments:?}: {why}"))
    }

    /// Ids of all containers with this label, running or not; without one: of all.
    #[track_caller]
    pub(crate) fn containers(&self, label: Option<&str>) -> Vec<String> {
        let filter = label.map(|label| format!("label={label}"));
        let mut arguments = vec!["ps", "-aq", "--no-trunc"];
        arguments.extend(filter.iter().flat_map(|filter| ["--filter", filter]));
        self.docker(&arguments).lines().map(str::to_owned).collect()
    }

    fn socket(&self) -> PathBuf {
        self.root.path().join("docker.sock")
    }

    fn run(&mut self) -> Result<(), String> {
        let dir = |name: &str| self.root.path().join(name).display().to_string();
        let log = fs::File::options().create(true).append(true).open(self.root.path().join("log"));
        let log = log.map_err(|error| error.to_string())?;
        let copy = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new("dockerd");
        command.args(["-H", &self.address(), "--data-root", &dir("data"), "--exec-root", &dir("exec")]);
        command.args(["--pidfile", &dir("pid"), "--bridge", &self.bridge.name]);
        // The machine's packet filter is none of a test's business; ports are published by docker's own proxy.
        command.args(["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"]);
        command.stdin(Stdio::null()).stdout(log).stderr(copy);
        self.daemon = Some(command.spawn().map_err(|error| format!("dockerd cannot be run: {error}"))?);
        let clock = super::Stopwatch::start();
        until(UP_WITHIN * 2, "the engine", || match self.try_docker(&["version"]) {
            Ok(_) => Ok(Ok(())),
            Err(why) if clock.elapsed() > UP_WITHIN => Ok(Err(format!("dockerd does not answer: {why}"))),
            Err(why) => self.ended().map_or(Err(why), |ended| Ok(Err(ended))),
        })
    }

    /// Why it has ended, if it has.
    fn ended(&mut self) -> Option<String> {
        let status = self.daemon.as_mut()?.try_wait().ok()??;
        let log = fs::read_to_string(self.root.path().join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(3).collect();
        Some(format!("dockerd ended with {status}: {}", tail.join(" | ")))
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut daemon) = self.daemon.take() else { return };
        proc::signal(daemon.id(), signal);
        until(DOWN_WITHIN, "the end of the engine", || match daemon.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
    }

    fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("docker");
        command.args(["-H", &self.address()]).args(arguments).stdin(Stdio::null());
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// Makes an image of one program and the libraries it needs.
    fn import(&self, image: &str, program: &str) -> Result<(), String> {
        let path = which(program).ok_or_else(|| format!("there is no `{program}`"))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let root = self.root.path().join("image").join(&name);
        copy_into(&path, &root, &format!("/bin/{name}"))?;
        for library in libraries(&path)? {
            copy_into(&library, &root, &library.display().to_string())?;
        }
        for dir in ["data", "tmp"] {
            fs::create_dir_all(root.join(dir)).map_err(|error| error.to_string())?;
        }
        let tar = self.root.path().join(format!("{name}.tar"));
        let made = Command::new("tar").arg("-C").arg(&root).args(["-cf"]).arg(&tar).arg(".").status();
        if !made.is_ok_and(|status| status.success()) {
            return Err("tar failed".to_owned());
        }
        let tar = tar.display().to_string();
        self.try_docker(&["import", "-c", "ENV PATH=/bin", "-c", "WORKDIR /data", &tar, image]).map(drop)
    }

    /// Makes an image of the fixture that stands in for another: it is found here, so nothing is fetched.
    #[track_caller]
    pub(crate) fn stand_in(&self, image: &str) {
        self.stand_in_with(image, "PATH=/bin");
    }

    /// As [`Engine::stand_in`], with a variable.
    #[track_caller]
    pub(crate) fn stand_in_with(&self, image: &str, variable: &str) {
        let tar = self.root.path().join("envctl-fixture.tar").display().to_string();
        let entry = "ENTRYPOINT [\"envctl-fixture\", \"stand-in\"]";
        let variable = format!("ENV {variable}");
        self.docker(&["import", "-c", "ENV PATH=/bin", "-c", &variable, "-c", entry, &tar, image]);
    }

    /// What it has mounted and not unmounted.
    fn mounts(&self) -> Vec<String> {
        let root = self.root.path().display().to_string();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.starts_with(&root)).map(str::to_owned).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Ok(ids) = self.try_docker(&["ps", "-aq"]) {
            let ids: Vec<&str> = ids.lines().collect();
            if !ids.is_empty() {
                let _ = self.try_docker(&[&["rm", "-f"], &ids[..]].concat());
            }
        }
        self.end(Signal::SIGTERM);
        for mount in self.mounts().iter().rev() {
            let _ = Command::new("umount").args(["-l", mount]).status();
        }
        let left = proc::tied_to(self.root.path());
        // Of a container that the engine could not end, the looked after is tied to it by nothing but who looks after it.
        let kept: Vec<u32> = left.iter().flat_map(|one| proc::children(one.pid)).collect();
        kept.into_iter().chain(left.iter().map(|one| one.pid)).for_each(|pid| proc::signal(pid, Signal::SIGKILL));
        if !left.is_empty() && !std::thread::panicking() {
            panic!("the engine left processes: {left:?}");
        }
    }
}

// === impl Bridge ===

impl Bridge {
    fn make() -> Result<Self, String> {
        let ip = |arguments: &[&str]| {
            let output = Command::new("ip").args(arguments).output().map_err(|error| error.to_string())?;
            match output.status.success() {
                true => Ok(()),
                false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            }
        };
        let mut why = String::new();
        for number in 0..BRIDGES_MAX {
            let name = format!("evbr{number}");
            // Making it is the lock: only one test can have each.
            if let Err(error) = ip(&["link", "add", &name, "type", "bridge"]) {
                why = error;
                continue;
            }
            let bridge = Self { name };
            ip(&["addr", "add", &format!("10.213.{number}.1/24"), "dev", &bridge.name])?;
            ip(&["link", "set", &bridge.name, "up"])?;
            return Ok(bridge);
        }
        Err(format!("no network bridge can be made: {why}"))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.name]).status();
    }
}

fn which(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH")?;
    let beside = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(beside).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The shared libraries of a program, its loader among them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>, String> {
    let output = Command::new("ldd").arg(program).output().map_err(|error| format!("ldd: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(|path| PathBuf::from(path.trim_end_matches(':'))).collect())
}

fn copy_into(file: &Path, root: &Path, place: &str) -> Result<(), String> {
    let target = root.join(place.trim_start_matches('/'));
    fs::create_dir_all(target.parent().unwrap_or(root)).map_err(|error| error.to_string())?;
    fs::copy(file, &target).map(drop).map_err(|error| format!("copy {}: {error}", file.display()))
}
