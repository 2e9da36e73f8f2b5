//! Counted places, for each user and in all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Whose place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Root, or whoever runs the daemon.
    Master,
    User(u32),
    /// The kernel does not tell.
    Unknown,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connections,
    Calls,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    user: usize,
    users: usize,
    masters: usize,
}

/// No place is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error(
        "{whose} already has {most} connections to vgpud, which is the most; close some, or try again later"
    )]
    Connections { whose: String, most: usize },
    #[error("{whose} already has {most} calls in flight, which is the most; try again when some have ended")]
    Calls { whose: String, most: usize },
}

/// The places of one kind.
#[derive(Debug)]
pub struct Places {
    kind: Kind,
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    of: HashMap<Option<u32>, usize>,
    users: usize,
    masters: usize,
}

/// One place, given back when this value goes.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    who: Who,
}

impl Who {
    const fn key(self) -> Option<u32> {
        match self {
            Self::User(uid) => Some(uid),
            Self::Master | Self::Unknown => None,
        }
    }
}

impl Places {
    /// Far more than an orchestrator and a few people need, and less than would be felt: a connection
    /// takes some 30 KiB and a file descriptor.
    pub fn connections() -> Arc<Self> {
        Self::new(Kind::Connections, Limits { user: 64, users: 512, masters: 2048 })
    }

    /// For connections too many, until they are told so.
    pub fn farewells() -> Arc<Self> {
        Self::new(Kind::Connections, Limits { user: 1024, users: 1024, masters: 1024 })
    }

    /// Each may have a message in the core's queue and a thread that looks up its user.
    pub fn calls() -> Arc<Self> {
        Self::new(Kind::Calls, Limits { user: 32, users: 256, masters: 1024 })
    }

    fn new(kind: Kind, limits: Limits) -> Arc<Self> {
        Arc::new(Self { kind, limits, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place.
    ///
    /// # Errors
    /// Where all of them are taken.
    pub fn take(self: &Arc<Self>, who: Who) -> Result<Place, Full> {
        let mut taken = self.taken();
        let Limits { user, users, masters } = self.limits;
        if who == Who::Master {
            if taken.masters >= masters {
                return Err(self.full("Root".to_owned(), masters));
            }
            taken.masters += 1;
        } else {
            let own = taken.of.get(&who.key()).copied().unwrap_or_default();
            if own >= user {
                let whose = who.key().map_or_else(|| "A user".to_owned(), |uid| format!("User {uid}"));
                return Err(self.full(whose, user));
            }
            if taken.users >= users {
                return Err(self.full("Everybody but root together".to_owned(), users));
            }
            taken.users += 1;
            taken.of.insert(who.key(), own + 1);
        }
        drop(taken);
        Ok(Place { places: Arc::clone(self), who })
    }

    const fn full(&self, whose: String, most: usize) -> Full {
        match self.kind {
            Kind::Connections => Full::Connections { whose, most },
            Kind::Calls => Full::Calls { whose, most },
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if self.who == Who::Master {
            taken.masters -= 1;
            return;
        }
        taken.users -= 1;
        let key = self.who.key();
        if let Some(own) = taken.of.get_mut(&key) {
            *own -= 1;
            if *own == 0 {
                taken.of.remove(&key);
            }
        }
    }
}
