"""Whether docs/SERVER.md and the code name the same routes and fields.  usage: fields.py ROOT

A route of router.c's table must stand in the document's table of routes, and the other way round; a field that the code
reads out of a request must stand in the table of fields; one that the table calls supported must be read somewhere.  Prints a line
for each that is missing; exit code 1 then."""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
doc = (root / "docs/SERVER.md").read_text(encoding="utf-8")
sources = {p.name: p.read_text(encoding="utf-8") for p in (root / "src/server").glob("*.c")}
readers = "".join(sources.values()) + (root / "src/text/chat_read.c").read_text(encoding="utf-8")
missing = []


def table(title):
    """The rows of the section's table, as lists of cells."""
    section = doc.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return [[c.strip() for c in line.strip("|").split(" | ")] for line in section.splitlines() if line.startswith("| ")]


def quoted(cell):
    return re.findall(r"`([^`]+)`", cell)


# routes: "/models/" with more behind it is documented as /models/NAME
routes = {p + "NAME" if p.endswith("/") and p != "/" else p for p in re.findall(r'\{"(?:GET|POST)", "([^"]+)"', sources["router.c"])}
documented = {w.removeprefix("GET ").removeprefix("POST ") for row in table("Routes")[1:] for w in quoted(row[0])}
missing += [f"the route {r} is not documented" for r in sorted(routes - documented)]
missing += [f"the documented route {r} is not there" for r in sorted(documented - routes)]

# fields: of bodies that clients of the documented dialects send; our own small routes are described where they stand
said = {part for row in table("Fields")[1:] for cell in row for w in quoted(cell) for part in re.split(r"[.: \"/]+", w)}
PATTERNS = [r'fm_ask_(?:text|bool|int|float|stops)\(\s*&?a\w*, "(\w+)"', r'fm_py_get\(a(?:->|\.)body, "(\w+)"\)', r'\bmember\(a, "(\w+)"\)',
            r'number\(a, "(\w+)"']
OWN = {"content", "add_special", "parse_special", "with_pieces", "tokens"}  # of tokenize and detokenize
read = {name: file for file, text in sources.items() for pattern in PATTERNS for name in re.findall(pattern, text)}
missing += [f"{file} reads {name}, which is not documented" for name, file in sorted(read.items()) if name not in said | OWN]
supported = {re.split(r"[ :\"]", w)[0] for row in table("Fields")[1:] for w in quoted(row[1])}
for w in sorted(supported):
    missing += [f"{w} is documented as supported, but nothing reads {part}" for part in w.split(".")
                if not w.startswith(("/", "-")) and f'"{part}"' not in readers]
if len(routes) < 20 or len(read) < 30 or len(supported) < 40:
    missing.append(f"too little was found to compare: {len(routes)} routes, {len(read)} and {len(supported)} fields")
print("\n".join(missing))
sys.exit(bool(missing))
