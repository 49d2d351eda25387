"""Checks that the code that travels to a device runs on its Python: `python -m tools.device_code`, part of `make check`.

The worker, the sessions of the backends and everything of this repository that they import must run on
Python 3.10, the oldest a target may have. vermin finds syntax and standard library that came later.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PYTHON = "3.10"
ROOT = Path(__file__).resolve().parent.parent
STARTS = ("bench/device/**/*.py", "bench/types.py", "bench/records.py", "bench/errors.py", "backends/*/session.py")
"""What a job names; the rest is what these import."""


def travelling(root: Path = ROOT) -> list[Path]:
    """The starts and, through their imports, every file of this repository that a worker may load."""
    todo = [path for pattern in STARTS for path in root.glob(pattern)]
    found: set[Path] = set()
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += imported_files(path, root)
    return sorted(found)


def imported_files(path: Path, root: Path) -> Iterator[Path]:
    """Files under the root that a file imports, at its top or inside a function, but not for a type checker only."""
    for node in ast.walk(without_type_checking(ast.parse(path.read_text(encoding="utf-8")))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            module = root.joinpath(*name.split("."))
            packages = [folder / "__init__.py" for folder in (module, *module.parents) if root in folder.parents]
            yield from (file for file in (module.with_suffix(".py"), *packages) if file.is_file())


def without_type_checking(tree: ast.Module) -> ast.Module:
    """The module less its `if TYPE_CHECKING:` blocks, which never run."""
    kept = [part for part in tree.body if not (isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING")]
    return ast.Module(body=kept, type_ignores=[])


def main() -> int:
    """Prints what needs a later Python; vermin's exit code."""
    files = travelling()
    run_vermin = "import sys, vermin; sys.exit(vermin.main())"  # it has no `python -m`
    vermin = [sys.executable, "-c", run_vermin, f"--target={PYTHON}-", "--violations", "--no-tips", "--quiet"]
    done = subprocess.run(
        [*vermin, "--eval-annotations", "--no-parse-comments", *map(str, files)],
        check=False,
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    print(said.strip() if done.returncode else f"{len(files)} files that travel to a device run on {PYTHON}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
