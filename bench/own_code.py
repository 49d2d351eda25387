"""Code that a user brings as `package.module:name`: how it is found, how its errors are named, and how processes that run
ours keep it out."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.errors import InvalidInput, PressbenchError, unknown

LIBRARIES = {"site-packages", "dist-packages"}
OURS = str(Path(__file__).resolve().parents[1])
"""The folder that our packages are imported from."""
TRIES = 5
"""How often a file is parsed where that fails by chance."""


def is_import_path(text: str) -> bool:
    """Whether the text has the form `package.module:name`."""
    place, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*place.split("."), name])


def load_object(path: str, kind: str, *, callable_only: bool = True) -> Any:
    """What is called `name` in `package.module:name`. `kind`: what it should be, for messages.

    Raises `InvalidInput` when the path is not one, or when it cannot be imported.
    """
    place, _, name = path.partition(":")
    if place.endswith(".py"):
        raise InvalidInput(f"{path!r} is a file: write {Path(place).stem}:{name}, with its folder on PYTHONPATH")
    if not is_import_path(path):
        raise InvalidInput(f"{path!r} is not an import path; write package.module:{kind}")
    with users_code(f"{place!r} cannot be imported:"):
        try:
            module = importlib.import_module(place)
        except ImportError as error:
            raise InvalidInput(f"{place!r} cannot be imported: {error}; is its folder on PYTHONPATH?") from None
    found = getattr(module, name, None)
    if not hasattr(module, name) or (callable_only and not callable(found)):
        raise unknown(f"{kind} of {place}", name, [key for key, value in vars(module).items() if callable(value)])
    return found


def file_of(path: str, found: object) -> Path | None:
    """The source file of an object that `load_object` gave; that of its module where it has none of its own."""
    written = inspect.unwrap(found) if callable(found) else found
    if not inspect.isroutine(written) and not inspect.isclass(written):  # for example a partial: use its module
        written = sys.modules[path.partition(":")[0]]
    file = inspect.getsourcefile(written)
    return Path(file) if file else None


def sources_of(path: str, file: Path) -> list[Path]:
    """The file of `package.module:name`, its packages, and every module that it imports from the folder it was found in.

    Only the file where it is in an installed package. Raises `InvalidInput` for a module that cannot be parsed.
    """
    if LIBRARIES & set(file.parts):
        return [file]
    place, file = path.partition(":")[0], file.resolve()
    root = _root_of(place, file)
    inside = {*files_of(place, root), *([file] if file.is_relative_to(root) else [])}
    with users_code(f"what {path} imports cannot be read:"):
        return sorted({file, *find_imported(root, sorted(inside))})


def _root_of(place: str, file: Path) -> Path:
    """The folder that a module was imported from. `file`: of an object in it, which another module may have written."""
    named = getattr(sys.modules.get(place), "__file__", None)
    file = Path(named).resolve() if named else file
    return file.parents[place.count(".") + (file.name == "__init__.py")]


def find_imported(root: Path, starts: Sequence[Path]) -> list[Path]:
    """The starts and, through their imports, every file under the root that they may load."""
    todo, found = list(starts), set[Path]()
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += imported_files(path, root)
    return sorted(found)


def imported_files(path: Path, root: Path) -> Iterator[Path]:
    """Files under the root that a file imports, at its top or inside a function, but not for a type checker only."""
    state = path.stat()
    for level, stated, imported in _read_imports(path, state.st_mtime_ns, state.st_size):
        place = path.relative_to(root).parts[:-level] if level else ()
        module = ".".join([*place, *([stated] if stated else [])])
        for name in filter(None, (module, *(".".join(filter(None, (module, one))) for one in imported))):
            yield from files_of(name, root)


@lru_cache(maxsize=4096)
def _read_imports(path: Path, _changed_ns: int, _size: int) -> tuple[tuple[int, str | None, tuple[str, ...]], ...]:
    """(dots before, module, names) of each import of a file as it is now; a file is parsed once."""
    found: list[tuple[int, str | None, tuple[str, ...]]] = []
    for node in ast.walk(without_type_checking(_parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module, tuple(alias.name for alias in node.names)))
    return tuple(found)


def _parse(text: str) -> ast.Module:
    """As `ast.parse`, which fails by chance where another thread parses too (python/cpython#106905: 3.11 before .10)."""
    for _ in range(TRIES - 1):
        with suppress(SystemError):
            return ast.parse(text)
    return ast.parse(text)


def files_of(module: str, root: Path) -> Iterator[Path]:
    """The file of a module under the root, and those of the packages that it is in."""
    place = root.joinpath(*module.split("."))
    packages = [folder / "__init__.py" for folder in (place, *place.parents) if root in folder.parents]
    yield from (file for file in (place.with_suffix(".py"), *packages) if file.is_file())


def without_type_checking(tree: ast.Module) -> ast.Module:
    """The module less its `if TYPE_CHECKING:` blocks, which never run."""
    kept = [part for part in tree.body if not (isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING")]
    return ast.Module(body=kept, type_ignores=[])


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """Around a user's code: its errors become `InvalidInput` that names the user's file and line."""
    try:
        yield
    except PressbenchError:
        raise
    except (Exception, SystemExit) as error:
        place = _place(error)
        where = f" ({place}); fix it there" if place else ""
        raise InvalidInput(f"{what} {type(error).__name__}: {error}{where}") from error


def _place(error: BaseException) -> str:
    """The user's file and line that an error comes from, not those of a library it called; "" where none is theirs."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    ours = (str(Path(__file__).parent), "<", str(Path(inspect.__file__).parent))
    frames = traceback.extract_tb(error.__traceback__)
    theirs = (
        frame
        for frame in reversed(frames)
        if not frame.filename.startswith(ours) and not LIBRARIES & set(Path(frame.filename).parts)
    )
    frame = next(theirs, None)
    return f"{frame.filename}, line {frame.lineno}" if frame else ""


def command_of(module: str, *arguments: str) -> list[str]:
    """Runs a module of ours. `python -m` looks first where the user stands, whose project may have packages of our names."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment_of_ours() -> dict[str, str]:
    """For `command_of`: this process's, importing from where it does, but for the folder where the user stands."""
    here = str(Path.cwd())
    places = [place for place in sys.path if place and (place == OURS or place != here)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
