#!/usr/bin/env bash
# .ci/test.sh PROGRAM...    runs test programs side by side, shows what they print, ends with "N passed, N failed"
#
# Each program gets a folder of its own for what it writes (TMPDIR) and a time limit, so that a hang is a failure.
set -u
cd "$(dirname "$0")/.."
out=build/tests
limit=${MTL_TEST_LIMIT:-900}                # seconds

# Tests that need Python's own safetensors run with this interpreter and are skipped when it is empty.
python=$PWD/build/venv/bin/python
"$python" -c 'import numpy, safetensors' 2>/dev/null || python=
export MTL_TEST_PYTHON=${MTL_TEST_PYTHON-$python}

# Standard output is made line by line, so that it stands in order with standard error and a crash loses nothing of it.
run()                                       # run PROGRAM; leaves the exit status beside the log
{
    local name
    name=$(basename "$1" .sh)
    rm -rf "$out/$name.tmp" && mkdir -p "$out/$name.tmp"
    TMPDIR=$PWD/$out/$name.tmp timeout -k 10 "$limit" stdbuf -oL "$1" 2>&1 </dev/null
    echo $? >"$out/$name.status"
}

mkdir -p "$out"
for program in "${@:2}"; do
    run "$program" >"$out/$(basename "$program" .sh).log" &
done
run "$1" | tee "$out/$(basename "$1" .sh).log"
wait
for program in "${@:2}"; do
    cat "$out/$(basename "$program" .sh).log"
done

passed=0 failed=0
for program in "$@"; do
    name=$(basename "$program" .sh)
    read -r ok bad first <<<"$(awk -v status="$(cat "$out/$name.status")" -f .ci/tally.awk "$out/$name.log")"
    [ "$bad" -eq 0 ] && echo "$name: $ok passed" || echo "$name: $ok passed, $bad failed, the first: $first"
    passed=$((passed + ok)) failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
