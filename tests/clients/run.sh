#!/bin/bash
# run.sh [test_module[.Class[.test]]...]: real clients against build/fourway: openai for JavaScript, LangChain, lm-eval.
#
# They are installed once, 900 MB in ~/.cache/fourway/clients (some minutes), which is why no other test runs them. What cannot be
# installed is said, and its tests are skipped. docs/clients.md has what else was tried by hand.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=~/.cache/fourway/clients
mkdir -p "$home"

say() { echo "clients: $*" >&2; }

if ! cmp -s tests/clients/package.json "$home/package.json"; then
  if ! command -v node npm >/dev/null; then
    say "node or npm is missing (apt-get install nodejs npm): openai for JavaScript is skipped"
  else
    say "installing openai for JavaScript"
    mkdir -p "$home/new"
    cp tests/clients/package.json "$home/new/"
    if (cd "$home/new" && npm install --silent --no-audit --no-fund); then
      rm -rf "$home/node_modules"
      mv "$home/new/node_modules" "$home/new/package.json" "$home/"
    else
      say "npm could not install it (above): openai for JavaScript is skipped"
    fi
    rm -rf "$home/new"
  fi
fi
if ! cmp -s tests/clients/requirements.txt "$home/requirements.txt"; then
  [ -x "$home/venv/bin/python" ] || python3 -m venv "$home/venv" || { say "no virtual environment: scripts/setup --tests"; exit 1; }
  say "installing LangChain and lm-eval (some minutes)"
  failed=
  while read -r package; do
    "$home/venv/bin/python" -m pip install --quiet "$package" && continue
    say "pip could not install $package (above): its tests are skipped"
    failed=1
  done <tests/clients/requirements.txt
  [ -n "$failed" ] || cp tests/clients/requirements.txt "$home/requirements.txt"
fi

export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tests/e2e:tests/clients CLIENTS_HOME=$home
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1     # lm-eval looks for nothing elsewhere
[ $# -gt 0 ] || set -- discover -s tests/clients
exec "$home/venv/bin/python" -m unittest "$@"
