//! Which zone's time the host's clock shows.
//!
//! Found as the C library and its tools find it. Reads only. Invariant: a host that says nothing here shows UTC, or keeps
//! a zone that nothing on it names.

use std::path::Path;

use comber_runtime::fsx;

use super::{FILE_MAX, clean};

/// The name that `/etc/localtime` points to, else the one in `/etc/timezone`, else the rule at the end of
/// `/etc/localtime` itself; below `root`.
pub(super) fn read(root: &Path) -> String {
    let localtime = root.join("etc/localtime");
    let linked = std::fs::read_link(&localtime).unwrap_or_default();
    let linked = linked.to_string_lossy().into_owned();
    if let Some((_, name)) = linked.split_once("zoneinfo/") {
        return clean(name.trim_start_matches("posix/"));
    }
    let named = fsx::read_limited(&root.join("etc/timezone"), FILE_MAX).unwrap_or_default();
    let named = String::from_utf8_lossy(&named).into_owned();
    match named.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(name) => clean(name),
        None => rule(&fsx::read_limited(&localtime, FILE_MAX).unwrap_or_default()),
    }
}

/// The rule for today and later, which a file of tzfile(5) ends with: a line of its own.
fn rule(file: &[u8]) -> String {
    let body = file.strip_suffix(b"\n");
    let Some(body) = body.filter(|_| file.starts_with(b"TZif")) else {
        return String::new();
    };
    let line = body.rsplit(|byte| *byte == b'\n').next();
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    clean(line.filter(|line| line.is_ascii()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_zone_is_found_where_systems_keep_it() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        assert_eq!(read(root.path()), "", "a host without any shows UTC");
        let file = b"TZif2\0\0binary\nmore\nCET-1CEST,M3.5.0,M10.5.0/3\n";
        std::fs::write(etc.join("localtime"), file).unwrap();
        assert_eq!(read(root.path()), "CET-1CEST,M3.5.0,M10.5.0/3");
        std::fs::write(etc.join("timezone"), "Asia/Tokyo\n").unwrap();
        assert_eq!(read(root.path()), "Asia/Tokyo");
        std::fs::remove_file(etc.join("localtime")).unwrap();
        let target = "../usr/share/zoneinfo/Europe/Berlin";
        std::os::unix::fs::symlink(target, etc.join("localtime")).unwrap();
        assert_eq!(read(root.path()), "Europe/Berlin");
        assert_eq!(rule(b"no such file\nUTC0\n"), "");
    }
}
