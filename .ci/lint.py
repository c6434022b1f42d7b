#!/usr/bin/env python3
"""Checks what a compiler does not: the shape of mtl_rnn.h. Run by `make lint`; needs sim_c, gcc, g++ and clang.

    contents    the list near the top and the banners agree in number, tag and order
    order       text order is dependency order: no internal function is declared ahead of its body, none is used above
                it, and no section uses a public function that a later section defines
    statuses    a function that returns a status says so: mtl_status, which C++ does not make out of an int
    stamps      every short name that the kernel template defines as a macro is undefined behind the stamps, no other
    map         no section uses a later one's types or constants either, and docs/architecture.md shows the
                arrows that are there (.ci/map.py)
    length      no function above 60 lines, kernels excepted; no section above 1,200 lines, kernels, interface
                and those listed below excepted; no file of the command above 600
    width       no line of the files listed below is over 110 columns
    includes    files of the command include each other one way: no circle, a file and its header taken as one
    kinds       no comparison with a kind's constant outside that kind's room, for the kinds listed below
    pages       every mtl_ name in backticks on the pages that explain the code stands in the code, and so does
                every one in a comment of mtl_rnn.h
    quotes      C code on the pages that explain the code says where it is from, and stands there word for word
    descs       an initialiser with .members has them in the order of the header's struct and none nested, so that it
                may be copied into C++20
    documents   what a text names by its path is in the tree, and no text leans on papers that are not
    repeats     no run of 60 tokens stands twice in mtl_rnn.h and the command (.ci/lint.allow has exceptions)
    warnings    the implementation compiles without any, in C99, C++11 and C++20, float and double
    size        its object code, with the kernels of every instruction set of x86, stays within OBJECT_LIMIT

The checks lean on the header's layout: a function begins in column 0 and its last line is a `}` in column 0, a banner is
a boxed comment whose second line is "   NUMBER  >>tag   sentence".
"""
import bisect
import glob
import os
import platform
import re
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

HEADER = "mtl_rnn.h"
COMMAND_FOLDER = "examples/mtl"
ALLOW = ".ci/lint.allow"
OUT = "build/lint"
LENGTH_LIMIT, LENGTH_LOOK = 60, 40
SECTION_LIMIT, FILE_LIMIT = 1200, 600
SECTIONS_EXEMPT = ["kernels", "api", "formats", "model"]     # the last two until they are parted
RUN_TOKENS = 60
KERNELS = "kernels"

WIDTH_LIMIT = 110
# Patterns of files whose lines are held to it.
WIDTH_FILES = ["mtl_rnn.h", "examples/*.[ch]", "examples/*.cpp", "examples/mtl/*.[ch]", "tests/*.[ch]",
               "tests/bench/*.[ch]", "tests/golden/*.[ch]"]

# Kind: the sections that may compare its constants, MTL_KIND_NAME, which are those of an enum.
KIND_ROOMS = {"TASK": ["kinds"], "MIX": ["nodes"], "INPUT": ["nodes"], "COLUMN": ["columns"],
              "POOL": ["nodes", "pooling"], "CELL": ["cells", "kernels"], "INIT": ["tensor", "init"],
              "PENALTY": ["penalty"]}
# Kind: True, to check the header and the command; False, the header alone; absent, nothing.
KINDS_CHECKED = {"TASK": False, "MIX": True, "INPUT": True, "COLUMN": True}

# Texts that may name files; and names of papers that readers do not have.
TEXT_FILES = re.compile(r"(\.(h|c|cpp|py|sh|md|awk|patch)|^Makefile|^\.ci/\w+)$")
PAPERS = re.compile(r"\bDESIGN\b|\b[Ii]ssue (#|\d)|\bTODO\b|\bFIXME\b")

