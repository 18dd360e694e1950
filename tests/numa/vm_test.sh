#!/bin/bash
# Placement, pinning, `fourway doctor` and `fourway membw` on real kernels with several NUMA nodes, emulated: four alike nodes, and four of
# which one has no CPUs and one no memory. Speed in there means nothing.
#
#   vm_test.sh CHECK_NODES CHECK_PLACE CHECK_POOL FOURWAY      (the programs; run from the repository's root)
#
# Exit 0: all passed. 77: skipped, because this machine has no emulator or no kernel image and cannot get them; says so loudly.
set -u

check_nodes=$1 check_place=$2 check_pool=$3 fourway=$4
failed=0
messages=$(mktemp) report=$(mktemp)
trap 'rm -f "$messages" "$report"' EXIT

tolerated=0     # an exit status that is no failure, beside 0
run() {  # run NAME NUMA-VM-OPTION... -- COMMAND...
  local name=$1 status=0
  shift
  echo "--- $name"
  scripts/numa-vm --timeout 400 "$@" 2>"$messages" || status=$?
  cat "$messages" >&2
  if [ $status = 125 ] && grep -qE 'numa-vm: (.* is missing|no kernel image):' "$messages"; then
    echo "SKIPPED: no emulated machine here, so placement on several nodes was NOT tested" >&2
    exit 77
  elif [ $status != 0 ] && [ $status != $tolerated ]; then
    echo "FAILED: $name (exit $status)" >&2
    failed=1
  fi
}

run "four sockets: placement" --nodes 4 --cores 2 --mem 192 -- "$check_nodes" 0:0-1 1:2-3 2:4-5 3:6-7
run "four sockets: arenas" --nodes 4 --cores 2 --mem 192 -- "$check_place"
run "four sockets: workers" --nodes 4 --cores 2 --mem 192 -- "$check_pool" --quick
# The core without memory works for the nearest node with memory and cores, on a tie for the one with the fewest cores.
run "a node without CPUs, one without memory" --nodes 4 --cores 2,1,0,1 --mem 256,192,192,0 -- "$check_nodes" 0:0-1 1:2-3

# The doctor sees four nodes on four sockets, and measures them. Emulated cores are busy ones: whether it fails is not asked.
tolerated=1
run "doctor" --nodes 4 --cores 2 --mem 512 -- "$fourway" doctor >"$report"
cat "$report"
if ! grep -q '^OK    nodes           4 nodes on 4 sockets$' "$report" || ! grep -qE '^(OK|WARN|FAIL) +reads ' "$report" ||
   ! grep -qE '^3 +3 +2 .* 21 +21 +21 +10$' "$report"; then
  echo "FAILED: doctor" >&2
  failed=1
fi

tolerated=0

# Every pair of nodes has a rate and a latency, and the memory that was measured lay where it should.
run "four sockets: membw" --nodes 4 --cores 2 --mem 384 -- "$fourway" membw --quick --reps 1 --part latency,matrix,barrier --json >"$report"
python3 - "$report" <<'END' || failed=1
import json, sys
text = open(sys.argv[1], encoding="utf-8").read()
report = json.loads(text[text.index("{"):text.rindex("}") + 1])
for key in ("matrix_gb_per_s", "latency_ns"):
    rows = report[key]
    assert [len(row) for row in rows] == [4] * 4 and all(x > 0 for row in rows for x in row), (key, rows)
assert [node["node"] for node in report["nodes"]] == [0, 1, 2, 3], report["nodes"]
assert all(node["workers"] == 2 and node["bound"] and node["on_node"] == 1 for node in report["nodes"]), report["nodes"]
assert report["all_remote_gb_per_s"] > 0 and report["barrier_ns"] > 0
print("membw: 4 x 4 rates and latencies, all memory on its node")
END
exit $failed
