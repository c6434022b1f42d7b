#!/usr/bin/env bash
# tests/mutants/run.sh [NAME...]    applies each NAME.patch of this folder to a copy of the header and runs the tests on it
#
# A patch is a deliberate defect, made against the top of the repository (patch -p1). A line each: "killed NAME by TEST",
# or a failure: "SURVIVED NAME" when all tests pass, "BROKEN NAME" when the patch does not apply or does not compile, which
# shows nothing about the tests. The unchanged header goes first and must pass. Two at a time (MUTANT_JOBS).
# MTL_TEST_ONLY=plain tells what that one file of tests finds (docs/learn.md has the list).
set -u
cd "$(dirname "$0")/../.."
top=$PWD
out=$top/build/mutants
cc=${CC:-cc}
export MTL_TEST_QUICK=1

broken() { echo "BROKEN $1: $2"; tail -n 5 "$3" | sed 's/^/    /'; }

# first_failure VARIANT OPTIONS...    builds and runs the tests of the copy; prints the first test that fails, or nothing.
# Fails when they do not compile.
first_failure()
{
    local variant=$1 status=0 first
    shift
    $cc -std=c99 -O1 -I. "$@" -pthread -isystem "${STB:-/usr/include/stb}" -o "$variant" tests/main.c -lcmocka -lm \
        >"$variant.log" 2>&1 || return
    timeout -k 10 300 stdbuf -oL "./$variant" >"$variant.log" 2>&1 </dev/null || status=$?
    read -r _ _ first <<<"$(awk -v status="$status" -f "$top/.ci/tally.awk" "$variant.log")"
    [ "$status" -ne 124 ] || first="$first (time limit)"
    echo "$first"
}

# mutant NAME [PATCH]    the copy has everything of the repository that tests read, at the same paths
mutant()
{
    local name=$1 variant first real
    rm -rf "${out:?}/$name" && mkdir -p "$out/$name/tmp" && cd "$out/$name" || return
    export TMPDIR=$PWD/tmp
    cp -r "$top/mtl_rnn.h" "$top/tests" . && ln -s "$top/examples" examples
    if [ $# -gt 1 ] && ! patch -p1 --batch --forward <"$2" >patch.log 2>&1; then
        broken "$name" "the patch does not apply" patch.log
        return 1
    fi
    for variant in double float; do         # gradients are checked in double: most defects die there
        real=
        [ "$variant" = double ] && real=-DMTL_REAL=double
        first=$(first_failure "$variant" $real) || { broken "$name" "does not compile" "$variant.log"; return 1; }
        [ -z "$first" ] || { echo "killed $name by $first ($variant)"; return; }
    done
    echo "SURVIVED $name"
    return 1
}

mkdir -p "$out"
unchanged=$(mutant unchanged)
if [ "$unchanged" != "SURVIVED unchanged" ]; then
    echo "the tests fail without any defect: $unchanged"
    exit 1
fi

patches=("$top"/tests/mutants/*.patch)
[ -e "${patches[0]}" ] || { echo "there is no patch in tests/mutants"; exit 1; }
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    if [ $# -gt 0 ]; then case " $* " in *" $name "*) ;; *) continue ;; esac; fi
    while [ "$(jobs -rp | wc -l)" -ge "${MUTANT_JOBS:-2}" ]; do wait -n; done
    mutant "$name" "$patch" | tee "$out/$name.result" &
done
wait
! grep -lE '^(SURVIVED|BROKEN) ' "$out"/*.result >/dev/null
