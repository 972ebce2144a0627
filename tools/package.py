"""`just package`: sdist and wheel of the commit that is checked out, into dist/, and all that is promised of them.

The wheel is installed in a new environment whose PATH has no compiler, and runs a program there, with LLVM and without.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTS_MEASURED = 11
IN_WHEEL = (
    *("lucet/py.typed", "lucet/sbom.cdx.json", "lucet/CHANGELOG.md", "dist-info/licenses/LICENSE"),
    *("lucet/runtime/_core.abi3.so", "lucet/runtime/_core.pyi", "lucet/abi/artifact.def", "dist-info/entry_points.txt"),
)
IN_SDIST = ("/native/run.c", "/CHANGELOG.md", "/LICENSE", "/tools/sbom.py")


def run(*command: str | Path, cwd: Path = ROOT, path: str | None = None) -> str:
    """The command's output. A command that fails ends this one, with what it said."""
    print("$", *command, flush=True)
    environment = {**os.environ, **({"PATH": path} if path else {})}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}\nfailed with status {done.returncode}: {command[0]}")
    return done.stdout


def tool(name: str) -> Path:
    return Path(sys.executable).parent / name


def build(folder: Path, output: Path) -> tuple[Path, Path]:
    """The sdist of the commit that is checked out, and the wheel that comes of the sdist."""
    run("git", "clone", "-q", ROOT, folder / "checkout")
    run(sys.executable, "-m", "build", "--outdir", folder / "built", cwd=folder / "checkout")
    (plain,) = (folder / "built").glob("*.whl")
    (sdist,) = (folder / "built").glob("*.tar.gz")
    if "-cp311-abi3-linux_x86_64" not in plain.name:
        raise SystemExit(f"{plain.name}: not for the stable ABI of Python 3.11")
    # Changes the name only, as there is no other library to put in: it says how old a C library may be.
    run(tool("auditwheel"), "repair", "-w", folder / "repaired", plain)
    (wheel,) = (folder / "repaired").glob("*.whl")
    output.mkdir(exist_ok=True)
    return sdist.replace(output / sdist.name), wheel.replace(output / wheel.name)


def check(sdist: Path, wheel: Path) -> None:
    """What is inside, and what those who know wheels say."""
    run(tool("check-wheel-contents"), wheel)
    run(tool("abi3audit"), "--strict", wheel)
    with zipfile.ZipFile(wheel) as archive, tarfile.open(sdist) as sources:
        files = archive.namelist()
        missing = absent(IN_WHEEL, files) + absent(IN_SDIST, sources.getnames())
        if missing:
            raise SystemExit(f"not inside: {missing}")
        validate_sbom(archive.read("lucet/sbom.cdx.json").decode())
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, {len(files)} files")
    print(f"{sdist.name}: {sdist.stat().st_size / 1e6:.2f} MB")


def absent(ends: tuple[str, ...], names: list[str]) -> list[str]:
    return [end for end in ends if not any(name.endswith(end) for name in names)]


def validate_sbom(text: str) -> None:
    """Against CycloneDX's own schema."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    version = SchemaVersion.from_version(json.loads(text)["specVersion"])
    error = JsonStrictValidator(version).validate_str(text)
    if error:
        raise SystemExit(f"the bill of materials is not as its schema says: {error}")


def install(folder: Path, wheel: Path) -> None:
    """In a new environment that has nothing on its PATH but itself."""
    home = folder / "environment"
    venv.create(home, with_pip=True)
    path, python = str(home / "bin"), home / "bin" / "python"
    for compiler in ("cc", "gcc", "clang", "ld"):
        if (home / "bin" / compiler).exists():
            raise SystemExit(f"{compiler} is in the new environment")
    hello = ROOT / "examples" / "hello.wasm"
    run(python, "-m", "pip", "install", "-q", "--only-binary", ":all:", f"{wheel}[compile]", cwd=folder, path=path)
    run(python, "-m", "pip", "check", cwd=folder, path=path)
    told = run(home / "bin" / "lucet", "run", hello, "of", "the", "wheel", cwd=folder, path=path)
    run(home / "bin" / "lucetc", hello, "-o", folder / "hello.so", cwd=folder, path=path)
    run(python, "-m", "pip", "uninstall", "-q", "-y", "llvmlite", cwd=folder, path=path)
    again = run(home / "bin" / "lucet-wasi", folder / "hello.so", "of", "the", "wheel", cwd=folder, path=path)
    if (
        "wheel" not in told or told.splitlines()[1:] != again.splitlines()[1:]
    ):  # the first line may have the program's name
        raise SystemExit(f"the program printed {told!r} with LLVM and {again!r} without")
    measure_import(python, folder, path)


def measure_import(python: Path, folder: Path, path: str) -> None:
    times = []
    for _ in range(IMPORTS_MEASURED):
        command = [str(python), "-X", "importtime", "-c", "import lucet"]
        done = subprocess.run(command, cwd=folder, env={"PATH": path}, capture_output=True, text=True, check=True)
        times.append(int(done.stderr.splitlines()[-1].split("|")[1]) / 1000)
    print(f"import lucet: {statistics.median(times):.1f} ms ({min(times):.1f} to {max(times):.1f}, {len(times)} times)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="FOLDER")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sdist, wheel = build(Path(name), arguments.output)
        check(sdist, wheel)
        install(Path(name), wheel)


if __name__ == "__main__":
    main()
