#!/bin/sh
# Runs examples that say what they found, and checks that it is what they promise.
#
#     tests/test_examples.sh [FOLDER]        FOLDER (build) has npc, machine_health, personalise, sensor and image_rows
#
# Prints "ok NAME" or "not ok NAME" for each check and ends with "N passed, N failed". Figures have room for other
# instruction sets and compilers, whose sums differ in their last bits; times are not looked at.
bin=$(cd "${1:-$(dirname "$0")/../build}" && pwd) || exit 2
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cd "$work" || exit 1
passed=0 failed=0

check() { # NAME COMMAND...: the command succeeds
    name=$1; shift
    if "$@"; then
        passed=$((passed + 1)); echo "ok $name"
    else
        failed=$((failed + 1)); echo "not ok $name"; sed 's/^/#   /' stdout.txt stderr.txt | head -n 20
    fi
}
run() { "$bin/$1" >stdout.txt 2>stderr.txt </dev/null; }
says() { grep -q -e "$1" stdout.txt; }
number() { sed -n "s/$1/\\1/p" stdout.txt | head -n 1; }               # PATTERN with one \(group\)
between() { awk -v x="$2" -v low="$1" -v high="$3" 'BEGIN { exit !(x != "" && x + 0 >= low && x + 0 <= high) }'; }
below() { awk -v x="$1" -v y="$2" 'BEGIN { exit !(x != "" && y != "" && x + 0 < y + 0) }'; }

# ---- npc ------------------------------------------------------------------------------------------------------------

share=' *[0-9.]* *[0-9.]* *[0-9.]* *[0-9.]* *\([0-9.]*\) .*'
check "npc: runs" run npc
check "npc: does as it was taught" between 90 "$(number "one thread, probabilities$share")" 100
check "npc: without probabilities too" between 90 "$(number "one thread, labels alone$share")" 100
check "npc: in slices too" between 90 "$(number "four slices on the game's threads$share")" 100
check "npc: more than the most frequent action" between 20 "$(number 'The most frequent action alone: \([0-9.]*\) .*')" 60
check "npc: one step was left out, no other" says 'Steps left out: 1 of '
check "npc: a saved game goes on alike" says 'have done the same\.$'

# A malloc that counts, where libc is glibc and no sanitizer has taken its place: twice the frames ask for no more.
cat >counter.c <<'END'
#include <stdio.h>
#include <stdlib.h>
extern void *__libc_malloc(size_t bytes);
static size_t count;
void *malloc(size_t bytes) { count++; return __libc_malloc(bytes); }
__attribute__((destructor)) static void tell(void) { fprintf(stderr, "%zu allocations\n", count); }
END
count() { LD_PRELOAD=$work/counter.so "$bin/npc" "$1" 2>&1 >stdout.txt </dev/null | tee stderr.txt | grep allocations; }
if ! grep -q -e __asan_init -e __tsan_init "$bin/npc" && ${CC:-cc} -shared -fPIC -o counter.so counter.c 2>stderr.txt; then
    few=$(count 150)
    check "npc: allocations are counted" [ -n "$few" ]
    check "npc: twice the frames take no more" [ "$few" = "$(count 300)" ]
fi

# ---- machine_health -------------------------------------------------------------------------------------------------

check "machine_health: runs" run machine_health
age=$(number 'the mean life less the age *\([0-9.]*\) .*')
check "machine_health: one GRU errs less than the age" below "$(number 'one GRU for both *\([0-9.]*\) .*')" "$age"
check "machine_health: a GRU for each task too" below "$(number 'a GRU for each task *\([0-9.]*\) .*')" "$age"
check "machine_health: it finds failures" between 70 "$(number 'one GRU for both *[0-9.]* *[0-9.]* *\([0-9.]*\) .*')" 100
check "machine_health: it warns in time" between 10 "$(number 'warned \([0-9]*\) cycles before it failed')" 80

# ---- image_rows -----------------------------------------------------------------------------------------------------

score() { number "$1 *shape *$2 % right *pixels F1 *$3\$"; }
check "image_rows: runs" run image_rows
check "image_rows: it tells shapes" between 90 "$(score 'one Bi-GRU over rows' '\([0-9.]*\)' '.*')" 100
check "image_rows: and their pixels" between 0.8 "$(score 'one Bi-GRU over rows' '.*' '\([0-9.]*\)')" 1
check "image_rows: where mean images fail" below "$(score 'nearest mean image, threshold' '\([0-9.]*\)' '.*')" 80
check "image_rows: and a threshold does" below "$(score 'nearest mean image, threshold' '.*' '\([0-9.]*\)')" 0.7
check "image_rows: nothing is drawn where there is nothing" says '^read  *none  *none$'

# ---- personalise ----------------------------------------------------------------------------------------------------

check "personalise: runs" run personalise
check "personalise: all in 256 KB" between 1 "$(number '.*: \([0-9]*\) of 262144 bytes .*')" 262144
check "personalise: the user is not understood at first" between 0 "$(number "commands.*the user's \\([0-9]*\\)")" 120
check "personalise: but afterwards" between 180 "$(number "afterwards.*the user's \\([0-9]*\\)")" 200
check "personalise: the other task has not changed" says 'changed in any bit: none$'

# ---- sensor -----------------------------------------------------------------------------------------------------------

check "sensor: runs" run sensor
check "sensor: tells the state" between 85 "$(number '3000 samples: state right \([0-9.]*\) .*')" 100
check "sensor: and the load" between 0 "$(number '.*load by \([0-9.]*\) .*')" 12
check "sensor: in 2 KB" between 1 "$(number '.* us a sample; \([0-9]*\) bytes.*')" 2048
"$bin/sensor" | grep samples: >generated.txt
"$bin/sensor" --write >signals.csv
told() { "$bin/sensor" "$1" >stdout.txt 2>stderr.txt </dev/null; }
check "sensor: reads a file" told signals.csv
check "sensor: and tells nearly the same of it" [ "$(cut -c-30 generated.txt)" = "$(grep samples: stdout.txt | cut -c-30)" ]
bad() { printf '%s\n' "$1" >bad.csv; ! told bad.csv && grep -q -e "$2" stderr.txt; }
titles='x,y,current,temperature'
check "sensor: names the line and column of what is no number" bad "$titles
1,2,3,4
1,2,nan,4" 'bad.csv:3: column 3: '
check "sensor: a short line" bad "$titles
1,2,3" 'bad.csv:2: column 3: '
check "sensor: a state that is none" bad "$titles,state,speed,load
1,2,3,4,flying,1,2" "bad.csv:2: column 5: .*'flying'"
check "sensor: other titles" bad 'a,b' 'bad.csv:1: column 1: '

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
