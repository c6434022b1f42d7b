#!/bin/sh
# demo_seeds.sh - does `make demo` show what it promises with other seeds, too? For seeds 1 to 5 (SEEDS="1 2" picks some) intent with
# few labels must gain beside slots, and no task may be worse together than alone, on the test data. Run by `make demo-seeds`.
failed=0
for seed in ${SEEDS:-1 2 3 4 5}; do
    DEMO_OPTIONS="--seed $seed" bash examples/demo.sh >build/demo/seed.txt 2>&1 || { cat build/demo/seed.txt; exit 1; }
    awk -v seed="$seed" '
        /^Test accuracy of intent with/ { sub(",", "", $9); few = sprintf("few labels %s -> %s", $9, $12); bad += $12 <= $9 }
        $1 ~ /^(intent|slots|urgency)$/ && NF == 5 { line = line sprintf("  %s %s -> %s", $1, $3, $4); bad += $4 < $3; tasks++ }
        $1 == "mood" && NF == 5 { line = line sprintf("  %s %s -> %s", $1, $3, $4); bad += $4 > $3; tasks++ }
        END { printf "%s seed %d: %s%s\n", bad || tasks != 4 || few == "" ? "not ok" : "ok", seed, few, line; exit bad || tasks != 4 || few == "" }
    ' build/demo/seed.txt || failed=$((failed + 1))
done
exit $((failed > 0))
