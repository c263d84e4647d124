//! The umask decides nothing. No other test here looks at bits of the mode that a umask could take away, which matters where all
//! tests share one process.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::small;
use comber_bundle::unpack;
use rustix::fs::Mode;

#[test]
fn the_umask_decides_nothing() {
    let source = small();
    let plain = source.build();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let masked = source.build_as("masked.bundle");
    assert_eq!(masked.artifact, plain.artifact);
    let target = source.dir.path().join("target");
    unpack(
        fs::File::open(&masked.path).unwrap(),
        &masked.artifact,
        &target,
    )
    .unwrap();
    for (path, mode) in [
        ("", 0o755),
        ("bin", 0o755),
        ("bin/app", 0o755),
        ("readme", 0o644),
    ] {
        let found = fs::metadata(target.join(path))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(found & 0o7777, mode, "{path:?}");
    }
}
