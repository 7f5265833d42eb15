//! Tokens that end, and actors that are somebody else's.

use super::*;
use crate::codec::v1::{AckRun, Outcome};
use crate::engine::{self, Origin};
use crate::ledger::spaces;
use crate::store::StoreExt;

fn ack(batch: u64, outcomes: Vec<Outcome>) -> RelayMessage {
    let results = outcomes.into_iter().map(|outcome| AckRun { count: 1, outcome }).collect();
    RelayMessage::Ack { batch, results }
}

fn owned() -> Outcome {
    Outcome::Rejected(Reject::new(Code::ActorOwned))
}

fn permitted(device: &mut Device) -> Vec<u64> {
    let said = std::mem::take(&mut device.said);
    said.into_iter()
        .filter_map(|said| if let ClientOutput::Permitted { seconds } = said { Some(seconds) } else { None })
        .collect()
}

#[test]
fn token_is_renewed_on_the_connection_and_a_bad_one_ends_nothing() {
    let mut device = Device::new(1);
    let mut session = device.connect();
    session.renew(Token::new("too early"));
    let RelayMessage::Welcome(mut first) = welcome(1 << 20) else { panic!() };
    first.permit_seconds = 60;
    device.hear(&mut session, &RelayMessage::Welcome(first));
    assert_eq!((device.take_names(), permitted(&mut device)), (vec!["hello"], vec![60]));
    session.renew(Token::new("second"));
    device.carry_out(&mut session);
    assert_eq!(device.take_sent(), [ClientMessage::Renew { token: Token::new("second") }]);
    device.hear(&mut session, &RelayMessage::Renewed { seconds: 90 });
    assert_eq!(permitted(&mut device), [90]);
    session.renew(Token::new("bad"));
    let (code, text) = (Code::Unauthenticated, "no".to_owned());
    let error = ErrorMessage { code, text, is_fatal: false, about: About::Connection };
    device.hear(&mut session, &RelayMessage::Error(error));
    assert!(device.said.iter().any(|said| matches!(said, ClientOutput::RenewalRefused { text } if text == "no")));
    assert!(!session.is_closed());
    device.hear(&mut session, &RelayMessage::Renewed { seconds: 1 });
    assert_eq!(device.close_code(), Some(1002));
}

#[test]
fn own_change_under_somebody_elses_actor_is_reported_and_what_is_passed_on_is_not() {
    let (mut device, other) = (Device::new(1), Device::new(2));
    let mut session = begin(&mut device);
    device.hear(&mut session, &caught_up(0));
    device.write(document(1));
    session.handle_changed(document(1));
    device.carry_out(&mut session);
    device.hear(&mut session, &ack(1, vec![owned()]));
    let is_rejected = |said: &ClientOutput| matches!(said, ClientOutput::Rejected { .. });
    assert_eq!(std::mem::take(&mut device.said).iter().filter(|said| is_rejected(said)).count(), 1);
    // Another device's change came here by another way, and ours stands on it.
    let theirs = other.write(document(2));
    device
        .store
        .write_with(|tx| {
            spaces::put(tx, &document(2), &TEAM)?;
            engine::accept(tx, document(2), vec![theirs.clone()], Origin::Remote)
        })
        .unwrap();
    device.write(document(2));
    session.offer(document(2), None);
    device.carry_out(&mut session);
    let missing = Outcome::Rejected(Reject::new(Code::ChangeMissing));
    device.take_sent();
    device.hear(&mut session, &ack(2, vec![owned(), missing]));
    let rejected = device.said.iter().filter(|said| is_rejected(said));
    // The driver passes over what is refused for want of another.
    let stands: Vec<_> =
        rejected.map(|said| matches!(said, ClientOutput::Rejected { stands_on: Some(_), .. })).collect();
    assert_eq!(stands, [true]);
    assert!(device.take_sent().is_empty());
    // Its owner brings it: what waits is pushed.
    device.hear(&mut session, &entries(1, vec![entry(document(2), &theirs)]));
    assert!(device.take_names().contains(&"push"));
}
