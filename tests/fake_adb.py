"""A phone's double: an adb server on loopback that speaks the real host, shell,v2 and sync protocols.

What it runs, it runs in a folder of this machine: `/data/local/tmp` and `/sys` in a command are moved there. The program
that a test sends as benchmark_model is an ELF file for another CPU; the double runs `fakes/fake_benchmark_model.py` for it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FAKE = Path(__file__).parent / "fakes" / "fake_benchmark_model.py"
TMP = "/data/local/tmp"
PROPERTIES = {
    "ro.product.manufacturer": "Fakemaker",
    "ro.product.model": "Fone 7",
    "ro.build.version.release": "14",
    "ro.soc.model": "FS-1",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a",
}
RUN = re.compile(r"exec (\S+/[0-9a-f]{64}) ")


@dataclass
class FakePhone:
    """`behave`: what its benchmark_model does. `warns`: its linker warns at every program. `free_blocks`: of 4096 bytes. `lost_after`: shell commands until it is unplugged."""

    folder: Path
    states: dict[str, str] = field(default_factory=lambda: {"FAKE123": "device"})
    features: str = "shell_v2,cmd,stat_v2"
    properties: dict[str, str] = field(default_factory=lambda: dict(PROPERTIES))
    behave: dict[str, object] = field(default_factory=dict)
    warns: bool = False
    free_blocks: int = 1 << 22
    refuses_files: bool = False
    wrong_abi: bool = False
    lost_after: int = 1 << 30
    commands: list[str] = field(default_factory=list)
    sent: list[tuple[str, int]] = field(default_factory=list)
    port: int = 0

    def moved(self, text: str) -> str:
        return text.replace(TMP, str(self.folder / "tmp")).replace("/sys/", f"{self.folder}/sys/")

    @property
    def environment(self) -> dict[str, str]:
        return {"ANDROID_ADB_SERVER_PORT": str(self.port), "ANDROID_ADB_SERVER_HOST": "127.0.0.1"}


def make_binary(path: Path, machine: int = 183) -> Path:
    """An ELF header and nothing that a CPU could run."""
    path.write_bytes(struct.pack("<4sBB12xH", b"\x7fELF", 2, 1, machine) + bytes(44))
    return path


@contextmanager
def running(folder: Path, **changes: object) -> Iterator[FakePhone]:
    """A double that answers."""
    phone = FakePhone(folder=folder, **changes)
    (folder / "tmp").mkdir(parents=True)
    for place, value in {
        "class/thermal/thermal_zone0/type": "cpu-thermal",
        "class/thermal/thermal_zone0/temp": "31500",
        "devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil",
        "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1800000",
        "devices/system/cpu/cpufreq/policy0/scaling_max_freq": "2400000",
    }.items():
        path = folder / "sys" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _handler(phone))
    server.daemon_threads = True
    phone.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield phone
    finally:
        server.shutdown()
        server.server_close()


def _handler(phone: FakePhone) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                while True:
                    text = self.read(int(self.read(4), 16)).decode()
                    if not self.answer(text):
                        return
            except (ConnectionError, ValueError):
                return

        def read(self, size: int) -> bytes:
            found = b""
            while len(found) < size:
                chunk = self.request.recv(size - len(found))
                if not chunk:
                    raise ConnectionError
                found += chunk
            return found

        def okay(self, text: str | None = None) -> None:
            block = b"" if text is None else f"{len(text):04x}{text}".encode()
            self.request.sendall(b"OKAY" + block)

        def fail(self, text: str) -> bool:
            self.request.sendall(b"FAIL" + f"{len(text):04x}{text}".encode())
            return False

        def answer(self, text: str) -> bool:
            """Whether the connection goes on to the phone."""
            if text == "host:version":
                self.okay("0029")
                return False
            if text == "host:devices":
                self.okay("".join(f"{serial}\t{state}\n" for serial, state in phone.states.items()))
                return False
            found = re.fullmatch(r"host-serial:(.+):features", text)
            if found:
                self.okay(phone.features)
                return False
            if text.startswith("host:tport:serial:"):
                serial = text.rpartition(":")[2]
                if phone.states.get(serial) != "device":
                    return self.fail(f"device '{serial}' not found")
                self.request.sendall(b"OKAY" + struct.pack("<Q", 1))
                return True
            if text == "sync:":
                self.okay()
                self.sync()
            elif text.startswith("shell,v2:"):
                self.okay()
                self.shell(text.partition(":")[2])
            else:
                self.fail(f"unknown service {text}")
            return False

        def packet(self, kind: int, data: bytes) -> None:
            self.request.sendall(bytes([kind]) + struct.pack("<I", len(data)) + data)

        def shell(self, command: str) -> None:
            phone.commands.append(command)
            if len(phone.commands) > phone.lost_after:
                phone.states.clear()
                return
            if (found := RUN.search(command)) and Path(phone.moved(found[1])).read_bytes()[:4] == b"\x7fELF":
                if phone.wrong_abi:
                    self.packet(2, f"/system/bin/sh: {found[1]}: not executable: 64-bit ELF file\n".encode())
                    self.packet(3, bytes([126]))
                    return
                told = shlex.quote(json.dumps(phone.behave))
                command = command.replace(f"exec {found[1]} ", f"exec {sys.executable} -S {FAKE} {told} ")
            if phone.warns:
                self.packet(2, b"WARNING: linker: /system/bin/sh: unsupported flags DT_FLAGS_1=0x8000001\n")
            own = f"getprop() {{ case $1 in {self.properties()} esac; }}; stat() {{ echo {phone.free_blocks} 4096; }}; "
            own += 'du() { echo "100 $2"; }; '
            process = subprocess.Popen(
                ["/bin/sh", "-c", own + phone.moved(command)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
            assert process.stdout is not None
            while chunk := os.read(process.stdout.fileno(), 4096):
                if not phone.states:  # unplugged in the middle
                    process.kill()
                    return
                self.packet(1, chunk.replace(str(phone.folder).encode(), b""))
            process.stdout.close()
            self.packet(3, bytes([process.wait() & 0xFF]))

        def properties(self) -> str:
            return " ".join(f"{name}) echo {shlex.quote(value)};;" for name, value in phone.properties.items())

        def sync(self) -> None:
            kind, size = self.read(4), struct.unpack("<I", self.read(4))[0]
            path = self.read(size).decode()
            if kind == b"STAT":
                try:
                    found = Path(phone.moved(path)).stat()
                    self.request.sendall(b"STAT" + struct.pack("<III", found.st_mode, found.st_size, 1))
                except OSError:
                    self.request.sendall(b"STAT" + bytes(12))
                return
            name, content = path.rpartition(",")[0], b""
            while self.read(4) == b"DATA":
                content += self.read(struct.unpack("<I", self.read(4))[0])
            self.read(4)
            if phone.refuses_files:
                phone.free_blocks = 10
                said = b"write failed: No space left on device"
                self.request.sendall(b"FAIL" + struct.pack("<I", len(said)) + said)
                return
            Path(phone.moved(name)).write_bytes(content)
            phone.sent.append((name, len(content)))
            self.request.sendall(b"OKAY" + bytes(4))

    return Handler
