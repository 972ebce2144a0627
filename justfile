# The tasks of this project: `just --list`. .ci/run and README.md use these names.
set shell := ["bash", "-euo", "pipefail", "-c"]

export PATH := justfile_directory() / ".venv/bin" + ":" + env("PATH")
# Real programs and the official test suite; whatever needs them is skipped where the folder is absent.
export LUCET_SHARED := env("LUCET_SHARED", justfile_directory() / "../shared")

c_files := "$(git ls-files '*.[ch]')"

# everything that must pass before a change lands
check: setup lint types docs package test-native test-spec test

# the development environment in .venv
setup:
    python3 -m venv .venv
    pip install -q '.[dev]'

# these pages as HTML in build-docs/: everything that Sphinx warns of is an error
docs: build
    python -m sphinx -q -W --keep-going -b html -d build-docs/.doctrees docs build-docs/html

# build and install into .venv, from the build directory build/ (so only what changed is compiled)
build:
    pip install -q --no-deps --no-build-isolation --config-settings=build-dir=build .

lint:
    ruff check
    ruff format --check
    mypy
    PYTHONPATH=src lint-imports
    clang-format --dry-run -Werror {{c_files}}

# what users' type checkers see of the installed package: the extension's stub, and a program in pyright's strict mode
types: build
    python -m mypy.stubtest lucet.runtime._core --allowlist tests/kit/stubtest_allowlist.txt --ignore-unused-allowlist
    basedpyright -p examples

# rewrite sources the way lint wants them
format:
    ruff check --fix
    ruff format
    clang-format -i {{c_files}}

# the Python tests, those on real programs included: `just test tests/cli -k missing`
test *args: build
    pytest {{args}}

# the C tests, without Python
test-native: (_native "build-native")

# the C tests under AddressSanitizer and UndefinedBehaviorSanitizer
test-asan: (_native "build-asan" "-Db_sanitize=address,undefined" "-Dbuildtype=debug")

# and under ThreadSanitizer
test-tsan: (_native "build-tsan" "-Db_sanitize=thread" "-Dbuildtype=debug")

# and under valgrind, which is told of stack switches
test-valgrind:
    test -f build-valgrind/build.ninja || meson setup build-valgrind -Dpython=false -Dc_args=-DLUCET_VALGRIND
    meson test -C build-valgrind --print-errorlogs --setup valgrind --suite valgrind

_native dir *options:
    test -f {{dir}}/build.ninja || meson setup {{dir}} -Dpython=false {{options}}
    meson test -C {{dir}} --print-errorlogs

# the official WebAssembly test suite
test-spec *args: build
    @if [ -d "$LUCET_SHARED/spec" ]; then python -m tests.spec {{args}}; else echo "test-spec: no $LUCET_SHARED/spec, skipped"; fi

# real programs against their expected output: `just test-apps -k sqlite3`
test-apps *args: build
    pytest tests/apps {{args}}

# an application in JavaScript for Terrarium; its kit, from npm, is 450 MB
terrarium-js *args: build
    test -d build-js/node_modules/@fastly/js-compute || npm install --prefix build-js @fastly/js-compute
    LUCET_JS_COMPUTE=$PWD/build-js pytest tests/terrarium/test_compute_js.py {{args}}

# so many MiB through a small guest of Terrarium, in flat memory
terrarium-stream mib="1024": build
    LUCET_STREAM_MIB={{mib}} pytest tests/terrarium/test_compute_guests.py -k mebibytes

# sdist and wheel of the commit that is checked out, in dist/: built from a clone, checked, installed and run where no compiler is
package: setup
    python tools/package.py

# build the programs of examples/guests from C, C++, Rust and AssemblyScript, as far as there are toolchains, and run them
guests *args: build
    python examples/guests/build_and_run.py {{args}}

# hypothesis on the decoder and validator for SECONDS, then bodies whose verdict wasmtime must share, and vectors
fuzz seconds="300": build
    python fuzz/fuzz_decode.py --seconds {{seconds}}
    python -m fuzz.fuzz_valid --seconds {{seconds}}
    python -m fuzz.fuzz_vectors --seconds {{seconds}}

# random modules and mutated ones here and on wasmtime: results, traps, memories, globals. `just fuzz-differential 3600`
fuzz-differential seconds="300" *args: build
    python -m fuzz.fuzz_differential --seconds {{seconds}} {{args}}

# everything that runs guests, mixed for SECONDS in one process, which must end with what it began with
soak seconds="300": build
    python -m fuzz.soak {{seconds}}

# the suite of benchmarks: writes bench-report/, HTML, Markdown and plots. `just bench --quick`, `just bench lifecycle`
bench *args: build
    python -m bench {{args}}

# two commits by ratios of times and counts of instructions: `just bench-compare HEAD~1 HEAD`
bench-compare *args: build
    python -m bench compare {{args}}

# compile time and run time of programs against wasmtime-py, in one interleaved run
bench-programs *args: build
    python -m bench.compare_wasmtime {{args}}

# the code against native code and wasmtime's, in one interleaved run
bench-code *args: build
    python -m bench.code_quality --output docs/code-quality.md {{args}}

# what the parts of the edge server cost a request, without HTTP
bench-edge-parts *args: build
    python -m bench.edge_parts {{args}}

# guests under asyncio, and columns, against wasmtime-py
bench-asyncio *args: build
    python -m bench.asyncio_guests {{args}}
    python -m bench.data_plane

# what compiling costs against wasmtime-py, at each level: CPU time, wall time on one and two workers, memory
bench-compile *args: build
    python -m bench.compile_time {{args}}