# Pages that explain the code; one that is not there is not missed.
PAGES = ["docs/architecture.md", "docs/learn.md", "docs/pytorch.md", "docs/step_by_step.md"]
# Files with initialisers that readers copy.
COPIED = ["mtl_rnn.h", "README.md", "docs/*.md", "examples/*.c", "examples/*.cpp", "examples/*.h"]
# Object code with the kernels of all x86 instruction sets.
OBJECT_LIMIT = 640 * 1024

WARNINGS = "-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Werror"
# What a user may have included before; none of it may matter, with or without the POSIX names that -std=c99 hides.
EARLIER = " ".join("-include " + name for name in ("stdio.h", "stdlib.h", "string.h", "math.h", "time.h", "sys/types.h", "unistd.h"))
WIDE = " ".join("-include " + name for name in (
    "curses.h", "X11/Xlib.h", "X11/Xutil.h", "X11/Xatom.h", "X11/Xos.h", "complex.h", "tgmath.h", "iso646.h", "ctype.h",
    "fcntl.h", "inttypes.h", "locale.h", "netdb.h", "pthread.h", "regex.h", "search.h", "setjmp.h", "signal.h",
    "strings.h", "sys/mman.h", "sys/param.h", "sys/socket.h", "sys/stat.h", "sys/sysmacros.h", "termios.h", "wchar.h"))
COMPILES = [                                    # what it is called, command; gcc and clang warn of more when optimising
    ("gcc", f"gcc -std=c99 -O2 {WARNINGS}"),
    ("gcc, double", f"gcc -std=c99 -O2 {WARNINGS} -DMTL_REAL=double"),
    ("gcc, other headers first", f"gcc -std=c99 -fsyntax-only {WARNINGS} {EARLIER}"),
    ("gcc, curses and X11 first", f"gcc -std=gnu11 -D_GNU_SOURCE -fsyntax-only -Wall -Wextra -Werror {EARLIER} {WIDE}"),
    ("gcc, hostile names first", f"gcc -std=c99 -fsyntax-only {WARNINGS} -include tests/hostile_names.h"),
    ("gcc, static, asserting", f"gcc -std=c99 -fsyntax-only {WARNINGS} -DMTL_RNN_STATIC -DMTL_DEBUG"),
    ("clang", f"clang -std=c99 -O2 {WARNINGS}"),
    ("clang, double", f"clang -std=c99 -fsyntax-only {WARNINGS} -DMTL_REAL=double"),
    ("g++", "g++ -x c++ -std=c++11 -O2 -Wall -Wextra -Werror"),
    ("g++, C++20", "g++ -x c++ -std=c++20 -fsyntax-only -Wall -Wextra -Werror"),
    ("clang++", "clang++ -x c++ -std=c++11 -fsyntax-only -Wall -Wextra -Werror"),
]

Banner = namedtuple("Banner", "line number tag")
Function = namedtuple("Function", "name first last")

problems = []


def problem(path, line, text):
    problems.append(f"{path}:{line}: {text}")


# ---- reading C without a compiler ---------------------------------------------------------------------------------

def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def code_only(text):
    """The text with comments, the contents of literals and preprocessor lines made blank; every line keeps its number."""
    return re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", blank, without_comments(text), flags=re.M | re.S)


def without_comments(text):
    """The text with comments and the contents of literals made blank, preprocessor lines left."""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def name_of(declarator):
    """The function that a declarator such as `static int mtl__foo(int x)` names, or None."""
    declarator = re.sub(r"\b(__attribute__|__declspec)\s*\(\(?[^()]*(\([^()]*\))?[^()]*\)?\)", " ", declarator)
    match = re.search(r"\bMTL__FN\(\s*(\w+)\s*\)\s*\(|\b(\w+)\s*\(", declarator)
    return (match.group(1) or match.group(2)) if match else None


