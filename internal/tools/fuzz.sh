#!/usr/bin/env bash
# Runs every fuzz target of the root module, one after another, for the time
# given (default 5m). A crash leaves its input in the package's testdata/fuzz,
# to be committed beside the fix.
set -euo pipefail
cd "$(dirname "$0")/../.."
fuzztime=${1:-5m}

found=0
while IFS=: read -r file _ declaration; do
  target=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/' <<<"$declaration")
  echo "fuzz $target in $(dirname "$file") for $fuzztime"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "./$(dirname "$file")"
  found=$((found + 1))
done < <(git grep -nE '^func Fuzz[A-Za-z0-9_]*\(' -- '*_test.go' ':!internal/tools' || true)
echo "$found fuzz targets"
