#!/usr/bin/env bash
# .ci/venv.sh PACKAGE...    makes build/venv and installs into it what is missing of PACKAGE... (pip requirements)
# VENV names another folder in place of build/venv.
set -eu
cd "$(dirname "$0")/.."

venv=${VENV:-build/venv}
python=$venv/bin/python
wanted="$*"
if [ -x "$python" ] && grep -qxF "$wanted" "$venv/installed" 2>/dev/null; then exit 0; fi
.ci/setup.sh python
[ -x "$python" ] || python3 -m venv "$venv"
echo "setup: installing $wanted into $venv"
"$python" -m pip install -q --disable-pip-version-check --retries 2 "$@"
echo "$wanted" >>"$venv/installed"
