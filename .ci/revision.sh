#!/usr/bin/env bash
# .ci/revision.sh REV TARGET...    builds make targets of a git revision and prints the folder of its tree
#
# The folder is build/revisions/COMMIT-FLAGS, where FLAGS stands for CC and CFLAGS. It is kept: a second
# run builds nothing.
set -eu -o pipefail
cd "$(dirname "$0")/.."

if ! commit=$(git rev-parse --verify --quiet "${1:-}^{commit}"); then
    echo "there is no revision '${1:-}' here: give REV=COMMIT" >&2
    exit 1
fi
shift
settings=(CC="${CC:-cc}" CFLAGS="${CFLAGS:--O2}")
flags=$(printf '%s' "${settings[*]}" | cksum)
tree=build/revisions/${commit:0:12}-${flags%% *}
if [ ! -d "$tree" ]; then       # by way of another name: a copy that was broken off must not be taken for it
    rm -rf "$tree.part"
    mkdir -p "$tree.part"
    git archive "$commit" | tar x -C "$tree.part"
    mv "$tree.part" "$tree"
fi
# A make above this one would pass its own settings and jobs on.
if ! MAKEFLAGS= make -s -C "$tree" "${settings[@]}" "$@" >"$tree.log" 2>&1; then
    tail -n 12 "$tree.log" >&2
    echo "$commit does not build here: $tree.log" >&2
    exit 1
fi
echo "$tree"
