//! What systemd is told, if it started the relay; else nothing happens.

use std::future::pending;

use sd_notify::NotifyState;
use tokio::time::sleep;

/// Says that clients may come.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the configuration is read again; [`ready`] says that it was.
pub(crate) fn reloading() {
    let since = NotifyState::monotonic_usec_now().ok();
    let states: Vec<_> = [NotifyState::Reloading].into_iter().chain(since).collect();
    tell(&states);
}

/// Says that the relay is ending.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Gives signs of life for as long as it is awaited, if systemd wants them: twice as often as it must. A runtime whose threads are all
/// stuck gives none.
pub(crate) async fn keep_alive() {
    let Some(within) = sd_notify::watchdog_enabled() else { return pending().await };
    loop {
        tell(&[NotifyState::Watchdog]);
        sleep(within / 2).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "failed to tell systemd");
    }
}
