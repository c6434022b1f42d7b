#!/bin/sh
# Tests of the command: every subcommand, every form of input, and every message about bad input.
#
#     tests/test_command.sh build/mtl
#
# Works in a folder of its own and needs nothing but a POSIX shell and its tools (python3, where there is one, checks JSON).
# Prints "ok N name" or "not ok N name" for each check and ends with "N passed, N failed". MTL_TEST_QUICK=1 trains less.

[ $# -gt 0 ] || set -- "$(dirname "$0")/../build/mtl"
case $1 in /*) mtl=$1 ;; *) mtl=$PWD/$1 ;; esac
[ -x "$mtl" ] || { echo "$0: $1 is not a program" >&2; exit 2; }
LC_ALL=C export LC_ALL
work=$(mktemp -d) || exit 1
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cd "$work" || exit 1

passed=0 failed=0
epochs=30; [ -n "$MTL_TEST_QUICK" ] && epochs=12
tab=$(printf '\t')

# ---- what checks are made of ------------------------------------------------------------------------------------------

result() { # NAME PROBLEM: counts and prints a check, whose problem is empty when it passed
    if [ -z "$2" ]; then
        passed=$((passed + 1)); echo "ok $((passed + failed)) $1"
    else
        failed=$((failed + 1)); printf 'not ok %d %s\n#   %s\n' $((passed + failed)) "$1" "$2"
        [ -s stderr.txt ] && sed 's/^/#   stderr: /' stderr.txt | cut -c1-300 | head -n 5
    fi
}

check() { # NAME COMMAND...: the command succeeds
    name=$1; shift
    if "$@"; then result "$name" ""; else result "$name" "failed: $*"; fi
}

run() { # ARGUMENTS...: runs mtl; leaves stdout.txt, stderr.txt and $status
    "$mtl" "$@" >stdout.txt 2>stderr.txt </dev/null
    status=$?
}

says() { # FILE TEXT|TEXT...: prints the first text that the file has not
    file=$1 rest=$2\|
    while [ -n "$rest" ]; do
        piece=${rest%%|*} rest=${rest#*|}
        grep -qF -e "$piece" "$file" || { echo "$file does not say '$piece'"; return; }
    done
}

refuses() { # NAME STATUS TEXT|TEXT... ARGUMENTS...: mtl fails with that status, says each text and writes no model
    name=$1 wanted=$2 texts=$3; shift 3
    rm -rf out.st*
    run "$@"
    problem=
    [ "$status" -eq "$wanted" ] || problem="status $status, not $wanted"
    case $(head -c 5 stderr.txt) in 'mtl: ') ;; *) problem=${problem:-"the message does not begin with 'mtl: '"} ;; esac
    [ -n "$problem" ] || problem=$(says stderr.txt "$texts")
    for left in out.st*; do [ -e "$left" ] && problem=${problem:-"$left was written"}; done
    result "$name" "$problem"
}

small="--hidden 8 --embed 8 --epochs 1 --threads 1 --quiet"
bad_data() { # NAME TEXT|TEXT... [OPTIONS...]: training on bad.tsv fails with these texts
    name=$1 texts=$2; shift 2
    refuses "$name" 1 "bad.tsv:$texts" train --data bad.tsv --out out.st $small "$@"
}

number() { # FILE KEY: the first number after "KEY": in a JSON file
    sed -n 's/.*"'"$2"'": *\(-*[0-9.e+-]*\).*/\1/p' "$1" | head -n 1
}

at_least() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a + 0 >= b + 0) }'; }

json_valid() { # FILE: each line is a JSON value (true where there is no python3)
    command -v python3 >/dev/null 2>&1 || return 0
    python3 -c 'import json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    if line.strip(): json.loads(line)' "$1"
}

wait_for() { # SECONDS COMMAND...: until the command succeeds
    left=$(($1 * 10)); shift
    while [ $left -gt 0 ]; do "$@" && return 0; sleep 0.1; left=$((left - 1)); done
    return 1
}

# ---- data -------------------------------------------------------------------------------------------------------------

# ROWS SEED: sentences of three intents with slots, a mood and some labels missing
make_tsv() {
    awk -v rows="$1" -v seed="$2" 'BEGIN {
        srand(seed)
        printf "intent:class\ttext\tslots:tags\tmood:real\n"
        split("miles davis nina simone ella max", first); split("good bad fine sad", tone); split("seven eight noon midnight", hour)
        for (i = 0; i < rows; i++) {
            t = tone[1 + int(4 * rand())]; m = t == "good" ? 0.9 : t == "fine" ? 0.4 : t == "bad" ? -0.8 : -0.5
            k = int(3 * rand())
            if (k == 0) row = "play\tplay " t " " first[1 + int(6 * rand())] " " first[1 + int(6 * rand())] " now\tO O B-artist I-artist O"
            if (k == 1) row = "alarm\twake me at " hour[1 + int(4 * rand())] " " t "\tO O O B-time O"
            if (k == 2) row = "weather\tis it " t " outside at " hour[1 + int(4 * rand())] "\tO O O O O B-time"
            if (i % 10 == 3) sub(/^[a-z]*/, "_", row)
            if (i % 10 == 6) sub(/\t[^\t]*$/, "\t_", row)
            printf "%s\t%s\n", row, i % 10 == 8 ? "_" : m
        }
    }'
}
make_tsv 300 1 >train.tsv
make_tsv 60 2 >valid.tsv

# ROWS SEED: engines that wear out; rows of two engines are interleaved, a feature is constant
make_csv() {
    awk -v engines="$1" -v seed="$2" 'BEGIN {
        srand(seed)
        print "unit,heat,noise,fixed,left,fails,model,size"
        for (e = 0; e < engines; e += 2)
            for (t = 0; t < 20; t++)
                for (k = e; k < e + 2; k++) {
                    n = 15 + k % 5; if (t >= n) continue
                    wear = t / n
                    printf "u%d,%.4f,%.4f,7,%s,%s,%s,%d\n", k, 10 * wear + rand(), rand(), t == 2 ? "" : n - t, t == 3 ? "nan" : (n - t < 6), k % 5 < 2 ? "old" : "new", n
                }
    }'
}
make_csv 20 1 >train.csv
make_csv 6 2 >valid.csv

