#!/usr/bin/env bash
# Measures the figures of docs/results.md on real data, which is beside the project and never in it.
#
#   tests/bench/results.sh [snips] [two_sets] [frames] [search] [missing]     without a name: all of them
#
# Environment (defaults in brackets):
#   MTL_DATA   the folder with snips/, mr/, ewt_multi/, cmapss_fd001/, hwu64/ ... [../shared/data]
#   MTL_PEERS  the folder with pytorch_snips.py [MTL_DATA/../peers]
#   MTL        the command [build/mtl]
#   PYTHON     a Python with PyTorch, for snips only [build/venv/bin/python]
#   SEEDS      how often everything is repeated, with seeds 1 to SEEDS [5]
#   CORE       the processor everything is pinned to [1]
#   OUT        where logs and models go [build/results]
#   FRESH=1    measures again what OUT already holds
# Contestants alternate, seed by seed. Each run leaves NAME_SEED.log (a JSON object for each epoch) and NAME_SEED.time
# (wall-clock and user-mode seconds of the whole run, starting and reading the data included); summary.py makes the tables.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
MTL_DATA=${MTL_DATA:-../shared/data} MTL=${MTL:-build/mtl} PYTHON=${PYTHON:-build/venv/bin/python} SEEDS=${SEEDS:-5} CORE=${CORE:-1}
MTL_PEERS=${MTL_PEERS:-$MTL_DATA/../peers} OUT=${OUT:-build/results} FRESH=${FRESH:-0}
here=tests/bench
mkdir -p "$OUT"

# timed NAME SEED COMMAND...: runs it pinned, keeping its output, its seconds and the command itself
timed() {
    local name=$1_$2; shift 2
    if [ "$FRESH" = 0 ] && [ -s "$OUT/$name.time" ]; then return; fi
    rm -f "$OUT/$name.time"
    printf '%s\n' "$*" >"$OUT/$name.command"
    echo "$name: $*" >&2
    local TIMEFORMAT='%R %U'
    { time taskset -c "$CORE" "$@" >"$OUT/$name.out" 2>"$OUT/$name.err" || { cat "$OUT/$name.err" >&2; exit 1; }; } 2>"$OUT/$name.seconds"
    mv "$OUT/$name.seconds" "$OUT/$name.time"
}

# train NAME SEED OPTIONS...: `mtl train` on one thread with a log
train() {
    local name=$1 seed=$2; shift 2
    timed "$name" "$seed" "$MTL" train --preset plain "$@" --seed "$seed" --threads 1 --log "$OUT/${name}_$seed.log" --out "$OUT/${name}_$seed.safetensors"
}

# data NAME EXT: the options that name a set's two files
data() { echo "--data $MTL_DATA/$1/train.$2 --valid $MTL_DATA/$1/valid.$2"; }

snips() {
    for seed in $(seq "$SEEDS"); do
        train snips "$seed" $(data snips tsv) --cell lstm --dir bi --hidden 128 --embed 128 --dropout 0.3 \
            --epochs 12 --batch 32 --lr 0.001
        timed pytorch "$seed" "$PYTHON" "$MTL_PEERS/pytorch_snips.py" "$MTL_DATA/snips" 1 12 padded 128 "$seed"
    done
    python3 $here/summary.py snips "$OUT"
}

two_sets() {
    for seed in $(seq "$SEEDS"); do
        train sentiment_alone "$seed" $(data mr tsv) --epochs 8
        train ner_alone "$seed" $(data ewt_multi tsv) --only ner --epochs 8
        train together "$seed" $(data mr tsv) $(data ewt_multi tsv) --only sentiment,ner --epochs 8
    done
    python3 $here/summary.py two_sets "$OUT"
}

frames() {
    # sensors 1, 5, 6, 10, 16, 18 and 19 and setting 3 hardly vary in this set; one direction, as a prediction in time must not
    # read ahead
    for seed in $(seq "$SEEDS"); do
        train frames "$seed" --frames "$MTL_DATA/cmapss_fd001/train.csv" --valid "$MTL_DATA/cmapss_fd001/valid.csv" --sequence unit \
            --features s2,s3,s4,s7,s8,s9,s11,s12,s13,s14,s15,s17,s20,s21 --task rul:reals --task fail_within_30:tags \
            --clamp rul=0:125 --cell gru --dir uni --hidden 32 --epochs 60 --batch 4 --lr 0.003
    done
    python3 $here/summary.py frames "$OUT" "$MTL_DATA/cmapss_fd001"
}

# the settings that `frames` was chosen from
search() {
    local options="--frames $MTL_DATA/cmapss_fd001/train.csv --valid $MTL_DATA/cmapss_fd001/valid.csv --sequence unit
        --features s2,s3,s4,s7,s8,s9,s11,s12,s13,s14,s15,s17,s20,s21 --task rul:reals --task fail_within_30:tags
        --clamp rul=0:125 --dir uni --batch 4 --epochs 60"
    for seed in $(seq "$SEEDS"); do
        train search_lstm32 "$seed" $options --hidden 32 --lr 0.003
        train search_gru32 "$seed" $options --cell gru --hidden 32 --lr 0.003
        train search_lstm64 "$seed" $options --hidden 64 --lr 0.003
        train search_lstm32_cosine "$seed" $options --hidden 32 --lr 0.005 --schedule cosine
        train search_lstm64_cosine "$seed" $options --hidden 64 --lr 0.003 --dropout 0.1 --schedule cosine
        train search_lstm32_twice "$seed" $options --hidden 32 --layers 2 --lr 0.003 --schedule cosine
    done
    python3 $here/summary.py search "$OUT"
}

missing() {
    local half=$OUT/hwu64_half.tsv whole=$OUT/hwu64_whole.tsv epochs
    python3 $here/drop_labels.py --share 0.5 --seed 1 "$MTL_DATA/hwu64/train.tsv" >"$half"
    python3 $here/drop_labels.py --share 0.5 --seed 1 --only-complete "$MTL_DATA/hwu64/train.tsv" >"$whole"
    # as many updates as the others make in 12 epochs
    epochs=$(awk -v a="$(wc -l <"$half")" -v b="$(wc -l <"$whole")" 'BEGIN { printf "%d", 12 * a / b + 0.5 }')
    for seed in $(seq "$SEEDS"); do
        train all_labels "$seed" $(data hwu64 tsv)
        train half_labels "$seed" --data "$half" --valid "$MTL_DATA/hwu64/valid.tsv"
        train complete_only "$seed" --data "$whole" --valid "$MTL_DATA/hwu64/valid.tsv"
        train complete_only_long "$seed" --data "$whole" --valid "$MTL_DATA/hwu64/valid.tsv" --epochs "$epochs"
    done
    python3 $here/summary.py missing "$OUT"
}

for part in ${*:-snips two_sets frames search missing}; do
    case $part in
    snips | two_sets | frames | search | missing) $part ;;
    *) echo "results.sh: no part '$part'; there are snips, two_sets, frames, search, missing" >&2; exit 2 ;;
    esac
done
