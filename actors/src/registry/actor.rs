//! The write side: one actor, told by project supervisors who lives and who does not any more.

use envctl_supervisors::spec::Incarnation;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};

use super::directory::{Address, Directory, Registration};

/// The actor. Its state is the directory itself.
#[derive(Debug)]
pub struct RegistryActor;

/// What it is told.
#[derive(Debug)]
pub enum RegistryMessage {
    /// This life can be reached. Sent after it was spawned.
    Register(Address, Registration),
    /// This life cannot be reached any more. Sent before anybody is told that it stopped.
    Deregister(Address, Incarnation),
}

/// The registry as others use it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    actor: ActorRef<RegistryMessage>,
    directory: Directory,
}

// === impl Registry ===

impl Registry {
    /// Starts it as a child of `supervisor`.
    pub async fn start(supervisor: ActorCell) -> Result<Self, SpawnErr> {
        let directory = Directory::default();
        let (actor, _) = Actor::spawn_linked(None, RegistryActor, directory.clone(), supervisor).await?;
        Ok(Self { actor, directory })
    }

    /// The read side.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Says that a life can be reached.
    pub fn register(&self, address: Address, registration: Registration) {
        // A registry that is gone belongs to a session that ends: nobody looks anybody up any more.
        let _ = self.actor.cast(RegistryMessage::Register(address, registration));
    }

    /// Says that a life cannot be reached any more.
    pub fn deregister(&self, address: Address, incarnation: Incarnation) {
        let _ = self.actor.cast(RegistryMessage::Deregister(address, incarnation));
    }
}

// === impl RegistryActor ===

impl Actor for RegistryActor {
    type Msg = RegistryMessage;
    type State = Directory;
    type Arguments = Directory;

    async fn pre_start(
        &self,
        _: ActorRef<RegistryMessage>,
        directory: Directory,
    ) -> Result<Directory, ActorProcessingErr> {
        Ok(directory)
    }

    async fn handle(
        &self,
        _: ActorRef<RegistryMessage>,
        message: RegistryMessage,
        directory: &mut Directory,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RegistryMessage::Register(address, registration) => directory.insert(address, registration),
            RegistryMessage::Deregister(address, incarnation) => directory.remove(&address, incarnation),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use envctl_supervisors::Name;

    use super::*;

    #[test]
    fn h08_a_late_word_about_an_old_life_does_not_remove_the_new_one() {
        let directory = Directory::default();
        let address = Address { project: "p".to_owned(), unit: Name::new("api").unwrap() };
        let life = |n| Registration { incarnation: Incarnation(n), pid: n, endpoints: vec![] };
        directory.insert(address.clone(), life(2));
        directory.remove(&address, Incarnation(1));
        assert_eq!(directory.lookup(&address), Some(life(2)));
        directory.remove(&address, Incarnation(2));
        assert_eq!(directory.lookup(&address), None);
    }
}
