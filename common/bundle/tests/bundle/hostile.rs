//! Bundles made to do harm, named by the attack. Each is refused by the rule that it breaks, by the check and by
//! unpacking alike, and unpacking leaves nothing behind.

use std::io::{self, Read, Write};

use crate::support::{Forged, carried, decoded, header, small, tar_with_list};
use comber_bundle::{Limits, LinkRule, PathRule, Refused, UnpackError, inspect, unpack, verify};
use comber_model::{Artifact, Digest};
use proptest::prelude::*;
use serde_json::json;

/// The refusal of a tar that is truthfully declared.
#[track_caller]
fn refusal(tar: &[u8]) -> Refused {
    let (bytes, artifact) = carried(tar);
    refusal_of(&bytes, &artifact)
}

/// The refusal of a tar that is declared longer than it is, so that its length is not what gives it away.
#[track_caller]
fn refusal_with_room(tar: &[u8]) -> Refused {
    let (bytes, truth) = carried(tar);
    let length = truth.length + (64 << 10);
    refusal_of(&bytes, &Artifact { length, ..truth })
}

#[track_caller]
fn refusal_of(bytes: &[u8], declared: &Artifact) -> Refused {
    let refused = verify(bytes, declared).expect_err("the bundle was accepted");
    let top = tempfile::tempdir().unwrap();
    let inner = top.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let unpacked = unpack(bytes, declared, &inner.join("target"));
    let Err(UnpackError::Refused(other)) = unpacked else {
        panic!("{unpacked:?}, but the check says {refused}");
    };
    assert_eq!(refused.to_string(), other.to_string());
    assert!(!refused.is_retryable(), "{refused}");
    let names = |dir: &std::path::Path| std::fs::read_dir(dir).unwrap().count();
    assert_eq!(names(&inner), 0, "something was left behind");
    assert_eq!(names(top.path()), 1, "something was written outside");
    refused
}

macro_rules! assert_refused {
    ($refused:expr, $pattern:pat $(if $guard:expr)?) => {
        let refused = $refused;
        assert!(matches!(&refused, $pattern $(if $guard)?), "refused otherwise: {refused:?}");
    };
}

#[test]
fn an_honest_forgery_is_accepted() {
    let tar = Forged::default()
        .dir("bin")
        .file("bin/app", b"hello")
        .link("current", "bin/app");
    let (bytes, artifact) = carried(&tar.tar());
    let contents = verify(&bytes[..], &artifact).unwrap();
    assert_eq!(contents.listing.members().len(), 3);
    assert_eq!(contents.artifact, artifact);
}

#[test]
fn path_traversal() {
    for path in ["../evil", "a/../../evil", ".."] {
        let tar = Forged::default().file(path, b"x").tar();
        assert_refused!(
            refusal(&tar),
            Refused::Path {
                rule: PathRule::Traversal,
                ..
            }
        );
    }
    let tar = Forged::default()
        .listed("good", b"x")
        .packed("files/../evil", b"x")
        .tar();
    assert_refused!(
        refusal(&tar),
        Refused::Path {
            rule: PathRule::Traversal,
            ..
        }
    );
}

#[test]
fn absolute_path() {
    let tar = Forged::default().file("/etc/evil", b"x").tar();
    assert_refused!(
        refusal(&tar),
        Refused::Path {
            rule: PathRule::Absolute,
            ..
        }
    );
    let tar = Forged::default()
        .listed("good", b"x")
        .packed("/etc/evil", b"x")
        .tar();
    assert_refused!(
        refusal(&tar),
        Refused::Path {
            rule: PathRule::Absolute,
            ..
        }
    );
}

#[test]
fn nul_in_path() {
    let tar = Forged::default()
        .listed("a\0b", b"x")
        .packed("files/a", b"x")
        .tar();
    assert_refused!(
        refusal(&tar),
        Refused::Path {
            rule: PathRule::Nul,
            ..
        }
    );
}

#[test]
fn two_spellings_of_one_path() {
    for path in ["./a", "a//b", "a/./b", "a/"] {
        let tar = Forged::default().file(path, b"x").tar();
        assert_refused!(
            refusal(&tar),
            Refused::Path {
                rule: PathRule::Unnormalised,
                ..
            }
        );
    }
}

#[test]
fn overlong_path() {
    let path = vec!["x"; 600].join("/");
    let tar = Forged::default().listed(&path, b"x").tar();
    assert_refused!(
        refusal(&tar),
        Refused::Path {
            rule: PathRule::TooLong,
            ..
        }
    );
}

