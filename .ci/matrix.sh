#!/usr/bin/env bash
# .ci/matrix.sh [NAME...]    builds and runs the tests in every configuration, or in the named ones
#
# Two at a time (MATRIX_JOBS), in quick mode. A line each: "ok NAME seconds", "FAILED NAME" with the end of its log, or
# "SKIPPED NAME" where a tool can neither be found nor installed; then "N passed, N failed". Logs stay in build/matrix.
set -u
cd "$(dirname "$0")/.."

out=build/matrix
jobs=${MATRIX_JOBS:-2}
seconds=${MATRIX_LIMIT:-900}                 # a hang ends here
stb=${STB:-/usr/include/stb}
torch=${TORCH:-torch==2.13.0}
export MTL_TEST_QUICK=1
export UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=allocator_may_return_null=1    # a refused malloc is tested, too

# name           compiler                how         options
configurations='
asan-ubsan       gcc                     tests       -std=c99 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all
tsan             gcc                     races       -std=c99 -O1 -g -fsanitize=thread
aarch64          aarch64-linux-gnu-gcc   aarch64     -std=c99 -O2
gcc-c99          gcc                     tests       -std=c99 -O2
gcc-c11          gcc                     tests       -std=c11 -O2
gcc-O0           gcc                     tests       -std=c99 -O0
gcc-fast-math    gcc                     tests       -std=c99 -O2 -ffast-math
clang-fast-math  clang                   tests       -std=c99 -O2 -ffast-math
clang-c99        clang                   tests       -std=c99 -O2
clang-c11        clang                   tests       -std=c11 -O2
g++-c++17        g++                     smoke       -x c++ -std=c++17 -O2 -Wall -Wextra -Werror
clang++-c++17    clang++                 smoke       -x c++ -std=c++17 -O2 -Wall -Wextra -Werror
g++-c++20        g++                     cpp         -std=c++20 -O2 -Wall -Wextra -Werror
g++-cpp17        g++                     cpp         -std=c++17 -O2 -Wall -Wextra -Werror
clang++-c++20    clang++                 cpp         -std=c++20 -O2 -Wall -Wextra -Werror
clang++-cpp17    clang++                 cpp         -std=c++17 -O2 -Wall -Wextra -Werror
tcc              tcc                     slowly      -std=c99
two-units        gcc                     two_units   -std=c99 -O2 -Wall -Wextra -Werror
static           gcc                     tests       -std=c99 -O1 -Wall -Wextra -Werror -DMTL_RNN_STATIC
decimal-comma    gcc                     comma       -std=c99 -O1
single-isa       gcc                     single_isa  -std=c99 -O2
no-simd          gcc                     tests       -std=c99 -O2 -DMTL_NO_SIMD
double           clang                   tests       -std=c99 -O2 -DMTL_REAL=double
mingw            x86_64-w64-mingw32-gcc  windows     -std=c99 -O2 -Wall -Wextra -Werror
avx512-emulated  gcc                     emulated    -std=c99 -O1 -Wno-psabi -DTEST_EMULATE_AVX512
resume           gcc                     resume      -std=c99 -O2
examples         gcc                     examples    -std=c99 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all
pytorch          gcc                     pytorch     -std=c99 -O2
board            arm-none-eabi-gcc       board       -std=c99
'

# ---- how a configuration is built and run: COMPILER OPTIONS..., in its own folder $here ----------------------------

tests()
{
    "$@" -I. -DMTL_DEBUG -pthread -o "$here/test" tests/main.c -lcmocka -lm && run_tests "$here/test"
}

# Code that is not optimised takes ten minutes for networks that are trained; all else shows what the compiler makes of the header.
slowly()
{
    MTL_TEST_ONLY=$(for file in tests/test_*.c; do basename "${file#tests/test_}" .c; done |
        grep -vxE 'balance|custom|optimise|predict|sharing|train|watch|words' | tr '\n' ' ')
    export MTL_TEST_ONLY
    tests "$@"
}

