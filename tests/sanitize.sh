#!/bin/bash
# sanitize.sh PRESET [CTEST-OPTION...]: builds the preset asan or tsan, and runs its fast tests (or those that the options choose).
set -euo pipefail
cd "$(dirname "$0")/.."

preset=$1
shift
[ $# -gt 0 ] || set -- -L fast
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ cmake --preset "$preset" && cmake --build --preset "$preset"; } >"$log" 2>&1 || { tail -n 40 "$log" >&2; exit 1; }
# Two at once: most of their time is one thread's checks, and nothing here is measured.
ctest --test-dir "build-$preset" --output-on-failure --no-tests=error --timeout 900 --parallel 2 "$@"
