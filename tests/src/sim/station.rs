//! A relay: its disk, and what runs on it, if anything does.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rejoin::codec::v1::Access;
use rejoin::store::testing::disk::{CutFiles, Images};
use rejoin::store::{RedbOptions, Store, StoreExt, Table};
use rejoin::{SpaceId, care};
use rejoin_relay::auth::{Directory, Grant, NewToken, PrincipalId, Target};
use rejoin_relay::testing::{Classic, Modern, Offer, Relay, Sent};

use super::wire::LineId;

/// How much of a store is kept in memory beside the disk.
const CACHE_BYTES: usize = 1 << 18;

/// A relay.
pub struct Station {
    /// Which one it is.
    pub number: usize,
    /// Its disk.
    pub disk: CutFiles,
    /// What runs.
    pub relay: Option<Relay>,
    /// The relay's ends of the connections.
    pub served: BTreeMap<LineId, Served>,
    /// Its backup.
    pub image: Option<Images>,
    /// Whether a commit is on its way.
    pub will_commit: bool,
    /// Its rights are remembered: a fault.
    pub is_deaf: bool,
    lives: u8,
}

/// A relay's end of a connection.
pub enum Served {
    /// It speaks `rejoin.v1`.
    Modern(Modern),
    /// It speaks the classic protocol.
    Classic(Classic),
}

impl Served {
    /// Says whether frames are read.
    pub fn is_listening(&self) -> bool {
        match self {
            Self::Modern(one) => one.is_listening(),
            Self::Classic(one) => one.is_listening(),
        }
    }

    /// Takes in a frame.
    pub fn receive(&mut self, frame: &Bytes) {
        match self {
            Self::Modern(one) => one.receive(frame),
            Self::Classic(one) => one.receive(frame),
        }
    }

    /// Does what there is to do.
    pub fn advance(&mut self) {
        match self {
            Self::Modern(one) => one.advance(),
            Self::Classic(one) => one.advance(),
        }
    }

    /// Takes the next message for the socket.
    pub fn send(&mut self) -> Option<Sent> {
        match self {
            Self::Modern(one) => one.send(),
            Self::Classic(one) => one.send(),
        }
    }

    /// Says how many bytes wait.
    pub fn waiting_bytes(&self) -> usize {
        match self {
            Self::Modern(one) => one.waiting_bytes(),
            Self::Classic(one) => one.waiting_bytes(),
        }
    }

    /// Looks whether its rights are what they were.
    pub fn look(&mut self) {
        match self {
            Self::Modern(one) => one.look(),
            Self::Classic(one) => one.look(),
        }
    }

    /// Takes the oldest write that was let through.
    pub fn take_offer(&mut self) -> Option<Offer> {
        match self {
            Self::Modern(one) => one.take_offer(),
            Self::Classic(one) => one.take_offer(),
        }
    }
}

impl Station {
    /// Makes one with an empty disk.
    pub fn new(number: usize, is_deaf: bool) -> Self {
        Self {
            number,
            disk: CutFiles::new(),
            relay: None,
            served: BTreeMap::new(),
            image: None,
            will_commit: false,
            is_deaf,
            lives: 0,
        }
    }

    /// Starts it on what is on the disk.
    ///
    /// # Errors
    ///
    /// Why it does not start, in words.
    pub fn begin(&mut self) -> Result<(), String> {
        self.lives = self.lives.wrapping_add(1);
        let options = RedbOptions::new().quick_repair(true).journal(true).cache_bytes(CACHE_BYTES);
        let store = self.disk.open(options).map_err(|error| error.to_string())?;
        let mut epoch = [self.lives; 16];
        let number = u8::try_from(self.number).unwrap_or(u8::MAX);
        epoch[0] = number.wrapping_add(0xa0);
        let mut storage = [0x11; 16];
        storage[1] = number;
        let relay = Relay::open(Arc::new(store), storage, epoch, self.is_deaf).map_err(|error| error.to_string())?;
        self.relay = Some(relay);
        self.will_commit = false;
        Ok(())
    }

    /// Ends it, with all connections, which are returned.
    pub fn end(&mut self) -> Vec<LineId> {
        let lines = std::mem::take(&mut self.served);
        self.relay = None;
        lines.into_keys().collect()
    }

    /// Returns the store, if it runs.
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.relay.as_ref().map(Relay::store)
    }

    /// Puts its backup in the place of its disk. Whoever followed its log compares then.
    pub fn restore(&mut self) {
        let Some(image) = &self.image else { return };
        let disk = CutFiles::from_images(image.clone());
        let options = RedbOptions::new().quick_repair(true).journal(true).cache_bytes(CACHE_BYTES);
        if let Ok(store) = disk.open(options) {
            let restored = store.write_with(|tx| {
                tx.delete(Table::Meta, b"log-epoch")?;
                // Owners are not asked for a while, so that devices bring back what the backup lacks. The wall's clock: it is the
                // one that the relay looks at.
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                care::set_restored_at(tx, now.as_secs())
            });
            restored.unwrap();
        }
        self.disk = disk;
    }
}

/// Names who a device is to relays.
pub fn principal(name: usize) -> PrincipalId {
    PrincipalId::new(&format!("device-{name}")).unwrap()
}

/// Grants or takes away that somebody writes a space. Says whether that is durable.
pub fn set_grant(directory: &Directory, name: usize, space: SpaceId, is_granted: bool) -> bool {
    let (principal, target) = (principal(name), Target::Space(space));
    if is_granted {
        directory.put_grant(Grant { principal, target, access: Access::Write, until: None }).is_ok()
    } else {
        directory.remove_grant(&principal, &target).is_ok()
    }
}

/// Makes somebody known, and a token for that one.
pub fn make_token(directory: &Directory, name: usize) -> String {
    let principal = principal(name);
    directory.put_principal(principal.clone(), None, false).unwrap();
    let new = NewToken { principal, label: None, expires: None, scope: None };
    directory.create_token(new).unwrap().1.expose().to_owned()
}
