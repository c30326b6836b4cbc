#!/bin/sh
# Installs Chromium and its driver, Debian's packages, for the tests that go through Dagster's UI as a person does. Needs apt, and root.
set -eu

if command -v chromium >/dev/null 2>&1 && command -v chromedriver >/dev/null 2>&1; then
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
    echo "chromium: needs Debian's or Ubuntu's apt-get, and root (hint: sudo $0); tests that need it are not run" >&2
    exit 1
fi
apt-get update -qq
apt-get install --yes -qq --no-install-recommends chromium chromium-driver >/dev/null
echo "chromium: installed"
