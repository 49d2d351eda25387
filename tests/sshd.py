"""A board's double: a real OpenSSH server on loopback with throw-away keys and a root folder of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


def missing() -> str:
    """Why no double can be started here; "" if it can."""
    if PROGRAM is None:
        return "no OpenSSH server: sudo apt install openssh-server"
    return "" if shutil.which("ssh-keygen") else "no ssh-keygen: sudo apt install openssh-client"


@dataclass
class Double:
    """`folder` is the board's storage; `root` its /proc and /sys; `config` what a user's ~/.ssh/config would be."""

    folder: Path
    port: int
    process: subprocess.Popen | None = None
    options: list[str] = field(default_factory=list)

    @property
    def storage(self) -> Path:
        return self.folder / 'it\'s a "board" $(touch hurt)'

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def user(self) -> str:
        return getpass.getuser()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, "-D", "-e", "-f", str(self.folder / "sshd_config"), *self.options],
            stdin=subprocess.DEVNULL,
            stderr=(self.folder / "sshd.log").open("ab"),
            start_new_session=True,
        )
        end = time.monotonic() + 20
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def stop(self) -> None:
        """The server and its connections end; what runs detached on the board goes on, as on a real one.

        It takes no further connection while they end: one that came between would outlive it.
        """
        if self.process is not None:
            _signal(self.process.pid, signal.SIGSTOP)
        self.cut()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def connections(self) -> list[int]:
        """Process ids of the server's children, one tree a connection."""
        if self.process is None:
            return []
        return _children(self.process.pid)

    def cut(self) -> int:
        """Kills every open connection; how many there were."""
        found = self.connections()
        for pid in [child for parent in found for child in _children(parent)] + found:
            _signal(pid, signal.SIGKILL)
        return len(found)

    def freeze(self) -> list[int]:
        """Stops every open connection without closing it."""
        found = [pid for parent in self.connections() for pid in [parent, *_children(parent, name="sshd")]]
        for pid in found:
            _signal(pid, signal.SIGSTOP)
        return found

    def target(self, **changes: str) -> str:
        """The text of a target file for it, with one backend."""
        keys = {
            "name": "double",
            "reach": "ssh",
            "host": f"{self.user}@127.0.0.1:{self.port}",
            "ssh_config": str(self.config),
            "folder": str(self.storage),
            "root": str(self.root),
            "python": sys.executable,
        } | changes
        return "".join(f"{key} = {_quoted(value)}\n" for key, value in keys.items() if value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _children(parent: int, name: str = "") -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        if int(rest.split()[1]) == parent and name in head:
            found.append(int(stat.parent.name))
    return found


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def make(folder: Path, *, setting: str = "") -> Double:
    """Keys and configuration of a double, not yet started. `setting`: more lines of sshd_config."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    double = Double(folder=folder, port=port)
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
    (folder / "authorized").chmod(0o600)
    know(double, "host")
    double.root.mkdir()
    (double.root / "proc").symlink_to("/proc")
    _give_rails(double.root)
    double.config.write_text(
        f'Host *\n  IdentityFile "{folder}/user"\n  IdentitiesOnly yes\n  UserKnownHostsFile "{folder}/known_hosts"\n'
        "  IdentityAgent none\n"
    )
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/sshd.pid\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 100\n{setting}\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    return double


def _give_rails(root: Path) -> None:
    """What a Jetson Orin Nano with JetPack 6 shows of power, heat and clocks: 5 V and 1.2 A go in."""
    rails = {"name": "ina3221", "in1_label": "VDD_IN", "in2_label": "VDD_CPU_GPU_CV", "in3_label": "VDD_SOC"}
    values = {"in1_input": 5000, "curr1_input": 1200, "in2_input": 5000, "curr2_input": 500, "in3_input": 5000}
    monitor = {**rails, **values, "curr3_input": 300, "curr4_input": 2000}
    clocks = {"scaling_governor": "schedutil", "scaling_cur_freq": 729600, "scaling_max_freq": 1510400}
    for place, files in (
        ("bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3", monitor),
        ("class/thermal/thermal_zone0", {"type": "cpu-thermal", "temp": 48312}),
        ("devices/system/cpu/cpufreq/policy0", clocks),
    ):
        folder = root / "sys" / place
        folder.mkdir(parents=True)
        for name, value in files.items():
            (folder / name).write_text(f"{value}\n")


@contextmanager
def loaded_rails(double: Double) -> Iterator[None]:
    """While a worker of this board uses a CPU, twice the current goes in."""
    rail = double.root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr1_input"
    ended = threading.Event()

    def follow() -> None:
        used: dict[int, int] = {}
        while not ended.wait(0.02):
            now = {pid: _used(pid) for runner in _runners(double) for pid in _children(runner)}
            busy = any(ticks > used.get(pid, ticks) for pid, ticks in now.items())
            used = now
            rail.with_suffix(".new").write_text("2400\n" if busy else "1200\n")
            rail.with_suffix(".new").replace(rail)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _used(pid: int) -> int:
    """Ticks of a CPU that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _runners(double: Double) -> list[int]:
    return [int(path.read_text().partition(" ")[0]) for path in (double.storage / "jobs").glob("*/runner")]


def know(double: Double, key: str) -> None:
    """Makes a host key the known one; "" for none."""
    line = f"[127.0.0.1]:{double.port} {(double.folder / f'{key}.pub').read_text()}" if key else ""
    (double.folder / "known_hosts").write_text(line)


@contextmanager
def running(folder: Path, *, setting: str = "") -> Iterator[Double]:
    """A double that answers."""
    double = make(folder, setting=setting)
    double.start()
    try:
        yield double
    finally:
        double.stop()
        kill_runners(double)


def kill_runners(double: Double) -> None:
    """Ends what is still detached on the board; its workers die with it."""
    for path in (double.storage / "jobs").glob("*/runner"):
        pid, _, began = path.read_text().partition(" ")
        fields = Path(f"/proc/{pid}/stat")
        if fields.exists() and fields.read_text().rpartition(")")[2].split()[19] == began.partition("@")[0]:
            _signal(int(pid), signal.SIGTERM)
