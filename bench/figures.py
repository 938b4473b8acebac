"""Rows of speed: what bench/peers.py measures and bench/compare.py compares.  One CSV format for both, one line a run."""
import csv
import statistics
from dataclasses import asdict, dataclass, fields


@dataclass
class Figure:
    when: str  # UTC
    machine: str  # CPU, number of its cores
    load: float  # average number of running programs before the run
    others: float  # share of all cores that other programs used during it
    model: str  # file name without .gguf
    work: str  # prefill N | decode N, then @DEPTH
    threads: int
    program: str
    version: str
    rate: float  # tokens per second
    fraction: float  # of the machine's limit; 0: unknown
    command: str

    @property
    def key(self):
        return self.model, self.work, self.threads


COLUMNS = [f.name for f in fields(Figure)]


def read(path):
    with open(path, newline="", encoding="utf-8") as f:
        lines = csv.DictReader(line for line in f if not line.startswith("#"))
        if lines.fieldnames != COLUMNS:
            raise SystemExit(f"{path}: its columns are not {','.join(COLUMNS)}")
        return [Figure(**{f.name: f.type(line[f.name]) for f in fields(Figure)}) for line in lines]


def append(path, figures):
    with open(path, "a", newline="", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        if not f.tell():
            out.writerow(COLUMNS)
        for row in figures:
            values = asdict(row).values()
            out.writerow(f"{v:.4g}" if isinstance(v, float) else v for v in values)


def medians(figures, program):
    """{key: (median rate, median fraction, runs)} of one program, in the order of appearance."""
    rows = {}
    for f in figures:
        if f.program == program:
            rows.setdefault(f.key, []).append(f)
    return {k: (statistics.median(f.rate for f in v), statistics.median(f.fraction for f in v), len(v))
            for k, v in rows.items()}
