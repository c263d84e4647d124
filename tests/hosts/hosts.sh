#!/bin/bash
# hosts.sh - a fleet of throw-away Debian hosts on one Linux machine, for end-to-end tests.
#
# Every host is a full Debian: its own systemd as PID 1, D-Bus, apt/dpkg, journal, machine-id,
# boot_id, uptime, ext4 disk and network address. It is a systemd-nspawn container, so all hosts
# share the machine's kernel and wall clock. Nothing is registered with the outer system: no systemd
# as outer PID 1, no machined and no outer D-Bus is needed.
#
#   disk     a sparse ext4 image per host (loop device) holding an overlay on one shared base tree.
#            `powercut` shuts that ext4 down without flushing, so what was not fsynced is lost.
#   network  one bridge in a network namespace of its own (the switch), one namespace per host and
#            one for the controller. None is connected to the machine's own network.
#   reboot   `systemctl reboot` inside ends nspawn with status 133; the supervisor below then drops
#            the namespace and the mounts and boots the same disk again.
#
#   check                say in one line why this machine cannot do it, exit status 1; nothing where it can
#   install              the Debian packages this script needs
#   base                 build the shared base tree (once for each suite and list of packages)
#   up N                 create and boot h1 .. hN; returns when all have finished booting
#   exec HOST CMD...     run CMD as a transient service of the host; passes stdio and exit status
#   push FILE HOST PATH  copy a file in, with its mode
#   pull HOST PATH       write a file of the host to standard output
#   cgroup HOST          its directory in the cgroup tree; below payload/ are its processes
#   ctl CMD...           run CMD in the controller's namespace, known to the hosts as `controller`
#   cut HOST [dark]      pull the cable; `dark`: keep the carrier but lose every frame
#   heal HOST            put it back
#   slow HOST K=V...     delay=MS jitter=MS loss=% dup=% rate=KBIT queue=KB, each way; ends with
#   fast HOST              ... fast. Both, like cut, outlast reboots.
#   freeze/thaw HOST     stop and continue every process of the host
#   reboot HOST          orderly, returns after the next boot
#   poweroff HOST        orderly
#   powercut HOST        at once; un-fsynced writes are lost, peers are told nothing
#   start HOST           boot it again; reset = powercut + start; wait = until it has booted
#   status, addr HOST, down (all hosts at once, with their disks)
#
# Environment: FLEET, FLEET_DIR, FLEET_CACHE, FLEET_SUITE, FLEET_MIRROR, FLEET_PACKAGES, FLEET_DISK,
# FLEET_MORE, FLEET_NET, FLEET_POST, FLEET_WAIT - see below. Extra nspawn arguments for one host, a line each,
# go to $FLEET_DIR/hosts/HOST/nspawn.args.
#
# Needs root, cgroup v2 somewhere (any layout), ext4, loop, overlay, veth, bridge and tun in the
# kernel, and what `install` installs. README.md beside this file tells what was learnt on the way.
set -euo pipefail

SELF=$(readlink -f "$0")
export FLEET=${FLEET:-fleet}                        # prefix of namespaces and cgroups
export FLEET_DIR=${FLEET_DIR:-/var/tmp/$FLEET}      # all state of this fleet lives here
export FLEET_CACHE=${FLEET_CACHE:-$FLEET_DIR}       # base trees, which fleets may share
SUITE=${FLEET_SUITE:-bookworm}
MIRROR=${FLEET_MIRROR:-}                            # empty: the machine's own apt source of the suite
PACKAGES=${FLEET_PACKAGES:-systemd,systemd-sysv,dbus,iproute2,iputils-ping,procps,ca-certificates}
MORE=${FLEET_MORE:-}                                # further packages, on top of a tree of those; words
DISK=${FLEET_DISK:-2G}                              # size of each host's disk (sparse)
NET=${FLEET_NET:-10.77}                             # first two bytes of the fleet's /16
POST=${FLEET_POST:-0}                               # seconds of darkness in every reboot ("firmware")
WAIT=${FLEET_WAIT:-120}                             # longest wait for a boot or a shutdown

