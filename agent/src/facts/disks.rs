//! File systems on disks of the host, from the kernel's table of mounts.
//!
//! Reads `/proc/self/mountinfo` and asks the kernel for the space of each. Network file systems are left out, because
//! asking one whose server is away never ends; so are pseudo file systems, images (squashfs, loop devices) and second
//! mounts of the same file system. Invariant: at most [`DISKS_MAX`] disks, each once, under its shortest mount point.

use std::collections::BTreeMap;
use std::path::Path;

use comber_model::facts::{DISKS_MAX, DiskFacts, MOUNT_MAX};
use comber_runtime::fsx;

/// The table of a host with very many containers has some thousand lines.
const TABLE_MAX: u64 = 4 << 20;
/// What is never on a disk of the host, or always full.
const NO_DISKS: [&str; 5] = ["squashfs", "iso9660", "udf", "erofs", "autofs"];

/// What is mounted, with its space.
pub(super) fn read() -> BTreeMap<String, DiskFacts> {
    let bytes = fsx::read_limited(Path::new("/proc/self/mountinfo"), TABLE_MAX);
    let table = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    let spaces = mounts(&table).into_iter().filter_map(|mount| {
        let space = fsx::free_space(Path::new(&mount)).ok()?;
        let disk = DiskFacts {
            total_bytes: space.total,
            free_bytes: space.available,
        };
        (space.total > 0).then_some((mount, disk))
    });
    spaces.take(DISKS_MAX).collect()
}

/// The mount points of disks, by length and name; the root stands first.
fn mounts(table: &str) -> Vec<String> {
    let mut by_device: BTreeMap<&str, String> = BTreeMap::new();
    let mut entries: Vec<Entry<'_>> = table.lines().filter_map(Entry::parse).collect();
    entries.retain(Entry::is_disk);
    entries.sort_by_key(|entry| (entry.mount.len(), entry.mount.clone()));
    for entry in entries {
        by_device.entry(entry.device).or_insert(entry.mount);
    }
    let mut mounts: Vec<String> = by_device.into_values().collect();
    mounts.sort_by_key(|mount| (mount.len(), mount.clone()));
    mounts.dedup();
    mounts
}

/// One line, as proc(5) describes it.
struct Entry<'a> {
    device: &'a str,
    mount: String,
    kind: &'a str,
    source: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let (device, _root, mount) = (before.next()?, before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, source) = (after.next()?, after.next()?);
        let mount = unescaped(mount)?;
        (mount.starts_with('/') && mount.len() <= MOUNT_MAX).then_some(Self {
            device,
            mount,
            kind,
            source,
        })
    }

    fn is_disk(&self) -> bool {
        let on_device = self.source.starts_with("/dev/") && !self.source.starts_with("/dev/loop");
        // The root counts whatever it is on: the overlay of a container, a dataset of ZFS.
        (on_device || self.kind == "zfs" || self.mount == "/") && !NO_DISKS.contains(&self.kind)
    }
}

/// The kernel writes space, tab, newline and backslash as three octal digits. A path with a control character is left
/// out: nobody names it in a selector.
fn unescaped(text: &str) -> Option<String> {
    let mut pieces = text.split('\\');
    let mut path = pieces.next()?.to_owned();
    for piece in pieces {
        let code = u8::from_str_radix(piece.get(..3)?, 8).ok()?;
        path.push(char::from(code));
        path.push_str(&piece[3..]);
    }
    (!path.contains(char::is_control)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 28 0:21 / /proc rw,nosuid - proc proc rw
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 28 0:26 / /run rw - tmpfs tmpfs rw
41 28 254:17 / /var rw - xfs /dev/vdb1 rw
42 28 254:17 /lib/docker /mnt/bind rw - xfs /dev/vdb1 rw
43 28 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
44 28 0:50 / /home rw - nfs4 server:/home rw
45 28 0:51 / /tank rw - zfs tank rw
46 28 254:33 / /srv/my\\040data rw master:3 propagate_from:2 - ext4 /dev/vdc1 rw
";

    #[test]
    fn disks_are_told_from_what_is_none() {
        assert_eq!(mounts(TABLE), ["/", "/var", "/tank", "/srv/my data"]);
    }

    #[test]
    fn the_root_of_a_container_counts() {
        let table = "1 0 0:80 / / rw - overlay overlay rw\n2 1 0:81 / /dev rw - tmpfs tmpfs rw\n";
        assert_eq!(mounts(table), ["/"]);
    }

    #[test]
    fn hostile_lines_are_left_out() {
        let long = format!("1 0 8:1 / /{} rw - ext4 /dev/sda1 rw", "x".repeat(300));
        for line in [
            "",
            " - ",
            "1 0 8:1 / - ext4 /dev/sda1",
            "1 0 8:1 / /a\\0 rw - ext4 /dev/sda1 rw",
            "1 0 8:1 / /a\\999 rw - ext4 /dev/sda1 rw",
            "1 0 8:1 / /a\\012b rw - ext4 /dev/sda1 rw",
            "1 0 8:1 / relative rw - ext4 /dev/sda1 rw",
            "1 0 8:1 / /a rw - ext4",
            &long,
        ] {
            assert!(mounts(line).is_empty(), "{line:?}");
        }
    }

    #[test]
    fn this_host_has_a_root() {
        let disks = read();
        assert!(disks["/"].total_bytes >= disks["/"].free_bytes, "{disks:?}");
    }
}
