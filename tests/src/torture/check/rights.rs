//! Rights that were taken and given back: what was accepted meanwhile, and whether what was refused is explained.

use std::collections::BTreeMap;

use rejoin::codec::v1::Code;

use super::{Evidence, Found, Rule};
use crate::torture::check::books::Books;
use crate::torture::history::{At, Done, Said};

/// While a client had no right to write.
#[derive(Debug, Clone)]
struct Window {
    client: usize,
    /// Whether it could not connect either.
    is_whole: bool,
    /// From when on it may have been refused.
    begins: u64,
    /// From when on nothing of it may be accepted.
    is_certain: Option<u64>,
    /// Until when, and how far the log was then.
    until: Option<(u64, String, u64)>,
    /// Until when it may have been refused.
    ends: u64,
}

pub(super) fn check(evidence: &Evidence, books: &Books, found: &mut Found) {
    let windows = windows(evidence);
    accepted(evidence, books, &windows, found);
    explained(evidence, books, &windows, found);
}

fn windows(evidence: &Evidence) -> Vec<Window> {
    let (mut open, mut all): (BTreeMap<usize, Window>, Vec<Window>) = Default::default();
    for At { time, what } in &evidence.nemesis {
        match what {
            Done::Revoking(client, is_whole) => {
                let (client, is_whole, begins) = (*client, *is_whole, *time);
                let window = Window { client, is_whole, begins, is_certain: None, until: None, ends: u64::MAX };
                all.extend(open.insert(client, window));
            }
            Done::Revoked(client, ..) => {
                open.entry(*client).and_modify(|window| window.is_certain = Some(*time));
            }
            Done::Regranting(client, epoch, end) => {
                open.entry(*client).and_modify(|window| window.until = Some((*time, epoch.clone(), *end)));
            }
            Done::Regranted(client) => {
                all.extend(open.remove(client).map(|window| Window { ends: *time, ..window }));
            }
            _ => {}
        }
    }
    all.extend(open.into_values());
    all
}

/// Nothing is accepted that was written after the right was taken and before it was given back.
fn accepted(evidence: &Evidence, books: &Books, windows: &[Window], found: &mut Found) {
    for window in windows {
        let (Some(certain), Some((until, epoch, end))) = (window.is_certain, &window.until) else { continue };
        let theirs = books.writes.iter().filter(|(id, write)| id.client == window.client && write.invoked > certain);
        for (id, write) in theirs.filter(|(_, write)| write.relayed.is_some_and(|relayed| relayed < *until)) {
            found.add(
                Rule::Revoked,
                format!("{id} ({write}) was relayed after {certain}, when its writer could not write"),
            );
        }
        for At { what, .. } in &evidence.nemesis {
            let Done::RelayHas(of, position, _, _, Some(id)) = what else { continue };
            if id.client == window.client && of == epoch && position <= end {
                let invoked = books.writes.get(id).map_or(0, |write| write.invoked);
                if invoked > certain {
                    let text =
                        format!("{id} was made at {invoked}, after {certain}, and stands at {position} in the log");
                    found.add(Rule::Revoked, text);
                }
            }
        }
    }
}

/// Whatever was refused was refused for a reason.
fn explained(evidence: &Evidence, books: &Books, windows: &[Window], found: &mut Found) {
    for (client, history) in evidence.devices.iter().enumerate() {
        for At { time, what } in history {
            // Something was refused between these two times.
            let is_revoked = |from: u64, wholly: bool| {
                let may = |window: &&Window| window.client == client && (window.is_whole || !wholly);
                windows.iter().filter(may).any(|window| window.begins < *time && from < window.ends)
            };
            let (text, is_explained) = match what {
                Said::Refused(id, code) => {
                    let from = id.and_then(|id| books.writes.get(&id)).map_or(0, |write| write.invoked);
                    let is_explained = match Code::from_number(*code) {
                        Code::ReadOnly => is_revoked(from, false),
                        // Two lives of a device, or a relay that forgot whose an actor is.
                        Code::ActorReused | Code::ActorOwned => {
                            books.was_rolled_back(client) || books.restored_after(0)
                        }
                        _ => false,
                    };
                    (format!("refused {id:?}"), is_explained)
                }
                Said::State(state, code @ 1..) => {
                    let is_explained = match Code::from_number(*code) {
                        // Whoever stops or has too much to do says so.
                        Code::GoingAway | Code::Busy => true,
                        Code::Unauthenticated => is_revoked(0, true),
                        Code::Forbidden | Code::SpaceUnknown => is_revoked(0, false),
                        _ => false,
                    };
                    (format!("state {state}"), is_explained)
                }
                Said::Failed(id, text) => (format!("{id} failed: {text}"), false),
                _ => continue,
            };
            if !is_explained {
                let code = if let Said::Refused(_, code) | Said::State(_, code) = what { *code } else { 0 };
                let code = Code::from_number(code).name();
                found.add(Rule::Unexplained, format!("c{client} at {time}: {text}, code {code}"));
            }
        }
    }
}
