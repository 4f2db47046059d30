#!/usr/bin/env bash
# Fails, naming the files, if a Go file of the tree is not formatted.
set -euo pipefail
cd "$(dirname "$0")/../.."

unformatted=$(git ls-files -z -co --exclude-standard '*.go' | xargs -0 -r ls -d 2>/dev/null | xargs -r gofmt -s -l)
if [[ -n "$unformatted" ]]; then
  echo "not formatted, run 'make fmt':" >&2
  echo "$unformatted" >&2
  exit 1
fi