def declarations(lines):
    """Every declaration or definition that begins in column 0: (first line, text up to its `{` or `;`, that character,
    line of that character). Line numbers count from 1."""
    number = 0
    while number < len(lines):
        if not re.match(r"[A-Za-z_]", lines[number]):
            number += 1
            continue
        first, text = number, ""
        while number < len(lines):
            end = re.search(r"[{;]", lines[number])
            text += lines[number][:end.start()] if end else lines[number] + "\n"
            if end:
                yield first + 1, text, end.group(), number + 1
                break
            number += 1
        number += 1


def functions_of(lines):
    """Functions with their bodies, in text order."""
    found = []
    for first, text, end, line in declarations(lines):
        if end != "{" or "=" in text or not text.rstrip().endswith(")") or re.match(r"(typedef|struct|enum|extern\s*$)\b", text):
            continue
        last = line
        if lines[line - 1].count("{") != lines[line - 1].count("}"):
            while last < len(lines) and not lines[last].startswith("}"):
                last += 1
            last += 1
        found.append(Function(name_of(text), first, last))
    return found


class Source:
    def __init__(self, path):
        self.path = path
        with open(path, encoding="utf-8") as file:
            text = file.read()
        self.raw = text.split("\n")
        self.lines = code_only(text).split("\n")
        self.functions = functions_of(self.lines)
        self.banners = [banner for banner, boxed in tagged_lines(self.raw) if boxed]
        self.contents = [entry for entry, boxed in tagged_lines(self.raw) if not boxed]
        self.starts = [banner.line for banner in self.banners]
        parts = [number for number, line in enumerate(self.raw, 1) if line.startswith("/* ---- ")]
        vectors = [n for n in parts if "---- vectors:" in self.raw[n - 1]]
        self.vectors = (vectors[0], min(n for n in parts if n > vectors[0])) if vectors else None

    def section(self, line):
        """The index of the banner that a line stands under, -1 above the first."""
        return bisect.bisect_right(self.starts, line) - 1

    def tag(self, line):
        index = self.section(line)
        return self.banners[index].tag if index >= 0 else "top"

    def length(self, index):
        """Lines of the section whose banner has this index."""
        ends = self.starts[1:] + [len(self.raw)]
        return ends[index] - self.starts[index]

    def enumerators(self):
        """(line, text) of each line within the braces of an enum."""
        inside = False
        for number, line in enumerate(self.lines, 1):
            inside = inside or re.match(r"(typedef )?enum\b[^;]*\{", line) is not None
            if inside:
                yield number, line
            inside = inside and "}" not in line

    def place(self, first, last):
        """A name for a range of lines that survives edits: its first function, the section's tag, or >>vectors for the
        part of the kernel template that says the same few operations once for each instruction set."""
        if self.vectors and self.vectors[0] <= first and last <= self.vectors[1]:
            return ">>vectors"
        for function in self.functions:
            if function.first <= last and function.last >= first:
                return function.name
        return ">>" + self.tag(first) if self.banners else os.path.basename(self.path)


def command_files():
    """The command's source: every file of its folder."""
    return sorted(glob.glob(COMMAND_FOLDER + "/*.[ch]"))


def tagged_lines(raw):
    """Lines "NUMBER  >>tag", each with whether it is a banner's."""
    for index, line in enumerate(raw):
        match = re.match(r"[\s/*]*(\d+)\s+>>(\w+)", line)
        if match:
            boxed = index > 0 and "=====" in raw[index - 1]
            yield Banner(index + 1, int(match.group(1)), match.group(2)), boxed


# ---- the checks ---------------------------------------------------------------------------------------------------