awk 'BEGIN {
    for (s = 0; s < 40; s++) {
        printf "# sent_id = %d\n", s
        if (s % 2) printf "1-2\tdogs'"'"'\t_\t_\t_\t_\t_\t_\t_\t_\n"
        printf "1\t%s\t_\tNOUN\t_\tNumber=Plur\t2\tnsubj\t_\t_\n2\t%s\t_\tVERB\t_\t_\t0\troot\t_\t_\n", s % 3 ? "dogs" : "New York", s % 5 ? "run" : "sleep"
        if (s % 4 == 0) printf "2.1\tvery\t_\tADV\t_\t_\t_\t_\t_\t_\n"
        printf "3\t.\t_\t_\t_\t_\t2\tpunct\t_\t_\n\n"
    }
}' >train.conllu

awk 'BEGIN { printf "mood:class\ttext\n"; for (i = 0; i < 40; i++) print (i % 2 ? "glad\tall is good and fine today" : "sad\tall is bad and sad today") }' >second.tsv
sed 's/^mood:class/spirit:class/' second.tsv >spirit.tsv

# ---- the way from data to answers ------------------------------------------------------------------------------------------

how="--hidden 16 --embed 16 --lr 0.02 --batch 16 --epochs $epochs --threads 1"
run train --data train.tsv --valid valid.tsv --out model.st $how --log log.json
check "train succeeds" [ "$status" -eq 0 ]
check "train writes the model" [ -s model.st ]
result "train prints a line for each epoch and the scores at the end" "$(says stdout.txt "epoch 1/$epochs|epoch $epochs/$epochs|tokens/s|left|loss|best epoch|span precision|RMSE|joint accuracy")"
check "train leaves nothing else behind" [ "$(ls | grep -c '^model.st')" -eq 1 ]
check "the log has a line for each epoch" [ "$(grep -c '"epoch"' log.json)" -eq "$epochs" ]
check "the log is JSON" json_valid log.json
result "the log tells losses, rate, time and scores" "$(says log.json '"task_loss"|"intent"|"lr"|"seconds"|"tokens_per_second"|"valid"|"best_epoch"|"score"')"

cp model.st first.st
run train --data train.tsv --valid valid.tsv --out model.st $how --quiet
check "--quiet prints nothing" [ ! -s stdout.txt -a ! -s stderr.txt ]
check "the same command writes the same file" cmp -s model.st first.st
run train --data train.tsv --valid valid.tsv --out two.st $how --threads 2 --quiet
check "so it does with two threads" cmp -s two.st first.st
run train --data train.tsv --valid valid.tsv --out two.st $how --seed 7 --quiet
check "another seed gives another file" sh -c '! cmp -s two.st first.st'

run eval --model model.st --data valid.tsv
check "eval succeeds" [ "$status" -eq 0 ]
result "eval prints a line for each task" "$(says stdout.txt "intent|accuracy|slots|token accuracy|F1|mood|RMSE|joint accuracy|60 sequences")"
run eval --model model.st --data valid.tsv --json
check "eval --json prints one line" [ "$(wc -l <stdout.txt)" -eq 1 ]
check "eval --json is JSON" json_valid stdout.txt
result "eval --json has the promised keys" "$(says stdout.txt '{"tasks": {"intent": {"kind": "class", "accuracy": |"slots": {"kind": "tags", "token_accuracy": |, "span_precision": |, "span_recall": |, "span_f1": |"mood": {"kind": "real", "rmse": |, "mae": |}}, "joint_accuracy": |, "sequences": 60, "tokens": ')"
check "the model has learned the intents" at_least "$(number stdout.txt accuracy)" 0.9
check "the model has learned the slots" at_least "$(number stdout.txt span_f1)" 0.9
printf 'text\tslots:tags\nwake me at noon\tO O O O\n' >one.tsv
run eval --model model.st --data one.tsv --json
check "tasks without a label are left out" sh -c '! grep -q -e intent -e mood stdout.txt && grep -q slots stdout.txt'
run eval --model model.st --data valid.tsv --only intent --json
check "eval --only leaves the others out" sh -c '! grep -q -e slots stdout.txt && grep -q intent stdout.txt'
cat valid.tsv | "$mtl" eval --model model.st --data - >piped.txt 2>stderr.txt
run eval --model model.st --data valid.tsv
check "- reads standard input" cmp -s stdout.txt piped.txt

