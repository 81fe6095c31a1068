#!/bin/sh
# Make .venv in the repository from a lock, or leave it alone when it already holds what the lock says.
# usage: envs/install.sh envs/requirements.txt     PYTHON may name the interpreter.
set -eu
cd "$(dirname "$0")/.."
lock=$1

# The locks were resolved with Python 3.11, so it goes first; a pinned package (vtk) ends with 3.12.
# A name may exist and not run (pyenv): try each.
python=
for candidate in ${PYTHON:-python3.11 python3.12 python3}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Python 3.11 or 3.12 was not found: install one, or name it with make PYTHON=/path/to/python3." >&2
    exit 1
fi

# An environment knows its own place; one that was moved or whose Python is gone has to be made anew.
if ! grep -qsF "$PWD/.venv" .venv/bin/activate || ! .venv/bin/python -c '' 2>/dev/null; then
    echo "Making .venv with $("$python" --version)."
    "$python" -m venv --clear .venv
fi

# The stamp is written last: after an interrupted installation it is missing or old.
stamp=.venv/$(basename "$lock").sha256
wanted=$(cat envs/requirements.txt "$lock" | .venv/bin/python -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
echo "Installing the packages of $lock into .venv; the first time takes minutes and 3 GB."
.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --requirement "$lock"
echo "$wanted" > "$stamp"
