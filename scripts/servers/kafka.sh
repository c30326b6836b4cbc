#!/usr/bin/env bash
# Installs a Kafka broker for the tests into .servers/kafka: its jars, from Maven. Needs Java 17 or later, and mvn.
# Does nothing where it is installed already.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=4.1.1
target=.servers/kafka

if [[ -f $target/$version ]]; then
  exit 0
fi
for needed in java mvn; do
  command -v "$needed" >/dev/null || { echo "kafka: $needed is needed (hint: Debian's default-jre-headless and maven)" >&2; exit 1; }
done

began=$SECONDS
rm -rf "$target.new"
mkdir -p "$target.new"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
mvn --batch-mode --file scripts/servers/kafka.pom.xml "-Dkafka.version=$version" \
  dependency:copy-dependencies "-DoutputDirectory=$PWD/$target.new/libs" -DincludeScope=runtime >"$log" 2>&1 \
  || { tail -n 20 "$log" >&2; echo "kafka: Maven couldn't fetch it (hint: is its repository reachable?)" >&2; exit 1; }
touch "$target.new/$version"
rm -rf "$target"
mv "$target.new" "$target"
echo "kafka: broker $version in $target, in $((SECONDS - began)) s"
