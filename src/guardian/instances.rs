//! Which instances of nodens there are in this network namespace, and how far each is.
//!
//! Each binds an abstract socket whose name says when it began and what it does: the kernel lists them per network
//! namespace in `/proc/net/unix`, whatever container they live in, and takes the name away with the process, however that
//! ends. What is sent to it means no more than that it should look at the others: anybody can send. Shared things (a dummy link, the standing table, iptables rules) are seen to by the newest
//! instance that serves, and removed by the last.

use crate::sys::clock::Moment;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What names begin with.
const PREFIX: &str = "nodens/";
/// Calls that are taken from the queue at a time: somebody may call without end.
const CALLS: usize = 64;

/// What an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It was told to end.
    Leaving,
    /// Its server does not answer, yet or for now.
    Starting,
    /// It captures packets and answers.
    Serving,
}

impl Stage {
    const ALL: [Stage; 3] = [Stage::Leaving, Stage::Starting, Stage::Serving];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Leaving => "leaving",
            Stage::Starting => "starting",
            Stage::Serving => "serving",
        }
    }
}

/// An instance other than this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its own name, which also its live table bears.
    pub generation: String,
    /// How far it is.
    pub stage: Stage,
}

/// This instance, announced for as long as this value lives.
pub struct Instance {
    generation: String,
    stage: Stage,
    name: UnixDatagram,
}

impl Instance {
    /// Announces an instance that begins at `now`.
    ///
    /// # Errors
    /// What the kernel says to `bind`.
    pub fn announce(now: Moment) -> io::Result<Instance> {
        // As text, an older one sorts before a newer one.
        let generation = format!("{:012x}-{:04x}", now.0 / 1_000_000, rand::random::<u16>());
        let name = bind(&generation, Stage::Starting)?;
        Ok(Instance { generation, stage: Stage::Starting, name })
    }

    /// A name that no other instance has, in letters, digits and a hyphen.
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// Says how far this instance is.
    ///
    /// # Errors
    /// What the kernel says to `bind`; what was said before stands.
    pub fn set(&mut self, stage: Stage) -> io::Result<()> {
        if self.stage != stage {
            *self = Instance { name: bind(&self.generation, stage)?, generation: self.generation.clone(), stage };
        }
        Ok(())
    }

    /// The others.
    ///
    /// # Errors
    /// When `/proc/net/unix` cannot be read.
    pub fn others(&self) -> io::Result<Vec<Other>> {
        let mut others = all()?;
        others.retain(|other| other.generation != self.generation);
        Ok(others)
    }

    /// Has `other` look at the others. In vain if it knows no calls, or changes its stage just now.
    pub fn call(&self, other: &Other) {
        let _ = address(&other.generation, other.stage).and_then(|address| self.name.send_to_addr(&[1], &address));
    }

    /// Becomes readable when this instance is called.
    pub fn calls(&self) -> BorrowedFd<'_> {
        self.name.as_fd()
    }

    /// Was it called since it was asked last? Takes no notice of more calls than the kernel keeps.
    pub fn was_called(&self) -> bool {
        let mut calls = 0;
        while calls < CALLS && self.name.recv(&mut [0]).is_ok() {
            calls += 1;
        }
        calls > 0
    }

    /// Is it on this instance to see to what all share? `others` are those of now.
    pub fn leads(&self, others: &[Other]) -> bool {
        let rank = |stage: Stage, generation: &str| (stage, generation.to_owned());
        others.iter().all(|other| rank(other.stage, &other.generation) < rank(self.stage, &self.generation))
    }
}

/// All instances.
///
/// # Errors
/// When `/proc/net/unix` cannot be read.
pub fn all() -> io::Result<Vec<Other>> {
    Ok(listed(&fs::read_to_string("/proc/net/unix")?))
}

fn bind(generation: &str, stage: Stage) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::bind_addr(&address(generation, stage)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn address(generation: &str, stage: Stage) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("{PREFIX}{generation}/{}", stage.name()))
}

/// The instances in a text like `/proc/net/unix`; one that is just changing its stage is there with the further one.
fn listed(table: &str) -> Vec<Other> {
    let mut found: Vec<Other> = Vec::new();
    for line in table.lines() {
        let name = line.split_whitespace().nth(7).and_then(|name| name.strip_prefix('@')?.strip_prefix(PREFIX));
        let Some((generation, stage)) = name.and_then(|name| name.split_once('/')) else { continue };
        let Some(stage) = Stage::ALL.into_iter().find(|known| known.name() == stage) else { continue };
        match found.iter_mut().find(|known| known.generation == generation) {
            Some(known) => known.stage = known.stage.max(stage),
            None => found.push(Other { generation: generation.to_owned(), stage }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_see_each_other_and_the_newest_that_serves_leads() {
        let now = Moment::now();
        let mut old = Instance::announce(now).unwrap();
        let mut new = Instance::announce(Moment(now.0 + 5_000_000)).unwrap();
        // Tests of other processes may run beside this one.
        let only = |seen: &Instance, of: &Instance| {
            let mut others = seen.others().unwrap();
            others.retain(|other| other.generation == of.generation());
            others
        };
        old.set(Stage::Serving).unwrap();
        assert_eq!(only(&new, &old)[0].stage, Stage::Serving);
        assert_eq!(only(&old, &new)[0].stage, Stage::Starting);
        assert!(old.leads(&only(&old, &new)) && !new.leads(&only(&new, &old)));
        new.set(Stage::Serving).unwrap();
        assert!(!old.leads(&only(&old, &new)) && new.leads(&only(&new, &old)));
        new.set(Stage::Leaving).unwrap();
        assert!(old.leads(&only(&old, &new)));
        let gone = new.generation().to_owned();
        drop(new);
        assert!(old.others().unwrap().iter().all(|other| other.generation != gone));
    }

    #[test]
    fn an_instance_is_called_by_name_and_a_flood_of_calls_is_one() {
        let now = Moment::now();
        let mut old = Instance::announce(now).unwrap();
        let new = Instance::announce(Moment(now.0 + 5_000_000)).unwrap();
        let other = |stage| Other { generation: old.generation().to_owned(), stage };
        new.call(&other(Stage::Serving));
        assert!(!old.was_called(), "it is not that far");
        let (starting, serving) = (other(Stage::Starting), other(Stage::Serving));
        (0..1_000).for_each(|_| new.call(&starting));
        assert!(old.was_called() && !old.was_called());
        old.set(Stage::Serving).unwrap();
        new.call(&starting);
        assert!(!old.was_called(), "that name is gone");
        new.call(&serving);
        assert!(old.was_called());
    }

    #[test]
    fn what_others_bind_is_passed_over() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000: 00000002 00000000 00000000 0002 01 1 @nodens/00a-1/starting\n\
            0000: 00000002 00000000 00000000 0002 01 2 @nodens/00a-1/serving\n\
            0000: 00000002 00000000 00000000 0002 01 3 @nodens/00b-1/odd\n\
            0000: 00000002 00000000 00000000 0002 01 4 nodens/00c-1/serving\n\
            0000: 00000002 00000000 00000000 0002 01 5\n";
        assert_eq!(listed(table), [Other { generation: "00a-1".to_owned(), stage: Stage::Serving }]);
    }
}
