#!/bin/sh
# Tests of the command: every subcommand, every form of input, and every message about bad input.
#
#     tests/test_command.sh build/mtl
#
# Works in a folder of its own and needs nothing but a POSIX shell and its tools (python3, where there is one, checks JSON).
# Prints "ok N name" or "not ok N name" for each check and ends with "N passed, N failed". MTL_TEST_QUICK=1 trains less.

[ $# -gt 0 ] || set -- "$(dirname "$0")/../build/mtl"
case $1 in /*) mtl=$1 ;; *) mtl=$PWD/$1 ;; esac
top=$(cd "$(dirname "$0")/.." && pwd)
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

small="--preset plain --hidden 8 --embed 8 --epochs 1 --threads 1 --quiet"
bad_data() { # NAME TEXT|TEXT... [OPTIONS...]: training on bad.tsv fails with these texts
    name=$1 texts=$2; shift 2
    refuses "$name" 1 "bad.tsv:$texts" train --data bad.tsv --out out.st $small "$@"
}

number() { # FILE KEY: the first number after "KEY": in a JSON file
    sed -n 's/.*"'"$2"'": *\(-*[0-9.e+-]*\).*/\1/p' "$1" | head -n 1
}

at_least() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a + 0 >= b + 0) }'; }

exactly() { at_least "$1" "$2" && at_least "$2" "$1"; }

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

how="--preset plain --hidden 16 --embed 16 --lr 0.02 --batch 16 --epochs $epochs --threads 1"
run train --data train.tsv --valid valid.tsv --out model.st $how --log log.json
check "train succeeds" [ "$status" -eq 0 ]
check "train writes the model" [ -s model.st ]
result "train prints a line for each epoch and the scores at the end" "$(says stdout.txt "epoch 1/$epochs|epoch $epochs/$epochs|tokens/s|left|loss|best epoch|span precision|RMSE|joint accuracy")"
check "train leaves nothing else behind" [ "$(ls | grep -c '^model.st')" -eq 1 ]
check "the log has a line for each epoch" [ "$(grep -c '"epoch"' log.json)" -eq "$epochs" ]
check "the log is JSON" json_valid log.json
result "the log tells losses, rate, time and scores" "$(says log.json '"task_loss"|"intent"|"lr"|"seconds"|"tokens_per_second"|"valid"|"best_epoch"|"score"')"
result "the log tells gradient norms, gaps and each task's best epoch" "$(says log.json '"grad_norm"|"grad_norm_most"|"gap"|"task_best_epoch"')"
check "the mean norm is no larger than the largest" at_least "$(number log.json grad_norm_most)" "$(number log.json grad_norm)"
check "nothing is watched without --watch" [ "$(grep -c '"watch"' log.json)" -eq 0 ]
run train --data train.tsv --valid valid.tsv --out watched.st $how --log watch.json --watch 7 --quiet
check "--watch changes no bit of the model" cmp -s watched.st model.st
check "the watched log is JSON" json_valid watch.json
check "it has a line for every 7 updates" [ "$(grep -c '"watch"' watch.json)" -eq "$(grep -c '"update": [0-9]*[0-9],' watch.json)" -a "$(grep -c '"update": 7,' watch.json)" -eq 1 -a "$(grep -c '"update": 14,' watch.json)" -eq 1 -a "$(grep -c '"update": 8,' watch.json)" -eq 0 ]
check "its lines for epochs are as many" [ "$(grep -c '"epoch"' watch.json)" -eq "$epochs" ]
result "it tells gradients, affinities, gates, units and steps" "$(says watch.json '"shared": {"norm": {"intent": |"intent+slots": |"conflicts": |"layers": {"text": |"encoder": {"norm"|"affinity": {"intent": {"intent": |"weight": {"intent": 1,|"dead": |"closed": |"open": |"steps": {"encoder": [|"encoder.reverse": [')"
run train --data train.tsv --only intent --out one.st --preset plain --hidden 8 --embed 8 --epochs 1 --threads 1 --log watch.json --watch 2
result "one task: no gradients to compare, which is said" "$(says stderr.txt "mtl: note: --watch|compares two")"
result "its gates and steps are told all the same" "$(says watch.json '"units": {|"steps": {"encoder": [')"
check "and no cosines" [ "$(grep -c '"cosine"' watch.json)" -eq 0 ]

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
result "eval --json has the promised keys" "$(says stdout.txt '{"tasks": {"intent": {"kind": "class", "accuracy": |"slots": {"kind": "tags", "token_accuracy": |, "span_precision": |, "span_recall": |, "span_f1": |"mood": {"kind": "real", "rmse": |, "mae": |, "r2": |}}, "joint_accuracy": |, "sequences": 60, "tokens": ')"
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

for command in train eval predict info import; do
    run $command --help
    [ "$status" -eq 0 ] && problem=$(says stdout.txt "mtl $command|--help") || problem="status $status"
    result "$command --help" "$problem"
done
run --help; result "--help names the commands" "$(says stdout.txt "train|eval|predict|info|import")"
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
accepts "--pool attention" "pool attention" --pool attention
accepts "--pool additive+max, of two tasks by one's scores" "pool additive|pool_beside max|pool_of intent" \
    --share full --pool additive+max --pool-of mood=intent
accepts "--pool dot and one task's own pools" "pool dot|pool mean|pool_beside last" --pool dot --set task.mood.pool=mean+last
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
accepts "--set of their activation" "activation gelu" --set task.intent.hidden=8 --set task.intent.activation=gelu
accepts "batch normalisation of a head" "batch_norm 1|buffers.intent.norm.0.running_var" --share full --set task.intent.hidden=8 --set task.intent.batch_norm=1
run train --preset plain --frames train.csv --features heat,noise --sequence unit --task model:class --out norm.st --hidden 4 --dir uni --epochs 2 --quiet \
    --set input.batch_norm=1 --set task.model.hidden=5 --set task.model.batch_norm=1
check "batch normalisation of rows of numbers" [ "$status" -eq 0 ]
run export --model norm.st --c norm_net
check "it is exported as an affine operation" grep -q mtl_do_affine norm_net.c
refuses "batch normalisation of words" 1 "batch_norm" train --data train.tsv --out out.st $small --set input.batch_norm=1
refuses "batch normalisation of no hidden layer" 1 "is of hidden dense layers, of which it has none" train --data train.tsv --out out.st $small --share full --set task.intent.batch_norm=1
accepts "dropout of what recurrent matrices see, and per sequence" "dropout_recurrent 0.25|dropout_per_sequence 1" \
    --set encoder.dropout_recurrent=0.25 --set task.slots.dropout=0.3 --set task.slots.dropout_per_sequence=1
accepts "--option=value" "hidden 5" --hidden=5
accepts "--isa scalar" "a valid model" --isa scalar
accepts "--precision bf16" "trainer.precision=bf16" --precision bf16
accepts "--precision bf16 where it cannot be had" "trainer.precision=bf16|precision=f32" --precision bf16 --isa scalar
run train --preset plain --data train.tsv --out opt.st --hidden 8 --embed 8 --epochs 1 --precision bf16 --isa scalar
check "--precision bf16: a note says when f32 is used instead" grep -q '^mtl: note: --precision bf16.*f32' stderr.txt
run train --data train.tsv --out opt.st $small --precision bf16 --isa scalar --quiet
check "--quiet leaves the note out" [ ! -s stderr.txt ]
run train --data train.tsv --valid valid.tsv --out opt.st $small --epochs 9 --patience 1 --lr 1e-30 --log log.json
check "--patience stops early" [ "$(grep -c . log.json)" -lt 9 ]
run train --data train.tsv --valid valid.tsv --out opt.st $small --score slots
check "--score TASK" [ "$status" -eq 0 ]
run train --preset plain --data train.tsv --out opt.st --hidden 8 --embed 8 --epochs 1
result "without --valid the last weights are kept, and said so" "$(says stdout.txt "no --valid data")"

# A rate that rises until the loss is no number, after a first epoch that has a score.
awk 'BEGIN { print "text\tfare:real\tday:class"; split("slow fast wet dry old", words, " ")
    for (i = 0; i < 60; i++) printf "%s %s\t%d\t%s\n", words[i % 5 + 1], words[i % 3 + 1], 1000000 * (i % 7), i % 3 ? "work" : "rest" }' >fares.tsv
run train --preset plain --data fares.tsv --valid fares.tsv --out broken.st --optimizer sgd --lr 3e4 --clip-norm 0 --set trainer.warmup=40 \
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

# ---- what words are made of ---------------------------------------------------------------------------------------------------

accepts "--chars cnn and its fields" "input characters|kind characters|filters 5|widths 1,3|character_width 7" --chars cnn \
    --set characters.filters=5 --set characters.widths=1,3 --set characters.character_width=7
accepts "--chars lstm and its units" "input characters|speller lstm|hidden 6|characters.weight_hh_l0_reverse" --chars lstm \
    --set characters.hidden=6
accepts "--chars gru" "speller gru|hidden 32" --chars gru
accepts "--affixes" "input prefix2|input suffix3|part suffix|input shape|part shape|width 9" --affixes --set affixes.width=9
accepts "--chars none" "input text" --chars none
check "--chars none reads words alone" sh -c '! grep -q characters$ stdout.txt'
refuses "--chars of another kind" 2 "--chars rnn|none, cnn, gru or lstm" train --data train.tsv --out out.st --chars rnn
refuses "--chars for rows of numbers" 2 "--chars cnn|rows of numbers" train --frames train.csv --features heat --task left:reals --out out.st --chars cnn
refuses "--affixes for rows of numbers" 2 "--affixes|rows of numbers" train --frames train.csv --features heat --task left:reals --out out.st --affixes
refuses "a width that is too large" 2 "widths" train --data train.tsv --out out.st --chars cnn --set characters.widths=65
printf 'text\tcharacters:class\na b\tx\n' >named.tsv
refuses "a task with the name of an input" 1 "characters|another one" train --data named.tsv --out out.st
awk 'BEGIN { srand(5); printf "text\tk:class\n"
    for (i = 0; i < 160; i++) { stem = ""; for (k = 0; k < 4; k++) stem = stem substr("abcefkloprstu", 1 + int(13 * rand()), 1)
        printf "we %s%s\t%s\n", stem, i % 2 ? "ing" : "ed", i % 2 ? "now" : "past" } }' >endings.tsv
for how in "--chars cnn" "--chars lstm" "--affixes"; do
    run train --preset plain --data endings.tsv --valid endings.tsv --out endings.st --hidden 16 --lr 0.01 --epochs 12 --min-count 2 --quiet $how
    printf 'we climbing\nwe opened\n' >words.txt
    "$mtl" predict --model endings.st <words.txt 2>stderr.txt | cut -f 2 | sed 1d | tr '\n' ' ' >stdout.txt
    check "$how tells words that training has not shown" [ "$(cat stdout.txt)" = "now past " ]
done
run eval --model endings.st --data endings.tsv
check "eval of a model that reads affixes" [ "$status" -eq 0 ]

cp endings.tsv known.tsv
run train --preset plain --data known.tsv --out opt.st --share full --hidden 8 --epochs 3 --lr 0.01 --threads 1 --quiet --word-dropout 0.25
cp opt.st one.st
run train --preset plain --data known.tsv --out opt.st --share full --hidden 8 --epochs 3 --lr 0.01 --threads 2 --quiet --word-dropout 0.25
check "--word-dropout: the same for any number of threads" cmp -s one.st opt.st
run train --preset plain --data known.tsv --out opt.st --share full --hidden 8 --epochs 3 --lr 0.01 --threads 1 --quiet
check "--word-dropout changes what is learnt" sh -c '! cmp -s one.st opt.st'
refuses "--word-dropout of a word" 2 "--word-dropout much|a number" train --data known.tsv --out out.st --word-dropout much
refuses "--word-dropout for rows of numbers" 2 "--word-dropout|rows of numbers" train --frames train.csv --features heat --task left:reals --out out.st --word-dropout 1

# ---- phrases of known types ------------------------------------------------------------------------------------------------

accepts "--gazetteer and its fields" "input gazetteer|kind gazetteer|width 7|ignore 0.3" --gazetteer spans \
    --set gazetteer.width=7 --set gazetteer.ignore=0.3
printf 'dish\tgreen soup\ncity\tnew york\n' >phrases.tsv
accepts "--gazetteer of a file and of spans" "input gazetteer" --gazetteer phrases.tsv --gazetteer spans
for phrase in "city:1:1:no tab" "${tab}york:1:1:no type" "city$tab:1:6:an empty phrase" "city${tab}new  york:1:10:an empty word" \
        "city${tab}york$tab:1:10:a second tab" ":1:1:an empty line"; do
    printf '%s\n' "${phrase%%:*}" >wrong.tsv
    refuses "--gazetteer: ${phrase##*:}" 1 "wrong.tsv:$(echo "${phrase#*:}" | sed 's/\(.*\):/\1: /')" train --data train.tsv --out out.st --gazetteer wrong.tsv
done
printf 'city\tyork\ncity\t\377\n' >wrong.tsv
refuses "--gazetteer: bytes that are no text" 1 "wrong.tsv:2:6: invalid UTF-8" train --data train.tsv --out out.st --gazetteer wrong.tsv
: >wrong.tsv
refuses "--gazetteer: an empty file" 1 "wrong.tsv: the file is empty" train --data train.tsv --out out.st --gazetteer wrong.tsv
refuses "--gazetteer: no file" 1 "none.tsv: cannot be opened" train --data train.tsv --out out.st --gazetteer none.tsv
refuses "--gazetteer spans without spans" 2 "--gazetteer spans|B-TYPE and I-TYPE" train --data endings.tsv --out out.st --gazetteer spans
refuses "--gazetteer for rows of numbers" 2 "--gazetteer|rows of numbers" train --frames train.csv --features heat --task left:reals --out out.st --gazetteer spans
printf 'text\tgazetteer:class\na b\tx\n' >named.tsv
refuses "a task with the name of the gazetteer" 1 "gazetteer|another one" train --data named.tsv --out out.st
# Names stand where other words stand, too: what training has not labelled is told by a file of names alone.
awk 'BEGIN { srand(7); printf "text\tslots:tags\n"; for (i = 0; i < 120; i++) { n = int(80 * rand()); o = int(80 * rand())
    printf "see n%d and o%d\tO B-name O O\n", n, o; printf "see o%d and n%d\tO O O B-name\n", o, n }
    for (n = 80; n < 90; n++) printf "n%d o%d\t_ _\n", n, n }' >names.tsv
awk 'BEGIN { for (n = 0; n < 90; n++) printf "name\tn%d\n", n }' >phrases.tsv
run train --preset plain --data names.tsv --out names.st --share full --hidden 16 --lr 0.01 --epochs 8 --quiet \
    --set input.scale=0.02 --gazetteer phrases.tsv
printf 'see n88 and o83\nsee o84 and n89\nsee n85 and o87\nsee o89 and n83\n' >words.txt
"$mtl" predict --model names.st <words.txt 2>stderr.txt | cut -f 2 | sed 1d | tr '\n' '|' >stdout.txt
check "--gazetteer tells names that training has not labelled" [ "$(cat stdout.txt)" = "O B-name O O|O O O B-name|O B-name O O|O O O B-name|" ]
run train --preset plain --data train.tsv --out one.st --share full --hidden 8 --epochs 2 --threads 1 --quiet --gazetteer spans
run train --preset plain --data train.tsv --out opt.st --share full --hidden 8 --epochs 2 --threads 2 --quiet --gazetteer spans
check "--gazetteer: the same for any number of threads" cmp -s one.st opt.st
run export --model one.st --c out
result "--gazetteer: a model that cannot be exported is refused" "$(says stderr.txt "input gazetteer cannot be streamed")"

# ---- batches and losses ----------------------------------------------------------------------------------------------------

accepts "--swap" "fit.swap=0.9|fit.swap_spans=0.25" --swap 0.9 --set fit.swap_spans=0.25
run train --data train.tsv --valid valid.tsv --out opt.st --epochs 1 --hidden 8 --swap 0.9 --gazetteer spans --equal-length --sum-steps --budget 2
check "--swap, --gazetteer and --equal-length in a search" [ "$status" -eq 0 ]
refuses "--swap without spans" 2 "--swap|B-TYPE and I-TYPE" train --data endings.tsv --out out.st --swap 0.9
refuses "--swap of more than all" 2 "--swap 1.5|between 0 and 1" train --data train.tsv --out out.st --swap 1.5
accepts "--equal-length --sum-steps" "fit.equal_length=1|trainer.sum_steps=1" --equal-length --sum-steps
refuses "--equal-length and a curriculum by loss" 1 "fit.equal_length|fit.curriculum loss" train --data train.tsv --out out.st $small --share full \
    --teacher one.st --equal-length --set fit.curriculum=loss

# ---- the preset best -------------------------------------------------------------------------------------------------------

