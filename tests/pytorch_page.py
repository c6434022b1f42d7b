#!/usr/bin/env python3
"""make pytorch: runs the code of docs/pytorch.md, block after block, against real PyTorch.

    python tests/pytorch_page.py [FOLDER]       with the programs mtl and fine_tune in FOLDER (build)

Blocks of Python share one namespace, blocks of sh are run by bash -e, all in a folder of their own; what has to agree is
asserted by the page itself. A line for each block, `ok LINE` or `FAILED LINE`, and a last line that counts them.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import traceback

TOP = pathlib.Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "pytorch.md"


def blocks():
    """(line of the page, language, code)"""
    text = PAGE.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(python|sh)\n(.*?)^```$", text, flags=re.M | re.S):
        yield text.count("\n", 0, match.start()) + 2, match.group(1), match.group(2)


def run_python(line, code, names):
    exec(compile("\n" * (line - 1) + code, str(PAGE), "exec"), names)


def run_shell(code):
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", code], check=True)


def main():
    programs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else TOP / "build").resolve()
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    passed, names, languages = 0, {}, set()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for line, language, code in blocks():
            try:
                run_python(line, code, names) if language == "python" else run_shell(code)
            except Exception:
                traceback.print_exc()
                print(f"FAILED docs/pytorch.md:{line}: {language}; the blocks behind it were not run\n{passed} passed, 1 failed")
                return 1
            passed += 1
            languages.add(language)
            print(f"ok docs/pytorch.md:{line}: {language}", flush=True)
        os.chdir(TOP)
    print(f"{passed} passed, 0 failed")
    return len(languages) < 2


if __name__ == "__main__":
    sys.exit(main())
