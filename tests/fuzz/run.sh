#!/bin/bash
# Builds the fuzz targets with clang and the address and undefined-behaviour sanitizers, and runs each for its share of
# FOURWAY_FUZZ_SECONDS, shared evenly, one on each core. Without it: 300 s, always from the same seed, so that the tests of a change
# judge that change and not a new draw; with it, from a seed that the log tells.
#
#   tests/fuzz/run.sh [BUILD] [TARGET ...]      BUILD: build/fuzz; TARGET: gguf ... (all)
#
# BUILD/corpus/TARGET keeps what was found, so that the next run goes on from there; seeds are only read. A crash leaves its input in
# BUILD/crashes: add it to tests/fuzz/corpus/TARGET/ together with the fix. Exits 0, 1 (found something), or 77 (no clang: skipped).
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${FOURWAY_FUZZ_SECONDS:-300}
seed=$([ -n "${FOURWAY_FUZZ_SECONDS-}" ] && echo 0 || echo 1)       # 0: libFuzzer draws one
build=${1:-build/fuzz}
[ $# -eq 0 ] || shift

cc=
for candidate in clang-14 clang; do
    if [ -z "$cc" ] && command -v "$candidate" >/dev/null; then
        cc=$candidate
    fi
done
if [ -z "$cc" ]; then
    echo "SKIPPED: fuzzing needs clang (apt-get install clang-14)" >&2
    exit 77
fi

mkdir -p "$build"
echo "building the fuzz targets with $cc in $build"
# Warnings are gcc's business: here another compiler looks at the same code.
if ! { cmake -S . -B "$build" -DCMAKE_C_COMPILER="$cc" -DFOURWAY_FUZZ=ON -DFOURWAY_WERROR=OFF \
           -DFOURWAY_SANITIZE=fuzzer-no-link,address,undefined &&
       cmake --build "$build" --target fuzz_all --parallel "$(nproc)"; } >"$build/build.log" 2>&1; then
    tail -n 40 "$build/build.log" >&2
    echo "the fuzz targets do not build: $build/build.log" >&2
    exit 1
fi

[ $# -gt 0 ] || set -- $(cat "$build/tests/fuzz/targets")
share=$((seconds / $#))
[ "$share" -gt 0 ] || share=1
mkdir -p "$build/crashes"

# -timeout, -rss_limit_mb: a hang and a large allocation are findings, too.
run_target() {
    local name=$1 log=$build/$1.log
    mkdir -p "$build/corpus/$name"
    if "$build/tests/fuzz/fuzz_$name" -seed="$seed" -max_total_time="$share" -timeout=10 -rss_limit_mb=1024 -max_len=8192 -use_value_profile=1 \
           -print_final_stats=1 -artifact_prefix="$build/crashes/$name-" "$build/corpus/$name" "tests/fuzz/corpus/$name" \
           >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "fuzz_$name: nothing found in $share s, ${runs:-0} inputs"
    else
        tail -n 60 "$log" >&2
        echo "fuzz_$name: found something; the input is in $build/crashes, the log is $log" >&2
        return 1
    fi
}

# One on each core.
status=0
running=0
for name in "$@"; do
    if [ "$running" -ge "$(nproc)" ]; then
        wait -n || status=1
        running=$((running - 1))
    fi
    run_target "$name" &
    running=$((running + 1))
done
for ((; running > 0; running--)); do
    wait -n || status=1
done
exit $status
