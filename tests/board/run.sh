#!/usr/bin/env bash
# tests/board/run.sh    what is in a program and how large it is: on a Cortex-M4 in QEMU (bare metal, weights in flash, no heap), on
#                       aarch64, and trimmed builds on this machine
#
# Exports models, links programs, runs them, and prints sizes in bytes. Fails when an answer is further than 1e-5 from the
# host's, when a program is larger than its limit, when a stream on the Cortex-M4 needs double arithmetic, or when a trimmed
# build does not work or does not refuse by name what it lacks.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
out=build/board
mkdir -p $out
printf '#define MTL_RNN_IMPLEMENTATION\n#include "mtl_rnn.h"\n' >$out/library.c
printf '#define MTL_MALLOC(bytes) ((void)(bytes), (void *)0)\n#define MTL_FREE(memory) ((void)(memory))\n' >$out/no_heap.c
cat $out/library.c >>$out/no_heap.c
printf '#define MTL_RNN_STATIC\n#include "no_heap.c"\n#include "../../tests/board/model.c"\n' >$out/whole.c
small="-std=c99 -Os -ffunction-sections -fdata-sections -Wl,--gc-sections -fno-math-errno -DMTL_NO_THREADS -DMTL_NO_NUMBER_TEXT"
m4="-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 --specs=nano.specs --specs=nosys.specs"
m4="$m4 -nostartfiles -T tests/board/netduinoplus2.ld"
qemu="qemu-system-arm -M netduinoplus2 -nographic -monitor none -semihosting-config enable=on,target=native -kernel"
forward="-DMTL_NO_TRAINING -DMTL_NO_FILES -DMTL_NO_STREAMS -DMTL_INPUTS=1<<MTL_INPUT_FEATURES|1<<MTL_INPUT_EMBEDDING"
one_kind="-DMTL_NO_TRAINING -DMTL_NO_FILES -DMTL_NO_STREAMS -DMTL_INPUTS=1<<MTL_INPUT_FEATURES
    -DMTL_COLUMNS=1<<MTL_COLUMN_CELLS -DMTL_MIXES=1<<MTL_MIX_CONCAT -DMTL_TASKS=1<<MTL_TASK_CLASS|1<<MTL_TASK_REAL"
failed=0

complain() { echo "not ok $1"; failed=1; }
section() { "$1" -A "$2" | awk -v name="$3" '$1 == name { print $2 }'; }

build() # build PROGRAM COMPILER ARGUMENTS...
{
    local to=$1
    shift
    "$@" -I. -I$out -o "$to" 2>$out/build.log || { cat $out/build.log; exit 1; }
}

check() # check WHAT SIZE LIMIT COMMAND...: one line, and whether all is well; what it says of its stack stands in said
{
    local what=$1 text=$2 limit=$3 status=0
    shift 3
    said=$(timeout 60 "$@" </dev/null 2>&1) || status=$?
    if [ $status -eq 0 ] && [ "$text" -le "$limit" ]; then echo "ok $what: .text $text (at most $limit), answers as on the host"
    else complain "$what: .text $text (at most $limit), status $status $said"; fi
}

on_m4() # on_m4 WHAT LIMIT FILES AND OPTIONS...
{
    local what=$1 limit=$2
    shift 2
    build $out/m4.elf arm-none-eabi-gcc $small $m4 "$@" tests/board/start.c -lm -fstack-usage
    check "cortex-m4 $what" "$(section arm-none-eabi-size $out/m4.elf .text)" "$limit" $qemu $out/m4.elf
    printf '   .rodata %s  .data %s  .bss %s  %s, largest frame %s\n' "$(section arm-none-eabi-size $out/m4.elf .rodata)" \
        "$(section arm-none-eabi-size $out/m4.elf .data)" "$(section arm-none-eabi-size $out/m4.elf .bss)" \
        "$(echo "$said" | sed -n 's/stack 0*/stack /p')" \
        "$(cat $out/*.su | sort -t'	' -k2,2nr | awk -F'\t' -v elf=<(arm-none-eabi-nm $out/m4.elf) \
            'BEGIN { while ((getline line <elf) > 0) { split(line, a, " "); there[a[3]] = 1 } }
             { n = split($1, a, ":"); if (a[n] in there) { print $2 " (" a[n] ")"; exit } }')"
    rm -f $out/*.su
}

${CC:-cc} -std=c11 -O1 -I. -o $out/make tests/board/make.c -lm -pthread
for net in rnn:numbers gru:numbers lstm:numbers gru:words; do
    cell=${net%:*}
    kind="-DMTL_CELLS=1<<MTL_CELL_$(echo "$cell" | tr a-z A-Z)"
    $out/make $out "$cell" "${net#*:}"
    files="$out/net.c tests/board/run.c"
    on_m4 "stream, $net" 20480 $out/no_heap.c $files
    if arm-none-eabi-nm $out/m4.elf | grep __aeabi_d >/dev/null; then complain "cortex-m4 stream, $net: double arithmetic"; fi
    if [ "$net" != gru:words ]; then on_m4 "model, $net" 43008 $out/whole.c $one_kind "$kind"
    else on_m4 "model, $net" 71680 $out/whole.c $forward "$kind"; fi
    build $out/a64 aarch64-linux-gnu-gcc $small -DMTL_SINGLE_ISA=MTL_ISA_NEON $out/library.c $files -lm
    check "aarch64 stream, $net" "$(section aarch64-linux-gnu-size $out/a64 .text)" 32768 \
        qemu-aarch64 -L /usr/aarch64-linux-gnu $out/a64
done

# Programs that load a file of the last model, with all or some of the header in them.
$out/make $out gru numbers
while IFS=: read -r limit options; do
    build $out/trimmed aarch64-linux-gnu-gcc -std=c99 -Os -ffunction-sections -fdata-sections -Wl,--gc-sections \
        -DMTL_SINGLE_ISA=MTL_ISA_NEON $options tests/board/trimmed.c -lm -pthread
    check "aarch64 ${options:-all of the header}" "$(section aarch64-linux-gnu-size $out/trimmed .text)" "$limit" \
        qemu-aarch64 -L /usr/aarch64-linux-gnu $out/trimmed $out/net.safetensors
    build $out/trimmed ${CC:-cc} -std=c11 -O1 -Wall -Wextra -Werror $options tests/board/trimmed.c -lm -pthread
    $out/trimmed $out/net.safetensors || complain "here: $options"
done <<'END'
215000:
146000:-DMTL_NO_TRAINING
132000:-DMTL_NO_TRAINING -DMTL_NO_STREAMS -DMTL_NO_STDIO -DMTL_NO_THREADS -DMTL_NO_NUMBER_TEXT
112000:-DMTL_NO_TRAINING -DMTL_NO_FILES
170000:-DMTL_NO_FILES -DMTL_NO_STREAMS
100000:-DMTL_NO_TRAINING -DMTL_CELLS=1<<MTL_CELL_GRU -DMTL_INPUTS=1<<MTL_INPUT_FEATURES -DMTL_COLUMNS=1<<MTL_COLUMN_CELLS -DMTL_MIXES=1<<MTL_MIX_CONCAT -DMTL_TASKS=1<<MTL_TASK_CLASS|1<<MTL_TASK_REAL
END
exit $failed
