"""Runs random modules here and on wasmtime, and compares: `python -m fuzz.fuzz_differential --seconds 3600 [--seed S]`.

Each seed is one module, made anew by fuzz/random_modules.py or by changing one of the official suite or of the guests
(fuzz/mutants.py), its options and its calls: results, traps, memories, globals, and which elements of tables are null
must be equal. What differs is made smaller, and written to fuzz/failures/ as a .wasm with a .json beside it, which
`--rerun` runs again; it ends the run with status 1, unless --go-on is given.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import lucet
from fuzz.engines import INCONCLUSIVE, Call, Peer, Setting, differences, is_inconclusive, own_region, run_here
from fuzz.fuzz_vectors import host_cpus
from fuzz.mutants import Seeds
from fuzz.random_expressions import NUMBERS
from fuzz.random_modules import ModuleMaker
from fuzz.shrink import Shrinker
from lucet.compile.options import BOUNDS, OPT_LEVELS
from lucet.errors import ArtifactError, CompileError
from lucet.wasm.text import text_to_binary

FAILURES: Final = Path(__file__).parent / "failures"
SHRINK_SECONDS: Final = 90.0
REPORT_SECONDS: Final = 300.0
ROUNDS_OF_A_LEVEL: Final = 8
"""Neighbouring seeds are compiled at one level: the compiler's processes start for a level."""


@dataclass(frozen=True, kw_only=True)
class Input:
    wasm: bytes
    setting: Setting
    calls: tuple[Call, ...]
    made: bool
    """By random_modules, which leaves no NaN's bits to chance."""

    def save(self) -> Path:
        FAILURES.mkdir(exist_ok=True)
        path = FAILURES / f"{hashlib.sha256(self.wasm).hexdigest()[:16]}.json"
        path.with_suffix(".wasm").write_bytes(self.wasm)
        calls = [asdict(call) for call in self.calls]
        path.write_text(json.dumps({"made": self.made, "setting": asdict(self.setting), "calls": calls}))
        return path

    @classmethod
    def read(cls, path: Path) -> Input:
        saved = json.loads(path.read_text())
        calls = tuple(Call(name=one["name"], arguments=tuple(one["arguments"])) for one in saved["calls"])
        return cls(
            wasm=path.with_suffix(".wasm").read_bytes(),
            setting=Setting(**saved["setting"]),
            calls=calls,
            made=saved["made"],
        )


