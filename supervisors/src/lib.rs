//! OTP's supervisors for [ractor] programs.
//!
//! A supervisor starts its children in order, hears of every end, restarts by rule, gives up when restarts come too
//! fast, and stops its children in reverse order. What Erlang's `supervisor` promises is kept here case by case
//! (`CONFORMANCE.md` names the test of each), under the same words; what the services of a developer's machine need
//! beyond that comes on top.
//!
//! ```
//! use std::time::Duration;
//!
//! use envctl_supervisors::Name;
//! use envctl_supervisors::shell::{Supervisor, SupervisorSpec};
//! use envctl_supervisors::spec::{ChildSpec, Strategy};
//! use ractor::{Actor, ActorProcessingErr, ActorRef};
//!
//! struct Worker;
//!
//! impl Actor for Worker {
//!     type Msg = ();
//!     type State = ();
//!     type Arguments = ();
//!
//!     async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spec = SupervisorSpec::new(Name::new("app")?, Strategy::OneForAll)
//!     .actor(ChildSpec::otp(Name::new("source")?), |_| (Worker, ()))
//!     .actor(ChildSpec::otp(Name::new("sink")?), |_| (Worker, ()));
//! let app = Supervisor::start(spec, None).await?;
//! assert_eq!(app.count_children().await?.active, 2);
//!
//! let outcomes = app.stop(Duration::from_secs(10)).await?;
//! assert!(outcomes.iter().all(|outcome| !outcome.killed));
//! # Ok(())
//! # }
//! ```
//!
//! # Two halves
//!
//! [`engine`] decides. It is a pure state machine, [`Engine::step`](engine::Engine::step): time and an event in,
//! effects out. It knows no actors, no processes, no clock, no I/O and no randomness but a seeded one. [`shell`]
//! carries effects out with ractor actors, and is what a program uses. Whoever supervises something else (envctl:
//! processes) drives the engine itself.
//!
//! [`spec`] has the specifications, [`reason`] the ends of lives and the errors of starts; [`Name`] is what ids are
//! made of. A *life* is one run of a child, from its start to its end; lives of one child are numbered from 1
//! ([`spec::Incarnation`]).
//!
//! # OTP's words
//!
//! | OTP | here |
//! |---|---|
//! | `supervisor:start_link` | [`Supervisor::start`](shell::Supervisor::start) |
//! | what `init/1` returns | a value: [`shell::SupervisorSpec`]; there is no callback |
//! | supervisor flags | [`spec::Flags`]; [`Flags::otp`](spec::Flags::otp) has OTP's defaults |
//! | `strategy`: `one_for_one`, `one_for_all`, `rest_for_one` | [`spec::Strategy`] |
//! | `simple_one_for_one`, Elixir's `DynamicSupervisor` | [`SupervisorSpec::dynamic`](shell::SupervisorSpec::dynamic) |
//! | `intensity`, `period` | [`spec::Intensity`], [`SupervisorSpec::intensity`](shell::SupervisorSpec::intensity) |
//! | `auto_shutdown` | [`spec::AutoShutdown`] |
//! | child specification | [`spec::ChildSpec`]; [`ChildSpec::otp`](spec::ChildSpec::otp) has OTP's defaults |
//! | `id` | [`ChildSpec::id`](spec::ChildSpec::id), a [`Name`] |
//! | `start`: `{M, F, A}` | [`SupervisorSpec::actor`](shell::SupervisorSpec::actor) or [`shell::Child`] |
//! | `{ok, Pid}`, `ignore`, `{error, Reason}` | `Ok(Some(cell))`, `Ok(None)`, `Err(`[`StartError`](reason::StartError)`)` |
//! | `restart`: `permanent`, `transient`, `temporary` | [`spec::Restart`] |
//! | `shutdown`: `brutal_kill`, milliseconds, `infinity` | [`spec::Shutdown`] |
//! | `type`: `worker`, `supervisor` | [`spec::ChildType`]; [`ChildSpec::supervisor`](spec::ChildSpec::supervisor) has the latter's defaults |
//! | `significant` | [`ChildSpec::significant`](spec::ChildSpec::significant) |
//! | `modules` | none: there is no code to load |
//! | `start_child` | [`start_child`](shell::SupervisorHandle::start_child), [`start_actor`](shell::SupervisorHandle::start_actor), [`start_children`](shell::SupervisorHandle::start_children) |
//! | `terminate_child`, `restart_child`, `delete_child` | [`terminate_child`](shell::SupervisorHandle::terminate_child), [`restart_child`](shell::SupervisorHandle::restart_child), [`delete_child`](shell::SupervisorHandle::delete_child) |
//! | `which_children`, `which_child`, `count_children` | [`which_children`](shell::SupervisorHandle::which_children), [`which_child`](shell::SupervisorHandle::which_child), [`count_children`](shell::SupervisorHandle::count_children) |
//! | `get_childspec`, `check_childspecs` | [`get_childspec`](shell::SupervisorHandle::get_childspec), [`SupervisorSpec::check`](shell::SupervisorSpec::check) |
//! | a pid, `restarting`, `undefined` | [`engine::OtpState`] in [`shell::ChildInfo`] |
//! | `not_found`, `already_present`, `already_started`, `running`, `restarting` | [`engine::AdminError`] |
//! | `code_change` | [`SupervisorHandle::replace`](shell::SupervisorHandle::replace), [`Event::Upgrade`](engine::Event::Upgrade) |
//! | `supervisor:stop` | [`SupervisorHandle::stop`](shell::SupervisorHandle::stop) |
//! | `normal`, `shutdown`, `killed` | [`reason::ExitReason`] |
//! | `failed_to_start_child` | [`SupervisorError::FailedToStartChild`](shell::SupervisorError::FailedToStartChild) |
//! | `reached_max_restart_intensity` | [`What::GaveUp`](engine::What::GaveUp), then [`Ending::GaveUp`](engine::Ending::GaveUp) |
//! | supervisor reports | [`SupervisorHandle::reports`](shell::SupervisorHandle::reports) |
//!
//! # Supervisor flags
//!
//! [`SupervisorSpec::new`](shell::SupervisorSpec::new) has OTP's flags: one restart in five seconds, no auto-shutdown,
//! children in the order of the list, a first start that succeeds as a whole or not at all. Another budget is so common
//! that it has a method; the rest is a field of [`spec::Flags`].
//!
//! ```
//! # use std::time::Duration;
//! # use envctl_supervisors::Name;
//! # use envctl_supervisors::shell::SupervisorSpec;
//! use envctl_supervisors::spec::{AutoShutdown, Flags, Strategy};
//!
//! let flags = Flags { auto_shutdown: AutoShutdown::AnySignificant, ..Flags::otp(Strategy::RestForOne) };
//! let spec = SupervisorSpec::new(Name::new("app")?, Strategy::RestForOne).flags(flags);
//! spec.intensity(3, Duration::from_secs(5)).check()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Child specifications
//!
//! What the supervisor knows of a child ([`spec::ChildSpec`]) and what starts it are given together. A field that is
//! not written has its default: `permanent`, five seconds to stop, a worker, not significant.
//!
//! ```
//! # use std::time::Duration;
//! # use envctl_supervisors::Name;
//! use envctl_supervisors::spec::{ChildSpec, Restart, Shutdown};
//!
//! let spec = ChildSpec {
//!     restart: Restart::Transient,
//!     shutdown: Shutdown::Timeout(Duration::from_secs(1)),
//!     ..ChildSpec::otp(Name::new("importer")?)
//! };
//! # assert!(!spec.significant);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Start.** [`SupervisorSpec::actor`](shell::SupervisorSpec::actor) takes a function that gives the actor and its
//! arguments for each life; ractor's `pre_start` is what `init` is to a gen_server, and an error or panic in it is a
//! start that failed. A start that takes more than that is a [`shell::Child`], for which a function will do; `Ok(None)`
//! is OTP's `ignore`.
//!
//! ```
//! # use envctl_supervisors::Name;
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct Worker;
//! # impl Actor for Worker {
//! #     type Msg = ();
//! #     type State = ();
//! #     type Arguments = u32;
//! #     async fn pre_start(&self, _: ActorRef<()>, _: u32) -> Result<(), ActorProcessingErr> { Ok(()) }
//! # }
//! use envctl_supervisors::reason::StartError;
//! use envctl_supervisors::shell::{StartContext, Supervisor, SupervisorSpec};
//! use envctl_supervisors::spec::{ChildSpec, Incarnation, Strategy};
//! use ractor::ActorCell;
//!
//! async fn start(life: Incarnation, context: StartContext) -> Result<Option<ActorCell>, StartError> {
//!     if cfg!(windows) {
//!         return Ok(None); // Nothing to run here.
//!     }
//!     Ok(Some(context.spawn(Worker, life.0).await?.get_cell()))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spec = SupervisorSpec::new(Name::new("app")?, Strategy::OneForOne);
//! Supervisor::start(spec.child(ChildSpec::otp(Name::new("w")?), start), None).await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Restart types.** A normal end is [`ExitReason::is_normal`](reason::ExitReason::is_normal): a stop, a supervisor's
//! `shutdown`, the exit code 0.
//!
//! | [`spec::Restart`] | after a normal end | after any other |
//! |---|---|---|
//! | `Permanent` | restarted | restarted |
//! | `Transient` | done | restarted |
//! | `Temporary` | done | failed; never restarted, and with OTP's flags forgotten |
//!
//! **Shutdown** is how a child is ended: killed at once, asked and killed after a time, or asked and waited for. A kill
//! is never taken for a death: only the word that nothing of the life is left ends it.
//!
//! **Type** changes defaults and counts only.
//!
//! # Strategies
//!
//! | [`spec::Strategy`] | a crash restarts |
//! |---|---|
//! | `OneForOne` | the child |
//! | `OneForAll` | all: they go down in reverse order, then come up in order |
//! | `RestForOne` | the child and those after it, in the same way |
//!
//! Nobody comes up before all are down for real. Temporary siblings are ended, not restarted. A member that fails to
//! start is tried again through the strategy, as in OTP, and those after it wait.
//!
//! `simple_one_for_one` is a supervisor without order or list:
//! [`SupervisorSpec::dynamic`](shell::SupervisorSpec::dynamic). There is no template; each child brings its
//! specification, and its id is free again when it has ended.
//!
//! ```
//! # use std::time::Duration;
//! # use envctl_supervisors::Name;
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct Worker;
//! # impl Actor for Worker {
//! #     type Msg = ();
//! #     type State = ();
//! #     type Arguments = ();
//! #     async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> { Ok(()) }
//! # }
//! # use envctl_supervisors::shell::{Supervisor, SupervisorSpec};
//! # use envctl_supervisors::spec::{ChildSpec, Restart};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clients = Supervisor::start(SupervisorSpec::dynamic(Name::new("clients")?), None).await?;
//! for id in ["c1", "c2"] {
//!     let spec = ChildSpec { restart: Restart::Temporary, ..ChildSpec::otp(Name::new(id)?) };
//!     clients.start_actor(spec, |_| (Worker, ())).await?;
//! }
//! clients.terminate_child(&Name::new("c1")?).await?;
//! assert_eq!(clients.which_children().await?.len(), 1);
//! # clients.stop(Duration::from_secs(1)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Intensity and period
//!
//! The supervisor counts restarts, one for a whole group that restarts together and one for each further try of a
//! failing start. A restart that makes it more than `intensity` within `period` is not made: the supervisor gives up,
//! stops the other children in reverse order and ends. Its end is a `shutdown`, so a parent restarts it if it is
//! permanent and not if it is transient.
//!
//! ```
//! # use std::time::Duration;
//! # use envctl_supervisors::Name;
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct Worker;
//! # impl Actor for Worker {
//! #     type Msg = ();
//! #     type State = ();
//! #     type Arguments = ();
//! #     async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> { Ok(()) }
//! # }
//! # use envctl_supervisors::shell::{Supervisor, SupervisorSpec};
//! # use envctl_supervisors::spec::{ChildSpec, Strategy};
//! use envctl_supervisors::engine::Ending;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spec = SupervisorSpec::new(Name::new("app")?, Strategy::OneForOne)
//!     .intensity(0, Duration::from_secs(5))
//!     .actor(ChildSpec::otp(Name::new("w")?), |_| (Worker, ()));
//! let app = Supervisor::start(spec, None).await?;
//! let worker = app.which_child(&Name::new("w")?).await?;
//! worker.actor.expect("it runs").kill();
//! assert_eq!(app.ended().await, Some((Name::new("w")?, Ending::GaveUp)));
//! # Ok(())
//! # }
//! ```
//!
//! # Significant children and auto-shutdown
//!
//! With [`AutoShutdown::AnySignificant`](spec::AutoShutdown::AnySignificant) the supervisor ends when a significant
//! child ended by itself and is not restarted; with
//! [`AutoShutdown::AllSignificant`](spec::AutoShutdown::AllSignificant) when the last one alive did. A termination that
//! was asked for, or that a sibling's crash brought, does not count. A significant child may not be permanent.
//!
//! ```
//! # use envctl_supervisors::Name;
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct Worker;
//! # impl Actor for Worker {
//! #     type Msg = ();
//! #     type State = ();
//! #     type Arguments = ();
//! #     async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> { Ok(()) }
//! # }
//! # use envctl_supervisors::engine::Ending;
//! # use envctl_supervisors::shell::{Supervisor, SupervisorSpec};
//! # use envctl_supervisors::spec::{AutoShutdown, ChildSpec, Flags, Restart, Strategy};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let flags = Flags { auto_shutdown: AutoShutdown::AnySignificant, ..Flags::otp(Strategy::OneForOne) };
//! let job = ChildSpec { restart: Restart::Transient, significant: true, ..ChildSpec::otp(Name::new("job")?) };
//! let spec = SupervisorSpec::new(Name::new("import")?, Strategy::OneForOne)
//!     .flags(flags)
//!     .actor(ChildSpec::otp(Name::new("cache")?), |_| (Worker, ()))
//!     .actor(job, |_| (Worker, ()));
//! let import = Supervisor::start(spec, None).await?;
//! import.which_child(&Name::new("job")?).await?.actor.expect("it runs").stop(None);
//! assert_eq!(import.ended().await, Some((Name::new("job")?, Ending::AutoShutdown)));
//! # Ok(())
//! # }
//! ```
//!
//! # Calls
//!
//! Calls that begin or end a life are answered when that is done; the supervisor itself waits for nothing, so that
//! other calls are served meanwhile. What OTP refuses is refused by the same word ([`engine::AdminError`]).
//!
//! ```
//! # use std::time::Duration;
//! # use envctl_supervisors::Name;
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct Worker;
//! # impl Actor for Worker {
//! #     type Msg = ();
//! #     type State = ();
//! #     type Arguments = ();
//! #     async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> { Ok(()) }
//! # }
//! # use envctl_supervisors::shell::{Supervisor, SupervisorSpec};
//! # use envctl_supervisors::spec::{ChildSpec, Strategy};
//! use envctl_supervisors::engine::{AdminError, OtpState};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = Supervisor::start(SupervisorSpec::new(Name::new("app")?, Strategy::OneForOne), None).await?;
//! let id = Name::new("w")?;
//! let cell = app.start_actor(ChildSpec::otp(id.clone()), |_| (Worker, ())).await?;
//! assert!(cell.is_some());
//! assert_eq!(app.delete_child(&id).await, Err(AdminError::Running(id.clone()).into()));
//!
//! app.terminate_child(&id).await?; // It is really gone now; its spec stays.
//! assert_eq!(app.which_child(&id).await?.otp_state, OtpState::Undefined);
//! app.restart_child(&id).await?; // Not counted in the intensity.
//! assert_eq!(app.get_childspec(&id).await?, ChildSpec::otp(id.clone()));
//!
//! app.terminate_child(&id).await?;
//! app.delete_child(&id).await?;
//! assert_eq!(app.count_children().await?.specs, 0);
//! # app.stop(Duration::from_secs(1)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Changing a running supervisor
//!
//! [`replace`](shell::SupervisorHandle::replace) is OTP's `code_change`: new flags and specifications in one step, or
//! none of them if they cannot be supervised. Unchanged children live on. What OTP leaves open is decided: a child that
//! is no longer in the list is stopped and forgotten, a new one is down until [`start`](shell::SupervisorHandle::start)
//! asks for it, and a life is replaced only if it is of no use under its new specification (other needs, readiness or
//! type).
//!
//! # Reports
//!
//! Every decision and observation is a report with OTP's four fields, typed:
//! [`supervisor`](shell::SupervisorReport::supervisor), [`context`](shell::SupervisorReport::context),
//! [`reason`](shell::SupervisorReport::reason), [`offender`](shell::SupervisorReport::offender). The first subscription
//! begins with the start of the supervisor. One that reads too slowly loses the oldest, and [knows how
//! many](shell::Reports::lost).
//!
//! | OTP's report | [`engine::What`] |
//! |---|---|
//! | progress | `Started` |
//! | `start_error` | `StartFailed` |
//! | `child_terminated` | `Exited`, with `expected: false` |
//! | `shutdown_error` | `Killing`, then `Exited` |
//! | `shutdown` | `GaveUp`, then `Ending` |
//!
//! ```
//! # use std::time::Duration;
//! # use envctl_supervisors::Name;
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct Worker;
//! # impl Actor for Worker {
//! #     type Msg = ();
//! #     type State = ();
//! #     type Arguments = ();
//! #     async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> { Ok(()) }
//! # }
//! # use envctl_supervisors::shell::{Supervisor, SupervisorSpec};
//! # use envctl_supervisors::spec::{ChildSpec, Strategy};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let spec = SupervisorSpec::new(Name::new("app")?, Strategy::OneForOne);
//! let app = Supervisor::start(spec.actor(ChildSpec::otp(Name::new("w")?), |_| (Worker, ())), None).await?;
//! let mut reports = app.reports();
//! while let Some(report) = reports.next().await {
//!     let reason = report.reason.map_or_else(String::new, |reason| reason.to_string());
//!     let line = format!("{} {}: {:?} {reason}", report.supervisor, report.offender.id, report.context);
//!     # assert_eq!(line, "app w: Starting asked for");
//!     # break;
//! }
//! # app.stop(Duration::from_secs(1)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Supervision trees
//!
//! A supervisor is an actor, so it can be a child. Its specification is
//! [`ChildSpec::supervisor`](spec::ChildSpec::supervisor) (OTP's defaults: permanent, waited for without limit when it
//! stops), its start is a [`shell::Child`] that starts it with the one above as parent. The one above asks it by
//! message to stop, so that its children go down in order too.
//!
//! ```
//! # use std::time::Duration;
//! # use envctl_supervisors::Name;
//! use envctl_supervisors::reason::StartError;
//! use envctl_supervisors::shell::{StartContext, Supervisor, SupervisorSpec};
//! use envctl_supervisors::spec::{ChildSpec, Incarnation, Strategy};
//! use ractor::ActorCell;
//!
//! async fn start_inner(_: Incarnation, context: StartContext) -> Result<Option<ActorCell>, StartError> {
//!     let spec = SupervisorSpec::new(context.id().clone(), Strategy::OneForAll);
//!     match Supervisor::start(spec, Some(context.supervisor())).await {
//!         Ok(inner) => Ok(Some(inner.cell())),
//!         Err(error) => Err(StartError { message: error.to_string(), hint: None, retry: true }),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let inner = ChildSpec::supervisor(Name::new("inner")?);
//! let spec = SupervisorSpec::new(Name::new("outer")?, Strategy::OneForOne).child(inner, start_inner);
//! let outer = Supervisor::start(spec, None).await?;
//! assert_eq!(outer.count_children().await?.supervisors, 1);
//! # outer.stop(Duration::from_secs(1)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What OTP does not have
//!
//! [`Flags::default`](spec::Flags::default) with [`ChildSpec::new`](spec::ChildSpec::new) is a supervisor for the
//! services of a project: a graph instead of a list, a budget for each child, delays between restarts, and an operator
//! whose word holds. Each of the following works with OTP's flags as well.
//!
//! **Needs.** A child starts when what it needs is [`Started`, `Ready` or `Done`](spec::Condition).
//! [`Then`](spec::Then) says what becomes of it when that is lost: nothing, a restart, a stop. A ring is refused by
//! name.
//!
//! ```
//! # use std::time::Duration;
//! # use envctl_supervisors::Name;
//! use envctl_supervisors::engine::Engine;
//! use envctl_supervisors::spec::{ChildSpec, Condition, Edge, Readiness, Then};
//!
//! let db = ChildSpec { readiness: Readiness::Within(Duration::from_secs(30)), ..ChildSpec::new(Name::new("db")?) };
//! let need = Edge { on: Name::new("db")?, is: Condition::Ready, then: Then::Restart };
//! let api = ChildSpec { needs: vec![need], ..ChildSpec::new(Name::new("api")?) };
//! Engine::check(&[db, api], &[])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Readiness and liveness.** A life says itself that it is ready, or not any more, or that it must be replaced; it is
//! given a [`shell::Life`] for that. One that does not become ready [in time](spec::Readiness::Within) is ended, and so
//! is one that [does not answer](shell::Life::liveness_lost): both count as crashes.
//!
//! ```
//! # use envctl_supervisors::Name;
//! # use envctl_supervisors::spec::{ChildSpec, Strategy};
//! use envctl_supervisors::shell::{Life, SupervisorSpec};
//! use ractor::{Actor, ActorProcessingErr, ActorRef};
//!
//! struct Server;
//!
//! impl Actor for Server {
//!     type Msg = ();
//!     type State = Life;
//!     type Arguments = Life;
//!
//!     async fn pre_start(&self, _: ActorRef<()>, life: Life) -> Result<Life, ActorProcessingErr> {
//!         life.ready();
//!         Ok(life)
//!     }
//! }
//!
//! let spec = SupervisorSpec::new(Name::new("app")?, Strategy::OneForOne)
//!     .actor(ChildSpec::otp(Name::new("server")?), |life| (Server, life.clone()));
//! # spec.check()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Groups.** A [`spec::GroupSpec`] is a supervisor inside the supervisor: ordered members (children and groups), a
//! strategy, a budget, and what giving up means ([`spec::Escalate`]): the child alone has failed, the group has crashed
//! for the group above it, or everything ends. Edges may lead from group to group, which no tree of supervisors could
//! express.
//!
//! ```
//! # use envctl_supervisors::Name;
//! # use envctl_supervisors::engine::Engine;
//! use envctl_supervisors::spec::{ChildSpec, Escalate, GroupSpec, Strategy};
//!
//! let [db, api, web] = ["db", "api", "web"].map(|id| Name::new(id).expect("a name"));
//! let core = GroupSpec {
//!     strategy: Strategy::RestForOne,
//!     escalate: Escalate::Group,
//!     ..GroupSpec::new(Name::new("core")?, vec![db.clone(), api.clone()])
//! };
//! Engine::check(&[db, api, web].map(ChildSpec::new), &[core])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Backoff and unstable lives.** After a stable life a restart is immediate; after that [`Backoff`](spec::Backoff)
//! doubles the delay up to a limit, and takes a seeded share between half and all of it. A life is stable when it was
//! ready (or, if it never says so, ran) for [`stable_after`](spec::ChildSpec::stable_after). Delays that outgrow the
//! period would make the intensity unreachable, so [`unstable_max`](spec::ChildSpec::unstable_max) lives in a row that
//! never became stable are the end too.
//!
//! ```
//! # use std::time::Duration;
//! # use envctl_supervisors::Name;
//! use envctl_supervisors::spec::{Backoff, ChildSpec};
//!
//! let backoff = Backoff::Exponential { base: Duration::from_millis(100), max: Duration::from_secs(10) };
//! let spec = ChildSpec { backoff, unstable_max: Some(5), ..ChildSpec::new(Name::new("flaky")?) };
//! # assert!(spec.critical);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **An operator's word.** With [`Rules::Operator`](spec::Rules::Operator) what was stopped by hand stays down and what
//! is done stays done when its group restarts. [`start`](shell::SupervisorHandle::start) and
//! [`restart`](shell::SupervisorHandle::restart) skip delays, are not counted, and forget failures.
//!
//! ```
//! # use envctl_supervisors::Name;
//! # use envctl_supervisors::shell::SupervisorSpec;
//! use envctl_supervisors::spec::{Flags, Rules, Strategy};
//!
//! let flags = Flags { rules: Rules::Operator, ..Flags::otp(Strategy::OneForAll) };
//! let spec = SupervisorSpec::new(Name::new("app")?, Strategy::OneForAll).flags(flags);
//! # spec.check()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Places for starts.** No more than [`start_parallel_max`](engine::Options::start_parallel_max) children are
//! starting at once.
//!
//! ```
//! # use envctl_supervisors::Name;
//! # use envctl_supervisors::shell::SupervisorSpec;
//! # use envctl_supervisors::spec::Strategy;
//! use envctl_supervisors::engine::Options;
//!
//! let options = Options { start_parallel_max: 4, ..Options::default() }; // And Flags::default().
//! let spec = SupervisorSpec::new(Name::new("app")?, Strategy::OneForOne).options(options);
//! # spec.check()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **A deadline for the stop.** [`stop`](shell::SupervisorHandle::stop) gives each child its shutdown time, kills what
//! is left at its deadline, and returns an [`Outcome`](shell::Outcome) for each child: how it ended, and whether it had
//! to be killed.
//!
//! # What differs on purpose
//!
//! Also with OTP's flags:
//!
//! | OTP | here | why |
//! |---|---|---|
//! | the supervisor waits for each start | it waits for none; a child that is being started counts as running | a start of minutes must not delay a stop |
//! | restarts are counted in whole seconds | in exact time | nothing is gained by rounding |
//! | `which_children` lists in reverse | in start order | it is read by people |
//! | `code_change` lets removed children run | stops and forgets them | what is not in the list should not run |
//! | a failing start is retried by a message to itself | by a timer of no delay | the engine has no mailbox; calls are served between tries all the same |
//! | children may be named by pid | by id only | a pid names a life, not a child |
//! | a template starts the children of `simple_one_for_one` | each brings its spec and start | a closure is a better argument list |
//! | unknown keys of a spec are ignored | cannot be written down | specs are types |
//!
//! With [`Flags::default`](spec::Flags::default) also:
//!
//! | OTP | here | why |
//! |---|---|---|
//! | a group restart starts all, also what was stopped by hand | [`Rules::Operator`](spec::Rules::Operator): that stays down, and done stays done | somebody stopped it for a reason |
//! | a failed start is counted when it is tried again | at once | with a delay before the next try, giving up would wait for it |
//! | a failed first start stops everything | [`FirstStart::Retry`](spec::FirstStart::Retry) | the rest of a project is of use without one service |
//! | one budget for all | one for each child or declared group | services that have nothing in common should not fail together |
//! | giving up ends the supervisor | [`Escalate::Isolate`](spec::Escalate::Isolate) | the same |
//! | a list | [`Order::Needs`](spec::Order::Needs): a graph, parallel where it may | fifty services one after another are slow |
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod engine;
pub mod name;
pub mod reason;
pub mod shell;
pub mod spec;

pub use name::{Name, NameError};

/// The README's examples are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