# What runs in threads, watched for data races.
races()
{
    export MTL_TEST_ONLY=threads
    tests "$@"
}

# A small program in the part of the language that C and C++ share: cmocka's own tests are not C++.
smoke()
{
    "$@" -I. -pthread -o "$here/smoke" tests/smoke.c -lm && limited "$here/smoke"
}

# The C++ example of that standard, with the implementation in C++ too.
cpp()
{
    local standard=${2#-std=c++}
    echo '#include "mtl_rnn.h"' >"$here/library.cpp"
    "$@" -I. -DMTL_RNN_IMPLEMENTATION -c -o "$here/library.o" "$here/library.cpp" || return
    "$@" -Wno-missing-field-initializers -I. -pthread -o "$here/example" "examples/cpp$standard.cpp" \
        $([ "$standard" = 17 ] || echo "$here/library.o") -lm && limited "$here/example"
}

# One instruction set alone; what is none is refused, with a sentence.
single_isa()
{
    local isa
    smoke "$@" -DMTL_SINGLE_ISA=MTL_ISA_SCALAR || return
    for isa in avx2 3 "" MTL_ISA_AVX3 MTL_ISA_AUTO; do
        "$@" -I. -fsyntax-only "-DMTL_SINGLE_ISA=$isa" tests/smoke.c 2>"$here/refused" && return 1
        grep -q '#error.*MTL_SINGLE_ISA must be' "$here/refused" || return
    done
}

# The AVX-512 kernels made out of AVX2; a processor without AVX2 would run none of them.
emulated()
{
    tests "$@" && grep -q '^isas:.* avx512 .*precisions:.* bf16' "$here/run"
}

# The implementation in one unit, its use in another.
two_units()
{
    "$@" -I. -pthread -o "$here/two_units" tests/two_units_a.c tests/two_units_b.c -lm && limited "$here/two_units"
}

# The tests in a locale with a decimal comma, which a constructor sets and makes sure of, whatever the tests do.
comma()
{
    mkdir -p "$here/locale"
    localedef -i de_DE -f UTF-8 "$here/locale/de_DE.UTF-8" || return
    cat >"$here/comma.c" <<'END'
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void set_comma(void)
{
    if (setlocale(LC_ALL, "") && localeconv()->decimal_point[0] == ',') return;
    fputs("the locale has no decimal comma\n", stderr);
    exit(1);
}
END
    export LOCPATH=$PWD/$here/locale LC_ALL=de_DE.UTF-8
    tests "$@" "$here/comma.c"
}

# NEON executed by an emulator, which is slow: only tests/test_WORD.c of the words in MTL_TEST_ONLY.
aarch64()
{
    local cmocka=$here/cmocka
    arm64_cmocka "$cmocka" || return
    "$@" -I. -DMTL_DEBUG -pthread -I"$cmocka/usr/include" -o "$here/test" tests/main.c \
        -L"$cmocka/usr/lib/aarch64-linux-gnu" -lcmocka -lm || return
    export MTL_TEST_ONLY="kernels check golden old_files"
    run_tests qemu-aarch64 -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH="$cmocka/usr/lib/aarch64-linux-gnu" "$here/test"
}

# Unpacks Debian's arm64 cmocka into a folder. apt gets lists of its own, so that this system stays single-architecture.
arm64_cmocka()
{
    local apt=$PWD/build/apt-arm64 options package
    [ -e "$1/usr/include/cmocka.h" ] && return
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$1"
    options=(-q -o APT::Architectures::="$(dpkg --print-architecture)" -o APT::Architectures::=arm64
             -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || return
    (cd "$apt" && apt-get "${options[@]}" download libcmocka0:arm64 libcmocka-dev:arm64) || return
    for package in "$apt"/*.deb; do dpkg -x "$package" "$1" || return; done
}

# Windows: every example, and the programs that tests/test_windows.sh runs under wine.
# The weights that examples/sensor.c is linked with, made by this machine's compiler into $here; and what an example is
# linked with beside the library.
sensor_weights()
{
    cc -std=c99 -O2 -DMTL_RNN_IMPLEMENTATION -I. -pthread -o "$here/sensor_train" examples/sensor_train.c -lm &&
        "$here/sensor_train" "$here/sensor_net.h" "$here/sensor_net.c"
}
further() { case $1 in */sensor.c) echo "$here/sensor_net.c" ;; esac; }

windows()
{
    local source name wine
    echo '#include "mtl_rnn.h"' >"$here/library.c"
    "$@" -I. -include windows.h -DMTL_RNN_IMPLEMENTATION -c -o "$here/library.o" "$here/library.c" || return
    sensor_weights || return
    for source in examples/*.c; do
        "$@" -I. -I"$here" -static -o "$here/$(basename "$source" .c).exe" "$source" $(further "$source") "$here/library.o" || return
    done
    "$@" -I. -static -o "$here/mtl.exe" examples/mtl/*.c "$here/library.o" || return
    for name in smoke windows_hold; do "$@" -I. -static -o "$here/$name.exe" "tests/$name.c" || return; done
    wide_registers "$@" || return
    wine=$(find_wine)
    export WINEPREFIX=$PWD/$here/prefix WINEDEBUG=-all WINEDLLOVERRIDES='winemenubuilder.exe,mscoree,mshtml='
    limited tests/test_windows.sh "$here" "$wine"
}

find_wine() { command -v wine64 || ls /usr/lib/wine/wine64 2>/dev/null || command -v wine; }

# GCC bug 54412: tells how often wide registers are kept on the stack, which is aligned to 16 bytes, and how often by
# moves that need more; fails when kernels that might be of that kind are compiled without being asked for.
wide_registers()
{
    local dump=x86_64-w64-mingw32-objdump stack='%[yz]mm.*\(%rsp|\(%rsp.*%[yz]mm'
    "$@" -I. -DMTL_RNN_IMPLEMENTATION -DMTL_WINDOWS_AVX -c -o "$here/wide.o" "$here/library.c" || return
    $dump -d "$here/wide.o" | grep -E "$stack" >"$here/spills"
    echo "MTL_WINDOWS_AVX: $(wc -l <"$here/spills") wide moves on the stack," \
        "$(grep -cE 'vmov(ap[sd]|dqa)' "$here/spills") of them aligned"
    ! $dump -d "$here/library.o" | grep -m 1 '%[yz]mm'
}

# The code of docs/pytorch.md, and imported networks of every kind, against PyTorch.
pytorch()
{
    echo '#include "mtl_rnn.h"' >"$here/library.c"
    "$@" -I. -DMTL_RNN_IMPLEMENTATION -c -o "$here/library.o" "$here/library.c" || return
    "$@" -I. -pthread -o "$here/mtl" examples/mtl/*.c "$here/library.o" -lm || return
    "$@" -I. -pthread -o "$here/fine_tune" examples/fine_tune.c "$here/library.o" -lm || return
    limited build/venv/bin/python tests/pytorch_page.py "$here" || return
    limited build/venv/bin/python tests/pytorch_import.py "$here"
}

# An exported model bare-metal on a Cortex-M4 and on aarch64, its answers and its size.
board()
{
    limited tests/board/run.sh
}

# Training that is stopped or killed and goes on, with a covering set of the command's options.
resume()
{
    echo '#include "mtl_rnn.h"' >"$here/library.c"
    "$@" -I. -DMTL_RNN_IMPLEMENTATION -c -o "$here/library.o" "$here/library.c" || return
    "$@" -I. -pthread -o "$here/mtl" examples/mtl/*.c "$here/library.o" -lm || return
    limited python3 tests/resume.py --mtl "$here/mtl"
}

# Examples that a test runs, with sanitizers.
examples()
{
    local name
    echo '#include "mtl_rnn.h"' >"$here/library.c"
    "$@" -I. -DMTL_RNN_IMPLEMENTATION -c -o "$here/library.o" "$here/library.c" || return
    sensor_weights || return
    for name in npc machine_health personalise sensor image_rows; do
        "$@" -I. -I"$here" -pthread -Wall -Wextra -Werror -o "$here/$name" "examples/$name.c" $(further "examples/$name.c") \
            "$here/library.o" -lm || return
    done
    limited tests/test_examples.sh "$here"
}

limited() { timeout -k 10 "$seconds" "$@"; }

run_tests()                                 # a run in which no test ran has shown nothing
{
    limited "$@" 2>&1 | tee "$here/run"
    [ "${PIPESTATUS[0]}" -eq 0 ] && grep -q '\[       OK \]' "$here/run"
}

# ---- all of them ---------------------------------------------------------------------------------------------------

tool_missing()                              # prints what a configuration lacks, if anything
{
    command -v "$1" >/dev/null || { echo "$1"; return; }
    case $2 in
    windows) [ -n "$(find_wine)" ] || echo "Debian's packages wine and wine64" ;;
    pytorch) .ci/venv.sh numpy safetensors "$torch" >/dev/null 2>&1 || echo "$torch in build/venv" ;;
    resume) command -v python3 >/dev/null || echo python3 ;;
    board)
        for tool in aarch64-linux-gnu-gcc qemu-aarch64 qemu-system-arm; do command -v $tool >/dev/null || echo $tool; done ;;
    comma) command -v localedef >/dev/null && [ -e /usr/share/i18n/locales/de_DE ] || echo "Debian's package locales" ;;
    aarch64)
        command -v qemu-aarch64 >/dev/null || { echo qemu-aarch64; return; }
        command -v apt-get >/dev/null || echo "apt-get, for an arm64 cmocka" ;;
    esac
}

one()                                       # one NAME COMPILER HOW OPTIONS...; writes its line to $out/NAME.result
{
    local name=$1 compiler=$2 how=$3 lacking start=$SECONDS
    lacking=$(tool_missing "$compiler" "$how")
    if [ -n "$lacking" ]; then
        echo "SKIPPED $name: no $lacking here" | tee "$out/$name.result"
        return
    fi
    here=$out/$name
    mkdir -p "$here/tmp"
    export TMPDIR=$PWD/$here/tmp            # two configurations run at once and must not share files
    if ("$how" "$compiler" "${@:4}" -isystem "$stb") >"$out/$name.log" 2>&1 </dev/null; then
        echo "ok $name $((SECONDS - start)) s" | tee "$out/$name.result"
    else
        echo "FAILED $name" >"$out/$name.result"
        { echo "FAILED $name $((SECONDS - start)) s; the end of $out/$name.log:"; tail -n 25 "$out/$name.log" | sed 's/^/    /'; }
    fi
}

.ci/setup.sh matrix || echo "matrix: going on without what is missing" >&2
rm -rf "$out" && mkdir -p "$out"
while read -r name compiler how options; do
    [ -n "$name" ] || continue
    if [ $# -gt 0 ]; then case " $* " in *" $name "*) ;; *) continue ;; esac; fi
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    # shellcheck disable=SC2086                 options are words
    one "$name" "$compiler" "$how" $options &
done <<<"$configurations"
wait

count() { cat "$out"/*.result 2>/dev/null | grep -c "^$1 "; }
passed=$(count ok) failed=$(count FAILED) skipped=$(count SKIPPED)
if [ "$skipped" -gt 0 ]; then
    echo "matrix: $skipped SKIPPED, so these were NOT tested:"
    cat "$out"/*.result | grep '^SKIPPED'
fi
[ "$((passed + failed + skipped))" -gt 0 ] || { echo "matrix: no configuration is called $*"; failed=1; }
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
