#!/usr/bin/env bash
# tests/board/run.sh    an exported model on a Cortex-M4 in QEMU (bare metal, weights in flash) and on aarch64
#
# For each cell: exports a model, links it for both, runs it, and prints sizes in bytes. Fails when an answer is further than
# 1e-5 from the host's, when a program is larger than its limit, or when the Cortex-M4 needs double arithmetic.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
out=build/board
mkdir -p $out
printf '#define MTL_RNN_IMPLEMENTATION\n#include "mtl_rnn.h"\n' >$out/library.c
printf '#define MTL_MALLOC(bytes) ((void)(bytes), (void *)0)\n#define MTL_FREE(memory) ((void)(memory))\n' >$out/no_heap.c
cat $out/library.c >>$out/no_heap.c
small="-std=c99 -Os -ffunction-sections -fdata-sections -Wl,--gc-sections -DMTL_NO_THREADS -DMTL_NO_NUMBER_TEXT"
m4="-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16"
m4="$m4 --specs=nosys.specs -nostartfiles -T tests/board/netduinoplus2.ld"
failed=0

section() { "$1" -A "$2" | awk -v name="$3" '$1 == name { print $2 }'; }

check() # check WHAT SIZE LIMIT COMMAND...: one line, and whether all is well
{
    local what=$1 text=$2 limit=$3 status=0
    shift 3
    timeout 60 "$@" </dev/null >/dev/null 2>&1 || status=$?
    if [ $status -eq 0 ] && [ "$text" -le "$limit" ]; then echo "ok $what: .text $text (at most $limit), answers as on the host"
    else echo "not ok $what: .text $text (at most $limit), status $status"; failed=1; fi
}

${CC:-cc} -std=c11 -O1 -I. -o $out/make tests/board/make.c -lm -pthread
for cell in rnn gru lstm; do
    $out/make $out $cell
    files="$out/net.c tests/board/run.c"
    arm-none-eabi-gcc $small $m4 -I. -I$out -o $out/m4.elf $out/no_heap.c $files tests/board/start.c -lm \
        2>$out/m4.log || { cat $out/m4.log; exit 1; }
    check "cortex-m4 $cell" "$(section arm-none-eabi-size $out/m4.elf .text)" 20480 \
        qemu-system-arm -M netduinoplus2 -nographic -monitor none -semihosting-config enable=on,target=native -kernel $out/m4.elf
    if arm-none-eabi-nm $out/m4.elf | grep -q __aeabi_d; then echo "not ok cortex-m4 $cell: double arithmetic"; failed=1; fi
    printf '   .rodata %s  .data %s  .bss %s\n' "$(section arm-none-eabi-size $out/m4.elf .rodata)" \
        "$(section arm-none-eabi-size $out/m4.elf .data)" "$(section arm-none-eabi-size $out/m4.elf .bss)"
    aarch64-linux-gnu-gcc $small -DMTL_SINGLE_ISA=MTL_ISA_NEON -I. -I$out -o $out/a64 $out/library.c $files -lm
    check "aarch64 $cell" "$(section aarch64-linux-gnu-size $out/a64 .text)" 28672 \
        qemu-aarch64 -L /usr/aarch64-linux-gnu $out/a64
done
exit $failed
