//! What a proxy does to connections: as bad networks do, it delays, trickles, loses one direction, refuses, cuts.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// For how long a connection that lost a direction is held open at most.
const HALF_OPEN_MAX: Duration = Duration::from_secs(120);

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    Up = 0,
    /// To the client.
    Down = 1,
}

/// What is done to connections for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Everything comes this much later.
    Delay(Duration),
    /// Bytes go by one by one, so many in a second.
    Trickle(u32),
    /// What is sent in one direction is swallowed, and nobody is told. A connection that lost a byte never passes one in that
    /// direction again, nor its end: no stream goes on behind a gap.
    Swallow(Way),
    /// Whoever connects is turned away; connections that are there go on.
    Refuse,
}

/// What all connections of a proxy are told.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    fault: watch::Sender<Option<Fault>>,
    cuts: watch::Sender<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { fault: watch::Sender::new(None), cuts: watch::Sender::new(0) }
    }
}

impl Faults {
    pub(super) fn set(&self, fault: Option<Fault>) {
        self.fault.send_replace(fault);
    }

    pub(super) fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    pub(super) fn cuts(&self) -> watch::Receiver<u64> {
        self.cuts.subscribe()
    }

    pub(super) fn refuses(&self) -> bool {
        self.now() == Some(Fault::Refuse)
    }

    pub(super) fn swallow(&self, way: Way) -> bool {
        self.now() == Some(Fault::Swallow(way))
    }

    /// Passes bytes on, as slowly as it is told.
    pub(super) async fn carry(&self, bytes: &[u8], to: &mut OwnedWriteHalf) -> io::Result<()> {
        match self.now() {
            Some(Fault::Delay(delay)) => sleep(delay).await,
            Some(Fault::Trickle(_)) => return self.trickle(bytes, to).await,
            _ => {}
        }
        to.write_all(bytes).await
    }

    async fn trickle(&self, bytes: &[u8], to: &mut OwnedWriteHalf) -> io::Result<()> {
        for (at, byte) in bytes.iter().enumerate() {
            // When it is over, the rest goes at once.
            let Some(Fault::Trickle(per_second)) = self.now() else { return to.write_all(&bytes[at..]).await };
            to.write_all(&[*byte]).await?;
            sleep(Duration::from_secs(1) / per_second.max(1)).await;
        }
        Ok(())
    }

    fn now(&self) -> Option<Fault> {
        *self.fault.borrow()
    }
}

/// Swallows whatever still comes, and keeps the other side waiting: it is told nothing, not even the end.
pub(super) async fn stay_half_open(mut from: OwnedReadHalf, to: OwnedWriteHalf) {
    let held = async {
        let mut buffer = vec![0; 64 << 10];
        while from.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        std::future::pending::<()>().await;
    };
    // An error means that it took that long.
    let _ = timeout(HALF_OPEN_MAX, held).await;
    drop(to);
}
