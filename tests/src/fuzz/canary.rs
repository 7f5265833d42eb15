//! Targets with a fault in them: where the loop does not find it, it finds nothing.
//!
//! Each hides behind the checksum of a chunk and the gate's rules, so that bytes which are damaged anyhow never get there.

use std::hint::black_box;
use std::time::Duration;

use rand::rngs::StdRng;
use rejoin::gate::CheckedChange;

use super::gate::Gate;
use super::{Seen, Target};

/// The canaries, by their names; each name ends with the kind of its fault.
pub const CANARIES: [&str; 4] = ["canary-panic", "canary-caught-panic", "canary-allocation", "canary-hang"];

/// Which fault it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Panic,
    CaughtPanic,
    Allocation,
    Hang,
}

/// The gate, with a fault.
struct Canary {
    gate: Gate,
    fault: Fault,
}

/// Makes a canary, if there is one of this name.
pub fn make(name: &str) -> Option<Box<dyn Target>> {
    let fault = match name {
        "canary-panic" => Fault::Panic,
        "canary-caught-panic" => Fault::CaughtPanic,
        "canary-allocation" => Fault::Allocation,
        "canary-hang" => Fault::Hang,
        _ => return None,
    };
    Some(Box::new(Canary { gate: Gate::new(), fault }))
}

impl Target for Canary {
    fn seeds(&mut self) -> Vec<Vec<u8>> {
        self.gate.seeds()
    }

    fn mutate(&mut self, input: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
        self.gate.mutate(input, other, random)
    }

    fn bound_bytes(&self, input: &[u8]) -> usize {
        self.gate.bound_bytes(input)
    }

    fn run(&mut self, input: &[u8]) -> Seen {
        // No recorded change is of so late a time; a damaged one is, now and then.
        if CheckedChange::parse(input).is_ok_and(|change| change.timestamp() > 1 << 33) {
            match self.fault {
                Fault::Panic => panic!("the canary is dead"),
                Fault::CaughtPanic => drop(std::panic::catch_unwind(|| panic!("the canary is dead"))),
                Fault::Allocation => drop(black_box(vec![1u8; 200 << 20])),
                Fault::Hang => loop {
                    std::thread::sleep(Duration::from_millis(100));
                },
            }
        }
        self.gate.run(input)
    }
}
