#!/bin/bash
# The whole engine on an emulated machine with four NUMA nodes and a real kernel: every page of weights and KV on its node by
# move_pages, and the same bits as on this machine.
#
#   vm_test.sh CHECK_PLACEMENT          (the program; run from the repository's root)
#
# Exit 77: skipped, because this machine has no emulator or no kernel image and cannot get them; says so loudly.
set -u

program=$1
digest=$("$program" | sed -n 's/^digest \([0-9a-f]*\) .*/\1/p')
[ -n "$digest" ] || { echo "FAILED: no digest on this machine" >&2; exit 1; }
messages=$(mktemp)
trap 'rm -f "$messages"' EXIT

status=0
scripts/numa-vm --nodes 4 --cores 2 --mem 256 --timeout 900 -- "$program" "$digest" 2>"$messages" || status=$?
cat "$messages" >&2
if [ $status = 125 ] && grep -qE 'numa-vm: (.* is missing|no kernel image):' "$messages"; then
  echo "SKIPPED: no emulated machine here, so the model on four nodes was NOT tested" >&2
  exit 77
fi
exit $status
