#!/bin/sh
# Makes .venv from the lock files: every package by version and hash. Called by `make setup`; PYTHON names another interpreter.
set -eu
cd "$(dirname "$0")/.."

is_usable() {
    "$1" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
else
    candidates="python3 python3.13 python3.12 python3.14 python3.11 python"
fi
python=""
for candidate in $candidates; do
    if is_usable "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    first=${candidates%% *}
    echo "setup: needs Python 3.11 to 3.14; $first is: $("$first" --version 2>&1 || true)" >&2
    echo "       (hint: install one, or name it: make setup PYTHON=/path/to/python3.12)" >&2
    exit 1
fi

started=$(date +%s)
# A venv that is whole is kept and brought to the lock files; one that was cut short or lost its interpreter is made anew.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    rm -rf .venv
    if ! "$python" -m venv .venv >.venv.log 2>&1; then
        cat .venv.log >&2
        rm -rf .venv .venv.log
        echo "setup: $python can't make a virtual environment (hint: on Debian and Ubuntu, apt install python3-venv)" >&2
        exit 1
    fi
    rm -f .venv.log
fi
echo "setup: $(.venv/bin/python --version); the locked packages go into .venv"

.venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r requirements-bootstrap.lock

# Never another interpreter than the one above, never a package without its hash.
export UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV="$PWD/.venv"
.venv/bin/uv pip install --quiet --require-hashes -r requirements.lock
# The project itself: built by what was just installed, so nothing more is fetched.
.venv/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .

# Dagster's command line says at each start that another one is newer, before any code of ours is loaded: nobody who follows the README
# can act on that.
site=$(.venv/bin/python -c 'import site; print(site.getsitepackages()[0])')
cat > "$site/quiet_dagster.pth" <<'END'
import warnings; warnings.filterwarnings("ignore", message=r"Function `(asset_\w+|dev)_command` is superseded")
END

touch .venv/.locked
echo "setup: done in $(($(date +%s) - started)) s"
