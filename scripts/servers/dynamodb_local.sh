#!/usr/bin/env bash
# Installs AWS's DynamoDB Local from Maven into .servers/dynamodb_local, for the tests of DynamoDB streams. Needs Java 17 and mvn, as they
# are configured on this machine; where one of them is missing, it says so and installs nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=2.6.1
target=.servers/dynamodb_local
if [ -f "$target/$version.installed" ]; then
  echo "dynamodb_local: $version is there"
  exit 0
fi
for command in java javac mvn; do
  if ! command -v "$command" > /dev/null; then
    echo "dynamodb_local: not installed, there is no $command"
    exit 0
  fi
done

rm -rf "$target"
mkdir -p "$target"
cat > "$target/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId>
  <artifactId>dynamodb-local</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>com.amazonaws</groupId>
      <artifactId>DynamoDBLocal</artifactId>
      <version>$version</version>
    </dependency>
  </dependencies>
</project>
POM
started=$SECONDS
if ! mvn -q -B -f "$target/pom.xml" dependency:copy-dependencies -DoutputDirectory=lib -DincludeScope=runtime > "$target/mvn.log" 2>&1; then
  echo "dynamodb_local: not installed, Maven doesn't give it: see $target/mvn.log"
  exit 0
fi
javac -cp "$target/lib/*" -d "$target/classes" scripts/servers/DynamoDbLocal.java
touch "$target/$version.installed"
echo "dynamodb_local: $version in $((SECONDS - started)) s"