class Campaign:
    def __init__(self, region: lucet.Region, seeds: Seeds) -> None:
        self.region = region
        self.seeds = seeds
        self.peer = Peer()
        self.cpus = host_cpus(region)
        self.seen = Counter[str]()

    def input(self, seed: int) -> Input | None:
        """None: nothing came of the seed."""
        rng = random.Random(seed)
        setting = Setting(
            opt_level=OPT_LEVELS[seed // ROUNDS_OF_A_LEVEL % len(OPT_LEVELS)],
            target_cpu=rng.choice(self.cpus),
            bounds=rng.choice(BOUNDS),
            count_instructions=rng.random() < 0.2,
            hot=None if rng.random() < 0.7 else tuple(index for index in range(20) if rng.random() < 0.5),
        )
        if self.seeds.empty or rng.random() < 0.6:
            maker = ModuleMaker(rng, rng.choice((4, 8, 14)))
            wasm = text_to_binary(maker.text())
            calls = tuple(_calls_of(maker, rng))
            return Input(wasm=wasm, setting=setting, calls=calls, made=True)
        mutant = self.seeds.mutant(rng, self.peer.is_valid)
        if mutant is None:
            return None
        return Input(wasm=mutant.wasm, setting=setting, calls=mutant.calls, made=False)

    def compare(self, one: Input) -> list[str]:
        """What differs. The bits of NaNs may be the reason in mutants: then nothing is compared."""
        there = self.peer.run(one.wasm, one.calls)
        if not one.made and differences(there, self.peer.run(one.wasm, one.calls, canonical=True)):
            self.seen["depends on NaNs"] += 1
            return []
        calls = one.calls[: len(there.calls) - is_inconclusive(there)]
        if there.start in INCONCLUSIVE:
            self.seen["inconclusive"] += 1
            return []
        try:
            here = run_here(one.wasm, one.setting, calls, self.region)
        except (CompileError, ArtifactError) as error:
            return [f"{type(error).__name__}: {error}"]
        self.seen["modules"] += 1
        self.seen["random modules" if one.made else "mutants"] += 1
        if is_inconclusive(here) or is_inconclusive(there):
            self.seen["inconclusive"] += 1
        for outcome in here.calls:
            self.seen["calls"] += 1
            self.seen[f"trap: {outcome}" if isinstance(outcome, str) else "returned"] += 1
        return differences(here, there, lanes=not one.made)

    def shrunk(self, one: Input) -> Input:
        def fails(wasm: bytes, calls: Sequence[Call]) -> bool:
            with contextlib.suppress(Exception):
                return bool(self.compare(Input(wasm=wasm, setting=one.setting, calls=tuple(calls), made=one.made)))
            return False

        wasm, calls = Shrinker(fails, self.peer.is_valid, SHRINK_SECONDS).shrink(one.wasm, one.calls)
        return Input(wasm=wasm, setting=one.setting, calls=tuple(calls), made=one.made)


def _calls_of(maker: ModuleMaker, rng: random.Random) -> list[Call]:
    calls = []
    for _ in range(2):
        for index, signature in enumerate(maker.functions):
            arguments = tuple(maker.bits(kind) for kind in signature.params if kind in NUMBERS)
            calls.append(Call(name=f"f{index}", arguments=arguments))
    rng.shuffle(calls)
    observers = [f"nulls {table.name[1:]}" for table in maker.tables] + ["nulls globals"]
    return calls + [Call(name=name, arguments=()) for name in observers]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.fuzz_differential", description="Compare with wasmtime.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="the first seed, for the same inputs again")
    parser.add_argument("--rounds", type=int, default=None, help="at most so many seeds")
    parser.add_argument("--rerun", type=Path, help="a .json of fuzz/failures: only this")
    parser.add_argument("--go-on", action="store_true", help="after what differs, too")
    options = parser.parse_args(arguments)
    with own_region() as region:
        campaign = Campaign(region, Seeds())
        if options.rerun:
            return _rerun(campaign, options.rerun)
        seed = random.randrange(1 << 32) if options.seed is None else options.seed
        print(f"seed {seed}, {campaign.seeds.described}", flush=True)
        return _run(campaign, seed, options)


def _run(campaign: Campaign, seed: int, options: argparse.Namespace) -> int:
    end = time.monotonic() + options.seconds
    report = time.monotonic() + REPORT_SECONDS
    status = 0
    for number in range(seed, seed + (options.rounds or 1 << 60)):
        if time.monotonic() > end:
            break
        if time.monotonic() > report:
            report += REPORT_SECONDS
            print(f"at seed {number}: {campaign.seen['modules']} modules, {campaign.seen['calls']} calls", flush=True)
        one = campaign.input(number)
        if one is None:
            continue
        different = campaign.compare(one)
        if different:
            status = 1
            print(f"seed {number}, {one.setting}:", *different, sep="\n  ", flush=True)
            counted = campaign.seen.copy()
            path = campaign.shrunk(one).save()
            campaign.seen = counted
            print(f"  python -m fuzz.fuzz_differential --rerun {path}", flush=True)
            if not options.go_on:
                break
    print(f"fuzz_differential: {'something' if status else 'nothing'} differs")
    for name, count in campaign.seen.most_common():
        print(f"{count:9d} {name}")
    return status


def _rerun(campaign: Campaign, path: Path) -> int:
    one = Input.read(path)
    different = campaign.compare(one)
    print(
        f"{one.setting}: {len(one.wasm)} bytes, {len(one.calls)} calls", *(different or ["nothing differs"]), sep="\n  "
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