printf 'play good nina simone now\n\n  wake   me at noon \n' | "$mtl" predict --model model.st >stdout.txt 2>stderr.txt
status=$?
check "predict succeeds" [ $status -eq 0 ]
check "predict begins with a header line" [ "$(sed -n 1p stdout.txt)" = "text${tab}intent${tab}slots${tab}mood" ]
check "predict answers with text, class and tags" [ "$(sed -n 2p stdout.txt | cut -f1-3)" = "play good nina simone now${tab}play${tab}O O B-artist I-artist O" ]
check "an empty line is answered by an empty line" [ -z "$(sed -n 3p stdout.txt)" -a "$(wc -l <stdout.txt)" -eq 4 ]
check "spaces are put in order" [ "$(sed -n 4p stdout.txt | cut -f1,2)" = "wake me at noon${tab}alarm" ]
printf 'say "hi" \\ there\n\n' | "$mtl" predict --model model.st --json >stdout.txt 2>stderr.txt
check "predict --json is JSON, a line each" sh -c '[ "$(wc -l <stdout.txt)" -eq 2 ]' && check "its strings are escaped" json_valid stdout.txt
result "predict --json tells probabilities" "$(says stdout.txt '"text": "say \"hi\" \\ there"|"intent": {"label": |"probabilities": {"|"labels": [|"mood": {"value": ')"
printf '\357\273\277play good max now\r\nwake me at noon' | "$mtl" predict --model model.st >stdout.txt 2>stderr.txt
check "predict accepts a byte order mark, CRLF and no last newline" [ "$(cut -f1 stdout.txt | tr '\n' '|')" = "text|play good max now|wake me at noon|" ]

# each line is answered before the next one is sent
mkfifo in.fifo out.fifo
"$mtl" predict --model model.st <in.fifo >out.fifo 2>stderr.txt &
predicting=$!
( sleep 20; kill $predicting 2>/dev/null ) >/dev/null 2>&1 & watchdog=$!
( exec 3>in.fifo 4<out.fifo
  read -r header <&4; echo "play good max max now" >&3; read -r first <&4; echo "wake me at noon" >&3; read -r second <&4
  echo "$header|$first|$second" ) >answers.txt 2>/dev/null
kill $watchdog 2>/dev/null; wait $predicting
case $(cat answers.txt) in *"|play good max max now${tab}"*"|wake me at noon${tab}"*) problem= ;; *) problem="got $(cat answers.txt)" ;; esac
result "predict answers each line at once" "$problem"

run info --model model.st
check "info succeeds" [ "$status" -eq 0 ]
result "info shows shape, tasks, sizes and settings" "$(says stdout.txt "a valid model|parameters|input text|vocabulary|width 16|cell lstm|hidden 16|bidirectional 1|task intent: class|classes 3|labels:|task mood: real|pool max|preset=plain|trainer.optimizer=adam|trainer.lr=0.02|trainer.clip_norm=5|fit.batch=16|best_epoch=")"
run info --model model.st --json
check "info --json is JSON" json_valid stdout.txt
result "info --json tells the same" "$(says stdout.txt '"parameters": |"inputs": [{"name": "text"|"cell": "lstm"|"labels": [|"preset": "plain"|"trainer.lr": 0.02')"

# ---- options ---------------------------------------------------------------------------------------------------------------

for command in train eval predict info; do
    run $command --help
    [ "$status" -eq 0 ] && problem=$(says stdout.txt "mtl $command|--help") || problem="status $status"
    result "$command --help" "$problem"
done
run --help; result "--help names the commands" "$(says stdout.txt "train|eval|predict|info")"
run --version; check "--version" [ "$(cut -d' ' -f1 stdout.txt)" = mtl -a "$status" -eq 0 ]
run reference; result "reference prints the fields" "$(says stdout.txt '# Reference|`forget_bias`|`clip_norm`|`label_smoothing`')"
run; check "no command is wrong usage" [ "$status" -eq 2 ]

accepts() { # NAME TEXT|TEXT... OPTIONS...: training with these options succeeds and info says the texts
    name=$1 texts=$2; shift 2
    run train --data train.tsv --out opt.st $small "$@"
    problem=; [ "$status" -eq 0 ] || problem="status $status"
    [ -n "$problem" ] || { run info --model opt.st; problem=$(says stdout.txt "$texts"); }
    result "$name" "$problem"
}
accepts "--cell gru --dir uni --layers 2" "cell gru|layers 2" --cell gru --dir uni --layers 2
accepts "--cell rnn" "cell rnn" --cell rnn
accepts "--pool mean and one task's own pool" "pool mean|pool last" --pool mean --set task.mood.pool=last
accepts "--weight" "weight 0.25" --weight slots=0.25
accepts "--set of a column, the trainer and the loop" "forget_bias 1|trainer.beta1=0.8|fit.bucket=7" --set encoder.forget_bias=1 --set trainer.beta1=0.8 --set fit.bucket=7
accepts "--set of a task's hidden layers" "hidden 8,4" --set task.intent.hidden=8,4
accepts "--optimizer sgd --schedule cosine --clip-value 1 --l1 0 --l2 1e-4" "trainer.optimizer=sgd|trainer.schedule=cosine|trainer.clip_value=1" \
    --optimizer sgd --schedule cosine --clip-value 1 --l1 0 --l2 1e-4
accepts "--optimizer rmsprop and adamw" "trainer.optimizer=adamw" --optimizer rmsprop --optimizer adamw
accepts "--dropout" "dropout 0.1" --dropout 0.1
accepts "--lowercase --digits --min-count" "lowercase 1|digits 1|min-count=2" --lowercase --digits --min-count 2
accepts "--only leaves tasks out" "task intent" --only intent
check "--only left the other tasks out" sh -c '! grep -q "task slots" stdout.txt'
accepts "--option=value" "hidden 5" --hidden=5
accepts "--isa scalar" "a valid model" --isa scalar
accepts "--precision bf16" "trainer.precision=bf16" --precision bf16
accepts "--precision bf16 where it cannot be had" "trainer.precision=bf16|precision=f32" --precision bf16 --isa scalar
run train --data train.tsv --out opt.st --hidden 8 --embed 8 --epochs 1 --precision bf16 --isa scalar
check "--precision bf16: a note says when f32 is used instead" grep -q '^mtl: note: --precision bf16.*f32' stderr.txt
run train --data train.tsv --out opt.st $small --precision bf16 --isa scalar --quiet
check "--quiet leaves the note out" [ ! -s stderr.txt ]
run train --data train.tsv --valid valid.tsv --out opt.st $small --epochs 9 --patience 1 --lr 1e-30 --log log.json
check "--patience stops early" [ "$(grep -c . log.json)" -lt 9 ]
run train --data train.tsv --valid valid.tsv --out opt.st $small --score slots
check "--score TASK" [ "$status" -eq 0 ]
run train --data train.tsv --out opt.st --hidden 8 --embed 8 --epochs 1
result "without --valid the last weights are kept, and said so" "$(says stdout.txt "no --valid data")"

