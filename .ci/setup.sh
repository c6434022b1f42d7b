#!/usr/bin/env bash
# .ci/setup.sh GROUP...    checks for what the groups need and installs what is missing
#
# Groups: make build cpp test matrix lint python mutants revision peers. Each need is probed (a command, a header that compiles), not looked up
# by package, so a compiler or a library that came another way counts. Says nothing when all is there. Where apt-get or
# the right to use it is missing, it names the packages and fails.
set -u

cc=${CC:-cc}
declare -A package_of=([cc]=gcc [c99]=gcc [clang++]=clang [gnuplot]=gnuplot-nox)      # where the command's name is not the package's
missing=()

need()                                                      # need PACKAGE PROBE...
{
    local package=$1
    shift
    "$@" >/dev/null 2>&1 </dev/null || missing+=("$package")
}

need_command() { need "${package_of[$1]:-$1}" command -v "$1"; }

compiles() { printf '%s\n' "$1" | $cc -E -x c -I"${STB:-/usr/include/stb}" - ; }

need_build()
{
    need_command "${cc%% *}"
    need libc6-dev compiles_libc
    need libstb-dev compiles '#include <stb_ds.h>'
}
compiles_libc() { compiles '#include <stdio.h>'; }

need_cpp()
{
    need_build
    need_command "${CXX:-g++}"
}

need_test()
{
    need_build
    need libcmocka-dev compiles $'#include <stdarg.h>\n#include <setjmp.h>\n#include <stdint.h>\n#include <cmocka.h>'
}

need_matrix()
{
    local tool
    need_test
    for tool in gcc g++ clang tcc; do need_command "$tool"; done
    need locales test -e /usr/share/i18n/locales/de_DE
    need qemu-user command -v qemu-aarch64
    need gcc-aarch64-linux-gnu command -v aarch64-linux-gnu-gcc
    need gcc-mingw-w64-x86-64 command -v x86_64-w64-mingw32-gcc
    need wine command -v wine
    need wine64 has_wine64
    need libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/include/stdio.h
    need gcc-arm-none-eabi command -v arm-none-eabi-gcc
    need libnewlib-arm-none-eabi test -e /usr/lib/arm-none-eabi/include/stdio.h
    need qemu-system-arm command -v qemu-system-arm
}

has_wine64() { command -v wine64 || test -e /usr/lib/wine/wine64; }

need_lint()
{
    local tool
    need_build
    for tool in gcc g++ clang python3; do need_command "$tool"; done
    need similarity-tester command -v sim_c
    need libncurses-dev compiles '#include <curses.h>'
    need libx11-dev compiles '#include <X11/Xlib.h>'
}

need_python()
{
    need_command python3
    need python3-venv python3 -c 'import ensurepip, venv'
}

need_make() { need_command make; }

need_mutants()
{
    need_test
    need_command patch
}

need_revision()
{
    need_build
    need_command git
    need_command python3
}

need_peers()
{
    need_build
    need_python
    need_command gnuplot
}

check()                                                     # fills `missing`, each package once
{
    local group
    missing=()
    for group in "$@"; do "need_$group"; done
    [ ${#missing[@]} -eq 0 ] || mapfile -t missing <<<"$(printf '%s\n' "${missing[@]}" | sort -u)"
}

give_up()
{
    echo "setup: missing: ${missing[*]} (names of Debian packages)" >&2
    echo "setup: $1" >&2
    exit 1
}

for group in "$@"; do
    declare -F "need_$group" >/dev/null || { echo "setup: no group \"$group\"" >&2; exit 2; }
done
check "$@"
[ ${#missing[@]} -eq 0 ] && exit 0

command -v apt-get >/dev/null || give_up "there is no apt-get here: install them, or what your system calls them, and try again"
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || give_up "as root: apt-get install ${missing[*]}"
    as_root=sudo
fi

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1; }
install_packages() { apt install --no-install-recommends "$@"; }

echo "setup: installing ${missing[*]}"
apt update
if ! install_packages "${missing[@]}"; then                 # one that is not to be had must not keep back the others
    for package in "${missing[@]}"; do install_packages "$package"; done
fi
check "$@"
if [ ${#missing[@]} -gt 0 ]; then
    tail -n 15 "$log" >&2
    give_up "apt-get could not install them; its last words are above"
fi
