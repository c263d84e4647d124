//! Load on hosts: something that keeps disk and processor busy, also after each boot.
//!
//! What it writes is its own; it makes everything else slower and never wrong.

use anyhow::Result;

use crate::HostLab;

const UNIT: &str = "\
[Service]
Nice=5
ExecStart=/bin/sh -c 'while :; do dd if=/dev/urandom of=/var/tmp/load bs=64k count=16 conv=fsync status=none; done'

[Install]
WantedBy=sysinit.target
";

/// Puts every host of the lab under load, for good.
pub fn put_under_load(lab: &HostLab) -> Result<()> {
    for host in lab.fleet().hosts() {
        host.write("/etc/systemd/system/load.service", UNIT.as_bytes())?;
        host.shell("systemctl enable -q --now load.service; sync")?;
    }
    Ok(())
}