best="train --preset best --hidden 8 --epochs 1 --threads 1 --quiet"
run $best --data train.tsv --valid valid.tsv --out best.st --share full
run info --model best.st
result "--preset best chooses by the data" "$(says stdout.txt "kind characters|input prefix2|kind gazetteer|column encoder-self|kind crf|task lm: lm|pool_beside max|rdrop=0.5|swap=0.9|init text.weight=uniform:0.1,")"
run $best --data train.tsv --valid valid.tsv --out best.st --share full --chars none --no-affixes --gazetteer none --lm none --swap 0 \
    --head slots=softmax --set share.attention=0
run info --model best.st
result "--preset best without them" "$(says stdout.txt "input text|task slots: tags|swap=0|init text.weight=uniform:0.1,")"
check "nothing of them is there" sh -c '! grep -q "characters\|prefix\|gazetteer\|encoder-self\|task lm" stdout.txt'
run $best --data endings.tsv --valid endings.tsv --out best.st --share full
run info --model best.st
result "--preset best without spans" "$(says stdout.txt "kind characters|swap=0")"
check "nothing is told of phrases then" sh -c '! grep -q gazetteer stdout.txt'
refuses "--preset best: an option that the data have no use for is still told" 2 "--swap|B-TYPE and I-TYPE" $best --data endings.tsv --out out.st --swap 0.5
run $best --data train.tsv --valid valid.tsv --dir uni --out best.st
run info --model best.st
result "--preset best: what reads forwards stays a stream" "$(says stdout.txt "input prefix2|task slots: tags|stream      yes")"
run $best --frames train.csv --features heat --task left:reals --out best.st --set encoder.bidirectional=0
run info --model best.st
result "--preset best for rows of numbers" "$(says stdout.txt "input frames|rdrop=0|stream      yes")"
run $best --frames train.csv --features heat --task left:reals --out best.st --set encoder.bidirectional=0 --set share.attention=1
run info --model best.st
result "unless it is asked for" "$(says stdout.txt "column encoder-self")"
printf 'text\tlm:class\na b\tx\nb a\ty\n' >named.tsv
run $best --data named.tsv --out best.st
check "--preset best and a task named lm" [ "$status" -eq 0 ]
printf 'text\tone:multi\ttwo:multi\na b\tx\tp,q\nb a\tx,y\tq\nb\ty\tp\n' >named.tsv
run $best --data named.tsv --valid named.tsv --out best.st --share full
run info --model best.st
result "--preset best: thresholds of all tasks that are sets" "$(says stdout.txt "buffers.one.thresholds|buffers.two.thresholds")"
check "no self-attention where no task is of steps" sh -c '! grep -q "encoder-self" stdout.txt'
first_losses() { # TASKS: what the first epoch of the model of `intent` tells, alone or in a search
    "$mtl" train --preset best --hidden 8 --epochs 1 --threads 1 --data labelled.tsv --valid labelled.tsv --out best.st --budget 1 --only "$1" \
        2>stderr.txt | sed -n 's/^\(intent: \)\?epoch 1.1 *\(loss .*valid [0-9.]*\).*/\2/p'
}
{ head -n 1 train.tsv; tail -n +2 train.tsv | awk -F '\t' '{ for (i = 1; i <= NF; i++) if ($i == "_") next; print }'; } >labelled.tsv
check "a task alone in a search is one that is trained alone" sh -c '[ -n "$1" ] && [ "$1" = "$2" ]' _ "$(first_losses intent)" "$(first_losses intent,slots)"
run train --data train.tsv --valid valid.tsv --out best.st --hidden 8 --epochs 1 --threads 1
result "without a preset: best, in a search, of models with a language model, which the file goes without" \
    "$(says stdout.txt ", lm of|task |alone|full|partial|intent |slots |mood |times)")"
run info --model best.st; grep -q "^task lm" stdout.txt && echo "a task lm" >stdout.txt
result "what it says of itself" "$(says stdout.txt "preset=best|intent.chosen=|task slots: crf")"
run $best --data train.tsv --valid valid.tsv --out best.st --log log.json --set share.attention=0
check "--set share.attention is no choice of how to share" grep -q '"run": "full"' log.json
run $best --data train.tsv --valid valid.tsv --out best.st --log log.json --set share.own_hidden=4
check "--set share.own_hidden is one" sh -c '! grep -q "\"run\"" log.json'

# ---- tokens beside the words ---------------------------------------------------------------------------------------------

awk 'BEGIN { print "text\tlemma:tokens\tpos:tokens\tslots:tags\tkind:class"
    for (i = 0; i < 120; i++) { text = lemma = pos = slots = ""; sum = 0
        for (k = 0; k <= i % 5; k++) { s = (75 * s + 74) % 65537; a = s % 3; b = int(s / 3) % 2; sum += a; gap = k ? " " : ""
            text = text gap "w" s; lemma = lemma gap "l" a; pos = pos gap "p" b; slots = slots gap "t" (a + b) }
        print text "\t" lemma "\t" pos "\t" slots "\t" (sum > 3 ? "many" : "few") } }' >beside.tsv
run train --preset plain --data beside.tsv --valid beside.tsv --out beside.st --hidden 24 --epochs 15 --lr 0.01 --quiet --set tokens.width=9
run eval --model beside.st --data beside.tsv
result "tags that the words do not tell, the tokens beside them do" "$(says stdout.txt "slots            tags   token accuracy 1.0000")"
printf 'foo bar\tl0 l2\tp1 _\n\n foo  bar \tl0 l2\tp1 p1\n' >lines.txt
"$mtl" predict --model beside.st <lines.txt >stdout.txt 2>stderr.txt
result "predict takes them behind tabs" "$(says stdout.txt "foo bar${tab}t1 t2${tab}|foo bar${tab}t1 t3${tab}")"
printf 'foo bar\tl0 l2\n' | "$mtl" predict --model beside.st >stdout.txt 2>stderr.txt
result "predict without one of them" "$(says stderr.txt "standard input:1:1: 2 cells; expected the text and, a tab before each, its tokens of 2 columns")"
printf 'foo bar\tl0 l2\tp0\n' | "$mtl" predict --model beside.st >stdout.txt 2>stderr.txt
result "predict with too few of them" "$(says stderr.txt "standard input:1:15: pos: expected a token for each of the 2 words")"
run info --model beside.st
result "info tells what inputs read" "$(says stdout.txt "input lemma|tokens lemma|width 9|pos.weight                           F32   3x9")"
run train --data beside.tsv --valid beside.tsv --out out.st --hidden 8 --epochs 2 --quiet
check "a search for what to share" [ "$status" -eq 0 ]
cut -f 1,2,4 beside.tsv >less.tsv
refuses "eval without a column of tokens" 1 "less.tsv:1:1: no column pos:tokens" eval --model beside.st --data less.tsv
refuses "data that lack a column of tokens" 1 "less.tsv:1:1: no column pos:tokens" train --data beside.tsv --data less.tsv --out out.st
refuses "data that bring another one" 1 "beside.tsv:1:19: tokens pos, which less.tsv has not" train --data less.tsv --data beside.tsv --out out.st
printf 'text\tl:tokens\tk:class\na b\tx\ty\n' >bad.tsv;              bad_data "too few tokens beside the words" "2:5: |l: 1 tokens for the 2 of the text"
printf 'text\tl:tokens\tl:class\na\tx\ty\n' >bad.tsv;                bad_data "tokens and a task of one name" "1:15: |tokens l stand twice"
printf 'text\tencoder:tokens\tl:class\na\tx\ty\n' >bad.tsv;          bad_data "tokens with the model's own name" "1:6: |'encoder' of tokens is a name that the model itself uses"
printf '1\tCats\tcat\tNOUN\t_\t_\t2\tnsubj\t_\t_\n2\tsleep\tsleep\tVERB\t_\t_\t0\troot\t_\t_\n\n' >cats.conllu
run train --data cats.conllu --out out.st $small --tokens lemma,upos
check "CoNLL-U: --tokens" [ "$status" -eq 0 ]
run info --model out.st
result "CoNLL-U: they are inputs and no tasks" "$(says stdout.txt "input lemma|tokens lemma|input upos|tokens upos|task deprel: tags")"
check "upos is no task then" sh -c '! grep -q "task upos" stdout.txt'
run eval --model out.st --data cats.conllu
check "CoNLL-U: eval finds them" [ "$status" -eq 0 ]
refuses "--tokens that CoNLL-U has not" 1 "CoNLL-U has no tokens lemmas|lemma, upos, xpos, feats and deprel|did you mean lemma" train --data cats.conllu --out out.st --tokens lemmas
run train --data train.tsv --out out.st $small --tokens slots --only intent
check "--tokens reads a column of tags" [ "$status" -eq 0 ]
refuses "--tokens for rows of numbers" 2 "--tokens|rows of numbers" train --frames train.csv --features heat --task left:reals --out out.st --tokens lemma

# ---- what a checkpoint and a teacher read: it must be what the data have ----------------------------------------------------

printf 'of\tw74\n' >of.tsv; printf 'by\tw74\n' >by.tsv
read="train --preset plain --hidden 8 --embed 8 --epochs 1 --threads 1 --quiet --share full"
run $read --data beside.tsv --out held.st --chars cnn --gazetteer of.tsv --checkpoint-every 2 --stop-after 3
resumes="$read --out out.st --gazetteer of.tsv --resume held.st.checkpoint --force"
differs() { # NAME TEXT OPTIONS...: neither the checkpoint nor a teacher fits
    what=$1 wrong=$2; shift 2
    refuses "--resume: $what" 1 "held.st.checkpoint: $wrong|; go on with what its run was asked for" $resumes "$@"
    refuses "--teacher: $what" 1 "--teacher held.st: $wrong|; train it on the same files" $read --out out.st --teacher held.st "$@"
}
awk -F "$tab" -v OFS="$tab" '{ print $1, $3, $2, $4, $5 }' beside.tsv >other.tsv
differs "columns of tokens in another order" "its inputs are text, characters, lemma, pos|those of the data and options text, characters, pos, lemma" \
    --data other.tsv --chars cnn
sed '1s/lemma/stem/' beside.tsv >other.tsv
differs "tokens of another name" "its inputs are text, characters, lemma, pos|text, characters, stem, pos" --data other.tsv --chars cnn
sed 's/l2/m2/g' beside.tsv >other.tsv
differs "other tokens" 'its input lemma knows other tokens than the data have: "l2" in place of "m2"' --data other.tsv --chars cnn
sed 's/w1/v1/' beside.tsv >other.tsv
differs "other words" 'its input text knows other words than the data have: "w' --data other.tsv --chars cnn
differs "no characters" "its inputs are text, characters, lemma, pos|those of the data and options text, lemma, pos" --data beside.tsv
refuses "--resume: other phrases" 1 'its input gazetteer knows other phrases than the data have: "of' $read --data beside.tsv --out out.st --chars cnn \
    --gazetteer by.tsv --resume held.st.checkpoint --force
refuses "--resume: no phrases" 1 "its inputs are text, characters, lemma, pos, gazetteer, those of the data and options text, characters, lemma, pos;" \
    $read --data beside.tsv --out out.st --chars cnn --resume held.st.checkpoint --force
run $read --data beside.tsv --out taught.st --chars cnn --gazetteer by.tsv --teacher held.st
check "--teacher: phrases are its own" [ "$status" -eq 0 ]
printf 'text\tkind:class\na b b zz\tx\na a\ty\n' >rare.tsv; sed 's/zz/qq/' rare.tsv >other.tsv
run $read --data rare.tsv --out rare.st --chars cnn --min-count 2
refuses "--teacher: other characters" 1 'its input characters knows other characters than the data have: "z" in place of "q"' \
    $read --data other.tsv --out out.st --chars cnn --min-count 2 --teacher rare.st
sed 's/many/lots/' beside.tsv >other.tsv
refuses "--resume: other labels" 1 "its task kind has other labels than the data" $resumes --data other.tsv --chars cnn
refuses "--resume: another size" 1 "its model has no tensor encoder.weight_ih_l0 of this size" $resumes --data beside.tsv --chars cnn --hidden 9

# ---- word vectors --------------------------------------------------------------------------------------------------------

# The same four vectors as GloVe's, word2vec's text and fastText's, and word2vec's binary form (1, 2, -0.5 as floats).
printf 'text\tk:class\nplay Jazz now\ta\nplay it\tb\n' >jazz.tsv
printf 'play 1 2 -0.5\njazz -0.5 1 2\nnow 2 2 2\nfar away 1 1 1\n' >glove.txt
{ printf '4 3\n'; sed 's/far /far_/; s/$/ /' glove.txt; } >w2v.vec
one='\000\000\200\077' two='\000\000\000\100' half='\000\000\000\277'
{ printf '4 3\nplay '; printf "$one$two$half\njazz $half$one$two\nnow $two$two$two\nfar_away $one$one$one\n"; } >w2v.bin
vectors() { # NAME FILE OPTIONS...: these tell the coverage, and train to the model of the first file
    name=$1 file=$2; shift 2
    run train --preset plain --data jazz.tsv --out vectors.st --share full --hidden 8 --epochs 2 --threads 1 --vectors "$file" "$@"
    problem=$(says stdout.txt "4 vectors of 3 numbers; of 4 words 2 have one as they are, 1 in lower case, 1 none")
    [ "$status" -eq 0 ] || problem="status $status"
    "$mtl" info --model vectors.st 2>stderr.txt | grep -v 'vectors[.=]' >told.txt
    echo "play Jazz it" | "$mtl" predict --model vectors.st --json 2>stderr.txt >>told.txt
    [ -e first.txt ] || cp told.txt first.txt
    cmp -s told.txt first.txt || problem=${problem:-"another model than with GloVe's file"}
    result "--vectors: $name" "$problem"
}
rm -f first.txt
vectors "GloVe" glove.txt
vectors "fastText and word2vec as text" w2v.vec
vectors "word2vec's binary form" w2v.bin
if mkfifo pipe.vec 2>stderr.txt; then
    cat w2v.bin >pipe.vec & vectors "a pipe" pipe.vec; wait $!
fi
run info --model vectors.st
result "the vectors say how wide embeddings are" "$(says stdout.txt "width 3|vectors=")"
rm first.txt; vectors "frozen" glove.txt --vectors-rate 0
run info --model vectors.st; result "frozen vectors are frozen in the file" "$(says stdout.txt 'freeze *text.weight')"
rm first.txt; vectors "a rate of their own" glove.txt --vectors-rate 0.1
rm first.txt; vectors "an encoder for each task" glove.txt --share none
bad_vectors() { # NAME TEXT|TEXT... [OPTIONS...]: training with bad.vec fails with these texts
    name=$1 texts=$2; shift 2
    refuses "--vectors: $name" 1 "$texts" train --preset plain --data jazz.tsv --out out.st --share full --vectors bad.vec "$@"
}
printf 'play 1 2 3\nnow 1 2\n' >bad.vec; bad_vectors "a ragged row" "bad.vec:2: |2 numbers; expected 3"
printf 'play 1 2\nnow 1 2 3\n' >bad.vec; bad_vectors "a row that is too long" "bad.vec:2: |3 numbers; expected 2"
printf '3 2\nplay 1 2\nnow 1 2\n' >bad.vec; bad_vectors "a header of more rows" "the file has 2 rows; its header says 3"
printf '1 2\nplay 1 2\nnow 1 2\n' >bad.vec; bad_vectors "a header of fewer rows" "the file has 2 rows; its header says 1"
printf 'it 1 2\nplay 1 nan\n' >bad.vec; bad_vectors "NaN" "bad.vec:2: 'nan' is not a finite number"
printf 'it 1 2\npl\351y 1 2\n' >bad.vec; bad_vectors "Latin-1" "bad.vec:2: |not UTF-8"
printf 'none 1 2\n' >bad.vec; bad_vectors "of another language" "none of the 4 words"
: >bad.vec; bad_vectors "an empty file" "bad.vec: the file is empty"
head -c 30 w2v.bin >bad.vec; bad_vectors "a binary file that is cut" "byte |ends within row 2 of 4"
{ sed 1s/4/3/ w2v.bin; } >bad.vec; bad_vectors "a binary file of more rows" "byte |more than the 3 rows"
{ printf '1 1\nplay '; printf '\000\000\300\177\n'; } >bad.vec; bad_vectors "NaN in a binary file" "byte 4: number 1 of the word 'play'"
rm bad.vec; bad_vectors "no such file" "--vectors bad.vec|cannot be read"
printf 'play 1 2 3\nplay 3 2 1\nnow 1 1 1\n' >twice.vec
run train --preset plain --data jazz.tsv --out out.st --share full --hidden 8 --epochs 1 --quiet --vectors twice.vec
result "--vectors: of two rows of a word the first counts" "$(says stderr.txt "twice.vec: 1 rows|first counts (as of 'play')")"
refuses "--vectors of another width than --embed" 2 "--embed 8|have 3 numbers" train --data jazz.tsv --out out.st --embed 8 --vectors glove.txt
refuses "--vectors for rows of numbers" 2 "--vectors|rows of numbers" train --frames train.csv --features heat --task left:reals --out out.st --vectors glove.txt
refuses "--vectors-rate alone" 2 "--vectors FILE" train --data jazz.tsv --out out.st --vectors-rate 0.5
refuses "--vectors-rate of a word" 2 "--vectors-rate slow|a number" train --data jazz.tsv --out out.st --vectors glove.txt --vectors-rate slow
refuses "--vectors-rate 0 in a search" 2 "--vectors-rate 0|--share" train --data train.tsv --valid valid.tsv --out out.st --vectors glove.txt --vectors-rate 0