def check_contents(source):
    # The manual, number 0, holds the list and need not stand in it.
    banners = [banner for banner in source.banners if banner.number]
    contents = [entry for entry in source.contents if entry.number]
    if not banners:
        problem(HEADER, 1, "no banner found")
    if not contents:
        problem(HEADER, 1, "no contents list found")
    for before, banner in zip(banners, banners[1:]):
        if banner.number <= before.number:
            problem(HEADER, banner.line, f"section {banner.number} stands after section {before.number}")
    listed = {(entry.number, entry.tag) for entry in contents}
    present = {(banner.number, banner.tag) for banner in banners}
    for banner in banners:
        if (banner.number, banner.tag) not in listed:
            problem(HEADER, banner.line, f"banner \"{banner.number} >>{banner.tag}\" is not in the contents list")
    for entry in contents:
        if (entry.number, entry.tag) not in present:
            problem(HEADER, entry.line, f"contents name \"{entry.number} >>{entry.tag}\", which has no banner")
    if listed == present and [e.tag for e in contents] != [b.tag for b in banners]:
        problem(HEADER, contents[0].line, "contents and banners are in different orders")
    for entry in contents:
        if banners and entry.line > banners[0].line:
            problem(HEADER, entry.line, "a contents line below the first banner")


def check_order(source):
    for first, text, end, _ in declarations(source.lines):
        if end == ";" and "=" not in text and not text.startswith("typedef") and (name_of(text) or "").startswith("mtl__"):
            problem(HEADER, first, f"{name_of(text)} is declared ahead of its body")

    defined = {}                                # name: first line of its first body (there may be one per #if branch)
    for function in source.functions:
        defined.setdefault(function.name, function.first)
    # The interface declares public functions: uses count from the second section on.
    begin = source.starts[1] if len(source.starts) > 1 else 1
    for number in range(begin, len(source.lines) + 1):
        for name in re.findall(r"\bmtl_\w+", source.lines[number - 1]):
            body = defined.get(name, 0)
            if body <= number:
                continue
            later = source.section(body) > source.section(number)
            # Template code names its kernels through macros; within the section, order is the compiler's to check.
            if later or (name.startswith("mtl__") and source.tag(number) != KERNELS):
                where = f"line {body}, section >>{source.tag(body)}"
                problem(HEADER, number, f"uses {name}, which is defined further down ({where})")


def check_stamps(source):
    """A macro of the template that stays defined would rename what later sections call the same."""
    defined, undefined = {}, {}
    for number, line in enumerate(source.raw, 1):
        match = re.match(r"#\s*(define|undef)\s+(mtl__\w+)", line)
        if match and source.tag(number) in (KERNELS, "dispatch"):
            (defined if match.group(1) == "define" else undefined)[match.group(2)] = number
    for name in sorted(defined.keys() - undefined.keys()):
        problem(HEADER, defined[name], f"{name} is never undefined, so later sections see the macro")
    for name in sorted(undefined.keys() - defined.keys()):
        problem(HEADER, undefined[name], f"{name} is undefined, but nothing defines it")


def check_statuses(source):
    for function in source.functions:
        text = "\n".join(source.lines[function.first - 1:function.last])
        status = re.search(r"\breturn (mtl__fail\(|mtl__status\(|MTL_OK;|MTL_ERROR_\w+;)", text)
        if status and re.match(r"[\w\s]*?\bint\b", text):
            problem(source.path, function.first, f"{function.name} returns a status as an int; expected mtl_status")


def check_function_lengths(source):
    for function in source.functions:
        length = function.last - function.first + 1
        if length > LENGTH_LOOK and source.tag(function.first) != KERNELS:
            if length > LENGTH_LIMIT and source.path == HEADER:
                problem(source.path, function.first, f"{function.name} has {length} lines, above {LENGTH_LIMIT}")
            else:
                print(f"  look: {source.path}:{function.first}: {function.name} has {length} lines")


def check_section_lengths(source):
    for index, banner in enumerate(source.banners):
        if source.length(index) > SECTION_LIMIT and banner.tag not in SECTIONS_EXEMPT:
            lines = source.length(index)
            problem(source.path, banner.line, f">>{banner.tag} has {lines} lines, above {SECTION_LIMIT}")


def check_file_lengths(sources):
    for source in sources:
        lines = len(source.raw) - 1
        if source.path.startswith(COMMAND_FOLDER + "/") and lines > FILE_LIMIT:
            problem(source.path, FILE_LIMIT + 1, f"the file has {lines} lines, above {FILE_LIMIT}")


