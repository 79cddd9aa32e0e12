# ruff: noqa: INP001 - a script, run by its path
"""Stand-ins for NVIDIA's libraries, so that the CUDA build of torch can be imported where no GPU is.

PyPI offers torch for CUDA only, and its libraries are linked against 3 GB of cuBLAS, cuDNN, NCCL and so on, which the
loader insists on although a machine without a GPU never calls into them. `python cuda_stubs.py SITE_PACKAGES` writes
libraries with the same names and symbols (a few kB each) beside torch's own. Every stand-in function returns 1, an
error in each of these APIs. The CUDA runtime stays the real one: it is what tells torch that there is no GPU.

Needs gcc, nm and readelf; no C library.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

_VENDOR = re.compile(r"lib(cu|nv|nccl)\w*\.so\.\d+")
_FROM_THE_DRIVER = "libcuda.so.1"
_UNVERSIONED = ""

Symbols = frozenset[str]


def main(site_packages: Path) -> None:
    """Writes a stand-in for each library that torch needs and `site_packages` lacks."""
    torch_libraries = sorted((site_packages / "torch" / "lib").glob("*.so*"))
    present = {path.name for path in site_packages.glob("nvidia/**/*.so*")} | {path.name for path in torch_libraries}
    missing = sorted(_needed(torch_libraries) - present - {_FROM_THE_DRIVER})
    wanted = _missing_symbols(torch_libraries)
    for soname in missing:
        # Versions carry the library's name, but for NVSHMEM's. Which library a symbol without version comes from is
        # nowhere written, and the loader takes it from any: the first one gets them all.
        version = "NVSHMEM" if "nvshmem" in soname else soname
        plain = wanted[_UNVERSIONED] if soname == missing[0] else frozenset[str]()
        _build(site_packages / "torch" / "lib" / soname, version, versioned=wanted[version], plain=plain)
    sys.stdout.write(f"stand-ins for {', '.join(missing)}\n")


def _needed(libraries: Iterable[Path]) -> set[str]:
    dynamic = _output("readelf", "--dynamic", "--wide", *libraries)
    return {name for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic) if _VENDOR.fullmatch(name)}


def _missing_symbols(libraries: Iterable[Path]) -> Mapping[str, Symbols]:
    """The symbols that the libraries use and none of them has, by version."""
    paths = list(libraries)
    defined = set(_output("nm", "-D", "--defined-only", "--just-symbols", "--without-symbol-versions", *paths).split())
    by_version: dict[str, set[str]] = defaultdict(set)
    undefined = _output("nm", "-D", "--undefined-only", "--with-symbol-versions", *paths)
    for symbol in re.findall(r"^ +U (\S+)$", undefined, flags=re.MULTILINE):
        name, _, version = symbol.partition("@")
        # Python's own symbols come from the interpreter.
        if name not in defined and not name.startswith(("Py", "_Py")):
            by_version[version.lstrip("@")].add(name)
    return defaultdict(frozenset, {version: frozenset(names) for version, names in by_version.items()})


def _build(target: Path, version: str, *, versioned: Symbols, plain: Symbols) -> None:
    source = "static int absent(void) { return 1; }\n" + "".join(
        f'int {name}(void) __attribute__((alias("absent")));\n' for name in sorted(versioned | plain)
    )
    options = ["-shared", "-nostdlib", "-w", f"-Wl,-soname,{target.name}", "-o", str(target), "-x", "c", "-"]
    with tempfile.NamedTemporaryFile("w", suffix=".map") as script:
        if versioned:
            script.write(f"{version} {{ global: {' '.join(f'{name};' for name in sorted(versioned))} }};\n")
            script.flush()
            options.append(f"-Wl,--version-script={script.name}")
        subprocess.run(["gcc", *options], input=source, text=True, check=True)


def _output(*command: str | Path) -> str:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