#[test]
fn link_out_of_tree() {
    for (target, rule) in [
        ("/etc/passwd", LinkRule::Absolute),
        ("../../etc/passwd", LinkRule::Escapes),
        ("sub/../../../etc/passwd", LinkRule::LateParent),
    ] {
        let tar = Forged::default().dir("d").link("d/l", target).tar();
        assert_refused!(refusal(&tar), Refused::Link { rule: found, .. } if *found == rule);
    }
}

#[test]
fn link_other_than_listed() {
    let tar = Forged::default()
        .listed_as(json!({"kind": "symlink", "path": "l", "target": "good"}))
        .packed_as("files/l", 0o777, b'2', "/etc", b"")
        .tar();
    assert_refused!(refusal(&tar), Refused::Header { .. });
}

#[test]
fn file_through_symlink() {
    let tar = Forged::default()
        .link("d", "e")
        .dir("e")
        .file("d/evil", b"x");
    assert_refused!(refusal(&tar.tar()), Refused::NotSorted { .. });
    let tar = Forged::default()
        .link("d", "e")
        .file("d/evil", b"x")
        .dir("e");
    assert_refused!(refusal(&tar.tar()), Refused::ThroughSymlink { .. });
}

#[test]
fn file_through_file() {
    let tar = Forged::default().file("d", b"x").file("d/evil", b"x").tar();
    assert_refused!(refusal(&tar), Refused::NoParent { .. });
    let tar = Forged::default().file("nowhere/evil", b"x").tar();
    assert_refused!(refusal(&tar), Refused::NoParent { .. });
}

#[test]
fn device_node() {
    for kind in [b'3', b'4', b'6', b'7'] {
        let tar = Forged::default()
            .listed("sda", b"")
            .packed_as("files/sda", 0o644, kind, "", b"");
        assert_refused!(refusal(&tar.tar()), Refused::DeviceNode { .. });
    }
    let tar = Forged::default()
        .listed_as(json!({"kind": "device", "path": "sda"}))
        .tar();
    assert_refused!(refusal(&tar), Refused::ManifestSyntax { .. });
}

#[test]
fn hard_link() {
    let tar = Forged::default()
        .listed("shadow", b"")
        .packed_as("files/shadow", 0o644, b'1', "/etc/shadow", b"")
        .tar();
    assert_refused!(refusal(&tar), Refused::HardLink { .. });
}

#[test]
fn setuid() {
    for mode in [0o4755, 0o2755, 0o1755] {
        let tar = Forged::default()
            .listed("su", b"x")
            .packed_as("files/su", mode, b'0', "", b"x");
        assert_refused!(refusal(&tar.tar()), Refused::SetId { .. });
    }
}

#[test]
fn foreign_owner() {
    let mut tar = Forged::default().file("a", b"x").tar();
    let at = tar.windows(8).rposition(|w| w == b"files/a\0").unwrap();
    tar[at + 114] = b'1';
    assert_refused!(refusal(&tar), Refused::Header { .. });
}

#[test]
fn bomb() {
    let zeros = zstd::encode_all(io::repeat(0).take(64 << 20), 1).unwrap();
    let declared = Artifact {
        digest: Digest([0; 32]),
        length: 4096,
        carried_length: zeros.len() as u64,
    };
    assert!(zeros.len() < 100_000);
    assert_refused!(refusal_of(&zeros, &declared), Refused::NoManifest);

    // A sound beginning, then more than was declared: refused before the content is decoded.
    let (bytes, truth) = carried(&Forged::default().file("zeros", &vec![0; 8 << 20]).tar());
    let declared = Artifact {
        length: 4096,
        ..truth
    };
    assert_refused!(
        refusal_of(&bytes, &declared),
        Refused::TooLong { limit: 4096 }
    );
    let limits = Limits { length: 4096 };
    assert_refused!(
        inspect(&bytes[..], limits).unwrap_err(),
        Refused::TooLong { limit: 4096 }
    );

    // The list claims little, the tar holds much.
    let tar = Forged::default()
        .listed("zeros", b"x")
        .packed("files/zeros", &vec![0; 1 << 20]);
    assert_refused!(refusal(&tar.tar()), Refused::Header { .. });
}

