//! What may stand in the file, and what is done with a file that is not needed.

use comber_runtime::{config::Loaded, tls::Pin};

use super::*;

fn read(text: &str) -> Result<Loaded<FirstBoot>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("enroll.toml");
    fs::write(&path, text).unwrap();
    config::load(&Sources::default().with_file(&path)).map_err(|error| error.to_string())
}

fn token() -> String {
    Token::generate(Pin::from_bytes([7; 32])).unwrap().reveal()
}

#[test]
fn a_token_is_enough() {
    let file = read(&format!("token = '{}'", token())).unwrap().settings;
    assert_eq!(file.token.pin(), Pin::from_bytes([7; 32]));
    assert_eq!(file.controller, None);
    assert_eq!(file.name, None);
}

#[test]
fn every_mistake_is_told_and_the_token_is_not() {
    let mut cut = token();
    cut.pop();
    let text = format!("token = '{cut}'\ncontroller = 'http://c'\nname = 'Web 1'\npin = 'x'\n");
    let told = read(&text).unwrap_err();
    for expected in [
        "token: the token has 79 characters",
        "controller: must begin with https://",
        "name: \"Web 1\"",
        "pin: is not a known key",
    ] {
        assert!(told.contains(expected), "{expected} is not in:\n{told}");
    }
    assert!(!told.contains(&cut), "the token is told:\n{told}");
    assert!(
        read("controller = 'https://c'")
            .unwrap_err()
            .contains("token: is not set")
    );
}