def check_lengths(sources):
    for source in sources:
        check_function_lengths(source)
    check_section_lengths(sources[0])
    check_file_lengths(sources[1:])


def check_widths():
    for path in sorted({path for pattern in WIDTH_FILES for path in glob.glob(pattern)}):
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                width = len(line.rstrip("\n"))
                if width > WIDTH_LIMIT:
                    problem(path, number, f"{width} columns, above {WIDTH_LIMIT}")


def check_includes(sources):
    rooms = {}                                  # of a file without its ending: what it includes, and where
    for source in sources:
        room = rooms.setdefault(os.path.basename(source.path)[:-2], {})
        for number, line in enumerate(source.raw, 1):
            match = re.match(r'#\s*include "(\w+)\.h"', line)
            if match:
                room.setdefault(match.group(1), (source.path, number))

    def walk(name, path):
        for other, (file, number) in rooms.pop(name, {}).items():
            if other not in path:
                walk(other, path + [other])
            elif other != name:
                problem(file, number, "includes in a circle: " + " ".join(path[path.index(other):] + [other]))

    for name in list(rooms):
        walk(name, [name])


def check_kinds(header, sources):
    known = {name for _, text in header.enumerators() for name in re.findall(r"\bMTL_[A-Z]+_\w+", text)}
    for kind, in_command in KINDS_CHECKED.items():
        names = sorted(name for name in known if name.startswith(f"MTL_{kind}_"))
        if not names:
            continue
        constant = rf"(?:\(\s*\w+\s*\)\s*)?\b({'|'.join(names)})\b"
        compared = re.compile(rf"(?:[=!]=\s*|\bcase\s+|\[[^\[\]]*){constant}|\b({'|'.join(names)})\s*[=!]=")
        for source in sources if in_command else [header]:
            text = "\n".join(source.lines)
            for match in compared.finditer(text):
                line = text.count("\n", 0, match.end()) + 1
                if source is not header or source.tag(line) not in KIND_ROOMS[kind]:
                    rooms = " or ".join(">>" + room for room in KIND_ROOMS[kind])
                    name = match.group(1) or match.group(2)
                    problem(source.path, line, f"compares with {name}, which is for {rooms} to know")


def check_pages(header):
    whole = "\n".join(header.raw)
    words = set(re.findall(r"\w+", without_comments(whole)))
    for comment in re.finditer(r"/\*.*?\*/", whole, flags=re.S):
        for name in re.finditer(r"\bmtl_\w+", comment.group()):
            begins = name.group().endswith("_") and any(word.startswith(name.group()) for word in words)
            stands_for_many = begins or "NAME" in name.group()
            if not stands_for_many and name.group() not in words | {"mtl_rnn", "mtl__add_avx2"}:     # a macro makes that
                line = whole.count("\n", 0, comment.start() + name.start()) + 1
                problem(HEADER, line, f"{name.group()} stands in this comment alone")
    for path in filter(os.path.exists, PAGES):
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"^```.*?^```", blank, file.read(), flags=re.M | re.S)
        for span in re.finditer(r"`[^`]*`", text):
            for name in re.findall(r"\bmtl_\w+", span.group()):
                if name not in words | {"mtl_rnn"}:
                    problem(path, text.count("\n", 0, span.start()) + 1, f"`{name}` is not in {HEADER}")


