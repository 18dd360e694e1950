#!/bin/bash
# run.sh [-v] [test_module[.Class[.test]]...]: the end-to-end tests, against build/fourway (FOURWAY_BINARY names another one).
#
# run.sh --script FILE ARGUMENTS...: a script in the same environment.
#
# They run in the environment .venv with the packages of requirements.txt, which is made when it is missing or the list has changed.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! cmp -s tests/e2e/requirements.txt .venv/e2e-requirements; then
  echo "e2e: installing $(grep -c . tests/e2e/requirements.txt) Python packages and what they need into .venv" >&2
  [ -x .venv/bin/python ] || python3 -m venv .venv || { echo "e2e: no virtual environment: scripts/setup --tests" >&2; exit 1; }
  .venv/bin/python -m pip install --quiet -r tests/e2e/requirements.txt
  cp tests/e2e/requirements.txt .venv/e2e-requirements
fi
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tests/e2e
if [ "${1-}" = --script ]; then
  shift
  exec .venv/bin/python "$@"
fi
[ $# -gt 0 ] || set -- discover -s tests/e2e
exec .venv/bin/python -m unittest "$@"
