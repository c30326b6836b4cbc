#!/bin/sh
# Installs kinesalite, a Kinesis server for tests, into .servers/kinesalite: every package by version and hash. Needs node and npm.
set -eu
cd "$(dirname "$0")/../.."

if ! command -v npm >/dev/null 2>&1; then
    echo "kinesalite: needs node and npm (hint: on Debian and Ubuntu, apt install npm); tests that need it are not run" >&2
    exit 1
fi
target=.servers/kinesalite
if [ -f "$target/.installed" ] && cmp -s scripts/servers/kinesalite/package-lock.json "$target/package-lock.json" \
    && cmp -s scripts/servers/kinesalite/serve.js "$target/serve.js"; then
    exit 0
fi
rm -rf "$target"
mkdir -p "$target"
cp scripts/servers/kinesalite/* "$target/"
# Nothing is compiled or run: the store is in memory, and its optional one on disk isn't installed.
npm --prefix "$target" ci --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error
touch "$target/.installed"
echo "kinesalite: installed into $target"
