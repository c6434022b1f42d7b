#!/usr/bin/env python3
"""Draws which section of mtl_rnn.h uses which, from its code, into docs/architecture.md. Run by `make map`.

    map.py            writes the drawing between the two marker lines of the page
    map.py --check    writes nothing; fails when the page's drawing is not the code's

A section uses another when its code names a function, a type, a table or a constant that the other defines.
The interface, which all share, is left out on both sides. An arrow upwards, from a section to a later one,
fails, with its places.
"""
import collections
import os
import re
import sys
import textwrap

import lint

PAGE = "docs/architecture.md"
BEGIN, END = "<!-- made by `make map` -->", "<!-- end of what `make map` made -->"
ARROW = " --> "
# Of the kernel template, which >>dispatch sets before each reading.
PARAMETERS = {"MTL__STAMP", "MTL__ISA", "MTL__TARGET"}

DEFINITIONS = [
    r"^(?:typedef )?(?:struct|union|enum) (mtl_\w+) \{",
    r"^\} (mtl_\w+);",
    r"^typedef [^;]*?\b(mtl_\w+)(?:\[\w*\])?;",
    r"^typedef [^;]*?\(\*(mtl_\w+)\)",
    r"^static const [^=;(]*?\b(mtl_\w+)(?:\[[^\]]*\])* = ",
]


def defined_names(source):
    """{name: line of its first definition} of all that stands below the interface."""
    places = [(function.first, function.name) for function in source.functions]
    for number, (line, raw) in enumerate(zip(source.lines, source.raw), 1):
        places += [(number, name) for pattern in DEFINITIONS for name in re.findall(pattern, line)]
        places += [(number, name) for name in re.findall(r"^#\s*define (MTL__\w+)", raw)]
    for number, text in source.enumerators():
        places += [(number, name) for name in re.findall(r"\bMTL__\w+", text)]
    names = {}
    for number, name in sorted(place for place in places if place[1]):
        if number >= source.starts[1] and name not in PARAMETERS:
            names.setdefault(name, number)
    return names


def arrows(source):
    """{section: {section it uses: {name: first line}}}; sections are indices of banners."""
    defined = defined_names(source)
    found = collections.defaultdict(lambda: collections.defaultdict(dict))
    for number in range(source.starts[1], len(source.lines) + 1):
        user = source.section(number)
        for name in re.findall(r"\b(?:mtl_|MTL__)\w+", source.lines[number - 1]):
            used = source.section(defined[name]) if name in defined else user
            if used != user:
                found[user][used].setdefault(name, number)
    return found


def upward(source, found):
    for user in sorted(found):
        for used in sorted(used for used in found[user] if used > user):
            for name, line in found[user][used].items():
                tags = source.banners[user].tag, source.banners[used].tag
                yield f"{lint.HEADER}:{line}: >>{tags[0]} uses {name} of >>{tags[1]}, which comes later"


def below(found, section, seen):
    """All sections that one stands on, however many steps down."""
    for used in found.get(section, ()):
        if used not in seen:
            seen.add(used)
            below(found, used, seen)
    return seen


def draw(source, found):
    """A line for each section with an arrow to those it uses, nearest first. What it would reach through one
    of the others anyway stands in brackets."""
    drawn = set(found) | {used for uses in found.values() for used in uses}
    lines = []
    for user in sorted(drawn):
        uses = sorted(found.get(user, ()), reverse=True)
        implied = {far for near in uses for far in below(found, near, set())}
        direct = [source.banners[used].tag for used in uses if used not in implied]
        further = [source.banners[used].tag for used in uses if used in implied]
        text = ", ".join(direct) + (f"  ({', '.join(further)})" if further else "")
        lead = f"{source.banners[user].number:3} {source.banners[user].tag:9}" + (ARROW if uses else "")
        rest = " " * len(lead)
        wrapped = textwrap.wrap(text, lint.WIDTH_LIMIT, initial_indent=lead, subsequent_indent=rest)
        lines += wrapped or [lead.rstrip()]
    return "\n".join(lines)


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    source = lint.Source(lint.HEADER)
    found = {user: dict(uses) for user, uses in arrows(source).items()}
    faults = list(upward(source, found))
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        sys.exit(f"map: {PAGE} needs the lines {BEGIN} and {END}, once each")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    new = f"{before}{BEGIN}\n```\n{draw(source, found)}\n```\n{END}{after}"
    if "--check" in sys.argv[1:]:
        faults += [f"{PAGE}: the map is not the code's any more: make map"] if new != page else []
    elif new != page:
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write(new)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