# Another list of packages is another tree, so that a cache never serves what is not asked for.
PLAIN=$FLEET_CACHE/base-$SUITE-$(cksum <<<"$PACKAGES" | cut -d' ' -f1)
BASE=$PLAIN
[ -z "$MORE" ] || BASE=$PLAIN-$(cksum <<<"$MORE" | cut -d' ' -f1)
SWITCH=$FLEET-sw                                    # namespace of the bridge
CTL=$FLEET-ctl                                      # namespace of the controller

say() { printf '%s\n' "$*" >&2; }
die() { say "hosts.sh: $*"; exit 1; }

# ---- names -------------------------------------------------------------------------------------
# A host is called h1 .. h250; its number gives its address, MAC and names.
num()  { [[ $1 =~ ^h([1-9][0-9]{0,2})$ && ${BASH_REMATCH[1]} -le 250 ]] || die "no such host name: $1"
         echo "${BASH_REMATCH[1]}"; }
dir()  { echo "$FLEET_DIR/hosts/$1"; }
addr() { [ "$1" = ctl ] && echo "$NET.0.1" || echo "$NET.1.$(num "$1")"; }
made() { [ -e "$(dir "$1")/disk.img" ] || die "$1 was never created (hosts.sh up N)"; }
all()  { ls "$FLEET_DIR/hosts" 2>/dev/null | sort -V; }

# ---- cgroups -----------------------------------------------------------------------------------
# The cgroup v2 tree: /sys/fs/cgroup on a unified machine, .../unified on a hybrid one, else our own.
cg2() {
    local t; t=$(findmnt -rn -t cgroup2 -o TARGET | head -1)
    if [ -z "$t" ]; then
        t=$FLEET_DIR/cgroup2; mkdir -p "$t"; mount -t cgroup2 cgroup2 "$t"
    fi
    echo "$t"
}
cg() { echo "$(cg2)/$FLEET/$1"; }
# PID 1 of a running host, as this machine numbers it; empty while the host is down.
leader() { head -1 "$(cg "$1")/payload/init.scope/cgroup.procs" 2>/dev/null || true; }
up()     { grep -qs '^populated 1' "$(cg "$1")/cgroup.events"; }

# until_ok SECONDS CMD...: repeats CMD until it succeeds
until_ok() {
    local end=$((SECONDS + $1)); shift
    until "$@"; do [ $SECONDS -lt "$end" ] || return 1; sleep 0.1; done
}

# ---- network -----------------------------------------------------------------------------------
mac() { printf '02:77:00:00:%02x:%02x' $(($1 / 256)) $(($1 % 256)); }

# plug NAMESPACE PORT NUMBER: a fresh namespace whose eth0 is wired to the switch's port PORT
plug() {
    unplug "$1" "$2"
    ip netns add "$1"
    ip -n "$1" link set lo up
    ip -n "$SWITCH" link add "$2" type veth peer name eth0 address "$(mac "$3")" netns "$1"
    ip -n "$SWITCH" link set "$2" master br0
}
# Deleting a namespace ends its sockets without a word to their peers, as a dead machine does.
unplug() {
    ip -n "$SWITCH" link del "$2" 2>/dev/null || true
    ip netns del "$1" 2>/dev/null || true
}

switch_up() {
    [ -e "/run/netns/$SWITCH" ] && return 0
    ip netns add "$SWITCH"
    ip -n "$SWITCH" link set lo up
    ip -n "$SWITCH" link add br0 type bridge forward_delay 0 mcast_snooping 0
    ip -n "$SWITCH" link set br0 up
    plug "$CTL" ctl 1
    ip -n "$SWITCH" link set ctl up
    ip -n "$CTL" addr add "$(addr ctl)/16" dev eth0
    ip -n "$CTL" link set eth0 up
}

