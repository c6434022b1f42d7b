#!/usr/bin/env bash
# Runs the benchmark and leaves its tables: `make bench` calls it.
#
#   tests/bench/run.sh BENCH FOLDER      BENCH: the program; FOLDER: where peak.tsv, train.tsv ... are written
#
# Environment (defaults in brackets):
#   CORE      the processor it is pinned to [the last one]
#   ISA       instruction set of the grid [the best]
#   LENGTHS   a file with a sequence length a line, for the ragged batches [a made-up mix]
set -eu -o pipefail
bench=$1 out=$2
core=${CORE:-$(($(getconf _NPROCESSORS_ONLN) - 1))}
pinned=(env)
if command -v taskset >/dev/null; then pinned=(taskset -c "$core"); fi
mkdir -p "$out"

# table NAME ARGUMENTS...: one run of the program into FOLDER/NAME.tsv
table()
{
    local name=$1
    shift
    echo "bench $*" >&2
    "${pinned[@]}" "$bench" "$@" >"$out/$name.tsv"
}

# grid NAME MODE: the points of the demands, all sizes of LSTM and GRU
grid()
{
    local name=$1 mode=$2 point
    for point in "1 64" "16 32" "64 32"; do
        set -- $point
        table "$name.$1" "$mode" --cell lstm,gru --hidden 32,64,128,256,512 --batch "$1" --steps "$2" --isa "${ISA:-auto}"
    done
    awk 'NR == 1 || FNR > 1' "$out/$name".{1,16,64}.tsv >"$out/$name.tsv"
    rm "$out/$name".{1,16,64}.tsv
}

# shares NAME: a row for each cell, B and T, a column for each H
shares()
{
    awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        { row = sprintf("%-6s %-6s %3d %4d", $at["cell"], $at["isa"], $at["B"], $at["T"]); h = $at["H"]
          if (!(row in rows)) { rows[row] = ++count; name[count] = row }
          if (!(h in columns)) { columns[h] = ++width; size[width] = h }
          share[row, h] = $at["share"] }
        END { printf "%-6s %-6s %3s %4s", "cell", "isa", "B", "T"; for (c = 1; c <= width; c++) printf "  H=%-5d", size[c]; print ""
              for (r = 1; r <= count; r++) { printf "%s", name[r]
                  for (c = 1; c <= width; c++) printf "%7.1f %%", 100 * share[name[r], size[c]]; print "" } }' "$out/$1.tsv"
}

table peak peak
grid train train
grid infer infer
table stream stream --cell lstm,gru --isa "${ISA:-auto}"
table split train --parts --cell lstm,gru --hidden 32,64,128,256,512 --isa "${ISA:-auto}"
table parts parts ${LENGTHS:+--lengths "$LENGTHS"}

echo; echo "Peaks"; awk -F'\t' '$1 == "clock" || $1 == "fma" || $1 == "bf16_product"' "$out/peak.tsv" | column -t -s $'\t'
for name in train infer stream; do
    what="multiply-add peak"
    if [ $name = stream ]; then what="bandwidth that multiply-adds can take weights in with"; fi
    echo; echo "$name: share of the $what"; shares $name
done
echo; echo "Other parts"; column -t -s $'\t' "$out/parts.tsv"
echo; echo "All figures: $out/*.tsv"
