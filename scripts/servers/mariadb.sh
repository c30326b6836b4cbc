#!/usr/bin/env bash
# Makes MariaDB's server program available for the tests of captures: the one that is there, or Debian's, where this is root.
# No server is started: each test run has one of its own, in a temporary folder, never as root.
set -euo pipefail

for there in /usr/sbin/mariadbd "$(command -v mariadbd || true)"; do
  [[ -x $there ]] && exit 0
done

began=$SECONDS
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "mariadb: it is installed by apt, as root (hint: sudo apt-get install mariadb-server-core)" >&2
  exit 1
fi
# The server's program and its system tables; the package mariadb-server would start one as well.
apt-get update -qq && apt-get install -y -qq --no-install-recommends mariadb-server-core >/dev/null
echo "mariadb: $(/usr/sbin/mariadbd --version) installed by apt, in $((SECONDS - began)) s"
