#!/usr/bin/env bash
# .ci/venv.sh PACKAGE...    makes build/venv and installs into it what is missing of PACKAGE... (pip requirements)
set -eu
cd "$(dirname "$0")/.."

python=build/venv/bin/python
wanted="$*"
if [ -x "$python" ] && grep -qxF "$wanted" build/venv/installed 2>/dev/null; then exit 0; fi
.ci/setup.sh python
[ -x "$python" ] || python3 -m venv build/venv
echo "setup: installing $wanted into build/venv"
"$python" -m pip install -q --disable-pip-version-check --retries 2 "$@"
echo "$wanted" >>build/venv/installed
