"""What the benchmark gives the programs of the shared folder to do: about a second of work, the same in every run."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One program with its input: `prepare` writes files into a folder that the guest sees as /work."""

    program: str
    """Below the shared folder's apps."""
    arguments: tuple[str, ...]
    prepare: Callable[[Path], None]


SQL: Final = """
PRAGMA temp_store = MEMORY;
CREATE TABLE t(a INTEGER PRIMARY KEY, b INTEGER, c TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
INSERT INTO t SELECT i, (i * 7919) % 100003, 'row ' || ((i * 31) % 1009) FROM n;
CREATE INDEX t_b ON t(b);
SELECT count(*), sum(b), max(c) FROM t;
SELECT c, count(*), avg(b) FROM t GROUP BY c ORDER BY 2 DESC, 1 LIMIT 5;
SELECT count(*) FROM t x JOIN t y ON x.b = y.b AND x.a < y.a;
SELECT sum(length(replace(c, 'row', 'line'))) FROM t WHERE c LIKE '%1%';
"""

SCRIPT: Final = """
const fib = n => n < 2 ? n : fib(n - 1) + fib(n - 2);
console.log(fib(31));
let words = new Map(), x = 1;
for (let i = 0; i < 500000; i++) {
  x = (x * 1103515245 + 12345) % 2147483648;
  const w = "w" + x % 5000;
  words.set(w, (words.get(w) ?? 0) + 1);
}
console.log([...words].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 3).join(" "));
const body = () => [1, 2, 3].map(k => ({ p: k, v: 1 / k }));
let bodies = body(), e = 0;
for (let i = 0; i < 400000; i++) for (const b of bodies) { b.v -= 0.001 * b.p; b.p += 0.001 * b.v; e += b.v * b.v; }
console.log(e.toFixed(6));
"""


def _write_sql(folder: Path) -> None:
    (folder / "work.sql").write_text(SQL)


def _write_script(folder: Path) -> None:
    (folder / "work.js").write_text(SCRIPT)


def _prose(size: int) -> str:
    """Text with the repetitions of prose: words of a small vocabulary, the same on every machine."""
    chooser = random.Random(1)
    words = ["".join(chooser.choices("abcdefghijklmnoprstuvw", k=chooser.randint(2, 9))) for _ in range(3000)]
    lines: list[str] = []
    while size > 0:
        line = " ".join(chooser.choices(words, k=12))
        if chooser.random() < 0.2:
            line = chooser.choice(("# {}", "* {}", "> {}", "1. *{}*", "`{}`", "\n{}\n")).format(line)
        lines.append(line)
        size -= len(line) + 1
    return "\n".join(lines)


def _write_markdown(folder: Path) -> None:
    (folder / "work.md").write_text(_prose(24_000_000))


def _write_text(folder: Path) -> None:
    (folder / "work.txt").write_text(_prose(4_000_000))


WORKLOADS: Final = {
    "sqlite3": Workload(
        program="sqlite3/sqlite3.wasm", arguments=("-batch", ":memory:", ".read /work/work.sql"), prepare=_write_sql
    ),
    "quickjs": Workload(program="quickjs/quickjs.wasm", arguments=("/work/work.js",), prepare=_write_script),
    "zstd": Workload(
        program="zstd/zstd.wasm", arguments=("-12", "-c", "--no-progress", "/work/work.txt"), prepare=_write_text
    ),
    "cmark": Workload(program="cmark/cmark.wasm", arguments=("/work/work.md",), prepare=_write_markdown),
}