# The wire of one host follows two files, so that it survives reboots: `cut` (pulled, dark) and
# `slow` (the arguments of the delay line).
wire() {
    local h=$1 d n; d=$(dir "$h"); n=$(num "$h")
    ip -n "$SWITCH" link show "$h" >/dev/null 2>&1 || return 0   # powered off: nothing to wire
    line_off "$h"
    case $(cat "$d/cut" 2>/dev/null) in
        dark)   ip -n "$SWITCH" link set "$h" nomaster up; return ;;  # carrier stays, frames vanish
        pulled) ip -n "$SWITCH" link set "$h" down; return ;;         # the host sees NO-CARRIER
    esac
    if [ ! -e "$d/slow" ]; then
        ip -n "$SWITCH" link set "$h" master br0 up
        return
    fi
    # h -> bridge xN -> tap aN -> delay line -> tap bN -> br0. The taps make the kernel segment
    # and checksum every frame before the delay line sees it.
    ip -n "$SWITCH" link add "x$n" type bridge forward_delay 0 mcast_snooping 0
    ip -n "$SWITCH" link set "x$n" up
    # shellcheck disable=SC2046
    ip netns exec "$SWITCH" setsid python3 "$(delay_line)" "a$n" "b$n" $(cat "$d/slow") \
        </dev/null >>"$d/slow.log" 2>&1 &
    echo $! >"$d/slow.pid"
    until_ok 10 ip -n "$SWITCH" link show "b$n" >/dev/null 2>&1 || die "delay line did not start"
    ip -n "$SWITCH" link set "a$n" master "x$n" up
    ip -n "$SWITCH" link set "b$n" master br0 up
    ip -n "$SWITCH" link set "$h" master "x$n" up
}

line_off() {
    local d; d=$(dir "$1")
    [ -e "$d/slow.pid" ] || return 0
    kill "$(cat "$d/slow.pid")" 2>/dev/null || true
    rm -f "$d/slow.pid"
    ip -n "$SWITCH" link del "x$(num "$1")" 2>/dev/null || true
}

# netem is missing in many trimmed kernels, so the delay line is a small program of our own.
delay_line() {
    local f=$FLEET_DIR/delay_line.py
    [ -e "$f" ] || cat >"$f" <<'PY'
"""delay_line.py TAP TAP [delay=MS] [jitter=MS] [loss=PERCENT] [dup=PERCENT] [rate=KBIT] [queue=KB]

Carries frames between two taps it creates, each way on its own line. With jitter, frames may
overtake one another. What does not fit the queue is dropped."""
import fcntl, heapq, os, random, select, struct, sys, time

opt = {k: float(v) for k, v in (a.split('=') for a in sys.argv[3:])}
delay, jitter = opt.get('delay', 0) / 1e3, opt.get('jitter', 0) / 1e3
loss, dup = opt.get('loss', 0) / 100, opt.get('dup', 0) / 100
rate, room = opt.get('rate', 0) * 125, opt.get('queue', 1000) * 1000


def tap(name):
    fd = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454CA, struct.pack('16sH22x', name.encode(), 0x1002))  # TAP without header
    return fd


a, b = tap(sys.argv[1]), tap(sys.argv[2])
other, free, held = {a: b, b: a}, {a: 0.0, b: 0.0}, {a: 0, b: 0}
late, serial = [], 0
while True:
    wait = max(0.0, late[0][0] - time.monotonic()) if late else None
    for fd in select.select([a, b], [], [], wait)[0]:
        try:
            frame = os.read(fd, 65536)
        except OSError:
            continue                                    # the tap is still down
        for _ in range(2 if random.random() < dup else 1):
            if random.random() < loss or held[fd] + len(frame) > room:
                continue
            now = time.monotonic()
            if rate:
                free[fd] = max(free[fd], now) + len(frame) / rate
            due = max(now, free[fd]) + max(0.0, delay + random.uniform(-jitter, jitter))
            serial += 1
            held[fd] += len(frame)
            heapq.heappush(late, (due, serial, fd, frame))
    now = time.monotonic()
    while late and late[0][0] <= now:
        _, _, fd, frame = heapq.heappop(late)
        held[fd] -= len(frame)
        try:
            os.write(other[fd], frame)
        except OSError:
            pass                                        # full or down: the frame is lost