# A rate that rises until the loss is no number, after a first epoch that has a score.
awk 'BEGIN { print "text\tfare:real\tday:class"; split("slow fast wet dry old", words, " ")
    for (i = 0; i < 60; i++) printf "%s %s\t%d\t%s\n", words[i % 5 + 1], words[i % 3 + 1], 1000000 * (i % 7), i % 3 ? "work" : "rest" }' >fares.tsv
run train --data fares.tsv --valid fares.tsv --out broken.st --optimizer sgd --lr 3e4 --clip-norm 0 --set trainer.warmup=40 \
    --weight fare=100 --epochs 8
problem=$(says stderr.txt "mtl: epoch |, batch |is not a finite number|try a smaller trainer.lr (now 30000), trainer.clip_norm 1|the best model so far (epoch |broken.st")
[ "$status" -eq 1 ] || problem="status $status, not 1"
result "a loss that is no number: where, what to try, status 1" "$problem"
run eval --model broken.st --data fares.tsv
result "the best model before it is kept" "$(says stdout.txt "fare|day|60 sequences")"

printf 'A 1234 b\nzz\n' >words.txt
awk 'BEGIN { printf "text\tk:class\n"; for (i = 0; i < 20; i++) print "Hello " i " X\ta\nGOODBYE " i " y\tb" }' >case.tsv
run train --data case.tsv --out opt.st $small --lowercase --digits
run info --model opt.st
result "case and digits are normalised in the vocabulary" "$(says stdout.txt "vocabulary 7")"   # <unk> hello goodbye x y 0 00
run train --data case.tsv --out opt.st $small --min-count 3
run info --model opt.st
result "rare words are unknown words" "$(says stdout.txt "vocabulary 5")"                       # <unk> Hello GOODBYE X y

# ---- several files, other forms of input ------------------------------------------------------------------------------------------

run train --data train.tsv --data spirit.tsv --valid valid.tsv --valid spirit.tsv --out multi.st $small --sampler round-robin
check "two files with different tasks" [ "$status" -eq 0 ]
run eval --model multi.st --data valid.tsv --data spirit.tsv --json
result "both are scored together" "$(says stdout.txt '"intent"|"slots"|"spirit"|"sequences": 100')"
run train --data train.conllu --out conllu.st $small
check "CoNLL-U trains" [ "$status" -eq 0 ]
run info --model conllu.st
result "its columns make tasks; _ is a label in feats" "$(says stdout.txt "task upos: tags|task feats: tags|task deprel: tags|Number=Plur _|vocabulary 6")"
check "a column that is wholly _ makes none" sh -c '! grep -q "task xpos" stdout.txt'
run eval --model conllu.st --data train.conllu --json
result "multi-word and empty nodes are skipped" "$(says stdout.txt '"sequences": 40, "tokens": 120|"upos"')"

frames="--sequence unit --features heat,noise,fixed"
csv_tasks="--task left:reals --task fails:tags --task model:class --task size:real"
run train --frames train.csv --valid valid.csv --out frames.st $frames $csv_tasks --clamp left=0:10 --hidden 16 --epochs $epochs --lr 0.02 --batch 4 --threads 1
check "frames train" [ "$status" -eq 0 ]
run eval --model frames.st --frames valid.csv --clamp left=0:10 --json
check "frames are scored, column names from the model" [ "$status" -eq 0 ]
check "frames --json is JSON" json_valid stdout.txt
result "each kind has its scores" "$(says stdout.txt '"left": {"kind": "reals", "rmse": |"fails": {"kind": "tags", "token_accuracy": |"model": {"kind": "class"|"size": {"kind": "real"|"sequences": 6')"
check "what is left is learned, in its own units" sh -c '! [ -z "$1" ] && awk -v r="$1" "BEGIN { exit !(r < 3) }"' - "$(number stdout.txt rmse)"
run eval --model frames.st --frames valid.csv
result "without --clamp eval says that training had one" "$(says stderr.txt "trained with --clamp")"
run predict --model frames.st --frames valid.csv --clamp left=0:10
check "predict --frames has a header line and a line for each sequence" [ "$(sed -n 1p stdout.txt)" = "sequence${tab}left${tab}fails${tab}model${tab}size" -a "$(wc -l <stdout.txt)" -eq 7 ]
check "a step task answers each row" [ "$(awk -F "$tab" '$1 == "u1" { print split($2, a, " "), split($3, b, " ") }' stdout.txt)" = "16 16" ]
check "answers are clamped" awk -F "$tab" 'NR > 1 { n = split($2, a, " "); for (i = 1; i <= n; i++) if (a[i] < 0 || a[i] > 10) exit 1 }' stdout.txt
run predict --model frames.st --frames valid.csv --json
check "predict --frames --json is JSON" json_valid stdout.txt
run train --frames train.csv --out one.st --features heat,noise --task left:reals $small
run predict --model one.st --frames valid.csv
check "without --sequence a file is one sequence" [ "$status" -eq 0 -a "$(wc -l <stdout.txt)" -eq 2 ]
sed 's/,new,/,"new",/' train.csv >quoted.csv
run train --frames train.csv --out one.st $frames $csv_tasks $small
run train --frames quoted.csv --out two.st $frames $csv_tasks $small
check "quoted cells are the same cells" cmp -s one.st two.st
sort -t, -k1,1 -s train.csv | grep -v ^unit >sorted.csv; { head -n 1 train.csv; for u in $(cut -d, -f1 train.csv | awk 'NR > 1 && !seen[$1]++'); do grep "^$u," sorted.csv; done; } >adjacent.csv
run train --frames adjacent.csv --out two.st $frames $csv_tasks $small
check "rows of a sequence need not be adjacent" cmp -s one.st two.st

