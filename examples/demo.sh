#!/bin/sh
# demo.sh - from a labelled text file to a model that a C program loads. Run by `make demo`, from the project's folder.
# Trains one joint model and four single-task ones on examples/data (home assistant utterances: intent, slots, mood, urgency),
# prints test scores beside a baseline that knows no words, then predicts three sentences.
set -eu
data=examples/data
out=build/demo
settings="--hidden 64 --embed 64 --lr 0.003 --threads 1 --quiet"
mkdir -p "$out"

# Scores of always giving the most frequent label (class), the tag O (tags) or the mean (real) of the training data.
baseline() {
    awk -F '\t' '
        FNR == 1 { for (i = 1; i <= NF; i++) { split($i, n, ":"); name[i] = n[1]; kind[i] = n[2] }; file++; next }
        { for (i = 1; i <= NF; i++) {
              if ($i == "_" || name[i] == "text") continue
              if (file == 1 && kind[i] == "class" && ++count[i, $i] > best[i]) { best[i] = count[i, $i]; label[i] = $i }
              if (file == 1 && kind[i] == "real") { sum[i] += $i; items[i]++ }
              if (file == 2) { seen[i]++; right[i] += $i == label[i]; error[i] += ($i - sum[i] / (items[i] + 1e-9)) ^ 2 }
          } }
        END { for (i = 1; i in name; i++) {
              if (kind[i] == "class") printf "%s %.3f\n", name[i], right[i] / seen[i]
              if (kind[i] == "tags") printf "%s 0.000\n", name[i]
              if (kind[i] == "real") printf "%s %.3f\n", name[i], sqrt(error[i] / seen[i])
          } }' "$data/home_train.tsv" "$data/home_test.tsv"
}

# "task score" lines of a model on the test data: accuracy, span F1, or RMSE.
scores() {
    build/mtl eval --model "$1" --data "$data/home_test.tsv" 2>"$out/eval.log" |
        awk '$2 == "class" { printf "%s %.3f\n", $1, $4 } $2 == "tags" { printf "%s %.3f\n", $1, $(NF - 2) } $2 == "real" { printf "%s %.3f\n", $1, $4 }'
}

start=$(date +%s)
echo "Training one joint model ..."
build/mtl train --data "$data/home_train.tsv" --valid "$data/home_valid.tsv" --out "$out/joint.safetensors" --epochs 24 --weight slots=2 $settings
for task in intent slots mood urgency; do
    echo "Training $task alone ..."
    build/mtl train --data "$data/home_train.tsv" --valid "$data/home_valid.tsv" --out "$out/$task.safetensors" --epochs 10 --only $task $settings
done
echo "Training took $(($(date +%s) - start)) s."

baseline >"$out/baseline.txt"
scores "$out/joint.safetensors" >"$out/joint.txt"
for task in intent slots mood urgency; do scores "$out/$task.safetensors"; done >"$out/single.txt"
printf '\nTest scores (accuracy; span F1 for slots; root mean square error, lower is better, for mood):\n'
printf '%-10s %10s %12s %8s\n' task baseline single-task joint
while read -r task base; do
    printf '%-10s %10s %12s %8s\n' "$task" "$base" "$(awk -v t="$task" '$1 == t { print $2 }' "$out/single.txt")" \
        "$(awk -v t="$task" '$1 == t { print $2 }' "$out/joint.txt")"
done <"$out/baseline.txt"

printf '\nThe command predicts (mtl predict):\n'
printf '%s\n' "could you please turn the kitchen light off" "remind me to lock the front door at nine" \
    "this is really annoying , turn off the bedroom heater right now" | build/mtl predict --model "$out/joint.safetensors"
printf '\nA C program loads the same model (examples/use_model.c):\n'
build/use_model "$out/joint.safetensors" "set the bedroom heater to twenty degrees right now"
