#!/usr/bin/env bash
# Drives comber-tuf-client with the public suite tuf-conformance (https://github.com/theupdateframework/tuf-conformance).
#
#   tests/tuf/conformance.sh check    says in one line why it cannot run here, or nothing; installs what it needs
#   tests/tuf/conformance.sh          runs it; what fails on purpose stands in comber-tuf-client.xfails, with the reasons
#
# The suite is installed into target/tuf. Without GitHub: COMBER_TUF_CONFORMANCE names a directory that has a copy of it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/target/tuf
suite=${COMBER_TUF_CONFORMANCE:-https://github.com/theupdateframework/tuf-conformance/archive/refs/tags/v2.4.0.tar.gz}

check() {
    command -v faketime >/dev/null || { echo "no faketime, by which the suite sets the clock"; return 1; }
    [[ -x $venv/bin/pytest ]] && return 0
    local log
    log=$(mktemp)
    if python3 -m venv "$venv" >"$log" 2>&1 &&
        timeout 120 "$venv/bin/pip" install --quiet --disable-pip-version-check "$suite" >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    echo "tuf-conformance cannot be installed: $(tail -n 1 "$log")"
    rm -rf "$log" "$venv"
    return 1
}

if [[ ${1:-} == check ]]; then
    check
    exit
fi
check
cargo build --quiet --locked --package comber-tuf-client
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
cp "$root/target/debug/comber-tuf-client" "$here/comber-tuf-client.xfails" "$run/"
cd "$run"
suite=$("$venv/bin/python" -c "import tuf_conformance, os; print(os.path.dirname(tuf_conformance.__file__))")
"$venv/bin/pytest" --quiet --tb=short -p no:cacheprovider "$suite" --entrypoint "$run/comber-tuf-client" "$@"