# ---- what is accepted ----------------------------------------------------------------------------------------------------------

run train --data train.tsv --out plain.st $small
sed 's/$/\r/' train.tsv >other.tsv
run train --data other.tsv --out other.st $small; check "CRLF" cmp -s plain.st other.st
{ printf '\357\273\277'; cat train.tsv; } >other.tsv
run train --data other.tsv --out other.st $small; check "a byte order mark" cmp -s plain.st other.st
printf '%s' "$(cat train.tsv)" >other.tsv
run train --data other.tsv --out other.st $small; check "no last newline" cmp -s plain.st other.st
{ cat train.tsv; echo; echo; } >other.tsv
run train --data other.tsv --out other.st $small; check "empty lines at the end" cmp -s plain.st other.st
printf 'text\tk:class\nna\303\257ve caf\303\251\ta\n\346\227\245\346\234\254 \345\233\275\tb\n' >other.tsv
run train --data other.tsv --out other.st $small; check "UTF-8" [ "$status" -eq 0 ]
cut -f1-3 train.tsv >fewer.tsv
run train --data fewer.tsv --valid valid.tsv --out other.st --hidden 8 --embed 8 --epochs 1
result "--valid with an unknown task: warned, left out" "$(says stderr.txt "warning: valid.tsv: task mood")"
check "and the training goes on" [ "$status" -eq 0 ]
sed 's/B-time/B-hour/' valid.tsv >hours.tsv
unseen=$(grep -o B-hour hours.tsv | wc -l)
run train --data train.tsv --valid hours.tsv --out other.st $small
result "--valid with an unknown tag: counted, warned" "$(says stderr.txt "warning: hours.tsv: task slots: $((unseen)) labels unseen")"
check "the training goes on" [ "$status" -eq 0 ]
run eval --model model.st --data hours.tsv --json
result "eval counts them" "$(says stderr.txt "$((unseen)) labels unseen in training")"
check "as wrong, not as errors" sh -c '[ "$1" -eq 0 ] && awk -v f="$2" "BEGIN { exit !(f < 0.9) }"' - "$status" "$(number stdout.txt span_f1)"

# ---- bad data ------------------------------------------------------------------------------------------------------------------

head='intent:class\ttext\tslots:tags\tmood:real\n'
: >bad.tsv;                                                         bad_data "an empty file" "1:1: |empty|expected"
printf '\357\273\277' >bad.tsv;                                     bad_data "nothing but a byte order mark" "1:1: |empty"
printf "$head" >bad.tsv;                                            bad_data "a header line only" "1:1: |header line|expected"
printf 'intent:klass\ttext\na\tb\n' >bad.tsv;                       bad_data "an unknown kind" "1:8: |klass|expected class, tags, real"
printf 'text\ttopics:multi\na\tb\n' >bad.tsv;                       bad_data "a multi column" "1:13: |topics|not supported yet"
printf 'text\tintent\na\tb\n' >bad.tsv;                             bad_data "a column without a kind" "1:6: |intent|intent:class"
printf 'intent:class\tslots:tags\na\tb\n' >bad.tsv;                 bad_data "no text column" "1:1: |no text column"
printf 'text\ttext\ta:class\nb\tb\tc\n' >bad.tsv;                   bad_data "two text columns" "1:6: |second text column"
printf 'a:class\ttext\ta:class\nb\tb\tc\n' >bad.tsv;                bad_data "the same task twice" "1:14: |task a stands twice"
printf 'text\tthe name:class\nb\tc\n' >bad.tsv;                     bad_data "a task's name with a space" "1:6: |the name"
printf 'text\tencoder:class\nb\tc\n' >bad.tsv;                      bad_data "a task's name that the model uses" "1:6: |encoder"
printf 'text\nb\n' >bad.tsv;                                        bad_data "no task at all" "1:1: |no task"
printf "${head}a\tb c\tO O\n" >bad.tsv;                             bad_data "too few cells" "2:10: |a row of 3 cells; expected 4"
printf "${head}a\tb c\tO O\t1\textra\n" >bad.tsv;                   bad_data "too many cells" "2:13: |a row of 5 cells; expected 4"
printf "${head}a\tb\tO\t1\n\na\tb\tO\t1\n" >bad.tsv;                bad_data "an empty line in the middle" "3:1: |a row of 1 cells; expected 4"
printf "${head}a\tb c d\tO O\t1\n" >bad.tsv;                        bad_data "fewer tags than tokens" "2:9: |slots|2 tags for 3 tokens"
printf "${head}a\tb c\tO O O\t1\n" >bad.tsv;                        bad_data "more tags than tokens" "2:7: |slots|3 tags for 2 tokens"
printf "${head}a\tb  c\tO O\t1\n" >bad.tsv;                         bad_data "two spaces in a row" "2:5: |one space"
printf "${head}a\t\tO\t1\n" >bad.tsv;                               bad_data "an empty text" "2:3: |empty text"
printf "${head}a b\tb\tO\t1\n" >bad.tsv;                            bad_data "a class with a space" "2:1: |intent|'a b'|one label"
printf "${head}\tb\tO\t1\n" >bad.tsv;                               bad_data "an empty class" "2:1: |intent|empty label|_"
for value in high nan inf 1e999 1e39 0,5 0x10 '' ' 1' '1 '; do
    printf "${head}a\tb\tO\t$value\n" >bad.tsv;                     bad_data "mood is '$value'" "2:7: |mood|'$value' is not a number|expected"
