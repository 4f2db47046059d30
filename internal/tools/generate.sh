#!/usr/bin/env bash
# Generates the Go code of schemas/**/*.proto into schemas/gen.
#
#   generate.sh          brings schemas/gen up to date, touching only what differs
#   generate.sh --check  changes nothing; fails, naming the files, if anything differs
#
# The code is made in a folder of its own first, so that a failing generation
# leaves the tree as it was, a deleted .proto takes its Go file with it, and a
# build that runs at the same time never sees a half-written package.
set -euo pipefail
cd "$(dirname "$0")/../.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
bin/buf generate -o "$fresh"

if [[ "${1:-}" == --check ]]; then
  if ! diff -rq schemas/gen "$fresh"; then
    echo "schemas/gen is out of date: run 'make generate' and commit schemas/gen" >&2
    exit 1
  fi
  exit 0
fi

mkdir -p schemas/gen
(cd "$fresh" && find . -type f) | while read -r file; do
  if ! cmp -s "$fresh/$file" "schemas/gen/$file"; then
    mkdir -p "schemas/gen/$(dirname "$file")"
    cp "$fresh/$file" "schemas/gen/$file"
    echo "generated schemas/gen/${file#./}"
  fi
done
(cd schemas/gen && find . -type f) | while read -r file; do
  if [[ ! -e "$fresh/$file" ]]; then
    rm "schemas/gen/$file"
    echo "removed schemas/gen/${file#./}"
  fi
done
find schemas/gen -mindepth 1 -type d -empty -delete
