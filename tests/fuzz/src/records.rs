//! What was written before and is read again: the agent's ledger.
//!
//! Pure. Invariant: a record that is read can be written, and reads the same.

use comber_machine::Ledger;

/// `ledger.json` without its digest.
pub(crate) fn ledger(bytes: &[u8]) {
    if let Ok(ledger) = Ledger::from_json(bytes) {
        let json = ledger.to_json().expect("what was read can be written");
        let again = Ledger::from_json(&json).expect("what was written can be read");
        assert_eq!(again.to_json().ok(), Some(json));
        // What it says to the controller, and when it wakes.
        comber_machine::next_deadline(&ledger);
    }
}
