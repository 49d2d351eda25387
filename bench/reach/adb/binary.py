"""The user's `benchmark_model`: a file on this machine, for one kind of CPU."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.errors import InvalidInput, Unavailable

VARIABLE = "PRESSBENCH_BENCHMARK_MODEL"
ABIS = {3: "x86", 40: "armeabi-v7a", 62: "x86_64", 183: "arm64-v8a", 243: "riscv64"}
"""`e_machine` of an ELF file (System V ABI) -> Android's name."""
HEAD = struct.Struct("<4sBB12xH")


def find_binary(target: str, named: str, environment: Mapping[str, str]) -> Path:
    """The file that the target or PRESSBENCH_BENCHMARK_MODEL names. Raises `InvalidInput` without one, or with two."""
    asked = environment.get(VARIABLE, "").strip()
    if asked and named and asked != named:
        raise InvalidInput(
            f"target {target}: its file has benchmark_model = {named!r}, {VARIABLE} is {asked!r}: leave one out"
        )
    if not (asked or named):
        raise InvalidInput(
            f"target {target}: where is LiteRT's benchmark_model for the phone? Set {VARIABLE}=FILE, or write "
            'benchmark_model = "FILE" in a target file of your own (docs/boards.md)'
        )
    path = Path(asked or named).expanduser()
    if not path.is_file():
        where = VARIABLE if asked else f"target {target}: key 'benchmark_model'"
        raise InvalidInput(f"{where}: {path}: no such file: it is a path on this machine (docs/boards.md)")
    return path


def find_abi(binary: Path) -> str:
    """Which CPUs the file runs on, by Android's name. Raises `InvalidInput` for what is not an Android program."""
    with binary.open("rb") as file:
        head = file.read(HEAD.size)
    if len(head) < HEAD.size or head[:4] != b"\x7fELF":
        raise InvalidInput(f"{binary}: not a program for Android: it does not begin as an ELF file does")
    machine = HEAD.unpack(head)[3]
    if machine not in ABIS:
        raise InvalidInput(f"{binary}: a program for a CPU that no Android phone has (ELF machine {machine})")
    return ABIS[machine]


def check_abi(binary: Path, abi: str, known: Sequence[str]) -> None:
    """Raises `Unavailable` where the phone cannot run the file."""
    if known and abi not in known:
        raise Unavailable(
            f"{binary} is for {abi}, the phone runs {', '.join(known)}: get the benchmark_model built for {known[0]}"
        )