# ---- what is shared, found by training --------------------------------------------------------------------------------------------

found() { # TASK HOW: its score in the model's note
    "$mtl" info --model auto.st | sed -n "s/^  $1\\.$2=//p"
}
auto="--preset auto --hidden 12 --embed 12 --epochs 4 --threads 1 --lr 0.01"
run train --data train.tsv --valid valid.tsv --out auto.st $auto --log log.json
check "train without --share" [ "$status" -eq 0 ]
result "it tells what it tried, task by task" "$(says stdout.txt "task |alone|full|partial|intent |slots |mood |*|seconds|times)")"
check "the log tells one training from another" grep -q '"run": "full"' log.json
check "every task has an answer to the question" [ "$(for task in intent slots mood; do found $task chosen; done | grep -c '^alone$\|^full$\|^group$\|^partial$')" -eq 3 ]
run train --data train.tsv --valid valid.tsv --out only.st $auto --only slots --quiet
run eval --model only.st --data valid.tsv --json
check "alone is what --only trains" grep -q "\"span_f1\": $(found slots alone | cut -c1-6)" stdout.txt
run eval --model auto.st --data valid.tsv --json
check "the model scores what was chosen" grep -q "\"span_f1\": $(found slots "$(found slots chosen)" | cut -c1-6)" stdout.txt
printf 'play good miles now\n' | "$mtl" predict --model auto.st >stdout.txt 2>stderr.txt
check "it answers for every task" grep -q "^play good miles now$tab[a-z]*$tab[-A-Zis ]*" stdout.txt
run train --data train.tsv --valid valid.tsv --out two.st $auto --threads 2 --quiet
check "two threads: the same file" cmp -s two.st auto.st
run info --model auto.st --json
result "info --json tells the choice" "$(says stdout.txt '"auto": {"intent.alone": |"intent.chosen": "|"multiply_adds.all": ')"
run train --data train.tsv --data spirit.tsv --valid valid.tsv --valid spirit.tsv --out auto.st $auto --quiet
check "tasks of two files" [ "$status" -eq 0 ]
run eval --model auto.st --data valid.tsv --data spirit.tsv --json
result "all of them are scored" "$(says stdout.txt '"intent"|"slots"|"mood"|"spirit"')"
run train --data train.tsv --valid valid.tsv --out taught.st $auto --share full --teacher only.st --quiet
check "--teacher" [ "$status" -eq 0 ]
run train --data train.tsv --valid valid.tsv --out full.st $auto --share full --quiet
check "what it says makes a difference" sh -c '! cmp -s taught.st full.st'
run train --data train.tsv --valid valid.tsv --out half.st $auto --share full --teacher only.st --quiet --checkpoint-every 1000 --stop-after 9
run train --data train.tsv --valid valid.tsv --out half.st $auto --share full --teacher only.st --quiet --checkpoint-every 1000 --resume half.st.checkpoint
check "a taught run that is resumed" cmp -s half.st taught.st
refuses "--teacher of other data" 1 "--teacher first.st|knows other words" train --data second.tsv --out out.st $small --teacher first.st
refuses "--teacher that is no model" 1 "train.tsv" train --data train.tsv --out out.st $small --teacher train.tsv
run train --data spirit.tsv --out spirit.st $small
sed "s/^spirit:/mind:/" spirit.tsv >mind.tsv
refuses "--teacher of other tasks" 1 "--teacher spirit.st|none of the tasks" train --data mind.tsv --out out.st $small --teacher spirit.st
run train --data train.tsv --valid valid.tsv --out auto.st $auto --set share.kind=soft
check "--set share.kind ends the search" sh -c '! grep -q "^task " stdout.txt'
run train --data train.tsv --valid valid.tsv --out auto.st $auto --surgery pcgrad --balance dwa
check "methods for several tasks in a search" [ "$status" -eq 0 ]
cut -f 2 valid.tsv | sed 1d | head -n 20 >valid.txt
run train --data train.tsv --valid valid.tsv --out auto.st $auto --budget 1
run train --data train.tsv --valid valid.tsv --out only.st $auto --only mood --quiet
"$mtl" predict --model auto.st <valid.txt 2>stderr.txt | awk -F "$tab" '{ print $4 }' >mood.txt
"$mtl" predict --model only.st <valid.txt 2>stderr.txt | awk -F "$tab" '{ print $2 }' >alone.txt
check "every digit of its answers is that of --only" cmp -s mood.txt alone.txt
run train --data train.tsv --valid valid.tsv --out auto.st $auto --budget 1 --chars cnn --affixes
run train --data train.tsv --valid valid.tsv --out only.st $auto --only mood --quiet --chars cnn --affixes
"$mtl" predict --model auto.st <valid.txt 2>stderr.txt | awk -F "$tab" '{ print $4 }' >mood.txt
"$mtl" predict --model only.st <valid.txt 2>stderr.txt | awk -F "$tab" '{ print $2 }' >alone.txt
check "the same with characters and affixes" cmp -s mood.txt alone.txt
check "--budget 1: the tasks alone" [ "$(for task in intent slots mood; do found $task chosen; done | grep -c '^alone$')" -eq 3 ]
run train --data train.tsv --valid valid.tsv --out auto.st $auto --budget 2h
check "--budget as a time" grep -q "partial" stdout.txt
run train --data train.tsv --valid valid.tsv --out auto.st $auto --budget 1
result "a budget without room says what would have it" "$(says stderr.txt "no room for a joint model|--budget 1.")"
run train --data train.tsv --valid valid.tsv --out auto.st ${auto#--preset auto} --preset plain --share auto
check "--share auto searches with any preset" grep -q "^task .*partial" stdout.txt
cut -f 1,2 train.tsv | head -n 120 >only_intent.tsv
{ cut -f 1,3 train.tsv | head -n 1 && cut -f 1,3 train.tsv | tail -n 400; } >only_slots.tsv
run train --data only_intent.tsv --data only_slots.tsv --valid valid.tsv --only intent,slots --out auto.st $auto --quiet
run info --model auto.st
alone=$(sed -n 's/^ *intent.alone=//p' stdout.txt)
run train --data only_intent.tsv --valid valid.tsv --only intent --out single.st $auto --log single.log --quiet
check "alone in a search, a task is as it is by itself: it does not know the others' words" \
    grep -q "\"score\": ${alone:-?}" single.log
run train --data train.tsv --valid valid.tsv --out hard.st $auto --share full --teacher only.st --quiet --set fit.curriculum=loss
check "--set fit.curriculum=loss goes by the teacher's losses" sh -c '! cmp -s taught.st hard.st'
refuses "--set fit.curriculum=loss without a teacher" 2 "fit.curriculum|--teacher" train --data train.tsv --out out.st $auto --set fit.curriculum=loss --share full
wild="--data train.tsv --only intent,mood --out wild.st --preset plain --share none --hidden 8 --embed 8 --epochs 2 --optimizer sgd --lr 10 --clip-norm 0"
run train $wild --skip-bad
result "--skip-bad says which task is left out, and where" "$(says stderr.txt "mtl: warning: epoch |, batch |the loss of task mood is not a finite number: it is left out of the batch|task mood was left out of ")"
check "the other task learns on" [ "$status" -eq 0 ]
refuses "the same without it" 1 "mtl: epoch |, batch |task mood is not a finite number" train $wild
run train --data train.tsv --valid valid.tsv --out auto.st $auto --set fit.curriculum=loss --set fit.task_patience=2 --quiet
check "regimes in a search" [ "$status" -eq 0 ]
refuses "--budget of nothing" 2 "--budget 0|at least 1" train --data train.tsv --valid valid.tsv --out out.st --budget 0
refuses "--budget of a wrong unit" 2 "--budget 3d|90s" train --data train.tsv --valid valid.tsv --out out.st --budget 3d
run train --data train.tsv --out auto.st $auto
result "without --valid nothing can be chosen" "$(says stderr.txt "note: |--valid")"

# ---- several files, other forms of input ------------------------------------------------------------------------------------------

run train --data train.tsv --data spirit.tsv --valid valid.tsv --valid spirit.tsv --out multi.st $small --sampler round-robin
check "two files with different tasks" [ "$status" -eq 0 ]
run eval --model multi.st --data valid.tsv --data spirit.tsv --json
result "both are scored together" "$(says stdout.txt '"intent"|"slots"|"spirit"|"sequences": 100')"

for share in soft adversarial stack; do
    run train --data train.tsv --data spirit.tsv --valid valid.tsv --valid spirit.tsv --out shared.st $small --share $share
    check "--share $share trains on several files" [ "$status" -eq 0 ]
    check "--share $share: no warning about a task that is never scored" [ ! -s stderr.txt ]
    run eval --model shared.st --data valid.tsv --data spirit.tsv --json
    result "--share $share is scored" "$(says stdout.txt '"intent"|"slots"|"spirit"|"joint_accuracy"')"
    check "--share $share: what tells files apart is not" sh -c '! grep -q origin stdout.txt'
    run eval --model shared.st --data valid.tsv --confusion counts.tsv
    check "--share $share: confusions" [ "$status" -eq 0 ]
    printf 'play good miles now\n' | "$mtl" predict --model shared.st >stdout.txt 2>stderr.txt
    check "--share $share answers" grep -q "^play good miles now$tab[a-z]*$tab" stdout.txt
    check "--share $share: predictions are of the files' tasks" sh -c '! grep -q origin stdout.txt'
done
run train --data train.tsv --data spirit.tsv --out shared.st $small --share adversarial
run info --model shared.st
result "info shows penalties and the task that tells files apart" "$(says stdout.txt 'task origin: origin|penalty apart0: shared, intent-own|weight 0.01|reversal(shared')"
run info --model shared.st --json
check "info as JSON is valid" json_valid stdout.txt
run info --model shared.st --desc-c
{ echo '#include "mtl_rnn.h"'; cat stdout.txt; echo 'int main(void) { return desc.inputs != inputs; }'; } >desc.c
compiles() { # COMPILER OPTIONS...: desc.c; true where there is no such compiler
    ! command -v "$1" >/dev/null 2>&1 || "$@" -Wall -Werror -fsyntax-only -I"$top" desc.c 2>stderr.txt
}
check "info --desc-c is C" compiles gcc -std=c99
check "it is C++20, too: mixes and all in the order of the fields" compiles g++ -std=c++20 -x c++
printf 'text\tslots:tags\tkind:class\n' >odd.tsv
for i in 1 2 3; do printf 'what??/ "is" \\n \303\251t??=\tO B-x I-x B-y\tp\nis what??/ "is"\tO O B-y\tq"\n' >>odd.tsv; done
run $best --data odd.tsv --out odd.st --share full --class-weights kind=balanced --freeze text.weight
run info --model odd.st --desc-c; cp stdout.txt odd.txt
result "info --desc-c has words, labels and phrases" \
    "$(says odd.txt '"what\?\?/", "\"is\"", "\\n"|phrases7[] = {|"y\011\"is\""|phrase_uses7[] = {|.phrases = phrases7|.labels = labels1|class_weights1[] = {')"
{ echo '#include "mtl_rnn.h"'; cat odd.txt; echo 'int main(void) { mtl_error err = { MTL_OK }; mtl_model *model = mtl_model_create(&desc, &err);'
    echo 'mtl_model_save(model, "rebuilt.st", &err); mtl_model_destroy(model); return err.code; }'; } >desc.c
check "with characters and quotes as they are, as C" compiles gcc -std=c99
check "as C++20" compiles g++ -std=c++20 -x c++
if gcc -std=c99 -I"$top" -o rebuild desc.c "${mtl%/*}/mtl_rnn.o" -lm -pthread 2>/dev/null; then    # not where it has a sanitizer
    check "the library makes a model of it" ./rebuild
    run info --model rebuilt.st --desc-c
    check "whose desc is the same" cmp -s stdout.txt odd.txt
fi
run info --model shared.st --json
result "and names what penalties are about" "$(says stdout.txt '"name": "apart0"|"a": "shared", "b": "intent-own"')"
refuses "--share adversarial wants two files" 1 "share.sets is 1; adversarial sharing tells data sets apart" \
    train --data train.tsv --out out.st $small --share adversarial
for balance in items dwa imtl gradnorm; do
    run train --data train.tsv --valid valid.tsv --out balance.st $small --balance $balance
    check "--balance $balance trains" [ "$status" -eq 0 ]
    cp balance.st first.st
    run train --data train.tsv --valid valid.tsv --out balance.st $small --balance $balance --threads 2
    check "--balance $balance: the same bits for two threads" cmp -s balance.st first.st
done
for surgery in pcgrad upgrad; do
    run train --data train.tsv --valid valid.tsv --out surgery.st $small --surgery $surgery
    check "--surgery $surgery trains" [ "$status" -eq 0 ]
done
refuses "surgery wants two tasks" 1 "trainer.surgery: upgrad wants two tasks that are trained at least" \
    train --data second.tsv --out out.st $small --surgery upgrad
refuses "surgery wants something shared" 1 "trainer.surgery: cagrad wants parameters that tasks share, and these share none" \
    train --data train.tsv --out out.st $small --share none --surgery cagrad
refuses "GradNorm wants something shared" 1 "trainer.balance: gradnorm wants parameters that tasks share" \
    train --data train.tsv --out out.st $small --share none --balance gradnorm
refuses "a temperature of zero" 2 "balance_temperature is 0; it must lie between 0.001 and" \
    train --data train.tsv --out out.st $small --balance dwa --set trainer.balance_temperature=0
refuses "--share soft wants two tasks" 1 "there is one task" train --data second.tsv --out out.st $small --share soft
run train --data train.conllu --out conllu.st $small
check "CoNLL-U trains" [ "$status" -eq 0 ]
run info --model conllu.st
result "its columns make tasks; _ is a label in feats" "$(says stdout.txt "task upos: tags|task feats: tags|task deprel: tags|Number=Plur _|vocabulary 6")"
check "a column that is wholly _ makes none" sh -c '! grep -q "task xpos" stdout.txt'
run eval --model conllu.st --data train.conllu --json
result "multi-word and empty nodes are skipped" "$(says stdout.txt '"sequences": 40, "tokens": 120|"upos"')"

frames="--sequence unit --features heat,noise,fixed"
csv_tasks="--task left:reals --task fails:tags --task model:class --task size:real"
run train --preset plain --frames train.csv --valid valid.csv --out frames.st $frames $csv_tasks --clamp left=0:10 --hidden 16 --epochs $epochs --lr 0.02 --batch 4 --threads 1
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
bi="note: the model will read each sequence forwards and from its end"
said() { grep -q "$bi" stderr.txt && echo yes || echo no; }
run train --preset plain --dir uni --frames train.csv --valid valid.csv --out uni.st $frames $csv_tasks --clamp left=0:10 --hidden 16 --epochs 2 --threads 1
run export --model uni.st --c machine
result "export --c says how large its stream is and how to open it" "$(says stdout.txt "machine.h and machine.c: a stream of |mtl_stream_open(buffer, sizeof buffer, &machine, 1, 0, &err)")"
run predict --model uni.st --frames valid.csv
cat >board.c <<'END'
#include <stdio.h>
#define MTL_RNN_IMPLEMENTATION
#include "machine.h"
static MTL_EXPORTED unsigned char buffer[machine_BYTES(1)];
int main(void)                              /* rows of the first machine; its answers as predict writes them */
{
    mtl_error err = { 0 };
    mtl_stream *stream = mtl_stream_open(buffer, sizeof buffer, &machine, 1, 0, &err);
    const mtl_prediction *out = NULL;
    mtl_real row[3];
    mtl_input input = { NULL, row, NULL };
    while (scanf("%f,%f,%f", &row[0], &row[1], &row[2]) == 3) {
        out = mtl_stream_step(stream, 0, &input, &err);
        if (!out) break;
        printf("%.4g ", (double)out[machine_left].values[0]);
    }
    if (err.code) puts(err.message);
    else printf("model %d size %.4g\n", out[machine_model].labels[0], (double)out[machine_size].values[0]);
    return err.code != 0;
}
END
first=$(sed -n 2p stdout.txt | cut -f 1)
awk -F, -v unit="$first" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } $at["unit"] == unit { print $at["heat"] "," $at["noise"] "," $at["fixed"] }' valid.csv >rows.txt
${CC:-cc} -std=c99 -O1 -I. -I"$top" -pthread -o board board.c machine.c -lm 2>stderr.txt && ./board <rows.txt >board.txt
wanted=$(sed -n 2p stdout.txt | cut -f 2 | tr ' ' '\n' | awk '{ printf "%.4g ", $1 }')
check "what export wrote compiles, and answers as predict does" [ -n "$wanted" -a "$(sed 's/model.*//' board.txt)" = "$wanted" ]
cp machine.c kept.c
refuses "export of what reads backwards" 1 "frames.st|column encoder cannot be streamed: it reads backwards" export --model frames.st --c machine
refuses "export under a name that C has not" 1 '"2nd" is no C identifier' export --model uni.st --c 2nd
refuses "export without --c" 2 "needs --c OUT" export --model uni.st
check "which leaves what there was, and makes no file" [ "$(cmp machine.c kept.c && ls 2nd.* 2>&1 | grep -c cannot)" -eq 1 ]
rows="--frames train.csv --out rows.st $frames $csv_tasks --preset plain --hidden 4 --epochs 1 --threads 1"
run train $rows
result "rows are read backwards, too, which is said" "$(says stderr.txt "$bi|--dir uni")"
run info --model rows.st
result "the model knows, and that nobody has asked for it; so it cannot be streamed" "$(says stdout.txt "dir=bi|dir_by=--preset|stream      no: column encoder cannot be streamed: it reads backwards, from a sequence's end (bidirectional): --dir uni")"
run info --model rows.st --json
check "info --json tells that in JSON" json_valid stdout.txt
result "it has a field for it" "$(says stdout.txt '"stream": false, "stream_fault": "column encoder cannot be streamed: it reads backwards|"dir_by": "--preset"')"
run train $rows --dir bi
check "--dir bi: no note" [ "$(said)" = no ]
run train $rows --quiet
check "--quiet: no note" [ ! -s stderr.txt ]
run train $rows --dir uni
check "--dir uni: no note" [ "$(said)" = no ]
run info --model rows.st
result "which makes a model that can be streamed" "$(says stdout.txt "dir=uni|dir_by=--dir|stream      yes")"
run info --model rows.st --json
result "and says so in JSON" "$(says stdout.txt '"stream": true, "tensors"')"
run train $rows --set encoder.bidirectional=0
run info --model rows.st
result "--set says it as well" "$(says stdout.txt "dir_by=--set|stream      yes")"
streams() { # ANSWER OPTIONS...: what info says of a model with forward columns alone
    wanted=$1; shift
    run train --data train.tsv --out uni.st $small --dir uni "$@"
    check "no note for text" [ ! -s stderr.txt ]
    run info --model uni.st
    result "stream $wanted: $*" "$(says stdout.txt "stream      $wanted")"
}
streams "yes" --share mmoe
streams "no: intent cannot be streamed: its experts have one gate a sequence" --share mmoe --set share.per_sequence=1
streams "yes" --share stack
streams "no: level1 cannot be streamed: at each step it reads" --share hierarchical --order intent+mood/slots --set share.distributions=1
streams "yes" --share hierarchical
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

# ---- numbers far from 0 -------------------------------------------------------------------------------------------------

# OFFSET UNIT: sequences of one row each, late when their stamp is a later one; the same column in another unit or from
# another 0 must be learned as well
make_stamps() {
    awk -v offset="$1" -v unit="$2" 'BEGIN {
        srand(5)
        print "run,stamp,late,when"
        for (i = 0; i < 200; i++) { t = int(100 * rand()); printf "r%d,%.0f,%s,%.0f\n", i, (offset + t) * unit, t < 50 ? "no" : "yes", (offset + t) * unit }
    }'
}
make_stamps 0 1 >near.csv; make_stamps 1700000000 1 >seconds.csv; make_stamps 1700000000 1000 >millis.csv
stamps="--sequence run --features stamp --task late:class --task when:real --hidden 8 --epochs 30 --lr 0.02 --batch 10 --threads 1"
for file in near seconds millis; do
    run train --frames $file.csv --valid $file.csv --out $file.st $stamps --log $file.json --quiet
    run eval --model $file.st --frames $file.csv --json
    check "numbers far from 0 are learned as near ones: $file" at_least "$(number stdout.txt accuracy)" 0.97
    check "the log tells the same error in every digit: $file" grep -q "\"rmse\": $(number stdout.txt rmse)," $file.json
    run predict --model $file.st --frames $file.csv
    tail -n +2 stdout.txt | cut -f3 >$file.txt
    run predict --model $file.st --frames $file.csv --json
    sed 's/.*"value": \([^}]*\).*/\1/' stdout.txt | cmp -s - $file.txt; check "tables and JSON give the same digits: $file" [ $? -eq 0 ]
done
# FILE UNIT OFFSET: each answer lies within 20 seconds of the truth
answers_near() {
    tail -n +2 "$1.csv" | cut -d, -f4 | paste - "$1.txt" | awk -v unit="$2" '{ d = ($2 - $1) / unit; if (d < -20 || d > 20) exit 1 }'
}
check "answers far from 0 have their digits: seconds" answers_near seconds 1
check "answers far from 0 have their digits: milliseconds" answers_near millis 1000
check "there are as many different ones as near 0" at_least "$(sort -u millis.txt | wc -l)" $(($(sort -u near.txt | wc -l) * 9 / 10))
check "answers near 0 have a float's digits" awk '{ gsub(/[-.]/, ""); if (length($0) > n) n = length($0) } END { exit !(n >= 7 && n <= 10) }' near.txt
run info --model millis.st
mean=$(awk -F, 'NR > 1 { sum += $2 - 1.7e12; n++ } END { printf "%.0f", 1.7e12 + sum / n }' millis.csv)
check "info shows the exact means" awk -v mean="$mean" '/their means/ { getline; d = $1 - mean; found = d > -1 && d < 1 } END { exit !found }' stdout.txt
# a model as earlier builds wrote it: the same file without the notes of exact means
sed 's/note\.feature_means/note.feature_meanx/; s/note\.target_means/note.target_meanx/' near.st >earlier.st
run eval --model earlier.st --frames near.csv --json
check "a model without exact means is read as before" at_least "$(number stdout.txt accuracy)" 0.97
run predict --model earlier.st --frames near.csv
tail -n +2 stdout.txt | cut -f3 | paste - near.txt | awk '{ d = $1 - $2; if (d < -1e-3 || d > 1e-3) exit 1 }'
check "and answers the same" [ $? -eq 0 ]
printf 'text\tk:real\na\t1700000010\nb\t1700000020\n' >far.tsv
run train --preset plain --data far.tsv --out far.st --hidden 8 --embed 8 --epochs 60 --lr 0.05 --dropout 0 --threads 1 --quiet
printf 'a\nb\n' | "$mtl" predict --model far.st >stdout.txt 2>stderr.txt
check "real targets of texts far from 0" awk -F "$tab" 'NR > 1 { d = $2 - 1700000000 - 10 * (NR - 1); if (d < -4 || d > 4) exit 1 }' stdout.txt

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
run train --preset plain --data fewer.tsv --valid valid.tsv --out other.st --hidden 8 --embed 8 --epochs 1
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

tags_warn() { # TEXT TAGS...: training on one row of each says that (TEXT empty: nothing)
    text=$1; shift
    printf 'text\tner:tags\n' >tags.tsv
    for row in "$@"; do printf '%s\t%s\n' "$row" "$row" >>tags.tsv; done
    run train --data tags.tsv --out tags.st $small
    if [ -n "$text" ]; then result "tags '$1': $text" "$(says stderr.txt "warning: tags.tsv: task ner: |look like spans|'$text'|not span F1")"
    else check "tags '$1': no warning" [ "$status" -eq 0 -a ! -s stderr.txt ]; fi
}
tags_warn E-PER 'O B-PER I-PER E-PER' 'S-LOC O'
tags_warn S-LOC 'O S-LOC'
tags_warn L-PER 'O B-PER I-PER L-PER O U-LOC'
tags_warn B     'O B I'
tags_warn M     'B-x M E S'
tags_warn I-LOC 'O I-LOC I-PER O'
tags_warn LOC   'O B-PER I-PER LOC'
tags_warn B-    'O B-PER I-PER B-'
tags_warn ''    'O B-PER I-PER I-LOC'
tags_warn ''    'DET NOUN VERB X'
tags_warn ''    'S V O'
tags_warn ''    'B I N S V RD EA'
tags_warn E-PER 'O B-PER I-PER E-PER'
run eval --model tags.st --data tags.tsv
result "eval warns of such tags, too" "$(says stderr.txt "warning: tags.st: task ner: |'E-PER'")"
run train --data train.tsv --out other.st $small --set encoder.dropout_between=0.3
result "dropout between the layers of one" "$(says stderr.txt "warning: |dropout_between|--layers")"
run train --data train.tsv --out other.st $small --set encoder.dropout_between=0.3 --layers 2
check "between two it is what was asked for" [ "$status" -eq 0 -a ! -s stderr.txt ]
awk 'BEGIN { for (i = 0; i < 300; i++) x = x "X"; print "text\tk:class"; for (i = 0; i < 20; i++) printf "see %sa\ta\nsee %sb\tb\n", x, x }' >long.tsv
run train --preset plain --data long.tsv --out long.st --hidden 8 --embed 8 --epochs 20 --lr .05 --threads 1 --quiet --lowercase
run eval --model long.st --data long.tsv --json
check "words of over 255 bytes are learnt" exactly "$(number stdout.txt accuracy)" 1
tail -n 2 long.tsv | cut -f1 | "$mtl" predict --model long.st | cut -f2 | tr '\n' ' ' >stdout.txt
result "and known to predict" "$(says stdout.txt "k a b")"

awk 'BEGIN { print "text\tk:class"; for (i = 0; i < 4097; i++) print "go\tlabel" i }' >many.tsv
run train --preset plain --data many.tsv --out many.st --hidden 2 --embed 2 --epochs 1 --threads 1 --quiet
run eval --model many.st --data many.tsv --confusion matrix.tsv
result "too many classes for a matrix" "$(says stderr.txt "note: task k has more than 4096 labels")"
check "are scored without one" [ "$status" -eq 0 -a ! -s matrix.tsv ]
for command in "--data gold.tsv --confusion gold.tsv" "--data gold.tsv --confusion many.st"; do
    printf 'text\tk:class\ngo\tlabel1\n' >gold.tsv
    refuses "eval $command" 1 "--confusion|expected another path" eval --model many.st $command
done

# Tags as one choice: a conditional random field.
run train --data train.tsv --valid valid.tsv --out crf.st $small --epochs 12 --hidden 16 --lr 0.02 --head slots=crf \
    --set task.slots.constraints=training
check "train --head slots=crf" [ "$status" -eq 0 ]
run info --model crf.st
result "info shows a crf and its tensors" "$(says stdout.txt "task slots: crf|constraints training|slots.transitions")"
run eval --model crf.st --data valid.tsv --json
json_valid stdout.txt
result "eval reads its tags columns" "$(says stdout.txt '"slots": {"kind": "crf", "token_accuracy": |"span_f1": ')"
check "a crf learns" at_least "$(number stdout.txt span_f1)" 0.9
printf 'play good nina max now\n' | "$mtl" predict --model crf.st >stdout.txt 2>stderr.txt
result "predict answers with the best path" "$(says stdout.txt "O O B-artist I-artist O")"
printf 'play good nina max now\n' | "$mtl" predict --model crf.st --json --best 3 >stdout.txt 2>stderr.txt
check "predict --best tells the likeliest taggings" json_valid stdout.txt
result "the first is the answer, the others are less likely" \
    "$(sed 's/.*"paths": //' stdout.txt | grep -o '"log_probability": [-0-9.e]*' | awk '{ if (NR > 1 && $2 > last) bad = 1; last = $2 } END { if (NR != 3 || bad) print "not 3 falling numbers" }')"
refuses "--best without --json" 2 "--best is for --json" predict --model crf.st --best 3
refuses "--best 0.5" 2 "paths" predict --model crf.st --json --best 0.5
refuses "--best of a model without a crf" 2 "has no task with a conditional random field" predict --model model.st --json --best 3
run train --data train.tsv --valid valid.tsv --out crf.st --hidden 8 --embed 8 --epochs 1 --quiet --head slots=crf
check "the search trains crf tasks from their labels" [ "$status" -eq 0 ]
run train --data train.tsv --out crf.st $small --share hierarchical --set share.distributions=1 --dir uni --head slots=crf
check "other tasks read a crf's probabilities" [ "$status" -eq 0 ]
run export --model crf.st --c crf_model
result "a crf cannot be streamed" "$(says stderr.txt "task slots cannot be streamed|of the kind crf")"
run train --data train.tsv --out crf.st $small --head slots=crf
refuses "a crf as a teacher" 1 "--teacher crf.st|from labels alone" train --data train.tsv --out out.st $small --teacher crf.st --head slots=crf
head_refused() { # HEAD TEXT
    refuses "--head $1" 2 "--head $1|$2" train --data train.tsv --out out.st $small --head "$1"
}
head_refused slots         "expected TASK=softmax or TASK=crf"
head_refused slots=hmm     "expected TASK=softmax or TASK=crf"
head_refused slot=crf      "no such task"
head_refused intent=crf    "of kind class; only tags tasks"

# Weights of classes: nine of a, one of b with a colon and a comma in its name.
{ printf 'text\tk:class\tn:real\n'; for i in 1 2 3 4 5 6 7 8 9; do printf 'go\ta\t1\n'; done; printf 'stay\tb:x,y\t2\n'; printf 'go\t_\t_\n'; } >weights.tsv
run train --data weights.tsv --out plain.st $small
run train --data weights.tsv --out weights.st $small --class-weights k=balanced
run info --model weights.st --json
result "balanced weights: items / (classes * items of the class)" "$(says stdout.txt '"class_weights": [0.5555556, 5]')"
run info --model weights.st
result "info shows them" "$(says stdout.txt 'class weights: a:0.5555556 b:x,y:5')"
run train --data weights.tsv --out listed.st $small --class-weights k=a:9 --class-weights k=b:x,y:5,a:0.5555556
check "the same weights in a list" cmp -s weights.st listed.st
run train --data weights.tsv --out listed.st $small --class-weights k=b:x,y:2.5
run info --model listed.st --json
result "a label that is not in the list has 1" "$(says stdout.txt '"class_weights": [1, 2.5]')"
weights_refused() { # WEIGHTS TEXT|TEXT...
    refuses "--class-weights $1" 2 "--class-weights $1|$2" train --data weights.tsv --out out.st $small --class-weights "$1"
}
weights_refused k          "expected TASK=balanced"
weights_refused m=balanced "no such task"
weights_refused n=balanced "of kind real; expected class, tags, multi, multis, ordinal or ordinals"
weights_refused k=none:2   "no label 'none'|expected a, b:x,y"
weights_refused k=a        "'a' is not of the form LABEL:X"
weights_refused k=a:-1     "'-1' is not a weight for a"
weights_refused k=a:two    "'two' is not a weight for a"
weights_refused k=a:1,a:2  "each label once"
weights_refused k=         "expected balanced"
weights_refused k=a:0,b:x,y:0 "one is above 0"

# Gold spans are those of the tags as written: F1 by the CoNLL rules, worked out by hand, where training has not seen every tag.
unseen_tag() { # NAME F1 ROW GOLD_ROW: ROW is learnt beside one of Os, then scored together with GOLD_ROW
    { printf 'text\tner:tags\n'; for i in 1 2 3 4 5 6 7 8; do printf "$3\\nwe go\\tO O\\n"; done; } >seen.tsv
    printf "text\\tner:tags\\n$3\\n$4\\n" >gold.tsv
    run train --preset plain --data seen.tsv --valid gold.tsv --out spans.st --log log.json --hidden 8 --embed 8 --epochs 30 --lr .05 --dropout 0 \
        --threads 1 --quiet
    tail -n 1 log.json >last.json
    check "validation: $1" exactly "$(number last.json span_f1)" "$2"
    run eval --model spans.st --data gold.tsv --json
    check "eval: $1" exactly "$(number stdout.txt span_f1)" "$2"
}
unseen_tag "an unseen I- makes the span before it longer"    0.5 'hi mia\tO B-PER'                      'hi mia go\tO B-PER I-PER'
result "eval --json: scores of each class, an unseen one among them" "$(says stdout.txt '"classes": {"O": {"precision": 0.6666667, "recall": 1, "f1": 0.8, "items": 2}, "B-PER": {"precision": 1, "recall": 1, "f1": 1, "items": 2}, "I-PER": {"precision": 0, "recall": 0, "f1": 0, "items": 1}}')"
result "eval --json: which label was taken for which" "$(says stdout.txt '"confusion": {"O": {"O": 2}, "B-PER": {"B-PER": 2}, "I-PER": {"O": 1}}')"
run eval --model spans.st --data gold.tsv --confusion matrix.tsv
printf 'ner\tO\tB-PER\nO\t2\t0\nB-PER\t0\t2\nI-PER\t1\t0\n' >expected.tsv
check "eval --confusion" cmp -s matrix.tsv expected.tsv
result "eval prints them, too" "$(says stdout.txt "precision  recall      F1   items|0.6667  1.0000  0.8000       2|most often wrong: O for I-PER (1)")"
unseen_tag "two unseen spans side by side are two"           0.5 'hi mia\tO B-PER'                      'we go we go\tO O B-LOC B-ORG'
unseen_tag "an unseen B- begins the span that an I- goes on" 1   'hi mia oslo rome\tO B-PER I-LOC I-LOC' 'hi oslo rome\tO B-LOC I-LOC'

# ---- sets of labels: any number of them, none, or not known ------------------------------------------------------------------------

printf 'text\ttopics:multi\nred sky\tcolour\nloud drum\tsound\nred loud car\tsound,colour\nit is\t\nred or it\t_\n' >sets.tsv
for i in 1 2 3; do sed 1d sets.tsv >more.tsv; cat more.tsv >>sets.tsv; done
printf 'text\ttopics:multi\nred sky\tcolour\nred loud car\tcolour,sound\nit is\t\nred sky\tcolour,speed\nis it\t_\n' >sets_valid.tsv
run train --preset plain --data sets.tsv --out sets.st --hidden 12 --embed 12 --epochs 60 --lr .05 --dropout 0 --threads 1 --quiet
check "multi trains" [ "$status" -eq 0 ]
run eval --model sets.st --data sets_valid.tsv
result "eval: micro and macro F1; a label unseen in training is one that nobody predicts" "$(says stdout.txt "topics           multi  micro F1 0.8889  macro F1 0.6667  (4 items)")"
result "eval tells of it" "$(says stderr.txt "task topics: 1 labels unseen in training (the first is 'speed' in line 5)")"
run eval --model sets.st --data sets_valid.tsv --json
result "eval --json: the promised keys, no joint accuracy" "$(says stdout.txt '{"tasks": {"topics": {"kind": "multi", "micro_f1": 0.8888889, "macro_f1": 0.6666667}}, "sequences": 5, "tokens": ')"
printf 'red loud car\nit is\nloud drum\n' | "$mtl" predict --model sets.st >out.txt
printf 'text\ttopics\nred loud car\tcolour,sound\nit is\t\nloud drum\tsound\n' >expected.tsv
check "predict: labels by commas, nothing for none" cmp -s out.txt expected.tsv
printf 'red loud car\nit is\n' | "$mtl" predict --model sets.st --json >out.txt
result "predict --json" "$(says out.txt '"topics": {"labels": ["colour", "sound"], "probabilities": {"colour": 0.9|"sound": 0.9|{"labels": [], "probabilities": {"colour": 0.')"
check "which is JSON" json_valid out.txt
run info --model sets.st
result "info" "$(says stdout.txt "task topics: multi|loss bce|colour sound")"
run eval --model sets.st --data sets.tsv --only topics
result "missing ones are left out" "$(says stdout.txt "micro F1 1.0000  macro F1 1.0000  (32 items)")"
run train --preset plain --data sets.tsv --valid sets_valid.tsv --out sets.st --hidden 12 --embed 12 --epochs 12 --lr .05 --dropout 0 --threads 1 --quiet --thresholds topics --class-weights topics=balanced
check "--thresholds, and --class-weights of sets" [ "$status" -eq 0 ]
run eval --model sets.st --data sets_valid.tsv
result "thresholds of best F1" "$(says stdout.txt "topics           multi  micro F1 0.8889  macro F1 0.6667  (4 items)")"
run info --model sets.st
result "info tells both" "$(says stdout.txt "thresholds 1|class weights: colour:1 sound:1|buffers.topics.thresholds")"
refuses "--thresholds without --valid" 2 "--thresholds topics|give it with --valid" train --data sets.tsv --out out.st $small --thresholds topics
refuses "--thresholds of no task" 2 "no such task; did you mean topics?" train --data sets.tsv --valid sets.tsv --out out.st $small --thresholds topic
refuses "--thresholds of classes" 2 "the task is of kind class; expected multi or multis" train --data train.tsv --valid valid.tsv --out out.st $small --thresholds intent
printf 'text\tparts:multis\nred sky\tcolour -\nloud drum\tsound,odd sound\nred loud car\tcolour sound,odd _\nit is\t- -\nred or it\t_\n' >steps.tsv
run train --preset plain --data steps.tsv --valid steps.tsv --out steps.st --hidden 12 --embed 12 --epochs 60 --lr .05 --dropout 0 --threads 1 --quiet --thresholds parts
check "multis: a set a token" [ "$status" -eq 0 ]
run eval --model steps.st --data steps.tsv
result "eval: all sets of steps are right" "$(says stdout.txt "parts            multis micro F1 1.0000  macro F1 1.0000  (8 items)")"
printf 'loud sky\n' | "$mtl" predict --model steps.st >out.txt
printf 'text\tparts\nloud sky\tsound,odd -\n' >expected.tsv
check "predict: sets by spaces, - for none" cmp -s out.txt expected.tsv
printf 'loud sky\n' | "$mtl" predict --model steps.st --json >out.txt
result "predict --json: probabilities of each step" "$(says out.txt '"parts": {"labels": [["sound", "odd"], []], "probabilities": [{"colour": 0|}, {"colour": 0')"
check "which is JSON, too" json_valid out.txt
printf 's,a,b,y\n1,2,3,"p,q"\n1,1,2,"q,p"\n2,5,1,\n2,5,2,_\n3,1,1,p\n3,2,1,nan\n4,9,9,_\n' >good.csv
run train --frames good.csv --valid good.csv --out out.st --sequence s --features a,b $small --task y:multi
check "CSV: a multi task, its rows agree in any order" [ "$status" -eq 0 ]
run eval --model out.st --frames good.csv --task y:multi --json
result "CSV: it is scored" "$(says stdout.txt '"kind": "multi", "micro_f1": ')"
run eval --model out.st --frames good.csv
result "CSV: an empty cell is the empty set, _ and nan are missing" "$(says stdout.txt "(3 items)")"
printf 's,a,b,y\n1,2,3,p\n1,1,2,"q,p"\n' >bad.csv
refuses "CSV: its rows must agree" 1 "bad.csv:3:8: |a task of kind multi has one value" train --frames bad.csv --out out.st --sequence s --features a,b $small --task y:multi

# ---- the page of columns: minGRU, convolutions -----------------------------------------------------------------------------

mtl() { "$mtl" "$@"; }
page_commands() { awk '/^```sh$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$top/docs/$1" >page.sh; }
page_commands columns.md
. ./page.sh >stdout.txt 2>stderr.txt
result "docs/columns.md: its commands" "$(says stdout.txt "F1 1.0000|joint accuracy 1.0000")"
check "both models are right" [ "$(grep -c 'joint accuracy 1.0000' stdout.txt)" -eq 2 ]
check "a causal convolution is exported" [ -s conv.c ]
run info --model min.st
result "info of minGRU: no recurrent matrix" "$(says stdout.txt "cell mingru|encoder.weight_ih_l1|stream      ")"
check "none at all" sh -c '! grep -q weight_hh stdout.txt'
run train --data rooms.tsv --out out.st $small --set encoder.kind=conv
check "convolutions by default" [ "$status" -eq 0 ]
run info --model out.st
result "which cannot be streamed" "$(says stdout.txt "encoder.layer0.window3.weight|its windows reach ahead")"

# ---- the page of kinds, ordered classes, counts -------------------------------------------------------------------------

page_commands tasks.md
. ./page.sh >stdout.txt 2>stderr.txt
result "docs/tasks.md: its commands" "$(says stdout.txt "stars            ordinal accuracy 1.0000  MAE in ranks 0  kappa 1.0000  (5 items)|mood             ordinal accuracy 1.0000|complaints       count  deviance |D2 0.9|letters          counts deviance |bad bad plain${tab}")"
result "two numbers an item" "$(says stdout.txt "end              real   RMSE |path             reals  RMSE |north east east${tab}")"
check "they are learnt" [ "$(grep -c 'R2 0.9' stdout.txt)" -eq 2 ]
check "and answered side by side" [ "$(grep '^north east east' stdout.txt | tr '\t ' '\n\n' | grep -c '^-*[0-9.e-]*,-*[0-9.e-]*$')" -eq 4 ]
check "which say nothing else" [ ! -s stderr.txt ]
result "docs/tasks.md: language models, beside tasks and alone" "$(says stdout.txt "lm               lm     perplexity |(14 items)|(7 items)|mean score ")"
cat >lm.awk <<'END'
/^lm / { perplexity = $4; next }        # the line behind it tells the mean score
/mean score/ { if (perplexity) { split($0, part, "mean score "); alone = part[2] + 0; last = perplexity; seen++ } perplexity = 0 }
END { exit !(seen == 2 && last < 3 && alone * last > 0.95 && alone * last < 1.05) }
END
check "alone its score is the inverse of the perplexity" awk -f lm.awk stdout.txt
refuses "predict by a language model alone" 1 "texts.st: has a language model alone|mtl eval" predict --model texts.st
run eval --model texts.st --data reviews.tsv --json
result "eval --json of it: texts are enough" "$(says stdout.txt '{"tasks": {"lm": {"kind": "lm", "perplexity": |"accuracy": |"sequences": 5')"
run eval --model beside.st --data texts.tsv
result "eval of texts without labels" "$(says stdout.txt "lm               lm     perplexity")"
run info --model beside.st
result "info: the task" "$(says stdout.txt "lm.output.weight|lm.output_reverse.weight")"
"$mtl" export --model texts.st --c words >out.txt 2>err.txt
check "a language model that reads forwards is exported" [ -s words.c ]
run train --data train.tsv --out one.st $small --share partial --lm 0.1 --lm-words 20 --threads 1 --quiet
run train --data train.tsv --out two.st $small --share partial --lm 0.1 --lm-words 20 --threads 3 --quiet
check "--lm: the same for any number of threads" cmp -s one.st two.st
refuses "--lm of a word" 2 "--lm much|a number above 0" train --data train.tsv --out out.st --lm much
refuses "--lm 0" 2 "--lm 0|a number above 0" train --data train.tsv --out out.st --lm 0
refuses "--lm-words without --lm" 2 "--lm-words: is for --lm" train --data train.tsv --out out.st --lm-words 20
refuses "--lm for rows of numbers" 2 "--lm|rows of numbers" train --frames train.csv --features heat --task left:reals --out out.st --lm 1
refuses "--lm over layers that read both ways" 2 "--lm: task lm: a language model may not read what it predicts|--share levels" train --data train.tsv --out out.st $small --share full --layers 2 --lm 0.1
run train --data train.tsv --out out.st $small --share levels --layers 2 --lm 0.1
check "--share levels: it reads the lowest" [ "$status" -eq 0 ]
printf 'text\tlm:class\na b\tx\nb a\ty\n' >bad.tsv
refuses "--lm beside a task of its name" 2 "--lm: the data have a task named lm" train --data bad.tsv --out out.st $small --lm 1
echo 'north east' | "$mtl" predict --model walks.st --json >out.txt
result "predict --json: lists of numbers" "$(says out.txt '"end": {"value": [|"path": {"values": [[')"
check "which is JSON, too" json_valid out.txt
printf 'text\tend:real\nnorth\t1\n' >bad.tsv
refuses "eval of fewer numbers" 1 "task end is of kind real here and real:2" eval --model walks.st --data bad.tsv
printf 's,a,place\n1,2,"1,2"\n1,1,"1,2"\n2,5,"3,-1"\n3,4,_\n' >place.csv
run train --frames place.csv --out out.st --sequence s --features a $small --task place:real:2
check "CSV: two numbers a sequence" [ "$status" -eq 0 ]
run predict --model out.st --frames place.csv
result "CSV: and two for an answer" "$(says stdout.txt ",")"
printf 's,a,place\n1,2,"1,2"\n1,1,"1,3"\n' >bad.csv
refuses "CSV: numbers that differ" 1 "bad.csv:3:6: place: '1,3' differs from the value in line 2; a task of kind real:2" train --frames bad.csv --out out.st --sequence s --features a --task place:real:2
printf 'text\tp:real:3\na\t1,2\n' >bad.tsv;                            bad_data "too few numbers" "2:5: |p: fewer numbers than the 3 of its kind, real:3"
printf 'text\tp:reals:2\na b\t1,2 1,2,3\n' >bad.tsv;                   bad_data "too many numbers" "|p: more numbers than the 2 of its kind, reals:2"
printf 'text\tp:class:2\na\tb\n' >bad.tsv;                             bad_data "a number behind a kind of labels" "1:8: |'class:2' is no kind of task"
run info --model reviews.st
result "numbers stand in their order, others in that of --ranks" "$(says stdout.txt "labels: 1 2 3 4 5|labels: low middle high|loss ordinal|loss poisson")"
run eval --model reviews.st --data reviews.tsv --json
result "eval --json: the promised keys" "$(says stdout.txt '"stars": {"kind": "ordinal", "accuracy": 1, "mae": 0, "kappa": 1, |"complaints": {"kind": "count", "deviance": |"d2": 0.9|"letters": {"kind": "counts", ')"
echo 'bad bad plain' | "$mtl" predict --model reviews.st --json >out.txt
result "predict --json: probabilities of each rank, values of counts" "$(says out.txt '"stars": {"label": "|"probabilities": {"1": 0|"complaints": {"value": |"letters": {"values": [')"
check "which is JSON" json_valid out.txt
printf 'text\tstars:ordinal\ngood\t7\ngood\t5\n' >ranks.tsv
run eval --model reviews.st --data ranks.tsv
result "a label that training had not is wrong and has no rank" "$(says stdout.txt "accuracy 0.|(2 items)")"
printf 's,a,y,n\n1,2,3,0\n1,1,2,4\n2,5,10,1\n' >good.csv
run train --frames good.csv --out out.st --sequence s --features a $small --task y:ordinals --task n:counts
check "CSV: ordinals and counts" [ "$status" -eq 0 ]
run info --model out.st
result "CSV: 10 is more than 3" "$(says stdout.txt "labels: 2 3 10")"
refuses "--clamp of counts" 2 "task n is of kind counts; expected real or reals" train --frames good.csv --out out.st --sequence s --features a $small --task n:counts --clamp n=0:1
printf 'text\tn:count\na\t2\nb\t-1\n' >bad.tsv;                     bad_data "a negative count" "3:3: |n: '-1' is no count; expected a whole number of at least 0"
printf 'text\tn:counts\na b\t2 1.5\n' >bad.tsv;                       bad_data "a fraction of a count" "2:7: |n: '1.5' is no count"
printf 'text\ty:ordinal\na\t1\nb\tmany\n' >bad.tsv
refuses "labels without an order" 1 "bad.tsv: task y|'many' is not a number|--ranks y=LOWEST,..,HIGHEST" train --data bad.tsv --out out.st $small
refuses "--ranks without a label of the data" 2 "--ranks y=1,2|'many'" train --data bad.tsv --out out.st $small --ranks y=1,2
refuses "--ranks with a label twice" 2 "'1' stands twice" train --data bad.tsv --out out.st $small --ranks y=1,1,many
refuses "--ranks of no task" 2 "no such task|did you mean y?" train --data bad.tsv --out out.st $small --ranks yy=1,many --ranks y=1,many
refuses "--ranks that is no list" 2 "expected TASK=LABEL,LABEL" train --data bad.tsv --out out.st $small --ranks y --ranks y=1,many
refuses "--ranks of classes" 2 "is of kind class; expected ordinal or ordinals" train --data train.tsv --out out.st $small --ranks intent=a,b
printf 'text\ty:ordinal\na\t1\nb\t1.0\n' >bad.tsv
refuses "one number in two ways" 1 "the labels '1' and '1.0' are the same number" train --data bad.tsv --out out.st $small
printf 'text\ty:ordinal\na\t1\nb\t1\n' >bad.tsv
refuses "an order of one label" 1 "an order needs two" train --data bad.tsv --out out.st $small

# ---- the page of rows of numbers: gaps ------------------------------------------------------------------------------------

page_commands frames.md
. ./page.sh >stdout.txt 2>stderr.txt
result "docs/frames.md: its commands" "$(says stdout.txt "fails            tags   token accuracy 0.9|wear             reals  RMSE 0.|R2 0.8")"
check "which say nothing else, too" [ ! -s stderr.txt ]
result "answers for rows with gaps" "$(says answers.tsv "m0${tab}no|m79${tab}")"
printf 's,a,b,y\n1,,1,4\n1,2,1,5\n2,_,nan,2\n2,4,3,3\n' >gaps.csv
refuses "a gap without --gaps" 1 "gaps.csv:2:3: feature a|--gaps mean or --gaps last" train --frames gaps.csv --out out.st --sequence s --features a,b $small --task y:reals
run train --frames gaps.csv --out out.st --sequence s --features 'a,a?,b' $small --task y:reals --gaps mean
check "--gaps mean" [ "$status" -eq 0 ]
run info --model out.st
result "info tells how gaps are read" "$(says stdout.txt "a,a?,b|gaps")"
run eval --model out.st --frames gaps.csv
check "eval reads gaps as training did" [ "$status" -eq 0 ]
sed 's/,,/,3,/; s/,_,/,3,/; s/,nan,/,1.6666666666666667,/' gaps.csv >filled.csv                 # the means of the numbers there are
run train --frames gaps.csv --out gaps.st --sequence s --features a,b $small --task y:reals --gaps mean
"$mtl" predict --model gaps.st --frames gaps.csv >with.txt 2>stderr.txt
"$mtl" predict --model gaps.st --frames filled.csv >without.txt 2>stderr.txt
check "a gap is the mean, to the last bit" cmp -s with.txt without.txt
sed 's/2,_,nan,2/2,_,3,2/' gaps.csv | sed 's/1,2,1,5/1,2,,5/' >last.csv
sed 's/1,2,,5/1,2,1,5/' last.csv >filled.csv
run train --frames last.csv --out gaps.st --sequence s --features a,b $small --task y:reals --gaps last
"$mtl" predict --model gaps.st --frames last.csv >with.txt 2>stderr.txt
"$mtl" predict --model gaps.st --frames filled.csv >without.txt 2>stderr.txt
check "--gaps last: a gap is the number before it" cmp -s with.txt without.txt
printf 's,a,y\n1,,4\n1,,5\n' >bad.csv
refuses "a feature without numbers" 1 "bad.csv: feature a has no number at all" train --frames bad.csv --out out.st --sequence s --features a $small --task y:reals --gaps mean
refuses "--gaps of another name" 2 "--gaps zero: expected mean or last" train --frames gaps.csv --out out.st --sequence s --features a $small --task y:reals --gaps zero
refuses "--gaps of text" 2 "--gaps: is for --frames" train --data train.tsv --out out.st --gaps mean
refuses "a mark of no column" 1 "no column z" train --frames gaps.csv --out out.st --sequence s --features 'a,z?' $small --task y:reals --gaps mean

# ---- the table of the front page: every example trains --------------------------------------------------------------------

{ printf 'text\tlemma:tokens\tintent:class\tslots:tags\ttopics:multi\tsays:multis\tmood:real\tplace:real:2\tpath:reals:2\tstars:ordinal\theat:ordinals\tfaults:count\tletters:counts\n'
  printf 'turn it off\tturn it off\toff\tO O B-way\ta,b\ta - b\t1\t1,2\t1,1 2,2 3,3\t1\tlow low high\t0\t4 2 3\n'
  printf 'turn on\tturn on\ton\tO B-way\ta\t- -\t2\t3,1\t1,1 2,1\t5\tmiddle low\t3\t4 2\n'; } >table.tsv
sed '2,$s/on/out/' table.tsv >table2.tsv
printf 'turn 1 2 3\non 2 2 2\n' >glove.txt
cp cats.conllu train.conllu
printf 'id,heat,load,fails\na,1,2,no\na,,3,yes\nb,4,1,no\n' >rows.csv
sed -n '/^### What you can read/,/^## In a C/p' "$top/README.md" | sed -n '/^| .*`--/p' | cut -d '|' -f 3 | tr '`' '\n' | grep '^--' >rows.txt
check "README: a row of the table for each thing" at_least "$(grep -c . rows.txt)" 25
while read -r options; do
    data="--data table.tsv --data table2.tsv" preset="--preset plain"
    case $options in *--only*|*--frames*|*conllu*) ;; *) data="$data --ranks heat=low,middle,high" ;; esac
    case $options in *--data*|*--frames*) data= ;; --budget*) data="--data table.tsv --data table2.tsv --valid table.tsv --only intent,mood" preset= ;;
        *thresholds*) data="$data --valid table.tsv" ;; esac
    run train $data --out out.st $preset --hidden 8 --epochs 1 --threads 1 --quiet $options
    result "README: $options" "$([ "$status" -eq 0 ] || echo "status $status")"
done <rows.txt

# ---- bad data ------------------------------------------------------------------------------------------------------------------

head='intent:class\ttext\tslots:tags\tmood:real\n'
: >bad.tsv;                                                         bad_data "an empty file" "1:1: |empty|expected"
printf '\357\273\277' >bad.tsv;                                     bad_data "nothing but a byte order mark" "1:1: |empty"
printf "$head" >bad.tsv;                                            bad_data "a header line only" "1:1: |header line|expected"
printf 'intent:klass\ttext\na\tb\n' >bad.tsv;                       bad_data "an unknown kind" "1:8: |klass|expected class, tags, real, reals, multi, multis, ordinal, ordinals, count or counts"
printf 'text\ttopics:multi\na\tb,,c\n' >bad.tsv;                    bad_data "an empty label in a set" "2:5: |topics|an empty label among others"
printf 'text\ttopics:multi\na\tb,\n' >bad.tsv;                      bad_data "an empty label at the end of one" "2:5: |topics|an empty label among others"
printf 'text\ttopics:multi\na\tb,_\n' >bad.tsv;                     bad_data "a missing label in a set" "2:5: |topics|a missing label among others"
printf 'text\ttopics:multi\na\tb, c\n' >bad.tsv;                    bad_data "a space in a set" "2:5: |topics|holds a space|commas alone"
printf 'text\ttopics:multi\na\tb,c,b\n' >bad.tsv;                   bad_data "a label twice in a set" "2:7: |topics|stands twice"
printf 'text\ttopics:multi\na\t\nb\t_\n' >bad.tsv;                  bad_data "sets without any label" "1:1: |topics|no labels at all"
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
printf 's,a,b,y\n1,2,x,4\n' >bad.csv;            bad_csv "a feature that is no number" "2:5: |b|'x' is not a number|remove the row" --task y:reals
for value in '' _ nan; do
    printf "s,a,b,y\n1,2,$value,4\n" >bad.csv;   bad_csv "a feature that is '$value'" "2:5: |feature b|may not be missing" --task y:reals
done
printf 's,a,b,y\n1,2,3,x\n' >bad.csv;            bad_csv "a target that is no number" "2:7: |y|'x' is not a number|_ where it is missing" --task y:reals
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

# ---- advice, followed -----------------------------------------------------------------------------------------------------------
# Each message's advice is taken word by word, and what was refused then succeeds.

works() { # NAME ARGUMENTS...: mtl succeeds
    name=$1; shift
    run "$@"
    [ "$status" -eq 0 ] && problem= || problem="status $status"
    result "followed: $name" "$problem"
}
says_not() { # NAME TEXT: the last message has not the text
    if grep -qF -e "$2" stderr.txt; then result "$1" "it says '$2'"; else result "$1" ""; fi
}
csv_train() { # NAME OPTIONS...: training on good.csv succeeds
    name=$1; shift
    works "CSV: $name" train --frames good.csv --out out.st --sequence s --features a,b $small "$@"
}

printf ',a,b,y\n0,2.5,3,4\n1,1.5,2,3\n' >bad.csv
bad_csv "a first column without a name" "1:1: |no column s|expected a, b, y|first column has no name" --task y:real
says_not "an empty name is never meant" "did you mean"
sed '1s/^,/s,/' bad.csv >good.csv; csv_train "the first column gets a name" --task y:real
printf 'sep=,\ns,a,b,y\n1,2.5,3,4\n1,1.5,2,4\n' >bad.csv
bad_csv "a hint for another program" "1:1: |sep=|remove this line" --task y:real
sed 1d bad.csv >good.csv; csv_train "the hint is removed" --task y:real
printf '1,2.5,3,4\n1,1.5,2,4\n' >bad.csv
bad_csv "no header line" "1:1: |no column s|holds the number 1|header line missing" --task y:real
says_not "a number is never meant" "did you mean"
{ echo s,a,b,y; cat bad.csv; } >good.csv; csv_train "a header line is put above" --task y:real
printf 'u1,new,2.5,4\nu1,new,1.5,4\n' >bad.csv
bad_csv "no header line, texts first" "1:8: |no column s|holds the number 2.5|header line missing" --task y:real
printf 's;a;b;y\n1;2,5;3;4\n1;1,5;2;4\n' >bad.csv
bad_csv "semicolons" "1:2: |semicolons|tr ';,' ',.' <FILE >NEW" --task y:real
sh -c "$(grep -o "tr '[^']*' '[^']*'" stderr.txt) <bad.csv >good.csv"; csv_train "semicolons become commas, by the command given" --task y:real
printf 's\ta\tb\ty\n1\t2,5\t3\t4\n' >bad.csv
bad_csv "tabs" "1:2: |tabs|tr '" --task y:real
sh -c "$(grep -o "tr '[^']*' '[^']*'" stderr.txt) <bad.csv >good.csv"; csv_train "tabs become commas, by the command given" --task y:real
printf '"s";"a";"b";"y"\n1;2,5;3;4\n' >bad.csv
bad_csv "quoted cells and semicolons" "1:4: |semicolons" --task y:real
tr ';,' ',.' <bad.csv >good.csv; csv_train "so do those" --task y:real
printf 's,a,b,y\n1,2.5,NA,4\n1,1.5,2,4\n' >bad.csv
bad_csv "NA in a feature" "2:7: |b|'NA'|remove the row" --task y:real
says_not "a missing feature is not to be written _" "_ where"
sed 2d bad.csv >good.csv; csv_train "the row is removed" --task y:real
printf 's,a,b,y\n1,2.5,,4\n1,1.5,2,4\n' >bad.csv
bad_csv "nothing in a feature" "2:7: |fill it in, remove the row, or train with --gaps mean" --task y:real
cp bad.csv good.csv; csv_train "--gaps mean is given" --task y:real --gaps mean
sed 's/,,/,3,/' bad.csv >good.csv; csv_train "it is filled in" --task y:real
printf 's,a,b,y\n1,2.5,1,NA\n2,1.5,2,4\n3,0,0,1\n' >bad.csv
bad_csv "NA in a target" "2:9: |y|'NA'|_ where it is missing" --task y:real
sed 's/NA/_/' bad.csv >good.csv; csv_train "the target is written _" --task y:real
printf 's,a,b,y\n1,2,5,3,4\n' >bad.csv
bad_csv "a comma in a number" "2:9: |5 cells|have a point" --task y:real
printf 's,a,b,y\n1,2.5,3,4\n' >good.csv; csv_train "the number gets a point" --task y:real
printf 's,a;b,c,y\n1,2.5,3,4\n' >bad.csv
bad_csv "a semicolon in one name" "1:1: |no column a, which --features names; expected s, a;b, c, y" --task y:real
printf 's,a,b,y\n1,2.5,3,x\n1,2.5,3,z\n' >good.csv
cp good.csv bad.csv; bad_csv "one value for the sequence" "3:9: |kind tags: one for each row" --task y:class; csv_train "the kind is tags" --task y:tags
printf 's,a,b,y,y\n1,2.5,3,4,5\n' >bad.csv; bad_csv "one name twice" "1:9: |rename one" --task y:reals
sed '1s/y$/z/' bad.csv >good.csv; csv_train "one of two columns is renamed" --task y:reals
printf 's,a,b,the end\n1,2.5,3,4\n' >bad.csv
refuses "CSV: a task's name with a space" 2 "the name may hold only|rename the column in the file" train --frames bad.csv --out out.st --sequence s --features a,b $small --task "the end:reals"
sed 's/the end/the_end/' bad.csv >good.csv; csv_train "the column is renamed" --task the_end:reals
printf 's,a,b,y,z\n1,2,3,_,4\n' >good.csv; cp good.csv bad.csv
bad_csv "no labels in one of two" "1:1: |label some, or leave it out with --only z" --task y:reals --task z:reals; csv_train "it is left out" --task y:reals --task z:reals --only z
printf 's,a,b,y\n1,2,3,1\n1,2,3,1\n' >good.csv; cp good.csv bad.csv
bad_csv "too long a sequence" "3:1: |allow more with --max-tokens" --task y:reals --max-tokens 1; csv_train "more is allowed" --task y:reals --max-tokens 2
printf 's,a,"b,y\n' >bad.csv; bad_csv "a quote in the header line" "1:5: |quote" --task y:reals
printf 's,a,b,y\n1,2,3,1\n' >good.csv; run train --frames good.csv --out named.st --sequence s --features a,b $small --task y:reals
printf 't,a,c,y\n1,2,3,1\n' >other.csv
refuses "the model's columns under other names" 1 "no column t, which --sequence names; expected s, a, b, y" eval --model named.st --frames good.csv --sequence t
refuses "the model's sequence column" 1 "no column s, which the model reads (--sequence may name another)" eval --model named.st --frames other.csv
refuses "the model's feature column" 1 "no column b, which the model reads (--features may name others)" eval --model named.st --frames other.csv --sequence t
works "they are named" eval --model named.st --frames other.csv --sequence t --features a,c
refuses "--features of another number" 2 "names 1 columns|trained on 2" eval --model named.st --frames other.csv --features a
printf 's,a,b,z\n1,2,3,1\n' >other.csv
refuses "a file without the model's tasks" 1 "no column for any task of the model; expected y" eval --model named.st --frames other.csv
sed '1s/z/y/' other.csv >good.csv; works "the task's column is named" eval --model named.st --frames good.csv
refuses "--clamp suggests tasks of numbers alone" 2 "no such task; expected left" train --frames train.csv --out out.st $small $frames --task left:reals --task fails:tags --clamp failz=0:1

tsv_train() { # NAME OPTIONS...: training on good.tsv succeeds
    name=$1; shift
    works "TSV: $name" train --data good.tsv --out out.st $small "$@"
}
printf 'wake me\talarm\nplay it\tplay\n' >bad.tsv
bad_data "no header line" "1:1: |'wake me' has no kind|intent:class|header line: is it missing?"
{ printf 'text\tintent:class\n'; cat bad.tsv; } >good.tsv; tsv_train "a header line is put above"
printf 'text\tencoder\na\tb\n' >bad.tsv; bad_data "a column whose name cannot have a kind" "1:6: |name:kind such as intent:class"
sed 's/encoder/intent:class/' bad.tsv >good.tsv; tsv_train "the column has the name of the message"
printf 'text\tintent\na\tb\n' >bad.tsv; bad_data "a column that can" "1:6: |name:kind such as intent:class"
sed 's/intent/intent:class/' bad.tsv >good.tsv; tsv_train "the column has a kind"
printf 'text,k:class\na,b\n' >bad.tsv; bad_data "commas" "1:1: |the task name 'text,k'|separated by tabs"
tr , '\t' <bad.tsv >good.tsv; tsv_train "commas become tabs"
printf 'text\tk:class\ttopics:several\na\tb\tc\n' >bad.tsv; bad_data "a column of an unknown kind" "1:21: |expected class, tags, real, reals, multi, multis, ordinal, ordinals, count or counts"
cp bad.tsv good.tsv; tsv_train "it is left out" --only k
printf 'text\tk:class\tj:class\na\tb\t_\n' >bad.tsv; bad_data "a task without labels" "1:1: |leave it out with --only k"
cp bad.tsv good.tsv; tsv_train "it is left out, too" --only k
printf 'text\tj:class\na\t_\n' >bad.tsv; bad_data "the only task without labels" "1:1: |label some"
says_not "the only task cannot be left out" "--only"
printf 'text\tk:class\na\tb\n\na\tb\n' >bad.tsv; bad_data "an empty line" "3:1: |remove the empty line"
sed 3d bad.tsv >good.tsv; tsv_train "the empty line is removed"
printf 'text\tk:class\na\t\n' >bad.tsv; bad_data "an empty label" "2:3: |write _"
{ sed 's/\t$/\t_/' bad.tsv; printf 'b\tc\n'; } >good.tsv; tsv_train "it is written _"
printf 'text\tk:class\na\tb c\n' >bad.tsv; bad_data "a space in a label" "2:3: |write _ in place of spaces"
sed 's/b c/b_c/' bad.tsv >good.tsv; tsv_train "it is written with _"
printf 'text\tk:tags\na b\tO\n' >bad.tsv; bad_data "a tag too few" "2:5: |one for each token"
sed 's/O$/O _/' bad.tsv >good.tsv; tsv_train "each token has a tag"
printf 'text\tk:tags\na b\tO\nc\tO\n' >bad.tsv; bad_data "tags that are not known" "2:5: |or _ for none at all"
sed '2s/O$/_/' bad.tsv >good.tsv; tsv_train "_ stands for all of them"
printf 'text\tk:class\na b c\tx\n' >good.tsv; cp good.tsv bad.tsv
bad_data "too long a text" "2:1: |allow more with --max-tokens" --max-tokens 2; tsv_train "more is allowed" --max-tokens 3
refuses "words that are all rare" 1 "lower --min-count" train --data good.tsv --out out.st $small --min-count 2; tsv_train "--min-count is lower" --min-count 1 --max-tokens 3
printf 'text\tk:class\nna\357ve\tx\n' >bad.tsv; bad_data "Latin-1" "2:3: |save the file as UTF-8"
if command -v iconv >/dev/null; then iconv -f latin1 -t utf-8 bad.tsv >good.tsv; tsv_train "it is saved as UTF-8"; fi
refuses "one name, two kinds: what to do" 1 "expected the same kind, or another name" train --data train.tsv --data second.tsv --out out.st $small
works "another name" train --data train.tsv --data spirit.tsv --out out.st $small
printf 'text\tother:class\na\tb\n' >bad.tsv
refuses "eval: no task of the model, with kinds" 1 "expected intent:class, slots:tags, mood:real" eval --model model.st --data bad.tsv
sed 's/other/intent/' bad.tsv >good.tsv; works "the column is one of them" eval --model model.st --data good.tsv
printf '1\ta\t_\t_\t_\t_\t0\t_\t_\t_\n' >bad.conllu
refuses "CoNLL-U: no labels" 1 "UPOS, XPOS, FEATS and DEPREL" train --data bad.conllu --out out.st $small
printf '1\ta\t_\tX\t_\t_\t0\t_\t_\t_\n' >good.conllu; works "a column has labels" train --data good.conllu --out out.st $small
printf '1\t\t_\tX\t_\t_\t0\t_\t_\t_\n' >bad.conllu
refuses "CoNLL-U: an empty word" 1 "bad.conllu:1:3: |empty word|or _" train --data bad.conllu --out out.st $small
sed 's/1\t/1\t_/' bad.conllu >good.conllu; works "it is written _" train --data good.conllu --out out.st $small

base="train --preset plain --data train.tsv --out out.st --epochs 1 --quiet"
refuses "--set of a group" 2 "is a group; name one of its fields, as in encoder.FIELD=VALUE; expected kind, cell, hidden" $base --set encoder=3
refuses "--set of a task's group" 2 "task.NAME.FIELD=VALUE; expected weight" $base --set task=3
works "a field of it" $base --hidden 8 --set encoder.hidden=3
refuses "--set suggests no field that the data decide" 2 "no field 'vocabularys'; expected kind, width" $base --set input.vocabularys=3
refuses "a number out of its range" 2 "--hidden 0: out of range|between 1 and 1000000" $base --hidden 0
works "the least number" $base --hidden 1
for option in --hidden --embed --layers --dropout --lr --clip-norm --clip-value --l1 --l2 --epochs --batch --patience --threads; do
    run $base --hidden 4 $option -1
    least=$(sed -n 's/.*between \([^ ]*\) and .*/\1/p; s/.*must not be negative.*/0/p' stderr.txt)
    works "the least number that the message of $option names, '$least'" $base --hidden 4 --set fit.epochs=1 $option "$least"
done
for field in input.dropout encoder.dropout trainer.beta1 trainer.beta2 trainer.average task.intent.label_smoothing; do
    run $base --hidden 4 --set $field=1e9
    most=$(sed -n 's/.* and \([0-9.e]*\)$/\1/p' stderr.txt)
    works "the greatest number that the message of $field names, '$most'" $base --hidden 4 --set $field="$most"
done
for option in --cell --optimizer --schedule --sampler --precision --isa; do
    run $base --hidden 4 $option nothing
    first=$(sed -n 's/.*choose one of \([^,]*\).*/\1/p' stderr.txt)
    works "the first choice of $option, '$first'" $base --hidden 4 $option "$first"
done
refuses "--task of a misspelt column" 1 "no column lefd, which --task names; did you mean left?" train --frames train.csv --out out.st $small $frames --task lefd:reals
works "the column that was meant" train --frames train.csv --out clamped.st $small $frames --task left:reals --clamp left=0:125
run eval --model clamped.st --frames train.csv
result "a model that was trained with --clamp is told" "$(says stderr.txt "unless it is given here")"
works "it is given there" eval --model clamped.st --frames train.csv --clamp left=0:125
check "nothing is told any more" [ ! -s stderr.txt ]
refuses "eval --task of a misspelt task" 2 "did you mean left?" eval --model clamped.st --frames train.csv --task lefd:reals
works "the task that was meant" eval --model clamped.st --frames train.csv --task left:reals
run predict --model clamped.st
result "predict without --frames" "$(says stderr.txt "give --frames FILE.csv")"
works "a file of rows" predict --model clamped.st --frames train.csv
echo 'a b c' >three.txt
"$mtl" predict --model model.st --max-tokens 2 <three.txt >stdout.txt 2>stderr.txt
result "predict: a line that is too long" "$(says stderr.txt "allow more with --max-tokens")"
check "more is allowed" sh -c '"$1" predict --model model.st --max-tokens 3 <three.txt >stdout.txt 2>stderr.txt' - "$mtl"
refuses "--frames with a model of texts" 2 "give --data FILE instead" eval --model model.st --frames train.csv
refuses "predict --frames with a model of texts" 2 "give lines on standard input instead" predict --model model.st --frames train.csv
works "lines on standard input" predict --model model.st
refuses "--out below a file" 1 "--out train.tsv/m.st|train.tsv is no folder" train --data train.tsv --out train.tsv/m.st $small
refuses "--out in a folder to be made" 1 "create it first" train --data train.tsv --out made/m.st $small
mkdir made; works "the folder is made" train --data train.tsv --out made/m.st $small
refuses "a missing model: no folder is to be made" 1 "No such file or directory; check the path" info --model none.st
says_not "a missing model" "create"

# ---- wrong usage ------------------------------------------------------------------------------------------------------------------

base="train --preset plain --data train.tsv --out out.st --epochs 1 --quiet"
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
refuses "--preset of no kind" 2 "--preset 12: no such preset; expected auto, plain, best" $base --preset 12
refuses "--preset that is misspelt" 2 "did you mean plain" $base --preset plian
refuses "--pool of no kind" 2 "--pool sum|last, mean, max, attention" $base --pool sum
refuses "--pool beside no kind" 2 "--pool sum: |none, last, mean" $base --pool attention+sum
refuses "--pool-of no task" 2 "--pool-of mood=intend|no task intend" $base --pool-of mood=intend
refuses "--dropout 1" 2 "--dropout 1: |out of range" $base --dropout 1
refuses "--epochs 0" 2 "--epochs 0: |out of range" $base --epochs 0
refuses "--min-count 0" 2 "--min-count 0|whole number" $base --min-count 0
refuses "--set without =" 2 "--set encoder.hidden|expected" $base --set encoder.hidden
refuses "an activation that cells have not" 2 'activation cannot be "gelu"; choose one of none, tanh, relu, sigmoid' $base --set encoder.cell=rnn --set encoder.activation=gelu
refuses "recurrent dropout without a recurrent matrix" 1 "column encoder: dropout_recurrent is for recurrent matrices, and mingru has none" \
    $base --share full --cell mingru --set encoder.dropout_recurrent=0.2
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
refuses "--watch without --log" 2 "--watch is for --log" train --data train.tsv --out out.st --watch 5 $small
refuses "--watch 0" 2 "--watch 0|whole number" train --data train.tsv --out out.st --log l.json --watch 0 $small
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

# ---- tensors of other programs ------------------------------------------------------------------------------------------------

golden=$top/tests/golden
net=$golden/state_dict.safetensors          # PyTorch's: an embedding, a GRU of two layers and directions, a head of two Linear
run info "$net"
check "info of another program's file: status 1" [ "$status" -eq 1 ]
result "it lists names, types and shapes" "$(says stdout.txt "no valid model; a safetensors file|21 tensors|net.embed.weight |F32   9x4|net.head.0.bias |net.rnn.weight_ih_l1_reverse")"
result "and says what to do" "$(says stderr.txt "is no model; mtl import makes one of them")"
run info "$net" --json
check "--json: status 1" [ "$status" -eq 1 ]
check "it is JSON" json_valid stdout.txt
result "with the same" "$(says stdout.txt '"model": false, "bytes": 3484, "fault": "|{"name": "net.embed.weight", "type": "F32", "shape": [9, 4]}|"shape": [5]}|"metadata": {}')"
run info --model "$golden/tagger.safetensors"
result "other types, metadata" "$(says stdout.txt "I32   16|F64   16x4|metadata|  cases=case tagger")"
run info model.st
result "info of a model lists its tensors, too" "$(says stdout.txt "a valid model|tensors|text.weight |F32   |intent.output.bias ")"
run info model.st --json
result "so it does in JSON" "$(says stdout.txt '"model": true|"tensors": [{"name": "|"type": "F32", "shape": [')"
check "which is JSON" json_valid stdout.txt
run info newer.st
result "a model that cannot be read: what it holds, and why" "$(says stdout.txt "no valid model|text.weight ")$(says stderr.txt "newer")"
refuses "info of two files" 2 "unexpected argument 'b.st'" info a.st b.st

maps="--map net.embed.=text. --map net.rnn.=encoder. --map net.head.0.=kind.hidden.0. --map net.head.2.=kind.output."
run import "$net" $maps --task kind:tags --out net.st
check "import" [ "$status" -eq 0 ]
result "it says what was read" "$(says stdout.txt "21 of 21 tensors read; 455 parameters; saved to net.st")"
check "and nothing else" [ ! -s stderr.txt ]
run info net.st
result "sizes come from the file" "$(says stdout.txt "vocabulary 9  width 4|cell gru  hidden 3  activation tanh  reset after  layers 2  bidirectional 1|task kind: tags|classes 4|hidden 5|map=net.rnn.=encoder.|stream      no")"
run predict --model net.st
result "without words it reads ids, which is said" "$(says stderr.txt "net.st reads token ids: it stores no words")"
check "import takes what is said alike" "$mtl" import "$net" $maps --task kind:tags:4 --cell gru --dir bi --hidden 3 --layers 2 --embed 4 --vocabulary 9 --set task.kind.hidden=5 --quiet --out two.st
check "to the same file" cmp -s net.st two.st
"$mtl" import "$net" --map 'net.embed.*=text.*' --map net.rnn.=encoder. --map 'net.head.0.*=kind.hidden.0.*' --map 'net.head.2.*=kind.output.*' --task kind:tags --quiet --out two.st
"$mtl" info two.st | sed 1d | grep -v map= >two.txt; "$mtl" info net.st | sed 1d | grep -v map= >one.txt
check "patterns with a star are the same" cmp -s one.txt two.txt

contradicts() { # NAME TEXT|TEXT... OPTIONS...: import of the file with all mappings fails
    name=$1 texts=$2; shift 2
    refuses "import: $name" 1 "$texts" import "$net" $maps --out out.st "$@"
}
contradicts "another cell" "state_dict.safetensors: tensor net.rnn.weight_hh_l0 (9x3) is of a gru|--cell" --task kind:tags --cell lstm
contradicts "other units" "tensor net.rnn.weight_hh_l0 (9x3) makes encoder.hidden (--hidden) 3; the command line says 4" --task kind:tags --hidden 4
contradicts "fewer layers" "tensor net.rnn.weight_hh_l1 (9x3) makes encoder.layers (--layers) 2; the command line says 1" --task kind:tags --layers 1
contradicts "one direction" "--dir uni, but the file has net.rnn.weight_hh_l0_reverse|leave --dir out" --task kind:tags --dir uni
contradicts "another width" "tensor net.embed.weight (9x4) makes input.width (--embed) 4; the command line says 8" --task kind:tags --embed 8
contradicts "another vocabulary" "tensor net.embed.weight (9x4) makes the vocabulary (--vocabulary) 9; the command line says 10" --task kind:tags --vocabulary 10
contradicts "other classes" "tensor net.head.2.weight (4x5) makes the classes or numbers of task kind 4; the command line says 5" --task kind:tags:5
contradicts "other hidden layers" "tensor net.head.0.weight (5x6) makes task.kind.hidden, layer 0, 5; the command line says 6" --task kind:tags --set task.kind.hidden=6
contradicts "more hidden layers" "task.kind.hidden has 2 layers or more, but no --map leads to kind.hidden.1.weight" --task kind:tags --set task.kind.hidden=5,4
refuses "rows of numbers of an embedding" 2 "--features: --map leads from net.embed.weight (9x4) to an embedding" import "$net" $maps --task kind:tags --features 4 --out out.st
refuses "import: no mapping for the encoder" 1 "no --map leads to encoder.weight_hh_l0|; the file has net.rnn.weight_hh_l0 (9x3): --map net.rnn.=encoder." \
    import "$net" --map net.embed.=text. --task kind:tags --out out.st
refuses "import: a mapping that leads to nothing" 1 "--map net.gru.=encoder. leads from encoder.weight_hh_l0 to net.gru.weight_hh_l0, which is not in the file; the file has net.rnn.weight_hh_l0" \
    import "$net" --map net.embed.=text. --map net.gru.=encoder. --task kind:tags --out out.st
refuses "import: no embedding" 1 "no --map leads to text.weight, the embedding; the file has net.embed.weight (9x4): --map net.embed.=text.|--features 4|--vocabulary N" \
    import "$net" --map net.rnn.=encoder. --task kind:tags:4 --out out.st
refuses "import: no head, and no classes" 1 "how many classes or numbers does task kind have? no --map leads to kind.output.weight|give --task kind:tags:N" \
    import "$net" --map net.embed.=text. --map net.rnn.=encoder. --task kind:tags --out out.st
refuses "import: a mapping of nothing in the model" 1 "--map net.head.0.=kind.dense.: |no tensor of the model fits" \
    import "$net" --map net.embed.=text. --map net.rnn.=encoder. --map net.head.0.=kind.dense. --map net.head.2.=kind.output. --task kind:tags --out out.st
refuses "import: a head that does not fit" 1 "state_dict.safetensors: |kind.output.weight (file 4x5, model 4x6)|is read from net.head.2.weight (4x5): give a --map" \
    import "$net" --map net.embed.=text. --map net.rnn.=encoder. --map net.head.2.=kind.output. --task kind:tags --out out.st
refuses "import: a bias that is not there" 1 "kind.output.bias (no net.embed.bias in the file)" \
    import "$net" --map net.rnn.=encoder. --map net.embed.=kind.output. --task kind:tags --features 4 --out out.st
contradicts "no biases" "8 tensors of the file fit a mapping|net.rnn.bias_hh_l0|or narrow the --map" --task kind:tags --set encoder.no_bias=1
run import "$net" --map net.embed.=text. --map net.rnn.=encoder. --task kind:tags:4 --task other:multi:3 --task how-much:real:2 --out part.st
check "import of a part" [ "$status" -eq 0 ]
result "it says what keeps its initial values, and what is not read" "$(says stderr.txt "note: no --map leads to 6 of the model's tensors|kind.output.weight, kind.output.bias, other.output.weight|note: 4 of the file's tensors are not read: net.head.0.bias")"
run info part.st
result "kinds as in a data file's header" "$(says stdout.txt "task kind: tags|task other: multi|task how-much: real|width 2")"
run import "$net" --map net.rnn.=encoder. --task kind:tags:4 --features a,b,c,d --sequence who --out rows.st --quiet
check "a model that reads rows" [ "$status" -eq 0 ]
printf 'who,a,b,c,d\nx,1,2,3,4\nx,0,1,0,1\n' >rows.csv
run predict --model rows.st --frames rows.csv
check "it predicts from CSV, whose columns it knows" [ "$(sed -n 2p stdout.txt | grep -c "^x$tab[0-3] [0-3]$")" -eq 1 ]
run import "$net" --map net.rnn.=encoder. --task kind:tags:4 --features 4 --out rows.st --quiet
check "rows without names" [ "$status" -eq 0 ]
refuses "rows of another width" 1 "--features says 3 numbers a row; the encoder's net.rnn.weight_ih_l0 (9x4) reads 4" import "$net" --map net.rnn.=encoder. --task kind:tags:4 --features a,b,c --out out.st
run import "$net" --map net.rnn.=encoder. --task kind:tags:4 --vocabulary 20 --out fresh.st
result "an embedding that is still to be learnt" "$(says stderr.txt "text.weight, kind.output.weight")"
run import "$net" --map net.embed.=text. --map net.rnn.=encoder. --map net.head.0.=kind.hidden.0. --map net.head.2.weight=kind.output.weight --task kind:tags --out bare.st
result "a Linear without a bias" "$(says stderr.txt "1 of the model's tensors|zeros|: kind.output.bias")"

# Words and labels from files: a trained model under other names, without its metadata, is made again.
sed 's/"encoder\./"theLSTM./g; s/"text\.weight"/"embd.weight"/; s/"intent\.output/"linear\.output/g; s/mtl_rnn\.config/xyz_rnn.config/' model.st >alien.st
run info alien.st
result "a file of other names" "$(says stdout.txt "no valid model|embd.weight|theLSTM.weight_ih_l0|linear.output.bias")"
"$mtl" info model.st --json | python3 -c 'import json, sys
of = {task["name"]: task for task in json.load(sys.stdin)["tasks"]}
for name in ("intent", "slots"): open(name + ".txt", "w").write("".join(label + "\n" for label in of[name]["labels"]))' 2>/dev/null
python3 - model.st >words.txt 2>/dev/null <<'END'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
print("\n".join(json.loads(header["__metadata__"]["mtl_rnn.config"])["inputs"][0]["words"]))
END
alien="--map embd.=text. --map theLSTM.=encoder. --map linear.output.=intent.output. --map slots.=slots. --map mood.=mood. --map buffers.mood.=buffers.mood. \
    --task intent:class --task slots:tags --task mood:real --pool max"
if [ -s words.txt ]; then                   # with python3
    run import alien.st $alien --labels intent=intent.txt --labels slots=slots.txt --words words.txt --out known.st --quiet
    check "import with words and labels" [ "$status" -eq 0 -a ! -s stdout.txt -a ! -s stderr.txt ]
    "$mtl" predict --model known.st <valid.txt >known.txt 2>stderr.txt; "$mtl" predict --model model.st <valid.txt >model.txt 2>stderr.txt
    check "it answers as the model that it was" cmp -s known.txt model.txt
    run eval --model known.st --data valid.tsv
    check "it can be scored" [ "$status" -eq 0 ]
    { sed -n 2p words.txt; sed -n 3p words.txt; sed -n 1p words.txt; sed 1,3d words.txt; } >moved.txt
    run import alien.st $alien --words moved.txt --out out.st
    result "words whose unknown one is not the first: a warning" "$(says stderr.txt "warning: --words moved.txt: unknown words are read as the first line's|give --unknown '<unk>'")"
    run import alien.st $alien --words words.txt --unknown "$(sed -n 3p words.txt)" --out moved.st --quiet
    "$mtl" predict --model moved.st <valid.txt | cut -f 1,2,4 >moved.txt 2>stderr.txt
    run import alien.st $alien --words words.txt --out plain.st --quiet
    "$mtl" predict --model plain.st <valid.txt | cut -f 1,2,4 >plain.txt
    check "--unknown: known words are read as before" cmp -s plain.txt moved.txt
    check "--unknown: the others as that one" [ "$(echo xyzzy | "$mtl" predict --model moved.st | tail -n 1 | cut -f 2-)" = "$(sed -n 3p words.txt | "$mtl" predict --model plain.st | tail -n 1 | cut -f 2-)" ]
    refuses "--unknown that is no word" 1 "--unknown nobody: words.txt has no such line" import alien.st $alien --words words.txt --unknown nobody --out out.st
    sed 1d words.txt >short.txt
    refuses "--words of too few lines" 1 "--words short.txt: has |; the vocabulary has |embd.weight" import alien.st $alien --words short.txt --out out.st
    sed 1d intent.txt >short.txt
    refuses "--labels of too few lines" 1 "--labels intent: 2 lines, but 3 classes (tensor linear.output.weight (3x32))" import alien.st $alien --labels intent=short.txt --out out.st
    { cat words.txt; sed -n 2p words.txt; } >short.txt
    refuses "--words with a word twice" 1 "short.txt:|stands in line 2, too" import alien.st $alien --words short.txt --out out.st
    printf 'a\n\nb\n' >short.txt
    refuses "--labels with an empty line" 1 "short.txt:2:1: an empty line; expected a label a line" import alien.st $alien --labels intent=short.txt --out out.st
fi
refuses "--labels of no task" 2 "--labels moody=x: no --task moody; did you mean mood?" import alien.st $alien --labels moody=x --out out.st
refuses "--labels of numbers" 2 "--labels mood=x: task mood is of kind real" import alien.st $alien --labels mood=x --out out.st
refuses "--labels without a file" 2 "--labels intent: expected TASK=FILE" import alien.st $alien --labels intent --out out.st
refuses "--map without a model's name" 2 "--map lstm: expected FROM=TO" import alien.st --map lstm --task a:class --out out.st
refuses "--map with two stars" 2 "--map *a*=b: a name has at most one '*'" import alien.st --map '*a*=b' --task a:class --out out.st
refuses "--task without a kind" 2 "--task a: expected NAME:KIND" import alien.st --map a=b --task a --out out.st
refuses "--task of no kind" 2 "'klass' is no kind of task; expected class, tags" import alien.st --map a=b --task a:klass --out out.st
refuses "--task of no number" 2 "'many' is no number of classes" import alien.st --map a=b --task a:class:many --out out.st
refuses "--task of a name that is taken" 2 "the name is a name that the model itself uses" import alien.st --map a=b --task text:class --out out.st
refuses "import without a file" 2 "mtl import needs the state_dict's file" import --map a=b --task a:class --out out.st
refuses "import without --map" 2 "mtl import needs --map" import alien.st --task a:class --out out.st
refuses "import without --task" 2 "mtl import needs --task" import alien.st --map a=b --out out.st
refuses "import without --out" 2 "mtl import needs --out" import alien.st --map a=b --task a:class
refuses "an option of train" 2 "--epochs is not an option of mtl import" import alien.st --epochs 3
refuses "import into its own file" 1 "expected another path" import alien.st --map a=b --task a:class --out alien.st
printf 'PK\003\004 a zip archive, as torch.save writes it' >net.pt
refuses "what torch.save writes" 1 "net.pt: is written by torch.save|safetensors.torch.save_file(model.state_dict()" import net.pt --map a=b --task a:class --out out.st
refuses "info of it" 1 "net.pt: is written by torch.save" info net.pt
refuses "import of no file" 1 "none.st" import none.st --map a=b --task a:class --out out.st
refuses "a misspelt --set" 2 "did you mean" import alien.st --map a=b --task a:class --set encoder.hiden=3 --out out.st
refuses "--set of no task" 2 "no task b" import alien.st --map a=b --task a:class --set task.b.weight=3 --out out.st

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
"$mtl" train --preset plain --data train.tsv --valid valid.tsv --out int.st --hidden 16 --embed 16 --epochs 100000 --threads 1 --log int.json >stdout.txt 2>stderr.txt & training=$!
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

# ---- going on --------------------------------------------------------------------------------------------------------------------

# tests/resume.py tries a covering set of options; here is one of text and one of numbers, with several data sets
same() { # NAME OPTIONS...: two stops and two new processes end with the model of a run without
    name=$1; shift
    rm -f whole.st cut.st*; problem=
    run train "$@" --out whole.st --threads 1 --quiet
    run train "$@" --out cut.st --threads 2 --quiet --checkpoint-every 4 --stop-after 5
    [ "$status" -eq 0 ] && problem=$(says stderr.txt "mtl: interrupted: |--resume cut.st.checkpoint goes on") || problem="status $status"
    run train "$@" --out cut.st --threads 1 --quiet --checkpoint-every 3 --stop-after 7 --resume cut.st.checkpoint
    run train "$@" --out cut.st --threads 2 --quiet --checkpoint-every 3 --resume cut.st.checkpoint
    cmp -s whole.st cut.st || problem=${problem:-"another model"}
    [ -e cut.st.checkpoint ] && problem=${problem:-"the checkpoint is still there"}
    result "resume: $name" "$problem"
}
sed '1s/mood:class/tone:class/' second.tsv >tone.tsv
text="--preset plain --data train.tsv --data tone.tsv --valid valid.tsv --hidden 8 --embed 8 --epochs 2"
same "text" $text --schedule cosine --sampler annealed --set trainer.average=0.9 --set trainer.lazy=1 --sampler-weight tone.tsv=2
awk -F "$tab" -v OFS="$tab" '$2 ~ /^play/ && ++k % 2 { sub(/ [a-z]* now/, " now", $2); sub(/ I-artist/, "", $3) } 1' train.tsv >short.tsv
same "phrases, swapped spans, equal lengths" $text --data short.tsv --gazetteer spans --swap 0.9 --equal-length --sum-steps
same "frozen" $text --freeze text.weight,"encoder.*" --set trainer.average=0.9
same "numbers" --preset auto --share full --frames train.csv --valid valid.csv --sequence unit --features heat,noise --task left:reals --task model:class \
    --hidden 8 --epochs 4 --batch 4 --sampler together --optimizer rmsprop --set fit.curriculum=length --patience 1

run train $text --out cut.st --quiet --checkpoint-every 4 --stop-after 5; mv cut.st.checkpoint held.st
run eval --model held.st --data valid.tsv
check "a checkpoint is a model" [ "$status" -eq 0 ]
again="train $text --out out.st --resume held.st --quiet"
refuses "another rate" 1 "held.st: not what its run was asked for: trainer.lr is 0.01 and was 0.001|--force" $again --lr 0.01
refuses "another seed and weight" 1 "fit.seed is 2 and was 1|task.mood.weight is 3 and was 1" $again --seed 2 --weight mood=3
refuses "an option that was not given" 1 "input.lowercase is 1 and was 0" $again --lowercase
refuses "other weights of data" 1 "--sampler-weight is tone.tsv=3 and was not given" $again --sampler-weight tone.tsv=3
refuses "other tasks" 1 "its tasks are intent, slots, mood, tone, those of the data intent, slots" $again --only intent,slots
refuses "a model that is finished" 1 "cut.st: holds no optimiser state|--checkpoint-every" train $text --out out.st --resume cut.st
refuses "no model at all" 1 "--resume train.tsv: " train $text --out out.st --resume train.tsv
refuses "other tensors frozen" 1 "--freeze is text.weight and was not given" $again --freeze text.weight
refuses "no file" 1 "--resume none.st: there is no such file" train $text --out out.st --resume none.st
run train --data train.tsv --valid valid.tsv --out auto.st $auto --quiet
for updates in 3 100 200 260; do      # in the first training; in a later one; in a joint one
    rm -f part.st*
    run train --data train.tsv --valid valid.tsv --out part.st $auto --quiet --checkpoint-every 4 --stop-after $updates
    check "the search for what is shared, stopped after $updates updates" [ -s part.st.checkpoint.1 ]
    run train --data train.tsv --valid valid.tsv --out part.st $auto --quiet --checkpoint-every 4 --resume part.st.checkpoint
    check "it goes on to the same file" cmp -s part.st auto.st
    check "its checkpoints go" sh -c '! ls part.st.* 2>/dev/null | grep -q .'
done
run train --data train.tsv --valid valid.tsv --out part.st $auto --quiet --checkpoint-every 4 --stop-after 40
sed '$d' train.tsv >shorter.tsv
refuses "the search, with other data" 1 "--resume part.st.checkpoint.1|--data 1|--force" train --data shorter.tsv --valid valid.tsv --out out.st $auto --resume part.st.checkpoint --checkpoint-every 4
refuses "--force alone" 2 "--force is for --resume" train $text --out out.st --force
refuses "a weight of an unknown file" 2 "--sampler-weight tune.tsv=2: no such file|did you mean tone.tsv" train $text --out out.st --sampler-weight tune.tsv=2
refuses "a weight that is none" 2 "expected FILE=X" train $text --out out.st --sampler-weight tone.tsv=many
refuses "temperature 0" 2 "temperature is 0" train $text --out out.st --set fit.temperature=0
run $again --freeze "text.weight,encoder.*" --force
check "the checkpoint's moments of what is frozen now are passed over" [ "$status" -eq 0 ]
run info --model out.st --json
check "the file says what is frozen" grep -q '"freeze": "text.weight,encoder.\*"' stdout.txt
refuses "a name that no tensor has" 2 "--freeze: no tensor fits \"encodr.*\"; there are text.weight, encoder.weight_ih_l0" \
    train $text --out out.st --freeze "encodr.*"
run train $text --out init.st --quiet --init "*.weight_hh*=orthogonal,text.weight=uniform:0.1" --init "*.output.weight=constant:0" --stop-after 1
run info --model init.st --json
check "the file says how its tensors began" grep -q '"init": "\*.weight_hh\*=orthogonal,text.weight=uniform:0.1,\*.output.weight=constant:0"' stdout.txt
refuses "a rule of initial values that fits nothing" 2 '--init: no matrix fits "encodr.*"' train $text --out out.st --init "encodr.*=xavier"
refuses "a kind of initial values that is none" 2 'names no kind of initial values, which are uniform:X' train $text --out out.st --init "*=xavir"
search="train --data train.tsv --valid valid.tsv $auto --quiet"
run $search --out plain.st
run $search --out begun.st --init "encoder.weight_hh*=orthogonal"
check "initial values in a search" [ "$status" -eq 0 ]
check "they make a difference" sh -c '! cmp -s begun.st plain.st'
run $search --out cut.st --init "encoder.weight_hh*=orthogonal" --checkpoint-every 4 --stop-after 100
run $search --out cut.st --init "encoder.weight_hh*=orthogonal" --checkpoint-every 4 --resume cut.st.checkpoint --threads 2
check "a search with them that is resumed" cmp -s cut.st begun.st
run $search --out begun.st --init "*-own.*=he,*.output.weight=xavier"
check "initial values of what some structures have" [ "$status" -eq 0 ]
refuses "initial values that fit no model of a search" 2 '--init: no matrix fits "encodr.*"; there are text.weight' $search --out out.st --init "*=he,encodr.*=he"
refuses "a kind of initial values that is none, in a search" 2 '"*-own.*=hee" names no kind of initial values' $search --out out.st --init "*-own.*=hee"
run train $text --out from.st --init-from init.st --stop-after 1
result "--init-from says what it took" "$(says stderr.txt 'note: --init-from init.st: |tensors begin as there')"
run train $text --out from.st --quiet --checkpoint-every 4 --stop-after 5 --init-from init.st
cp init.st init.old; cp from.st init.st
refuses "another file of --init-from" 1 "--init-from 1 init.st is|bytes of checksum|and was" train $text --out out.st --init-from init.st --resume from.st.checkpoint
mv init.old init.st
refuses "--init-from of another shape" 1 "--init-from init.st: its |rename it in the file" train $text --out out.st --init-from init.st --hidden 9
run train --data train.tsv --valid valid.tsv $auto --quiet --share full --out whole.st --stop-after 1
run $search --out begun.st --init-from whole.st
check "--init-from in a search" sh -c '! cmp -s begun.st plain.st'
run train --data train.tsv --valid valid.tsv $auto --out begun.st --init-from whole.st
result "says once what the model of all tasks took" "$(says stderr.txt 'note: --init-from whole.st: 15 of 15 tensors begin as there')"
check "and no more" [ "$(grep -c init-from stderr.txt)" -eq 1 ]
run train --data train.tsv --valid valid.tsv $auto --out begun.st --init-from whole.st --hidden 9
result "what has another shape is left out" "$(says stderr.txt '4 of 15 tensors begin as there')"
header='{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
printf "\\$(printf %03o ${#header})\\0\\0\\0\\0\\0\\0\\0%s\\0\\0\\0\\0" "$header" >other.st
refuses "--init-from of a file with other names" 1 "has none of this model's tensors, which are text.weight, ..|mtl info FILE" \
    train $text --out out.st --init-from other.st
refuses "--init-from of a file with other names, in a search" 1 "has none of this model's tensors" $search --out out.st --init-from other.st
refuses "--init-from of a file that is none" 1 "train.tsv" train $text --out out.st --init-from train.tsv
refuses "frozen names in the search for a structure" 2 "--share NAME" train --data train.tsv --valid valid.tsv --out out.st --freeze text.weight
run train $text --out cut.st --quiet --checkpoint-every 4 --stop-after 5 --freeze text.weight --freeze "slots.*"
refuses "moments that a frozen tensor left out" 1 "the file has no tensor optimizer.m.text.weight" train $text --out out.st --quiet --resume cut.st.checkpoint --force
run train $text --out cut.st --quiet --freeze text.weight --freeze "slots.*" --resume cut.st.checkpoint
check "what was frozen goes on frozen" [ "$status" -eq 0 ]
run $again --lr 0.01 --force
[ "$status" -eq 0 ] && problem=$(says stderr.txt "mtl: note: --resume held.st: trainer.lr is 0.01 and was 0.001") || problem="status $status"
result "--force goes on" "$problem"
cp valid.tsv valid.old; tail -n 1 valid.tsv >>valid.tsv
refuses "another data file" 1 "--valid 1 valid.tsv is|bytes of checksum|and was" $again
run $again --force
check "--force goes on with it" [ "$status" -eq 0 ]
mv valid.old valid.tsv
run $again --threads 1
check "another number of threads is no change" [ "$status" -eq 0 ]

# ---------------------------------------------------------------------------------------------------------------------------------

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
