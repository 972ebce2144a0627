"""Target CPU "multi": functions that are optimised hard exist once for each level of x86-64, and choose when called.

    f7          looks at the instance's word CPU, and jumps to one of
    f7.v4 f7.v3 f7.v2

All else is for x86-64-v2, which the artifact requires: what gains from wider vectors is in the functions that have
loops to vectorise. The versions stand behind their function, and count as its code.
"""

from __future__ import annotations

import re
from typing import Final

from lucet.abi.tables import CONSTANTS, VMCTX
from lucet.compile.effort import Effort
from lucet.compile.ir import INVARIANT, FunctionText, FunctionWriter, signature, subprogram_text
from lucet.compile.options import CPU_FEATURES

LEVELS: Final = {".v4": "x86-64-v4", ".v3": "x86-64-v3", ".v2": ""}
"""Suffix of a version -> its target CPU, best first; "": the module's own."""
_ATTRIBUTES: Final = re.compile(r"(?<=\) )#\d+")


def versions(f: FunctionWriter, one: FunctionText, scope: int) -> FunctionText:
    """The function of one.symbol in all its versions. scope: the number of its subprogram; those from there on at
    multiples of how many functions there are must be free."""
    stride = len(f.module.all_funcs)
    # The same for the choice: what may throw does so through it.
    attributes = _ATTRIBUTES.search(one.definition)
    assert attributes is not None
    texts = [_choice(f, one.symbol, attributes[0])]
    subprograms = []
    for number, (suffix, cpu) in enumerate(LEVELS.items(), start=1):
        own = scope + number * stride
        text = re.sub(rf"!{scope}\b", f"!{own}", one.definition)
        head, rest = text.split("{\n", 1)
        head = head.replace(f"@{one.symbol}(", f"@{one.symbol}{suffix}(", 1)
        # The attributes come before the personality and the subprogram.
        extra = f' "target-cpu"="{cpu}"' if cpu else ""
        head = _ATTRIBUTES.sub(lambda group: f"{group[0]}{extra}", head, count=1)  # noqa: B023
        texts.append(f"{head}{{\n{rest}")
        subprograms.append(subprogram_text(own, f"{one.symbol}{suffix}"))
    return FunctionText(
        definition="\n".join(texts),
        symbol=one.symbol,
        subprogram="".join(subprograms),
        effort=Effort.HARD,
        called=one.called,
        tables=one.tables,
    )


def _choice(f: FunctionWriter, symbol: str, attributes: str) -> str:
    sig = signature(f.functype)
    parameters = sig.parameters(spills=False)
    lines = [
        f"define hidden {sig.returns} @{symbol}({parameters}) {attributes} {{",
        f"  %at = getelementptr i8, ptr %vmctx, i64 {VMCTX['CPU']}",
        f"  %has = load i64, ptr %at{INVARIANT}",
    ]
    for suffix, cpu in LEVELS.items():
        name = suffix[1:]
        if cpu:
            needed = sum(CONSTANTS[f"LUCET_CPU_{feature}"] for feature in CPU_FEATURES[cpu])
            lines += [
                f"  %{name}.of = and i64 %has, {needed}",
                f"  %{name}.is = icmp eq i64 %{name}.of, {needed}",
                f"  br i1 %{name}.is, label %{name}, label %not.{name}",
                f"{name}:",
            ]
        result, returned = ("", "void") if sig.returns == "void" else ("%r." + name, f"{sig.returns} %r.{name}")
        call = f"musttail call {sig.returns} @{symbol}{suffix}({parameters})"
        lines += [f"  {result} = {call}" if result else f"  {call}", f"  ret {returned}"]
        if cpu:
            lines.append(f"not.{name}:")
    return "\n".join([*lines, "}\n"])
