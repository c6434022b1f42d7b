#!/usr/bin/env bash
# Tests of the programs built for Windows, under wine or on Windows itself.
#
#     tests/test_windows.sh FOLDER [LAUNCHER...]     FOLDER has {quickstart,smoke,mtl,windows_hold}.exe
#
# Works in a folder of its own. Prints "ok name" or "not ok name" for each check, and "N passed, N failed" last.
set -u
bin=$(cd "$1" && pwd) || exit 2
root=$(cd "$(dirname "$0")/.." && pwd)
shift
launcher=("$@")
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0 failed=0

check() { # NAME COMMAND...: the command succeeds
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1)); echo "ok $name"
    else
        failed=$((failed + 1)); echo "not ok $name: $*"; sed 's/^/#   /' stderr.txt | head -n 5
    fi
}
program() { "${launcher[@]}" "$bin/$1.exe" "${@:2}" 2>stderr.txt; }
mtl() { program mtl "$@" >stdout.txt </dev/null; }
quiet() { "$@" >stdout.txt; }
refused() { ! "$@"; }
says() { grep -q -e "$1" stdout.txt stderr.txt; }
nothing_left() { [ -z "$(find . -name '.mtl-*')" ]; }
while_open() { # HOW FILE COMMAND...: the status of a command during which another process has the file open
    local how=$1 file=$2 status line
    shift 2
    rm -f hold.in hold.out
    mkfifo hold.in hold.out
    program windows_hold "$how" "$file" <hold.in >hold.out &
    exec 3>hold.in 4<hold.out
    read -r line <&4
    "$@"
    status=$?
    exec 3>&- 4<&-
    wait $! || { echo "the open file was lost"; status=1; }
    return $status
}

head -n 80 "$root/examples/data/names_train.tsv" >train.tsv
sed 's/$/\r/' train.tsv >crlf.tsv
tail -n 1 train.tsv | cut -f1 >words.txt
cp train.tsv dätä-日本.tsv
small=(--preset plain --hidden 8 --embed 8 --epochs 2 --threads 1)

check "quickstart" quiet program quickstart
check "smoke: train, write, read, predict the same" quiet program smoke
check "train" mtl train --data train.tsv --valid train.tsv --out model.st "${small[@]}"
check "what is printed has no carriage returns" refused grep -q $'\r' stdout.txt
check "eval" mtl eval --model model.st --data train.tsv --json
check "eval prints scores" says '"span_f1": '
check "info" mtl info --model model.st
program mtl predict --model model.st <words.txt >answer.txt
check "predict answers each token" [ "$(wc -w <answer.txt)" -ge "$(wc -w <words.txt)" ]
sed 's/$/\r/' words.txt | program mtl predict --model model.st >crlf.txt
check "predict: CRLF on standard input" cmp -s answer.txt crlf.txt
mtl train --data train.tsv --out lf.st "${small[@]}"
check "train: CRLF" mtl train --data crlf.tsv --out crlf.st "${small[@]}"
check "CRLF trains the same model" cmp -s lf.st crlf.st
check "UTF-8 file names" mtl train --data dätä-日本.tsv --out mödel-日本.st --log lög.json "${small[@]}"
check "are what files are called" [ -s mödel-日本.st -a -s lög.json ]
check "the model is the same" cmp -s lf.st mödel-日本.st
check "and is found again" mtl eval --model mödel-日本.st --data dätä-日本.tsv
check "a missing file is refused" refused mtl eval --model nöne.st --data train.tsv
check "by its name" says 'nöne.st'
check "data is not written over" refused mtl train --data train.tsv --out ./train.tsv "${small[@]}"
check "a missing folder is refused" refused mtl train --data train.tsv --out 'nö\model.st' "${small[@]}"
check "a path with backslashes" mtl train --data '.\train.tsv' --out '.\back.st' "${small[@]}"
check "a model is replaced" mtl train --data train.tsv --out model.st "${small[@]}" --seed 2
check "by another" refused cmp -s lf.st model.st
check "a model is replaced while another process reads it" \
    while_open ours model.st mtl train --data train.tsv --out model.st "${small[@]}"
check "by the new one" cmp -s lf.st model.st
check "a model that nobody may replace is refused" refused \
    while_open alone model.st mtl train --data train.tsv --out model.st "${small[@]}" --seed 2
check "with advice" says 'close programs that have it open'
check "and stays" cmp -s lf.st model.st
chmod a-w model.st
check "a write-protected model is refused" refused \
    mtl train --data train.tsv --out model.st "${small[@]}" --seed 2
check "and stays, too" cmp -s lf.st model.st
check "no temporary file is left" nothing_left
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
