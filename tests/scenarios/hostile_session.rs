//! Every attack of the catalogue, fed to a session without a socket, in both roles: the verdict is the one expected, and
//! what the engine stored is sound for Automerge and for the registers.
//!
//! `REJOIN_HOSTILE_ONLY` picks attacks by a part of their name, here and in the scenarios with sockets;
//! `REJOIN_HOSTILE_HEAVY` judges those too that are sound and heavy.

#![expect(clippy::print_stdout, reason = "what an attack costs is there to be read")]

use rejoin::DocumentId;
use rejoin::sync::classic::Role;
use rejoin_tests::hostile::measure::Measure;
use rejoin_tests::hostile::session::{Victim, base_store};
use rejoin_tests::hostile::{Attack, PENDING, Scene, attacks, oracle};

fn scene(victim_role: Role) -> Scene {
    Scene {
        document: DocumentId::from_bytes([0xd0; 16]),
        attacker: "mallory".to_owned(),
        victim: "victim".to_owned(),
        victim_role,
    }
}

#[test]
fn every_attack_gets_its_verdict_without_a_socket() {
    oracle::listen_for_panics();
    let only = std::env::var("REJOIN_HOSTILE_ONLY").unwrap_or_default();
    let mut wrong = Vec::new();
    for attack in attacks::all().iter().filter(|attack| attack.name.contains(&only)) {
        for role in [Role::Server, Role::Client] {
            wrong.extend(one(attack, role));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Tries one attack; returns what was not as expected.
fn one(attack: &Attack, role: Role) -> Vec<String> {
    let scene = scene(role);
    let frames = attack.make(&scene);
    let mut victim = Victim::new(&scene, attack.opening, base_store(scene.document));
    let measure = Measure::start();
    for frame in &frames {
        victim.feed(frame);
    }
    let cost = measure.stop();
    let answered = victim.answered_bytes;
    println!("{:<34} {role:?} {cost} {answered:>9} B out  {:?}", attack.name, victim.verdict);
    let mut wrong = Vec::new();
    if victim.verdict != attack.expect {
        wrong.push(format!("{} ({role:?}): {:?}, not {:?}", attack.name, victim.verdict, attack.expect));
    }
    let is_judged = !attack.is_heavy || std::env::var_os("REJOIN_HOSTILE_HEAVY").is_some();
    if is_judged && !attack.is_deadly && role == Role::Server {
        let measure = Measure::start();
        if let Err(complaint) = oracle::check_store(&victim.store, scene.document) {
            wrong.push(format!("{}: {complaint}", attack.name));
        }
        if attack.is_heavy {
            println!("    in Automerge {}", measure.stop());
        }
    }
    if PENDING.contains(&attack.name) {
        wrong.drain(..).for_each(|line| println!("    pending: {line}"));
    }
    wrong
}