def check_quotes():
    """A block of C follows a line "<!-- quoted from FILE -->"; a line "..." stands for lines of FILE left out."""
    for path in filter(os.path.exists, PAGES):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for block in re.finditer(r"^(?:<!-- quoted from (\S+) -->\n)?```c\n(.*?)^```$", text, flags=re.M | re.S):
            line, name = text.count("\n", 0, block.start()) + 1, block.group(1)
            if not name or not os.path.exists(name):
                problem(path, line, f"code is quoted from {name or 'nowhere'}, which is no file")
                continue
            with open(name, encoding="utf-8") as file:
                source, at = "\n" + file.read(), 0
            for part in re.split(r"^\.\.\.\n", block.group(2), flags=re.M):
                found = source.find("\n" + part, at)
                if found < 0:
                    problem(path, line, f"{name} does not have, in this order, what begins: {part.splitlines()[:1]}")
                    break
                at = found + len(part)


def struct_members():
    """The members of each struct of the interface, in their order."""
    text = subprocess.run(["gcc", "-E", "-P", HEADER], capture_output=True, text=True, check=True).stdout
    structs = {}
    for name, body in re.findall(r"\bstruct (mtl_\w+)\s*\{(.*?)\}\s*(?:\w+\s*)?;", text, flags=re.S):
        structs[name] = []
        for declaration in body.split(";"):
            pointer = re.search(r"\(\*(\w+)\)", declaration)
            declarators = [pointer.group(1)] if pointer else re.findall(r"(\w+)\s*(?:\[[^\]]*\]\s*)*(?:,|$)", declaration)
            structs[name].extend(declarators)
    return structs


def designators(text):
    """Of each pair of braces in C: where it begins and the .members that stand directly in it."""
    open_at, found = [], []
    for match in re.finditer(r"[{}]|(?<=[{,\s])(\.[A-Za-z_][\w.]*)\s*=(?!=)", text):
        if match.group() == "{":
            open_at.append(len(found))
            found.append((match.start(), []))
        elif match.group() == "}":
            if open_at:
                open_at.pop()
        elif open_at:
            found[open_at[-1]][1].append(match.group(1)[1:])
    return [(at, names) for at, names in found if names]


def fault_of_order(names, structs):
    """What C++20 has against these members, or None. Structs of a program's own are not known."""
    nested = [name for name in names if "." in name]
    first = [name.split(".")[0] for name in names]
    of = [members for members in structs.values() if set(first) <= set(members)]
    if of and nested:
        return f".{nested[0]} is nested"
    if of and not any(first == sorted(first, key=members.index) for members in of):
        return "expected the order " + ", ".join(sorted(first, key=of[0].index))
    return None