#[test]
fn claimed_size_overflows() {
    let huge = json!({
        "kind": "file", "path": "a", "executable": false, "size": u64::MAX, "sha256": "00".repeat(32),
    });
    let tar = Forged::default()
        .listed_as(huge)
        .packed("files/a", b"x")
        .tar();
    assert_refused!(refusal(&tar), Refused::TooLong { .. });
}

#[test]
fn oversized_window() {
    let tar = Forged::default().file("a", b"x").tar();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&tar).unwrap();
    let (_, artifact) = carried(&tar);
    assert_refused!(
        refusal_of(&encoder.finish().unwrap(), &artifact),
        Refused::Compression(_)
    );
}

#[test]
fn truncated_at_every_boundary() {
    let source = small();
    let built = source.build();
    let bytes = std::fs::read(&built.path).unwrap();
    for end in 0..bytes.len() {
        assert_refused!(
            verify(&bytes[..end], &built.artifact).unwrap_err(),
            Refused::Truncated { .. }
        );
    }
    let tar = decoded(&built.path);
    for end in (0..tar.len()).step_by(512) {
        assert_refused!(refusal_with_room(&tar[..end]), Refused::Truncated { .. });
    }
}

#[test]
fn one_bit_flipped_anywhere() {
    let source = small();
    let built = source.build();
    let tar = decoded(&built.path);
    for at in 0..tar.len() {
        let mut flipped = tar.clone();
        flipped[at] ^= 1 << (at % 8);
        let (bytes, truth) = carried(&flipped);
        let refused = verify(&bytes[..], &built.artifact);
        assert!(refused.is_err(), "byte {at} of the tar");
        // Even one who may declare what he likes can change only what the list says and people can read.
        if verify(&bytes[..], &truth).is_ok() {
            let list = 512..tar.len();
            assert!(
                list.contains(&at) && tar[at].is_ascii_graphic(),
                "byte {at} of the tar"
            );
        }
    }
    let bytes = std::fs::read(&built.path).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // A bit of the wrapping that changes nothing inside is no harm: the inside is what has an identity.
        if let Ok(contents) = verify(&flipped[..], &built.artifact) {
            assert_eq!(
                contents.listing, built.listing,
                "bit {bit} of the carried bytes"
            );
        }
    }
}

#[test]
fn duplicate_member() {
    let tar = Forged::default().file("a", b"x").file("a", b"y").tar();
    assert_refused!(refusal(&tar), Refused::Duplicate { .. });
    let tar = Forged::default()
        .file("a", b"x")
        .packed("files/a", b"evil")
        .tar();
    assert_refused!(refusal(&tar), Refused::Duplicate { .. });
}

#[test]
fn member_not_listed() {
    let tar = Forged::default()
        .file("a", b"x")
        .packed("files/evil", b"x")
        .tar();
    assert_refused!(refusal(&tar), Refused::NotListed { .. });
    let tar = Forged::default()
        .packed("files/evil", b"x")
        .file("z", b"x")
        .tar();
    assert_refused!(refusal(&tar), Refused::NotListed { .. });
    let tar = Forged::default().packed("manifest.json", b"{}").tar();
    assert_refused!(refusal(&tar), Refused::NotListed { .. });
}

#[test]
fn listed_member_missing() {
    let tar = Forged::default().file("a", b"x").listed("b", b"x").tar();
    assert_refused!(refusal_with_room(&tar), Refused::Missing { path } if path == "\"b\"");
    let tar = Forged::default().listed("a", b"x").file("b", b"x").tar();
    assert_refused!(refusal_with_room(&tar), Refused::Missing { path } if path == "\"a\"");
}

#[test]
fn content_other_than_listed() {
    let tar = Forged::default()
        .listed("a", b"good")
        .packed("files/a", b"evil")
        .tar();
    assert_refused!(refusal(&tar), Refused::Content { .. });
    let mut tar = Forged::default().file("a", b"good").tar();
    let at = tar.len() - 1024 - 1;
    tar[at] = 1;
    assert_refused!(refusal(&tar), Refused::Padding { .. });
}

#[test]
fn huge_count() {
    let mut forged = Forged::default();
    for number in 0..=100_000 {
        forged = forged.listed_as(json!({"kind": "dir", "path": format!("{number:06}")}));
    }
    assert_refused!(refusal(&forged.tar()), Refused::TooManyMembers);
}

