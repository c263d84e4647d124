#!/usr/bin/env bash
# Runs fuzz targets with libFuzzer, on stable Rust.
#
#   tests/fuzz/fuzz.sh check              says in one line why it cannot run here, or nothing
#   tests/fuzz/fuzz.sh list               the targets
#   tests/fuzz/fuzz.sh all SECONDS        each for that long (wall clock), one after the other
#   tests/fuzz/fuzz.sh TARGET SECONDS     one
#
# COMBER_FUZZ_SEED makes a run repeatable, as far as it gets in its time; without it each run tries something else.
#
# It begins from corpus/TARGET and regressions/TARGET and keeps what it learns in target/fuzz/corpus/TARGET. What it finds
# goes to target/fuzz/findings/TARGET: mend the parser, then move the file to regressions/TARGET, which `cargo test` replays.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')

check() {
    for tool in c++ clang++ g++; do
        command -v "$tool" >/dev/null && return 0
    done
    echo "no C++ compiler for libFuzzer (tests/fuzz/engine)"
    return 1
}

build() {
    # What cargo-fuzz passes, without a sanitizer, which would need nightly: safe Rust has little for one to find.
    local coverage="--cfg fuzzing -Cpasses=sancov-module"
    for flag in level=4 inline-8bit-counters pc-table trace-compares; do
        coverage+=" -Cllvm-args=-sanitizer-coverage-$flag"
    done
    # With --target, build scripts and macros are not instrumented.
    RUSTFLAGS="$coverage -Ccodegen-units=1" CARGO_TARGET_DIR=$out \
        cargo build --quiet --manifest-path "$here/engine/Cargo.toml" --target "$host"
}

run() {
    local target=$1 seconds=$2
    local corpus=$out/corpus/$target findings=$out/findings/$target
    mkdir -p "$corpus" "$findings" "$here/regressions/$target"
    local log=$out/$target.log
    local longest
    longest=$(sed -n "s/^ *target(\"$target\", \([0-9a-z <]*\),.*/\1/p" "$here/src/lib.rs")
    if ! COMBER_FUZZ_TARGET=$target "$out/$host/debug/comber-fuzz-engine" \
        -max_total_time="$seconds" -seed="${COMBER_FUZZ_SEED:-0}" -max_len="$((longest))" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$findings/" -verbosity=1 \
        "$corpus" "$here/corpus/$target" "$here/regressions/$target" >"$log" 2>&1; then
        tail -n 40 "$log"
        echo "$target: something was found, see $findings"
        rmdir --ignore-fail-on-non-empty "$here/regressions/$target"
        return 1
    fi
    rmdir --ignore-fail-on-non-empty "$here/regressions/$target"
    local runs covered
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    echo "$target: $runs runs, $covered edges"
}

case ${1:-} in
check) check ;;
list) sed -n 's/^ *target("\([a-z]*\)".*/\1/p' "$here/src/lib.rs" ;;
all)
    check
    build
    failed=0
    for target in $("$0" list); do
        run "$target" "${2:-60}" || failed=1
    done
    exit "$failed"
    ;;
"")
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit 64
    ;;
*)
    check
    build
    run "$1" "${2:-60}"
    ;;
esac
