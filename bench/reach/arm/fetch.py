"""Fetches Debian packages and wheels by their ordinary clients, without root, and checks every digest."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from bench.errors import Unavailable

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCE = "deb [arch=amd64,arm64 signed-by={keyring}] http://deb.debian.org/debian bookworm main\n"
LIMIT_S = 600
TOOLS = {
    "apt-get": "a Debian or Ubuntu machine",
    "dpkg-deb": "apt-get install dpkg",
    "cc": "apt-get install gcc libc6-dev",
}
TAGS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64")


def check_host(machine: str, folder: Path, need_bytes: int) -> None:
    """Raises `Unavailable` naming what is missing, before anything is fetched."""
    if machine != "x86_64":
        raise Unavailable(f"the emulator is built for x86_64 hosts, this is {machine}: on an ARM board use target cpu")
    for tool, remedy in TOOLS.items():
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is needed and missing: {remedy}")
    if not KEYRING.exists():
        raise Unavailable(f"{KEYRING} is needed to check Debian's signature: apt-get install debian-archive-keyring")
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < need_bytes:
        raise Unavailable(f"{existing} has {free >> 20} MiB free, {need_bytes >> 20} MiB are needed")


def fetch_debian(folder: Path) -> dict[str, str]:
    """Packages of debian.txt as .deb files in `folder`; returns file -> SHA-256.

    apt checks each against Debian's signed index; a package of a known version is checked against
    debian.txt besides. A newer point release is taken as apt verified it.
    """
    wanted = [line.split() for line in _lines("debian.txt")]
    config = _apt_config(folder / "apt")
    _run(["apt-get", "-q", "update"], folder, "Debian's package lists", APT_CONFIG=str(config))
    names = [package for package, _, _ in wanted]
    _run(["apt-get", "-q", "download", *names], folder, "Debian packages", APT_CONFIG=str(config))
    found = {path.name: _digest(path) for path in sorted(folder.glob("*.deb"))}
    if len(found) != len(wanted):
        raise Unavailable(f"apt fetched {len(found)} of {len(wanted)} Debian packages")
    for package, version, digest in wanted:
        name, _, architecture = package.partition(":")
        file = f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
        if file in found and found[file] != digest:
            raise Unavailable(f"{file} has the digest {found[file]}, {digest} is known: nothing of it is used")
    return found


def fetch_wheels(folder: Path) -> list[str]:
    """Unpacks the wheels of wheels.txt into `folder`; pip checks their pinned digests. Returns name==version."""
    requirements = folder.parent / "wheels.txt"
    requirements.write_text(files(__package__).joinpath("wheels.txt").read_text(encoding="utf-8"), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--no-input", "--retries", "1", "--require-hashes", "--requirement", str(requirements)),
        *("--target", str(folder), "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp"),
        *(part for tag in TAGS for part in ("--platform", tag)),
    ]
    _run(command, folder.parent, "aarch64 wheels")
    requirements.unlink()
    return [line.split()[0] for line in _lines("wheels.txt") if "==" in line]


def unpack(debs: Sequence[Path], root: Path) -> None:
    """The files of Debian packages, without running their scripts."""
    for path in debs:
        _run(["dpkg-deb", "--extract", str(path), str(root)], root.parent, path.name)


def compile_plugin(out: Path) -> None:
    """The counting plugin, by the C compiler of this machine."""
    source = out.with_suffix(".c")
    source.write_bytes(files(__package__).joinpath("counter.c").read_bytes())
    _run(["cc", "-O2", "-shared", "-fPIC", "-o", str(out), str(source)], out.parent, "counter.c")
    source.unlink()


def _apt_config(folder: Path) -> Path:
    """A configuration in which apt keeps everything in `folder` and looks only at bookworm."""
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(SOURCE.format(keyring=KEYRING), encoding="utf-8")
    lines = {
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "parts",
        "Dir::Etc::parts": folder / "parts",
        "Acquire::Languages": "none",
        "Acquire::Retries": "1",
        "APT::Sandbox::User": "",
    }
    text = (
        "".join(f'{key} "{value}";\n' for key, value in lines.items()) + 'APT::Architectures { "amd64"; "arm64"; };\n'
    )
    config = folder / "apt.conf"
    config.write_text(text, encoding="utf-8")
    return config


def _run(command: Sequence[str], folder: Path, what: str, **extra: str) -> None:
    """Raises `Unavailable` with the last thing the program said."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            list(command),
            cwd=folder,
            env={**os.environ, **extra, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what}: {command[0]} did not end within {LIMIT_S} s") from None
    warned = "Failed to fetch" in done.stdout  # apt-get update ends well when it could fetch nothing
    if done.returncode or warned:
        errors = [line for line in done.stdout.splitlines() if line.startswith(("E:", "W: Failed", "ERROR"))]
        said = (errors or done.stdout.strip().splitlines() or ["it said nothing"])[0]
        raise Unavailable(f"{what} is not available: {said[:300]}")


def _lines(name: str) -> list[str]:
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "--"))]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