done
printf "${head}a\tb\tO\t1\nb\tc\303\050d\tO\t1\n" >bad.tsv;         bad_data "invalid UTF-8" "3:4: |invalid UTF-8|0xc3"
printf "${head}a\t\355\240\200\tO\t1\n" >bad.tsv;                   bad_data "a surrogate" "2:3: |invalid UTF-8"
printf "${head}a\t\300\257\tO\t1\n" >bad.tsv;                       bad_data "an overlong form" "2:3: |invalid UTF-8"
printf "${head}a\tb\000c\tO\t1\n" >bad.tsv;                         bad_data "a NUL byte" "2:4: |NUL"
printf '\377\376t\000e\000' >bad.tsv;                               bad_data "UTF-16" "1:1: |UTF-8"
printf "${head}_\tb\tO\t1\n_\tc\tO\t1\n" >bad.tsv;                  bad_data "a task with no labels at all" "1:1: |task intent has no labels|--only"
{ printf "$head"; printf 'a\t'; head -c 10000000 /dev/zero | tr '\0' x; printf '\tO\t1\n'; } >bad.tsv
bad_data "a line of 10 MB" "2:3: |a token of 10000000 bytes"
{ printf "$head"; printf 'a\t'; head -c 10000000 /dev/zero | tr '\0' x | sed 's/xx/x /g'; printf 'y\tO\t1\n'; } >bad.tsv
bad_data "a line of 10 MB of tokens" "2:3: |tokens in one sequence; expected at most 10000|--max-tokens"
{ printf 'text\tk:class\n'; awk 'BEGIN { for (i = 0; i < 10001; i++) printf "%sw", i ? " " : ""; print "\ta" }'; } >bad.tsv
bad_data "more than --max-tokens" "2:1: |10001 tokens|--max-tokens"
printf 'text\tk:class\na b c\tx\n' >bad.tsv;                        bad_data "more than a given --max-tokens" "2:1: |3 tokens|at most 2" --max-tokens 2
rm -f bad.tsv
refuses "a missing file" 1 "bad.tsv: |No such file" train --data bad.tsv --out out.st $small
refuses "a folder as data" 1 "cannot be" train --data . --out out.st $small
refuses "an empty vocabulary" 1 "vocabulary|--min-count" train --data train.tsv --out out.st $small --min-count 100000
refuses "one name, two kinds" 1 "second.tsv:1:1: |mood|class|real|train.tsv" train --data train.tsv --data second.tsv --out out.st $small
refuses "a bad --valid file" 1 "second.tsv:1:1: |mood" train --data train.tsv --valid second.tsv --out out.st $small
refuses "--only with an unknown task" 1 "--only intend|did you mean intent?" train --data train.tsv --out out.st $small --only intend
refuses "--score with an unknown task" 2 "--score slot|did you mean slots?" train --data train.tsv --out out.st $small --score slot
refuses "--weight of an unknown task" 2 "moot|did you mean mood?" train --data train.tsv --out out.st $small --weight moot=1
refuses "eval: another kind than the model's" 1 "second.tsv:1:1: |mood|class|real" eval --model model.st --data second.tsv
printf 'text\tother:class\na\tb\n' >bad.tsv
refuses "--valid without any of the tasks" 1 "bad.tsv:1:1: |no column for any task" train --data train.tsv --valid bad.tsv --out out.st $small
refuses "eval: no task of the model" 1 "bad.tsv:1:1: |no column for any task" eval --model model.st --data bad.tsv
printf '1\ta\t_\tX\n' >bad.conllu
refuses "CoNLL-U: too few columns" 1 "bad.conllu:1:1: |4 columns|10" train --data bad.conllu --out out.st $small
printf '1\ta\t_\tX\t_\t_\t0\t_\t_\t_\n3\ta\t_\tX\t_\t_\t0\t_\t_\t_\n' >bad.conllu
refuses "CoNLL-U: numbers out of order" 1 "bad.conllu:2:1: |'3'|expected 2" train --data bad.conllu --out out.st $small
: >bad.conllu
refuses "CoNLL-U: an empty file" 1 "bad.conllu:1:1: |empty" train --data bad.conllu --out out.st $small

bad_csv() { # NAME TEXT|TEXT... TASKS...: training on bad.csv fails with these texts
    name=$1 texts=$2; shift 2
    refuses "CSV: $name" 1 "bad.csv:$texts" train --frames bad.csv --out out.st --sequence s --features a,b "$@" $small
}
: >bad.csv;                                      bad_csv "an empty file" "1:1: |empty" --task y:reals
printf 's,a,b,y\n' >bad.csv;                     bad_csv "a header line only" "1:1: |header line" --task y:reals
printf 's,a,c,y\n1,2,3,4\n' >bad.csv;            bad_csv "a feature that is no column" "1:1: |no column b" --task y:reals
printf 's,a,b,y\n1,2,3,4\n' >bad.csv;            bad_csv "a task that is no column" "1:1: |no column z|--task" --task z:reals
printf 's,a,b,b\n1,2,3,4\n' >bad.csv;            bad_csv "a column twice" "1:7: |twice" --task b:reals
printf 's,a,b,y\n1,2,3\n' >bad.csv;              bad_csv "too few cells" "2:6: |3 cells; expected 4" --task y:reals
printf 's,a,b,y\n1,2,x,4\n' >bad.csv;            bad_csv "a feature that is no number" "2:5: |b|'x' is not a number" --task y:reals
for value in '' _ nan; do
    printf "s,a,b,y\n1,2,$value,4\n" >bad.csv;   bad_csv "a feature that is '$value'" "2:5: |feature b|may not be missing" --task y:reals