def check_descs():
    structs = struct_members()
    for path in sorted({path for pattern in COPIED for path in glob.glob(pattern)}):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        bare = re.sub(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', blank, text)
        for at, names in designators(bare):
            fault = fault_of_order(names, structs)
            if fault:
                problem(path, text.count("\n", 0, at) + 1, f"C++20 refuses {{ .{', .'.join(names)} }}: {fault}")


def check_documents():
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split("\n")
    present = {name for name in files if os.path.exists(name)}
    folders = {os.path.dirname(name).split("/")[0] for name in present} - {""}
    path_named = re.compile(rf"(?<![\w./$-])((?:{'|'.join(map(re.escape, sorted(folders)))})/[\w./-]+\.\w{{1,4}})\b")
    for name in sorted(present):
        if not TEXT_FILES.search(name) or name == ".ci/lint.py":
            continue
        with open(name, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                for path in path_named.findall(line):
                    if path not in present and "WORD" not in path:
                        problem(name, number, f"{path} is not in the tree")
                if PAPERS.search(line):
                    problem(name, number, f"'{PAPERS.search(line).group()}' is nothing that a reader has")


def check_map():
    result = subprocess.run([sys.executable, ".ci/map.py", "--check"], capture_output=True, text=True)
    if result.returncode:
        problems.extend((result.stdout + result.stderr).strip().splitlines())


def read_allowed():
    """Lines "PLACE PLACE  reason": two functions (or >>tags, or files) that may share a run, in either order."""
    allowed = {}
    if os.path.exists(ALLOW):
        with open(ALLOW, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                words = line.split()
                if not words or words[0].startswith("#"):
                    continue
                if len(words) < 3:
                    problem(ALLOW, number, "expected two places and the reason")
                    continue
                allowed[tuple(sorted(words[:2]))] = number
    return allowed


def check_repeats(sources):
    by_path = {source.path: source for source in sources}
    command = ["sim_c", "-n", "-T", f"-r{RUN_TOKENS}", "-w200", *by_path]
    output = subprocess.run(command, capture_output=True, text=True)
    if output.returncode:
        problem("sim_c", 0, output.stderr.strip())
    allowed = read_allowed()
    used = set()
    run = r"(\S+): line (\d+)-(\d+)"
    for match in re.finditer(run + r"\s*\|" + run + r"\s*\[(\d+)\]", output.stdout):
        path_a, from_a, to_a, path_b, from_b, to_b, tokens = match.groups()
        a = by_path[path_a].place(int(from_a), int(to_a))
        b = by_path[path_b].place(int(from_b), int(to_b))
        pair = tuple(sorted((a, b)))
        used.add(pair)
        if pair not in allowed:
            problem(path_a, from_a, f"{tokens} tokens to line {to_a} ({a}) stand again at {path_b}:{from_b}-{to_b} ({b})")
    for pair in sorted(set(allowed) - used):
        print(f"  look: {ALLOW}:{allowed[pair]}: {pair[0]} {pair[1]} repeat nothing any more")


def compile_one(job):
    name, command = job
    unit = os.path.join(OUT, re.sub(r"\W+", "_", name) + ".c")
    with open(unit, "w", encoding="utf-8") as file:
        file.write(f'#define MTL_RNN_IMPLEMENTATION\n#include "{HEADER}"\n')
    result = subprocess.run(command.split() + ["-I.", "-c", "-o", unit + ".o", unit], capture_output=True, text=True)
    return name, result.returncode, result.stderr


def check_warnings():
    os.makedirs(OUT, exist_ok=True)
    with ThreadPoolExecutor(max_workers=2) as pool:
        for name, status, errors in pool.map(compile_one, COMPILES):
            if status:
                found = [line for line in errors.splitlines() if re.search(r"(error|warning):", line)]
                problems.extend(f"{name}: {line}" for line in found[:12] or [errors.strip()[:400]])
                if len(found) > 12:
                    problems.append(f"{name}: and {len(found) - 12} more")


def check_size():
    """The kernels of all instruction sets are in the object: text (code and constants) as `size` counts it."""
    if platform.machine() != "x86_64":
        return
    name, status, errors = compile_one(("size", "gcc -std=c99 -O2 -pthread"))
    if status:
        problems.append(f"size: {errors.strip()[:400]}")
        return
    text = int(subprocess.run(["size", os.path.join(OUT, "size.c.o")], capture_output=True, text=True).stdout.split()[6])
    if text > OBJECT_LIMIT:
        problems.append(f"{HEADER}: object code of {text} bytes with gcc -O2; at most {OBJECT_LIMIT}")


def check(name, function, *arguments):
    before = len(problems)
    function(*arguments)
    for text in problems[before:]:
        print("  " + text)
    print(("ok " if len(problems) == before else "FAILED ") + name, flush=True)


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    if not os.path.exists(HEADER):
        sys.exit(f"lint: there is no {HEADER}")
    header = Source(HEADER)
    sources = [header] + [Source(path) for path in command_files()]
    check("contents", check_contents, header)
    check("order", check_order, header)
    check("stamps", check_stamps, header)
    check("statuses", check_statuses, header)
    check("map", check_map)
    check("length", check_lengths, sources)
    check("width", check_widths)
    check("includes", check_includes, sources[1:])
    check("kinds", check_kinds, header, sources)
    check("pages", check_pages, header)
    check("quotes", check_quotes)
    check("descs", check_descs)
    check("documents", check_documents)
    check("repeats", check_repeats, sources)
    check("warnings", check_warnings)
    check("size", check_size)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
