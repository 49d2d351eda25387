"""Another Python of this machine: its packages are another environment, in which the same worker measures."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import InvalidInput, Unavailable
from bench.reach.local import Local
from bench.reach.travel import collect

OLDEST = (3, 10)
LIMIT_S = 120
PROBE = """
import json, sys
found = {"python": ".".join(map(str, sys.version_info[:3]))}
if sys.version_info < (3, 10):
    found["error"] = "old"
else:
    try:
        import importlib, importlib.metadata as known
        import numpy
        before = set(sys.modules)
        importlib.import_module(sys.argv[1])
        names = {name.partition(".")[0] for name in set(sys.modules) - before} - {"bench", "backends"}
        owners = known.packages_distributions() if hasattr(known, "packages_distributions") else {}
        found["packages"] = {one: known.version(one) for name in sorted(names) for one in owners.get(name, ())}
        found["packages"]["numpy"] = numpy.__version__
    except BaseException as error:
        found["error"] = f"{type(error).__name__}: {error}" if not isinstance(error, Exception) else str(error)
sys.stdout.write("\\n" + json.dumps(found))
"""
"""What the other Python prints of itself: its version, those of the packages that the session imports, or an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A Python and what its worker runs with. `packages`: distribution -> version, those that the session imports."""

    python: Path
    version: str
    packages: Mapping[str, str]
    reach: Local

    def describe(self) -> str:
        """Python's version and the packages."""
        named = [f"{name} {version}" for name, version in sorted(self.packages.items())]
        return ", ".join([f"Python {self.version}", *named])


def lay_out_code(module: str, folder: Path) -> Path:
    """The worker and a session's module with what they import of their own packages, copied into `folder`."""
    for name, file in collect([module]).items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    return folder


def open_environment(python: str, module: str, code: Path) -> Environment:
    """The environment of another Python, able to run the session in `module`. `code`: as of `lay_out_code`.

    Raises `InvalidInput` where there is no such Python or it is too old, `Unavailable` where the session cannot be
    imported there: the runtime or numpy is missing.
    """
    path = find_python(python)
    said = ask(path, module, code)
    if said.get("error") == "old":
        raise InvalidInput(f"--python {python}: Python {said['python']} is older than {OLDEST[0]}.{OLDEST[1]}")
    if error := said.get("error"):
        said_first = str(error).splitlines()[0]
        raise Unavailable(f"--python {python}: its environment cannot run the model: {said_first} (by {path} -m pip)")
    reach = Local((str(path), "-m", "bench.device.worker"), code)
    return Environment(python=path, version=str(said["python"]), packages=dict(said["packages"]), reach=reach)


def find_python(text: str) -> Path:
    """The interpreter: a file, or the folder of a virtual environment. Not resolved: its own path is the environment."""
    path = Path(text).absolute()
    if path.is_dir():
        path = path / "bin" / "python"
    if not path.is_file() or not os.access(path, os.X_OK):
        raise InvalidInput(f"--python {text}: {path} is not a program; name an environment's folder or its bin/python")
    return path


def ask(python: Path, module: str, code: Path) -> dict[str, Any]:
    """What `PROBE` prints. Raises `InvalidInput` where the program is not a Python."""
    environment = {**os.environ, "PYTHONPATH": str(code)}
    try:
        done = subprocess.run(
            [str(python), "-c", PROBE, module],
            cwd=code,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        return dict(found)
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError, TypeError) as error:
        raise InvalidInput(f"--python {python}: it does not answer as Python does: {error}") from error