done
printf 's,a,b,y\n1,2,3,x\n' >bad.csv;            bad_csv "a target that is no number" "2:7: |y|'x' is not a number" --task y:reals
printf 's,a,b,y\n1,2,3,x\n2,2,3,x\n1,2,3,z\n' >bad.csv; bad_csv "rows that disagree" "4:7: |y|'z'|line 2" --task y:class
printf 's,a,b,y\n1,2,3,1\n1,2,3,2\n' >bad.csv;   bad_csv "numbers that disagree" "3:7: |y|'2'|line 2" --task y:real
printf 's,a,b,y\n1,2,"3,4\n' >bad.csv;           bad_csv "an open quote" "2:5: |quote" --task y:reals
printf 's,a,b,y\n1,2,3,\n' >bad.csv;             bad_csv "no labels at all" "1:1: |task y has no labels" --task y:reals
printf 's,a,b,y\n1,2,3,1\n2,2,3,2\n1,2,3,1\n' >bad.csv; bad_csv "too many rows in a sequence" "4:1: |sequence 1|--max-tokens" --task y:reals --max-tokens 1
refuses "CSV without --frames" 2 "train.csv|--frames" train --data train.csv --out out.st $small
refuses "--frames without --features" 2 "--features" train --frames train.csv --out out.st $small --task left:reals
refuses "--frames without --task" 2 "--task" train --frames train.csv --out out.st $small $frames
refuses "--task of an unknown kind" 2 "--task left:real5|real5" train --frames train.csv --out out.st $small $frames --task left:real5
refuses "--clamp that is no range" 2 "--clamp left=10:0|LOW:HIGH" train --frames train.csv --out out.st $small $frames --task left:reals --clamp left=10:0
refuses "--clamp of an unknown task" 2 "--clamp lefd=0:10|did you mean left?" train --frames train.csv --out out.st $small $frames --task left:reals --clamp lefd=0:10
refuses "--clamp of a class" 2 "--clamp fails=0:10|tags" train --frames train.csv --out out.st $small $frames --task fails:tags --clamp fails=0:10

# ---- wrong usage ------------------------------------------------------------------------------------------------------------------

base="train --data train.tsv --out out.st --epochs 1 --quiet"
refuses "an unknown command" 2 "unknown command 'trian'; did you mean train?" trian
refuses "an unknown option" 2 "unknown option --hiden; did you mean --hidden?" $base --hiden 3
refuses "an unknown option that is like none" 2 "unknown option --xyzzyplugh|mtl train --help" $base --xyzzyplugh 3
refuses "an option of another command" 2 "--json is not an option of mtl train" $base --json
refuses "an option without its value" 2 "--hidden needs a value" $base --hidden
refuses "an option followed by another" 2 "--hidden needs a value" $base --hidden --lr 1
refuses "a switch with a value" 2 "--quiet takes no value" $base --quiet=1
refuses "a stray argument" 2 "unexpected argument 'file'" $base file
refuses "train without --data" 2 "needs --data" train --out out.st
refuses "train without --out" 2 "needs --out" train --data train.tsv
refuses "eval without --model" 2 "needs --model" eval --data train.tsv
refuses "eval without --data" 2 "needs --data" eval --model model.st
refuses "--hidden 0" 2 "--hidden 0: |out of range" $base --hidden 0
refuses "--hidden negative" 2 "--hidden -3: |out of range|1000000" $base --hidden -3
refuses "--hidden 1000000000" 2 "--hidden 1000000000: |out of range|1000000" $base --hidden 1000000000
refuses "--hidden 1.5" 2 "--hidden 1.5: |whole number" $base --hidden 1.5
refuses "--hidden abc" 2 "--hidden abc: |number" $base --hidden abc
refuses "--hidden 1000000 says how many bytes" 1 "out of memory|bytes" $base --hidden 1000000
check "it names at least the bytes of one weight matrix" at_least "$(sed -n 's/.*needs \([0-9]*\) bytes.*/\1/p' stderr.txt)" 16000000000000
refuses "--precision of no kind" 2 "--precision half|f32, bf16" $base --precision half
refuses "--cell of no kind" 2 "--cell lstn|rnn, gru, lstm" $base --cell lstn
refuses "--dir of no kind" 2 "--dir both|uni or bi" $base --dir both
refuses "--preset of no kind" 2 "--preset best|plain" $base --preset best
refuses "--pool of no kind" 2 "--pool attention|last, mean, max" $base --pool attention
refuses "--dropout 1" 2 "--dropout 1: |out of range" $base --dropout 1
refuses "--epochs 0" 2 "--epochs 0: |out of range" $base --epochs 0
refuses "--min-count 0" 2 "--min-count 0|whole number" $base --min-count 0
refuses "--set without =" 2 "--set encoder.hidden|expected" $base --set encoder.hidden
refuses "--set of an unknown group" 2 "--set encode.hidden|did you mean" $base --set encode.hidden=3
refuses "--set of an unknown field" 2 "encoder has no field 'hiden'; did you mean hidden?" $base --set encoder.hiden=3
refuses "--set of what the data decide" 2 "known from the data" $base --set task.intent.classes=3
refuses "--set of a task's field without the task" 2 "task.NAME.weight" $base --set task.weight=3
refuses "--weight without =" 2 "--weight intent|TASK=X" $base --weight intent

# ---- paths ---------------------------------------------------------------------------------------------------------------------------

mkdir -p folder locked
refuses "--out in a missing folder" 1 "--out nowhere/m.st|no folder nowhere" train --data train.tsv --out nowhere/m.st $small
refuses "--out is a folder" 1 "--out folder|is a directory" train --data train.tsv --out folder $small
mkfifo pipe.fifo
refuses "--out is a pipe" 1 "--out pipe.fifo|expected the path of a file" train --data train.tsv --out pipe.fifo $small
check "the pipe is as it was" [ -p pipe.fifo ]
refuses "--log is --out" 1 "--log out.st|another path" train --data train.tsv --out out.st --log out.st $small
refuses "--out is a data file" 1 "--out train.tsv|read as data" train --data train.tsv --out train.tsv $small
refuses "--log in a missing folder" 1 "--log nowhere/l|no folder nowhere" train --data train.tsv --out out.st --log nowhere/l $small
refuses "--log is a data file" 1 "--log train.tsv|read as data" train --data train.tsv --out out.st --log train.tsv $small
check "the data file is as it was" [ "$(wc -l <train.tsv)" -eq 301 ]
if [ "$(id -u)" -ne 0 ]; then
    chmod a-w locked
    refuses "--out in a read-only folder" 1 "--out locked/m.st|cannot be written" train --data train.tsv --out locked/m.st $small
