#!/bin/bash
# The whole engine on emulated machines with several NUMA nodes and a real kernel: every page of weights and KV on its node by
# move_pages, and the same bits as on this machine.
#
#   vm_test.sh CHECK_PLACEMENT          four alike nodes; four of which one has no CPUs and one no memory
#   vm_test.sh CHECK_PLACEMENT all      1, 2, 3, 4 and 8 nodes, unequal cores, too: ten minutes
#
# CHECK_PLACEMENT: the program; run from the repository's root. Exit 77: skipped, because this machine has no emulator or no kernel image
# and cannot get them; says so loudly.
set -u

program=$1
digest=$("$program" | sed -n 's/^digest \([0-9a-f]*\) .*/\1/p')
[ -n "$digest" ] || { echo "FAILED: no digest on this machine" >&2; exit 1; }
failed=0
messages=$(mktemp)
trap 'rm -f "$messages"' EXIT

run() {  # run NAME NUMA-VM-OPTION...
  local name=$1 status=0
  shift
  echo "--- $name"
  scripts/numa-vm --timeout 900 "$@" -- "$program" "$digest" 2>"$messages" || status=$?
  cat "$messages" >&2
  if [ $status = 125 ] && grep -qE 'numa-vm: (.* is missing|no kernel image):' "$messages"; then
    echo "SKIPPED: no emulated machine here, so the model on several nodes was NOT tested" >&2
    exit 77
  elif [ $status != 0 ]; then
    echo "FAILED: $name (exit $status)" >&2
    failed=1
  fi
}

run "four sockets" --nodes 4 --cores 2 --mem 256
run "a node without CPUs, one without memory" --nodes 4 --cores 2,1,0,1 --mem 320,320,192,0
if [ "${2-}" = all ]; then
  run "one node" --nodes 1 --cores 2 --mem 512
  run "two sockets, unequal cores" --nodes 2 --cores 3,1 --mem 320
  run "three sockets, unequal cores" --nodes 3 --cores 1,2,4 --mem 256
  run "eight sockets" --nodes 8 --cores 1 --mem 256
fi
exit $failed
