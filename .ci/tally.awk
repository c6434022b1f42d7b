# Reads what one test program printed and prints "PASSED FAILED FIRST_FAILURE". Two forms are understood: cmocka's, where
# a test that was begun and never ended (a crash) counts as failed, and plain lines "ok NAME" and "FAILED NAME".
# -v status=N is the program's exit status: one that fails without naming a test counts as one failure.

function fail(name) { failed++; if (first == "") first = name }
function end_crashed() { if (running != "") fail(running); running = "" }
function name_after(marker) { name = $0; sub(".*" marker " *", "", name); sub("[ \r].*", "", name); return name }

/\[ RUN      \]/                  { end_crashed(); running = name_after("\\[ RUN      \\]"); next }
/\[       OK \]/                  { passed++; running = ""; next }
/\[  SKIPPED \]/                  { running = ""; next }
/\[  FAILED  \]/                  { if (running != "" && name_after("\\[  FAILED  \\]") == running) end_crashed(); next }
/^ok [^ ]/                        { passed++ }
/^(FAILED|not ok) [^ ]/           { name = $0; sub(/^(FAILED|not ok) /, "", name); sub(/[: ].*/, "", name); fail(name) }

END {
    end_crashed()
    if (status != 0 && !failed) fail("exit_status_" status)
    if (!passed && !failed) fail("no_test_ran")
    print passed + 0, failed + 0, first
}
