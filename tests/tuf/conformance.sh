#!/usr/bin/env bash
# Drives comber-tuf-client with the public suite tuf-conformance (https://github.com/theupdateframework/tuf-conformance).
#
#   tests/tuf/conformance.sh python   installs python-tuf for `cargo test`, or says in one line why it cannot
#   tests/tuf/conformance.sh check    the same for the suite
#   tests/tuf/conformance.sh          runs it; what fails on purpose stands in comber-tuf-client.xfails, with the reasons
#
# Both are installed into target/tuf. Without GitHub: COMBER_TUF_CONFORMANCE names a directory that has a copy of the suite.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/target/tuf
suite=${COMBER_TUF_CONFORMANCE:-https://github.com/theupdateframework/tuf-conformance/archive/refs/tags/v2.4.0.tar.gz}

# Says why not where pip does not install its arguments.
install() {
    local log
    log=$(mktemp)
    if ! timeout 120 "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 10 "$@" >"$log" 2>&1; then
        echo "pip cannot install $1: $(grep -v '^$' "$log" | tail -n 1)"
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

python() {
    if [[ ! -x $venv/bin/python ]] && ! python3 -m venv "$venv" >/dev/null 2>&1; then
        rm -rf "$venv"
        echo "python3 has no venv"
        return 1
    fi
    "$venv/bin/python" -c 'import tuf' 2>/dev/null || install tuf==7.0.0 'securesystemslib[crypto]==1.4.0'
}

check() {
    command -v faketime >/dev/null || { echo "no faketime, by which the suite sets the clock"; return 1; }
    python || return 1
    [[ -x $venv/bin/pytest ]] || install "$suite"
}

if [[ ${1:-} == python ]]; then
    python
    exit
fi
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
