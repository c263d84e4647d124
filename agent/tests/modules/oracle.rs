//! Debian's own client, run as an administrator would by hand, in a mount namespace of its own: no server, no network, and
//! nothing of the machine is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian::{Debian, run};
use crate::host::{Payload, write_payload};

/// What the client is told by a file of that name: what the host is and what it has.
const BEFORE: &str = "web@1";
const DEVICE_TYPE: &str = "comber";

/// Whether this machine can run the client; says why not.
pub(crate) fn is_possible(debian: &Debian) -> bool {
    let why = if rustix::process::geteuid().is_root() {
        let mut namespace = Command::new("unshare");
        let overlay = "mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w && \
                       mount -t overlay o -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w /etc";
        run(namespace.args(["--mount", "sh", "-c", overlay]))
            .and_then(|_| run(Command::new(debian.client()).arg("--version")))
            .err()
    } else {
        Some("a mount namespace is for root only".to_owned())
    };
    if let Some(why) = &why {
        println!("skipped: the oracle cannot run here: {why}");
    }
    why.is_none()
}

/// One use of the client.
pub(crate) struct Oracle<'a> {
    pub(crate) debian: &'a Debian,
    /// Of this use alone.
    pub(crate) dir: &'a Path,
    pub(crate) payload_type: &'a str,
    /// The executable that the client finds under that name.
    pub(crate) module: &'a Path,
    pub(crate) payload: &'a Payload,
    pub(crate) variables: &'a [(&'a str, String)],
}

impl Oracle<'_> {
    /// Installs the payload as `web@2` and then does as it is told; what it printed goes with a failure.
    pub(crate) fn run(&self, then: Option<&str>) -> String {
        let artifact = self.artifact();
        let script = self.dir.join("run.sh");
        fs::write(&script, SCRIPT).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh"])
            .arg(&script)
            .arg(self.debian.client())
            .arg(&artifact)
            .arg(self.dir)
            .arg(self.payload_type)
            .arg(self.module)
            .arg(then.unwrap_or("nothing"))
            .env("BEFORE", BEFORE)
            .env("DEVICE_TYPE", DEVICE_TYPE);
        for (name, value) in self.variables {
            command.env(name, value);
        }
        run(&mut command).unwrap()
    }

    fn artifact(&self) -> PathBuf {
        let metadata = self.dir.join("meta.json");
        fs::write(&metadata, "{\"a\":1}").unwrap();
        let out = self.dir.join("web.mender");
        let mut command = Command::new(self.debian.artifact_tool());
        command.args(["write", "module-image", "-t", DEVICE_TYPE, "-n", "web@2"]);
        command
            .args(["-T", self.payload_type])
            .arg("-m")
            .arg(&metadata);
        for path in write_payload(&self.dir.join("payload"), self.payload) {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            command.arg("-f").arg(path);
        }
        run(command.arg("-o").arg(&out)).unwrap();
        out
    }
}

const SCRIPT: &str = r#"
set -e
client=$1; artifact=$2; dir=$3; type=$4; module=$5; then=$6
cp "$module" "$dir/module"
mkdir "$dir/over" "$dir/data"
mount -t tmpfs over "$dir/over"
for place in etc usr/share; do
    mkdir -p "$dir/over/$place/up" "$dir/over/$place/work"
    mount -t overlay over -o "lowerdir=/$place,upperdir=$dir/over/$place/up,workdir=$dir/over/$place/work" "/$place"
done
mkdir -p /etc/mender /usr/share/mender/modules/v3
cp "$dir/module" "/usr/share/mender/modules/v3/$type"
chmod 755 "/usr/share/mender/modules/v3/$type"
echo '{}' >/etc/mender/mender.conf
echo "artifact_name=$BEFORE" >/etc/mender/artifact_info
echo "device_type=$DEVICE_TYPE" >"$dir/data/device_type"
set +e
"$client" --no-syslog --data "$dir/data" install "$artifact" 2>&1
echo "install: $?"
if [ "$then" != nothing ]; then
    "$client" --no-syslog --data "$dir/data" "$then" 2>&1
    echo "$then: $?"
fi
exit 0
"#;