PY
    echo "$f"
}

# ---- the machine -------------------------------------------------------------------------------
# Tries the rare things instead of asking for names and versions; what it makes goes with its namespaces.
do_check() {
    local why=
    if [ "$(id -u)" != 0 ]; then why="not root"
    elif ! command -v apt-get >/dev/null; then why="no apt here, and the hosts are Debian"
    elif ! [ -c /dev/net/tun ]; then why="no /dev/net/tun"
    elif ! [ -c /dev/loop-control ]; then why="no loop devices"
    elif ! grep -qw overlay /proc/filesystems && ! modprobe -q overlay; then why="no overlay file system"
    elif ! grep -qw cgroup2 /proc/filesystems; then why="no cgroup v2"
    elif ! unshare --mount --net --time --fork mount -t tmpfs none /mnt 2>/dev/null; then
        why="mount, network or time namespaces are not allowed"
    fi
    [ -z "$why" ] || { echo "$why"; exit 1; }
}

do_install() {
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends \
        debootstrap systemd-container iproute2 e2fsprogs util-linux python3 rpm
}

# ---- base image --------------------------------------------------------------------------------
# One builds, the others wait for it. In a subshell: no supervisor started later may hold the lock.
do_base() (
    [ -z "$MORE" ] || FLEET_MORE='' "$SELF" base
    mkdir -p "$FLEET_CACHE"
    exec 9>"$BASE.lock"
    flock 9
    [ ! -d "$BASE" ] || exit 0
    rm -rf "$BASE.new"
    local mirror=$MIRROR
    [ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
        awk -v suite="$SUITE" '$2 == suite { print $1; exit }')
    [ -n "$mirror" ] || die "no apt source for $SUITE here: set FLEET_MIRROR"
    if [ -n "$MORE" ]; then more "$BASE.new" "$mirror"; else plain "$BASE.new" "$mirror"; fi
    mv "$BASE.new" "$BASE"
)

# more TREE MIRROR: a copy of the plain tree with further packages
more() {
    local r=$1
    cp -a --reflink=auto "$PLAIN" "$r"
    echo "deb $2 $SUITE main" >"$r/etc/apt/sources.list"
    # The list of a name server, for as long as this takes.
    cat /etc/resolv.conf >"$r/etc/resolv.conf"
    # shellcheck disable=SC2086
    {
        chroot "$r" apt-get update -q &&
        DEBIAN_FRONTEND=noninteractive chroot "$r" apt-get install -yq --no-install-recommends $MORE
    } >"$BASE.log" 2>&1 </dev/null || die "cannot install $MORE, see $BASE.log"
    bare "$r"
}

# plain TREE MIRROR: the tree of all hosts
plain() {
    local r=$1 u
    debootstrap --variant=minbase --include="$PACKAGES" "$SUITE" "$r" "$2" \
        >"$BASE.log" 2>&1 || die "debootstrap failed, see $BASE.log"
    : >"$r/etc/machine-id"                              # each host gets its own
    # Jobs that would wake up by themselves and reach for the network or the disk.
    for u in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
             fstrim.timer console-getty.service; do
        ln -sf /dev/null "$r/etc/systemd/system/$u"
    done
    mkdir -p "$r/etc/systemd/journald.conf.d" "$r/etc/systemd/system/multi-user.target.wants" \
             "$r/etc/systemd/system/network-online.target.wants" "$r/var/log/journal"
    printf '[Journal]\nStorage=persistent\nSystemMaxUse=32M\n' >"$r/etc/systemd/journald.conf.d/fleet.conf"
    ln -sf /lib/systemd/system/multi-user.target "$r/etc/systemd/system/default.target"
    ln -sf /lib/systemd/system/systemd-networkd.service "$r/etc/systemd/system/multi-user.target.wants/"
    ln -sf /lib/systemd/system/systemd-networkd-wait-online.service \
        "$r/etc/systemd/system/network-online.target.wants/"
    bare "$r"
}

