"""Builds the wheel, installs it into a fresh environment and runs it: `python -m tools.wheel`, what CI does.

The tests run the source tree; only this shows that the wheel holds every file and entry point a user needs.
Dependencies come from the environment that runs this, so nothing but setuptools is downloaded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (("--help",), ("recipes",), ("backends",), ("targets",))
PAGE = "from bench.report.page import render_page; render_page([], [])"
"""Reads every asset of the page."""
SHIPPED = ("bench/", "backends/", "targets/", "pressbench-")


def build(folder: Path) -> Path:
    """The wheel of this source tree."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """The `bin` of a new environment with the wheel; other packages are those of the environment that runs this."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    there = run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip()
    ours = [place for place in sys.path if Path(place).name == "site-packages"]
    (Path(there) / "dependencies.pth").write_text("\n".join(ours) + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    run([*pip, "install", "--no-deps", "--no-index", "--force-reinstall", str(wheel)], folder)
    return folder / "bin"


def run(command: list[str], folder: Path) -> str:
    """What a command prints. SystemExit: it failed; its output says how."""
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Builds, looks inside, installs, runs. Ends with 1 and the reason at the first failure."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = build(folder)
        extra = [name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith(SHIPPED)]
        if extra:
            sys.exit(f"{wheel.name} holds what is not shipped: {', '.join(extra[:5])}")
        programs = install(wheel, folder / "environment")
        place = run([str(programs / "python"), "-c", "import bench; print(bench.__file__)"], folder)
        if not place.startswith(str(folder.resolve())):
            sys.exit(f"the wheel is not what ran, but {place}")
        for command in COMMANDS:
            run([str(programs / "pressbench"), *command], folder)
        run([str(programs / "python"), "-c", PAGE], folder)
        print(f"{wheel.name}: installed and ran {', '.join(' '.join(command) for command in COMMANDS)}")


if __name__ == "__main__":
    main()
