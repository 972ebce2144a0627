"""LLVM, by way of llvmlite's binding layer: text in, object or assembly out. The only module that imports llvmlite."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import llvmlite
import llvmlite.binding as llvm

from lucet.compile.effort import Effort
from lucet.compile.options import LLVM_FEATURES, Options
from lucet.errors import CompilerFailed

TRIPLE: Final = "x86_64-unknown-linux-gnu"

_CODEGEN_LEVELS: Final = {"none": 0, "fast": 0, "default": 1, "best": 2}
_VECTOR: Final = re.compile(r"<\d+ x ")

_LEVEL_OPTIONS: Final = {
    # Fast instruction selection with a register allocator that sees the whole function, though without splitting of
    # live ranges, which takes half of the time and gains 3 %. Scheduling is for that allocator.
    "fast": ("-optimize-regalloc", "-regalloc=basic", "-enable-misched=false"),
    # The search for where to split a live range grows faster than the function, and what is found late is worth little.
    # Two passes look for library calls and chains of comparisons that become one, which code without either has not.
    # To rewrite what loops count gains 0.6 % over the kernels and nothing in real programs, for 7 % of the time.
    "default": (
        "-grow-region-complexity-budget=100",
        "-disable-merge-icmps",
        "-disable-partial-libcall-inlining",
        "-disable-lsr",
    ),
}


def initialize(opt_level: str) -> None:
    """Set the process up for one optimisation level, for good: LLVM's options are global."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # Two memory accesses merged into one would share one location in the .wasm.
    llvm.set_option("", "-enable-tail-merge=0")
    # Nor into one behind the branches that end with them: its location would be unknown. Besides, an interpreter whose
    # instructions store to its stack in one place is harder to predict for the CPU, and takes 1.6 times as long.
    llvm.set_option("", "-sink-common-insts=0")
    # This pass makes a branch of a conditional move and executes its memory operand on one side of it only, although
    # the load is volatile and may be one that must trap.
    llvm.set_option("", "-x86-cmov-converter=0")
    # Parsing would verify all of the module to see whether its debug information needs an upgrade: ours does not.
    llvm.set_option("", "-disable-auto-upgrade-debug-info")
    # Of the two ways to follow variables through optimised code, the quicker one: there are none to follow.
    llvm.set_option("", "-experimental-debug-variable-locations=0")
    for option in _LEVEL_OPTIONS.get(opt_level, ()):
        llvm.set_option("", option)


def version() -> str:
    return f"LLVM {'.'.join(map(str, llvm.llvm_version_info))} (llvmlite {llvmlite.__version__})"


def host_cpu() -> tuple[str, str]:
    """Name and features of this machine's CPU, as LLVM has them."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def target_features(options: Options) -> frozenset[str]:
    """What the code may use, as named in artifact.def."""
    if options.target_cpu != "native":
        return frozenset(options.features())
    has = set(host_cpu()[1].split(","))
    return frozenset(one for one, names in LLVM_FEATURES.items() if has.issuperset(f"+{name}" for name in names))


def compile_text(text: str, options: Options, *, emit: str = "obj", verify: bool = False) -> bytes:
    """Compile one LLVM module to an object ("obj"), assembly ("asm") or optimised IR ("opt-ir")."""
    return compile_texts({Effort.USUAL: text}, options, emit=emit, verify=verify)


def compile_texts(texts: Mapping[Effort, str], options: Options, *, emit: str = "obj", verify: bool = False) -> bytes:
    """The same for several modules by what is to be done with their functions, to one object."""
    context = llvm.create_context()
    # In functions that no pass may change, LLVM 22's X86FixupInstTuning fails an assertion on some blends of vectors.
    # The pass is there if anything is optimised, so nothing is beside such a function.
    plainly = _VECTOR.search(texts.get(Effort.NONE, "")) is not None
    machine = _target_machine(options, 0 if plainly else _CODEGEN_LEVELS[options.opt_level])
    modules = []
    for effort, text in texts.items():
        try:
            module = llvm.parse_assembly(text, context)
            if verify:
                module.verify()
        except RuntimeError as error:
            raise CompilerFailed(f"LLVM does not accept the generated code: {error}") from error
        _run_passes(module, machine, _pipeline(options, effort))
        if effort is Effort.LITTLE and options.opt_level == "default":
            _finish_quickly(module)
        modules.append(module)
    module, *others = modules
    for other in others:
        module.link_in(other)
    if emit == "opt-ir":
        return str(module).encode()
    result = machine.emit_object(module) if emit == "obj" else machine.emit_assembly(module).encode()
    return bytes(result)


def _pipeline(options: Options, effort: Effort) -> str:
    """Which passes: by the names of levels, and "vectorize"."""
    level = options.opt_level
    if effort is Effort.NONE or level in {"none", "fast"}:
        return "none" if effort is Effort.NONE else level
    if effort is Effort.LITTLE:
        return "fast" if level == "default" else "default"
    if effort is Effort.USUAL:
        return "default"  # also at the best level: without loops to vectorise, nothing has been found to gain by more
    return "vectorize" if level == "default" else "best"


def _finish_quickly(module: llvm.ModuleRef) -> None:
    """Have code generated as at the fast level, with fast instruction selection."""
    for function in module.functions:
        if not function.is_declaration:
            function.add_function_attribute("optnone")


def _target_machine(options: Options, codegen_level: int) -> llvm.TargetMachine:
    name, features = host_cpu() if options.target_cpu == "native" else (options.target_cpu, "")
    name = "x86-64-v2" if name == "multi" else name
    if options.target_features:
        chosen = options.features()
        signed = (("+" if one in chosen else "-", names) for one, names in LLVM_FEATURES.items())
        features = ",".join(f"{sign}{name}" for sign, names in signed for name in names)
    return llvm.Target.from_triple(TRIPLE).create_target_machine(
        cpu=name,
        features=features,
        opt=codegen_level,
        reloc="pic",
        codemodel="small",
    )


def _run_passes(module: llvm.ModuleRef, machine: llvm.TargetMachine, opt_level: str) -> None:
    if opt_level == "none":
        return
    tuning = llvm.create_pipeline_tuning_options(speed_level=1 if opt_level == "vectorize" else 2)
    if opt_level in {"best", "vectorize"}:
        tuning.loop_vectorization = True
        tuning.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, tuning)
    if opt_level in {"best", "vectorize"}:
        passes = builder.getModulePassManager()
    else:
        passes = llvm.create_new_module_pass_manager()
        passes.add_sroa_pass()
        if opt_level == "default":
            passes.add_simplify_cfg_pass()
            passes.add_instruction_combine_pass()
    passes.run(module, builder)