# bare TREE: without what its making left and what no host of a fleet can reach
bare() {
    rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/var/log/*.log
    : >"$1/etc/resolv.conf"                             # there is no name server in the fleet
    : >"$1/etc/apt/sources.list"                        # and no mirror; tests add their own
}

# ---- one host ----------------------------------------------------------------------------------
create() {
    local h=$1 d; d=$(dir "$h"); num "$h" >/dev/null
    [ -e "$d/disk.img" ] && return 0
    mkdir -p "$d/disk" "$d/root"
    truncate -s "$DISK" "$d/disk.new"
    # The disk is filled without mounting it: mkfs copies this small tree in.
    local seed=$d/seed u=$d/seed/upper
    mkdir -p "$seed/work" "$u/etc/systemd/network"
    echo "$h" >"$u/etc/hostname"
    tr -d - </proc/sys/kernel/random/uuid >"$u/etc/machine-id"
    printf '127.0.0.1 localhost\n%s controller\n%s %s\n' "$(addr ctl)" "$(addr "$h")" "$h" >"$u/etc/hosts"
    printf '[Match]\nName=eth0\n\n[Network]\nAddress=%s/16\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
        "$(addr "$h")" >"$u/etc/systemd/network/eth0.network"
    mkfs.ext4 -q -F -m 0 -J size=8 -E lazy_journal_init=1 -d "$seed" "$d/disk.new"
    rm -rf "$seed"
    mv "$d/disk.new" "$d/disk.img"
}

# _boot HOST: inside its own mount and time namespace; becomes nspawn for one boot of the host
do__boot() {
    local h=$1 d o=(); d=$(dir "$h")
    mount -o loop "$d/disk.img" "$d/disk"
    mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$d/disk/upper,workdir=$d/disk/work" "$d/root"
    mount -t cgroup2 cgroup2 /sys/fs/cgroup             # nspawn takes the layout it finds here
    [ -r "$d/nspawn.args" ] && mapfile -t o <"$d/nspawn.args"   # one extra argument a line
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
    exec systemd-nspawn --quiet --boot --directory="$d/root" --machine="$h" \
        --register=no --keep-unit --network-namespace-path="/run/netns/$FLEET-$h" \
        --capability=CAP_NET_ADMIN --drop-capability=CAP_MKNOD \
        --resolv-conf=off --timezone=off --link-journal=no --console=read-only \
        ${o[@]+"${o[@]}"}
}

# _run HOST: the supervisor; boots the host again for as long as it asks for a reboot
do__run() {
    local h=$1 d g c rc now; d=$(dir "$h"); g=$(cg "$h")
    mkdir -p "$g"
    echo $$ >"$g/cgroup.procs"
    # On cgroup v1 the memory controller is not part of that tree; join it for the accounts.
    c=/sys/fs/cgroup/memory/$FLEET/$h
    if [ -d /sys/fs/cgroup/memory ] && mkdir -p "$c" 2>/dev/null; then echo $$ >"$c/cgroup.procs" || true; fi
    while :; do
        until_ok 20 disk_free "$h" || { say "$h: disk still in use"; exit 1; }
        plug "$FLEET-$h" "$h" $((256 + $(num "$h")))
        wire "$h"
        now=$(cut -d. -f1 /proc/uptime)                 # the host's clocks since boot start at 0
        rc=0
        unshare --mount --propagation slave --time --boottime "-$now" --monotonic "-$now" \
            --fork --kill-child "$SELF" _boot "$h" </dev/null >>"$d/console.log" 2>&1 || rc=$?
        line_off "$h"
        unplug "$FLEET-$h" "$h"
        echo "$(date +%T) boot ended, status $rc"
        [ "$rc" = 133 ] || break
        sleep "$POST"
    done
}
disk_free() { [ -z "$(losetup -j "$(dir "$1")/disk.img")" ]; }

# For this script's own questions it enters nothing and asks the host's D-Bus through /proc: a
# process of ours in the host's PID namespace could hold up the host's shutdown.
bus() {
    local p; p=$(leader "$1")
    [ -n "$p" ] || die "$1 is not running"
    busctl --address="unix:path=/proc/$p/root/run/dbus/system_bus_socket" "$2" org.freedesktop.systemd1 \
        /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager "${@:3}"
}
state()  { bus "$1" get-property SystemState 2>/dev/null | cut -d'"' -f2; }
target() { bus "$1" call StartUnit ss "$2" replace-irreversibly >/dev/null 2>&1 || true; }
# The boot has come to its end, well (running) or with failed units (degraded).
ready()  { local s; s=$(state "$1") || true; [ "$s" = running ] || [ "$s" = degraded ]; }

boot_id()  { local p; p=$(leader "$1"); [ -z "$p" ] || cat "/proc/$p/root/proc/sys/kernel/random/boot_id" 2>/dev/null || true; }
rebooted() { local b; b=$(boot_id "$1"); [ -n "$b" ] && [ "$b" != "$2" ]; }
down_now() { ! up "$1" && disk_free "$1"; }

launch() {
    made "$1"
    up "$1" && return 0
    setsid "$SELF" _run "$1" </dev/null >>"$(dir "$1")/supervisor.log" 2>&1 &
}

# ---- commands ----------------------------------------------------------------------------------
do_up() {
    local n=${1:?up N} i
    [ -d "$BASE" ] || do_base
    mkdir -p "$FLEET_DIR"
    # systemd takes some ten inotify instances a host; the kernel's default is 128 for all of root.
    [ "$(cat /proc/sys/fs/inotify/max_user_instances)" -ge 8192 ] ||
        echo 8192 >/proc/sys/fs/inotify/max_user_instances
    delay_line >/dev/null
    switch_up
    for i in $(seq "$n"); do create "h$i"; launch "h$i"; done
    for i in $(seq "$n"); do do_wait "h$i"; done
}
do_start()    { launch "$1"; do_wait "$1"; }
do_wait()     { until_ok "$WAIT" ready "$1" || die "$1 did not come up, see $(dir "$1")/console.log"; }
do_reboot()   { local b; b=$(boot_id "$1"); target "$1" reboot.target
                until_ok "$WAIT" rebooted "$1" "$b" || die "$1 did not reboot"; do_wait "$1"; }
do_poweroff() { target "$1" poweroff.target
                until_ok "$WAIT" down_now "$1" || die "$1 did not power off"; }

# The plug is pulled: the wire goes dead, then the disk (ext4 stops, nothing more is written, not
# even its log), then every process of the host.
do_powercut() {
    local h=$1 p; made "$h"; p=$(leader "$h")
    [ -n "$p" ] || die "$h is not running"
    ip -n "$SWITCH" link set "$h" down
    # nspawn, the parent of the host's PID 1, still sees the disk in its mount namespace
    python3 - "/proc/$(awk '/^PPid/ {print $2}' "/proc/$p/status")/root$(dir "$h")/disk" <<'PY'
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
assert os.major(os.fstat(fd).st_dev) == 7, 'not on a loop device'
fcntl.ioctl(fd, 0x8004587D, struct.pack('I', 2))        # EXT4_IOC_SHUTDOWN, without flushing the log
PY
    echo 1 >"$(cg "$h")/cgroup.kill"
    do_thaw "$h" 2>/dev/null || true                    # the next boot takes over this cgroup, frozen or not
    until_ok 30 down_now "$h" || die "$h does not go down"
    line_off "$h"
    unplug "$FLEET-$h" "$h"
}
do_reset()  { do_powercut "$1"; do_start "$1"; }

do_cut()    { made "$1"; echo "${2:-pulled}" >"$(dir "$1")/cut"; wire "$1"; }   # cut HOST [dark]
do_heal()   { made "$1"; rm -f "$(dir "$1")/cut"; wire "$1"; }
do_slow()   { made "$1"; local h=$1; shift; echo "$*" >"$(dir "$h")/slow"; wire "$h"; }
do_fast()   { made "$1"; rm -f "$(dir "$1")/slow"; wire "$1"; }
do_freeze() { echo 1 >"$(cg "$1")/payload/cgroup.freeze"; }
do_thaw()   { echo 0 >"$(cg "$1")/payload/cgroup.freeze"; }

# A command as a transient service of the host: it has the host's cgroup, capabilities and system
# call filter, and ends with the host. Input, output and exit status are those of the command.
# systemd-run must be in the host's PID namespace. Its parent is a shell outside of it, because
# nsenter's own fork would stop itself when the host's shutdown stops its child (SIGSTOP to all),
# never reap it, and the host could not end. `exit $?` keeps the shell from becoming the command.
do_exec() {
    local h=$1 p; shift; p=$(leader "$h")
    [ -n "$p" ] || die "$h is not running"
    # shellcheck disable=SC2016
    nsenter -t "$p" --mount --uts --ipc --net --pid --no-fork --root --wd -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c '"$@"; exit $?' sh \
        systemd-run --quiet --pipe --wait --collect --working-directory=/root \
        --setenv=HOME=/root --setenv=LANG=C.UTF-8 --setenv=DEBIAN_FRONTEND=noninteractive -- "$@"
}
do_push()   { do_exec "$2" sh -c 'cat >"$1" && chmod "$2" "$1"' sh "$3" "$(stat -c %a "$1")" <"$1"; }
do_pull()   { do_exec "$1" cat "$2"; }
do_cgroup() { made "$1"; cg "$1"; }
do_ctl()    { ip netns exec "$CTL" "$@"; }              # a command in the controller's namespace
do_addr()   { addr "$1"; }

do_status() {
    local h p m s
    for h in $(all); do
        p=$(leader "$h"); s=off m=-
        [ -n "$p" ] && s=$(state "$h" || true)
        [ -n "$p" ] && m=$(cat "/sys/fs/cgroup/memory/$FLEET/$h/memory.usage_in_bytes" \
                               "$(cg "$h")/memory.current" 2>/dev/null | head -1 || true)
        printf '%-5s %-12s %-9s %-8s %4s MiB  %s\n' "$h" "$(addr "$h")" "${s:-booting}" \
            "$(cat "$(dir "$h")/cut" 2>/dev/null || echo linked)" \
            "$([ "$m" = - ] && echo - || echo $((m >> 20)))" "$(boot_id "$h")"
    done
}

# Ends every host at once and removes all but the base image.
do_down() {
    local h g t; t=$(cg2)
    [ -d "$t/$FLEET" ] && echo 1 >"$t/$FLEET/cgroup.kill"
    for h in $(all); do
        line_off "$h"
        until_ok 30 down_now "$h" || say "$h: still there"
        ip netns del "$FLEET-$h" 2>/dev/null || true
    done
    # What still runs in the controller's namespace belongs to this fleet; a test that was killed leaves it.
    ip netns pids "$CTL" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    ip netns del "$CTL" 2>/dev/null || true
    ip netns del "$SWITCH" 2>/dev/null || true
    for g in "$t/$FLEET" "/sys/fs/cgroup/memory/$FLEET"; do
        [ -d "$g" ] && find "$g" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    [ -d "$FLEET_DIR/cgroup2" ] && umount "$FLEET_DIR/cgroup2" 2>/dev/null || true
    rm -rf "$FLEET_DIR/hosts"
}

main() {
    local cmd=${1:-help}; shift || true
    case $cmd in
        check) do_check ;;
        install|base|up|start|wait|reboot|poweroff|powercut|reset|cut|heal|slow|fast|freeze|thaw|\
        exec|push|pull|cgroup|ctl|addr|status|down|_run|_boot)
            [ "$(id -u)" = 0 ] || die "must be root"
            "do_$cmd" "$@" ;;
        *)  sed -n '2,/^set -/s/^# \{0,1\}//p' "$SELF" ;;
    esac
}
main "$@"; exit    # on one line: bash reads no further, so this file may be edited under a fleet