#[test]
fn huge_list() {
    let mut tar = header("manifest.json", 0o644, b'0', "", (32 << 20) + 1);
    tar.resize(40 << 20, b' ');
    assert_refused!(refusal(&tar), Refused::ManifestTooLarge { .. });
    // A size beyond what was declared takes no memory.
    let tar = header("manifest.json", 0o644, b'0', "", 32 << 20);
    assert_refused!(refusal(&tar), Refused::TooLong { .. });
}

#[test]
fn deeply_nested_list() {
    let list = format!("{{\"format\": {}", "[".repeat(100_000));
    assert_refused!(
        refusal(&tar_with_list(list.as_bytes(), b"")),
        Refused::ManifestSyntax { .. }
    );
}

#[test]
fn list_that_is_none() {
    assert_refused!(refusal(&[0; 1024]), Refused::NoManifest);
    let tar = header("manifest.jsom", 0o644, b'0', "", 0);
    assert_refused!(refusal(&tar), Refused::NoManifest);
    let future = br#"{"format": 2, "shape": "unknown"}"#;
    assert_refused!(
        refusal(&tar_with_list(future, b"")),
        Refused::Format { found: 2 }
    );
    let invalid = br#"{"format": 1, "members": [], "manifest":
        {"name": "a", "version": "1", "installer": {"type": "archive", "path": "/../etc"}}}"#;
    assert_refused!(refusal(&tar_with_list(invalid, b"")), Refused::Manifest(_));
}

#[test]
fn trailing_garbage() {
    let mut tar = Forged::default().file("a", b"x").tar();
    tar.extend([0; 512]);
    assert_refused!(refusal(&tar), Refused::TrailingGarbage);

    let (bytes, artifact) = carried(&Forged::default().file("a", b"x").tar());
    let with = |rest: &[u8]| [&bytes[..], rest].concat();
    assert_refused!(refusal_of(&with(b"x"), &artifact), Refused::TrailingGarbage);
    let second = zstd::encode_all(&b"evil"[..], 1).unwrap();
    assert_refused!(
        refusal_of(&with(&second), &artifact),
        Refused::TrailingGarbage
    );
    let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0evil";
    assert_refused!(
        refusal_of(&with(skippable), &artifact),
        Refused::TrailingGarbage
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_in_many_places(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let honest = Forged::default().dir("a").file("a/b", b"hello").link("l", "a/b").tar();
        let mut tar = honest.clone();
        for (at, byte) in damage {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        if cuts {
            tar.truncate(cut.index(tar.len()));
        }
        let (bytes, artifact) = carried(&tar);
        // What is still accepted says exactly what it is: the list alone may say other things than before.
        if let Ok(contents) = inspect(&bytes[..], Limits { length: 1 << 20 }) {
            prop_assert_eq!(contents.artifact, artifact);
            prop_assert!(tar.len() == honest.len());
        }
    }

    #[test]
    fn bytes_that_are_no_bundle(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let limits = Limits { length: 1 << 20 };
        prop_assert!(inspect(&bytes[..], limits).is_err());
        prop_assert!(inspect(&carried(&bytes).0[..], limits).is_err());
        prop_assert!(inspect(&carried(&tar_with_list(&bytes, b"")).0[..], limits).is_err());
    }
}

#[test]
fn wrong_digest() {
    let (bytes, truth) = carried(&Forged::default().file("a", b"x").tar());
    let declared = Artifact {
        digest: Digest([7; 32]),
        ..truth
    };
    assert_refused!(
        refusal_of(&bytes, &declared),
        Refused::Digest { declared, found } if declared.0 == [7; 32] && *found == truth.digest
    );
}

#[test]
fn wrong_length() {
    let (bytes, truth) = carried(&Forged::default().file("a", b"x").tar());
    let longer = Artifact {
        length: truth.length + 1,
        ..truth
    };
    assert_refused!(refusal_of(&bytes, &longer), Refused::Length { .. });
    let shorter = Artifact {
        length: truth.length - 1,
        ..truth
    };
    assert_refused!(refusal_of(&bytes, &shorter), Refused::TooLong { .. });
}

#[test]
fn a_source_that_fails_is_no_fault_of_the_bundle() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the cable was pulled"))
        }
    }
    let source = small();
    let built = source.build();
    let bytes = std::fs::read(&built.path).unwrap();
    for end in [0, 1, bytes.len() / 2, bytes.len() - 1, bytes.len()] {
        let refused = verify(bytes[..end].chain(Failing), &built.artifact).unwrap_err();
        assert_refused!(&refused, Refused::Read(_));
        assert!(refused.is_retryable());
    }
}
