#!/bin/sh
# demo.sh - from a labelled text file to a model that a C program loads. Run by `make demo`, from the project's folder.
# The data of examples/data are utterances to a home assistant: intent, slots, mood, urgency. First intent has few labels and slots has
# many; then all labels are there. `mtl train` finds out itself what the tasks should share. Prints test scores beside
# those of single-task models (the same options, as many updates) and of a baseline that knows no words, then predicts.
set -eu
data=examples/data
out=build/demo
settings="--preset auto --hidden 64 --embed 64 --quiet ${DEMO_OPTIONS:-}"
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

# train DATA NAME OPTIONS...: a model of that data; the sentences without a label of its tasks are left out
train() {
    file=$1 name=$2; shift 2
    build/mtl train --data "$file" --valid "$data/home_valid.tsv" --out "$out/$name.safetensors" $settings "$@"
}

start=$(date +%s)
few=$out/few.tsv        # 150 of the 2,400 labels of intent, spread over the file; those of slots are all kept
awk -F '\t' -v OFS='\t' 'FNR == 1 { for (i = 1; i <= NF; i++) if ($i ~ /^intent:/) k = i } FNR > 1 && (FNR * 7919) % 2400 >= 150 { $k = "_" } { print }' \
    "$data/home_train.tsv" >"$few"
echo "Training intent with 150 labels, alone and beside slots ..."
train "$few" few_alone --only intent
train "$few" few_joint --only intent,slots
printf '\nTest accuracy of intent with 150 labels: alone %s, beside slots %s\n\n' \
    "$(scores "$out/few_alone.safetensors" | cut -d' ' -f2)" "$(scores "$out/few_joint.safetensors" | awk '$1 == "intent" { print $2 }')"

echo "Training with all labels, together ..."
train "$data/home_train.tsv" joint
for task in intent slots mood urgency; do
    echo "Training $task alone ..."
    train "$data/home_train.tsv" $task --only $task
done
echo "Training took $(($(date +%s) - start)) s."

baseline >"$out/baseline.txt"
scores "$out/joint.safetensors" >"$out/joint.txt"
for task in intent slots mood urgency; do scores "$out/$task.safetensors"; done >"$out/single.txt"
printf '\nTest scores (accuracy; span F1 for slots; root mean square error, lower is better, for mood):\n'
printf '%-10s %10s %12s %8s  %s\n' task baseline single-task joint chosen
while read -r task base; do
    printf '%-10s %10s %12s %8s  %s\n' "$task" "$base" "$(awk -v t="$task" '$1 == t { print $2 }' "$out/single.txt")" \
        "$(awk -v t="$task" '$1 == t { print $2 }' "$out/joint.txt")" \
        "$(build/mtl info --model "$out/joint.safetensors" | sed -n "s/^  $task\.chosen=//p")"
done <"$out/baseline.txt"

printf '\nThe command predicts (mtl predict):\n'
printf '%s\n' "could you please turn the kitchen light off" "remind me to lock the front door at nine" \
    "this is really annoying , turn off the bedroom heater right now" | build/mtl predict --model "$out/joint.safetensors"
printf '\nA C program loads the same model (examples/use_model.c):\n'
build/use_model "$out/joint.safetensors" "set the bedroom heater to twenty degrees right now"