else
    echo "# root may write everywhere: the read-only folder is not tested"
    [ -d /proc/self ] && refuses "--out where no file can be made" 1 "/proc/m.st" train --data train.tsv --out /proc/m.st $small
fi
cp model.st old.st
( ulimit -f 2; "$mtl" train --data train.tsv --out old.st $small >stdout.txt 2>stderr.txt ); status=$?
[ $status -eq 1 ] && problem=$(says stderr.txt "mtl: |old.st") || problem="status $status"
result "a full disk is an error" "$problem"
check "a full disk leaves the old file" cmp -s old.st model.st
check "and nothing else" [ "$(ls | grep -c '^old.st')" -eq 1 ]
if [ -c /dev/full ]; then
    "$mtl" info --model model.st >/dev/full 2>stderr.txt </dev/null; status=$?
    [ $status -eq 1 ] && problem=$(says stderr.txt "mtl: standard output") || problem="status $status"
    result "standard output on a full disk" "$problem"
fi

# ---- model files ---------------------------------------------------------------------------------------------------------------------

for command in "info" "eval --data valid.tsv" "predict"; do
    short=${command%% *}
    refuses "$short: a missing model" 1 "none.st|No such file" $command --model none.st
    head -c 3000 model.st >cut.st
    refuses "$short: a truncated model" 1 "cut.st" $command --model cut.st
    refuses "$short: not a model at all" 1 "train.tsv" $command --model train.tsv
    : >empty.st
    refuses "$short: an empty model file" 1 "empty.st" $command --model empty.st
    refuses "$short: a folder" 1 "folder|directory" $command --model folder
done
text='{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
{ printf "\\$(printf '%03o' ${#text})\\000\\000\\000\\000\\000\\000\\000%s" "$text"; printf '\000\000\200\077'; } >foreign.st
refuses "a safetensors file of another program" 1 "foreign.st" info --model foreign.st
size=$(wc -c <model.st)
head -c $((size - 1)) model.st >cut.st
refuses "a model that lacks its last byte" 1 "cut.st" info --model cut.st
{ cat model.st; printf x; } >cut.st
refuses "a model with a byte too many" 1 "cut.st" info --model cut.st
sed 's/\("mtl_rnn.version": *"\)1"/\19"/' model.st >newer.st
check "the version stands in the file" sh -c '! cmp -s model.st newer.st'
refuses "a model of a newer version" 1 "newer.st|newer" info --model newer.st

refuses "predict on frames without --frames" 2 "frames.st|--frames" predict --model frames.st
refuses "eval of frames on text" 2 "--frames" eval --model frames.st --data valid.tsv
refuses "eval of text on frames" 2 "--frames" eval --model model.st --frames valid.csv

# ---- lines of predict -----------------------------------------------------------------------------------------------------------

bad_line() { # NAME TEXT|TEXT...: predict fails on bad.txt
    "$mtl" predict --model model.st <bad.txt >stdout.txt 2>stderr.txt; status=$?
    [ $status -eq 1 ] && problem=$(says stderr.txt "mtl: standard input:$2") || problem="status $status"
    result "predict: $1" "$problem"
}
printf 'play max now\nplay \377\n' >bad.txt;         bad_line "invalid UTF-8" "2:6: |invalid UTF-8"
check "the lines before were answered" [ "$(wc -l <stdout.txt)" -eq 2 ]
printf 'play\000max\n' >bad.txt;                     bad_line "a NUL byte" "1:5: |NUL"
head -c 10000000 /dev/zero | tr '\0' x >bad.txt;     bad_line "a token of 10 MB" "1:1: |10000000 bytes"
awk 'BEGIN { for (i = 0; i < 10001; i++) printf "w " }' >bad.txt; bad_line "too many tokens" "1:20001: |--max-tokens"

awk 'BEGIN { for (i = 0; i < 20000; i++) print "play good nina simone now" }' >many.txt
( "$mtl" predict --model model.st <many.txt 2>stderr.txt; echo $? >status.txt ) | head -n 1 >/dev/null
[ "$(cat status.txt)" -eq 1 ] && problem=$(says stderr.txt "mtl: standard output|reader has gone") || problem="status $(cat status.txt)"
result "a broken pipe ends predict" "$problem"

# ---- interruption ---------------------------------------------------------------------------------------------------------------

epochs_logged() { [ -s int.json ] && [ "$(grep -c epoch int.json)" -ge "$1" ]; }
"$mtl" train --data train.tsv --valid valid.tsv --out int.st --hidden 16 --embed 16 --epochs 100000 --threads 1 --log int.json >stdout.txt 2>stderr.txt & training=$!
wait_for 30 epochs_logged 2
kill -INT $training; wait $training; status=$?
[ $status -eq 0 ] && problem=$(says stderr.txt "mtl: interrupted: the best model so far|int.st") || problem="status $status"
result "SIGINT once: the best model so far, status 0" "$problem"
run eval --model int.st --data valid.tsv
check "that model works" [ "$status" -eq 0 ]

make_tsv 4000 3 >large.tsv
echo old >int.st; rm -f int.json
"$mtl" train --data large.tsv --out int.st --hidden 400 --batch 4000 --epochs 100000 --threads 1 >stdout.txt 2>stderr.txt & training=$!
wait_for 30 grep -q parameters stdout.txt
sleep 0.5
kill -INT $training; sleep 0.05; kill -INT $training; wait $training; status=$?
check "SIGINT twice: status 130 at once" [ $status -eq 130 ]
check "the old file is intact" [ "$(cat int.st)" = old ]

# ---------------------------------------------------------------------------------------------------------------------------------

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
