#!/usr/bin/env python3
"""Rules of the tree that no compiler checks; docs/ARCHITECTURE.md has the reasons.  Prints path:line: message.

usage: tools/lint.py [ROOT]      exit code 1 when anything was found
"""
import os
import re
import shutil
import subprocess
import sys

# what a folder of src/ may include besides itself; a longer path wins
ALLOWED = {
    "base": "",
    "quant": "base",
    "kernel": "base quant",
    "file": "base quant",
    "text": "base file",
    "op": "base quant",
    "op/cpu": "base quant kernel op",
    "nn": "base quant op",
    "model": "base quant op nn file",
    "run": "base quant op nn model text file",
    "train": "base quant op nn model text file run",
    "hub": "base",
    "server": "base",
    "cli": "base hub",
}
PUBLIC = {"run", "train", "server", "cli"}  # see include/*.h; fathom_status.h is everybody's
MAX_LINES = 1000
FORMATTER = 14  # versions of clang-format disagree: files are as this one has them

# pattern, where it may stand (prefixes of src/…), message; comments and strings are taken out first
TOKENS = [
    (r"immintrin\.h|arm_neon\.h|\b_mm\d*_|\b__m(128|256|512)|__AVX|__ARM", ["kernel/"],
     "instruction sets belong under src/kernel"),
    (r"\b(exit|_exit|_Exit|abort)\s*\(", ["cli/"], "the library never ends the program"),
    (r"\b(printf|vprintf|puts|putchar|perror)\s*\(|\bstd(out|err)\b", ["cli/"], "the library never prints"),
    (r"\b(secure_)?getenv\s*\(", ["base/env.c"], "use fm_env"),
    (r"(?<!\w)(malloc|calloc|realloc|aligned_alloc|posix_memalign|strn?dup|v?asprintf)\s*\(", ["base/mem.c"],
     "use fm_malloc and its kin"),
    (r"(?<!\w)free\s*\(", ["base/mem.c", "cli/"], "use fm_free"),
]
FOREIGN = re.compile(r"/\*.*(jansson|libedit)")  # a comment that says whose memory free() gives back
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

found = 0


def report(path, line, message):
    global found
    found += 1
    print(f"{path}:{line}: {message}")


def tree(root):
    for top in ("src", "include", "tests", "tools", "bench"):
        for folder, folders, files in os.walk(os.path.join(root, top)):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
            for name in sorted(files):
                yield os.path.relpath(os.path.join(folder, name), root)


def owner(path):
    """The key of ALLOWED for a path below src/."""
    parts = path.split("/")
    return next((k for k in ("/".join(parts[:2]), parts[0]) if k in ALLOWED), None)


def check_include(path, line, name):
    here = owner(path[4:])
    top = path.split("/")[1]
    if "/" not in name:
        local = os.path.exists(os.path.join(os.path.dirname(path), name))
        if not local and name != "fathom_status.h" and top not in PUBLIC:
            report(path, line, f"src/{top} does not see {name}")
    elif here is None:
        report(path, line, f"src/{top} has no line in ALLOWED of tools/lint.py")
    elif name.split("/")[0] not in ALLOWED[here].split() + [top]:
        report(path, line, f"src/{here} may not include {name}")


def check_library(path, text, lines):
    for m in re.finditer(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
        check_include(path, text.count("\n", 0, m.start(1)) + 1, m.group(1))
    code = NOT_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    for pattern, places, message in TOKENS:
        if path[4:].startswith(tuple(places)):
            continue
        for m in re.finditer(pattern, code):
            line = code.count("\n", 0, m.start()) + 1
            if not (m.group().startswith("free") and FOREIGN.search(lines[line - 1])):
                report(path, line, f"{m.group().strip()}: {message}")


def check_text(path, lines):
    if len(lines) > MAX_LINES:
        report(path, len(lines), f"more than {MAX_LINES} lines")
    for i, line in enumerate(lines, 1):
        if UNFINISHED.search(line):
            report(path, i, "unfinished work belongs in the tracker")
        if path.endswith((".c", ".h")) and (line != line.rstrip() or "\t" in line):
            report(path, i, "tab or blank at the end")


def check_format(paths):
    tool = next((t for t in (f"clang-format-{FORMATTER}", "clang-format") if shutil.which(t)), None)
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout if tool else ""
    if f"version {FORMATTER}." not in version:
        print(f"lint: no clang-format {FORMATTER} here: formatting is not checked", file=sys.stderr)
        return
    said = subprocess.run([tool, "--dry-run", "-Werror", *paths], capture_output=True, text=True).stderr
    for path, line in dict.fromkeys(re.findall(r"^(\S+?):(\d+):\d+: error:", said, re.M)):
        report(path, line, "not as `make format` has it")


def main(root):
    os.chdir(root)
    seen = {}
    for path in tree("."):
        if not path.endswith((".c", ".h", ".py")):
            continue
        with open(path, encoding="utf-8") as f:
            text = f.read()
        lines = text.splitlines()
        check_text(path, lines)
        if path.endswith(".py"):
            continue
        name = os.path.basename(path)
        if seen.setdefault(name, path) != path:
            report(path, 1, f"{seen[name]} has the same name")
        if path.startswith("src/"):
            check_library(path, text, lines)
    check_format(sorted(seen.values()))
    for name in sorted(os.listdir("src")):
        if os.path.isdir(f"src/{name}") and not os.path.exists(f"src/{name}/README.md"):
            report(f"src/{name}", 1, "README.md is missing")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")))
