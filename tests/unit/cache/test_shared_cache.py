"""A cache at a URL: what one machine made another finds, whole and checked; trouble is said and ends nothing."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.cache import Entry, check_writable, find_or_make, put_used, read
from bench.commands.progress import watching
from bench.errors import InvalidInput, Unavailable
from bench.paths import cache_at, cache_folder
from bench.shared_cache import REST_S, Shared, copy_folder, find_url, open_shared
from bench.types import Json

fsspec = pytest.importorskip("fsspec", reason="pip install fsspec")


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path: Path) -> str:
    """A place that several machines see."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    (tmp_path / "lab cache").mkdir()
    return f"file://{tmp_path / 'lab cache'}"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """What a `file://` URL names."""
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


def machine(folder: Path, name: str, url: str) -> Path:
    """The cache of a machine with its own disk, in a process that has just begun."""
    open_shared.cache_clear()
    return copy_folder(folder / name, url)


def make(cache: Path, kind="compiled", name="it", content: str = "x") -> Entry:
    def write(folder: Path) -> Mapping[str, Json]:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_text(content)
        return {"said": "so"}

    return find_or_make(cache, kind, name, write)


def find(cache: Path, kind="compiled", name="it") -> Entry:
    return find_or_make(cache, kind, name, lambda _folder: pytest.fail("made again"))


def names(there: Path) -> list[str]:
    return sorted(path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file())


def test_what_one_machine_made_another_finds(url, tmp_path):
    made = make(machine(tmp_path, "one", url))
    found = find(two := machine(tmp_path, "two", url))
    assert (found.digests, found.facts) == (made.digests, made.facts)
    assert found.folder == two / "compiled" / "it"
    assert (found.folder / "deep" / "a").read_text() == "x"
    assert read(machine(tmp_path, "three", url), "compiled", "it") is not None
    assert read(machine(tmp_path, "three", url), "compiled", "other") is None


def test_one_file_for_an_entry_the_same_from_every_machine(there, tmp_path):
    make(machine(tmp_path, "one", f"file://{there}"))
    assert names(there) == ["compiled/it.tar"]
    first = (there / "compiled" / "it.tar").read_bytes()
    (there / "compiled" / "it.tar").unlink()
    make(machine(tmp_path, "two", f"file://{there}"))
    assert (there / "compiled" / "it.tar").read_bytes() == first


def test_the_first_that_was_put_stays(there, tmp_path):
    one, two = machine(tmp_path, "one", f"file://{there}"), tmp_path / "two"
    make(two, content="later")
    make(one, content="first")
    (copy := copy_folder(tmp_path / "three", f"file://{there}")).mkdir(parents=True)
    (two / "compiled").rename(copy / "compiled")
    assert read(machine(tmp_path, "three", f"file://{there}"), "compiled", "it") is not None
    assert put_used(copy) == []
    assert (find(machine(tmp_path, "four", f"file://{there}")).folder / "deep" / "a").read_text() == "first"


@pytest.mark.parametrize("kind", ["tables", "data", "papers"])
def test_what_is_not_named_by_all_it_depends_on_stays_on_its_machine(kind, there, tmp_path):
    make(machine(tmp_path, "one", f"file://{there}"), kind)
    assert names(there) == []
    assert read(machine(tmp_path, "two", f"file://{there}"), kind, "it") is None


def flip(tar: Path) -> None:
    tar.write_bytes(tar.read_bytes().replace(b"so", b"no"))


def cut(tar: Path) -> None:
    tar.write_bytes(tar.read_bytes()[:700])


def empty(tar: Path) -> None:
    tar.write_bytes(b"")


def garble(tar: Path) -> None:
    tar.write_bytes(bytes(range(256)) * 40)


def climb(tar: Path) -> None:
    add(tar, tarfile.TarInfo("../climbed"), b"out")


def link(tar: Path) -> None:
    member = tarfile.TarInfo("linked")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
    add(tar, member)


def extend(tar: Path) -> None:
    add(tar, tarfile.TarInfo("unlisted"), b"more")


def run_native(tar: Path) -> None:
    add(tar, tarfile.TarInfo("library.so"), b"\x7fELF and more")


def point_outside(tar: Path) -> None:
    """A sidecar with a good seal whose digests name what lies elsewhere."""
    from bench.cache import _seal

    body = {"digests": {"/dev/zero": "0"}, "facts": {}}
    tar.unlink()
    content = json.dumps({"seal": _seal(body), "body": body}).encode()
    add(tar, tarfile.TarInfo("entry.json"), content)


def add(tar: Path, member: tarfile.TarInfo, content: bytes = b"") -> None:
    member.size = len(content)
    with tarfile.open(tar, "a") as packed:
        packed.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    "damage", [flip, cut, empty, garble, climb, link, extend, run_native, point_outside], ids=lambda one: one.__name__
)
def test_a_damaged_or_hostile_file_is_named_and_made_again(damage, there, tmp_path, caplog):
    make(machine(tmp_path, "one", f"file://{there}"))
    damage(there / "compiled" / "it.tar")
    two = machine(tmp_path, "two", f"file://{there}")
    assert (make(two).folder / "deep" / "a").read_text() == "x"
    assert "compiled/it at the shared cache file://" in caplog.text
    assert "is damaged" in caplog.text
    assert sorted(path.name for path in (two / "compiled").rglob("*")) == ["a", "deep", "entry.json", "it"]
    assert not list(tmp_path.rglob("climbed"))
    assert find(machine(tmp_path, "three", f"file://{there}")).facts == {"said": "so"}


def test_native_code_is_not_put_and_said_where_it_was_wanted(there, tmp_path):
    def write(folder: Path) -> Mapping[str, Json]:
        (folder / "model.so").write_bytes(b"\x7fELF and more")
        return {}

    cache = machine(tmp_path, "one", f"file://{there}")
    find_or_make(cache, "compiled", "it", write)
    assert names(there) == []
    assert [why for why in put_used(cache) if why.startswith("compiled/it holds native code (model.so)")]


def test_a_place_that_is_not_there_is_said_and_what_is_made_stays_here(tmp_path, caplog):
    cache = machine(tmp_path, "one", f"file://{tmp_path}/unmounted")
    check_writable(cache)
    said = (
        "the shared cache file://.*/unmounted cannot be written and read: FileNotFoundError: .*; for 5 minutes only the"
    )
    (line,) = caplog.messages
    assert re.match(said, line)
    make(cache)
    assert len(caplog.messages) == 1
    assert find(cache).facts == {"said": "so"}
    assert put_used(cache) == [line.rpartition("; for 5")[0]]


def test_a_full_place_is_said_and_nothing_half_is_left(there, tmp_path, caplog, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    def fill(_self: object, _part: str, _place: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "mv", fill)
    cache = machine(tmp_path, "one", f"file://{there}")
    assert make(cache).facts == {"said": "so"}
    assert "cannot take compiled/it: OSError: [Errno 28] No space left on device" in caplog.text
    assert names(there) == []
    monkeypatch.undo()
    assert put_used(machine(tmp_path, "one", f"file://{there}")) == []
    assert names(there) == ["compiled/it.tar"]


def test_after_its_rest_a_place_is_asked_again(tmp_path):
    now = [0.0]
    shared = Shared(f"file://{tmp_path}/later", lambda: now[0])
    shared.check()
    (tmp_path / "later").mkdir()
    assert shared.trouble
    now[0] = REST_S + 1
    assert not shared.trouble
    shared.check()
    assert not shared.trouble


def test_an_upload_that_is_interrupted_shows_nobody_half_a_file(there, tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.shared_cache.pack", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(machine(tmp_path, "one", f"file://{there}"))
    assert names(there) == []
    assert read(machine(tmp_path, "two", f"file://{there}"), "compiled", "it") is None


def test_a_copy_lies_in_the_cache_and_knows_its_url(tmp_path):
    url = "s3://bucket_1/a b/"
    cache = cache_folder({"PRESSBENCH_CACHE": str(tmp_path), "PRESSBENCH_CACHE_URL": url})
    assert cache == cache_at(url, {"PRESSBENCH_CACHE": str(tmp_path)})
    assert cache.parent == tmp_path / "shared"
    assert cache.name.replace("_", "").isalnum()
    assert find_url(cache) == "s3://bucket_1/a b"
    assert find_url(tmp_path) == find_url(tmp_path / "shared" / "pressbench") == ""
    assert cache_at(str(tmp_path), {}) == tmp_path


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PRESSBENCH_CACHE", "s3://bucket/x", "name a URL in PRESSBENCH_CACHE_URL, as file:///mnt/cache, s3://"),
        ("PRESSBENCH_CACHE_URL", "/mnt/cache", "'/mnt/cache' is not a URL; as file:///mnt/cache.*names a folder"),
        ("PRESSBENCH_CACHE_URL", "s3://[x", "is not a URL"),
        ("PRESSBENCH_CACHE_URL", "sftp://me:secret@host/x", "leave the password out of the URL"),
        ("PRESSBENCH_CACHE_URL", f"s3://bucket/{'x' * 300}", "too long"),
    ],
)
def test_what_is_not_a_folder_or_a_url_is_refused(variable, value, said):
    with pytest.raises(InvalidInput, match=said) as refused:
        cache_folder({variable: value})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "module", "said"),
    [
        ("s3://bucket/x", "s3fs", "Install s3fs.*: pip install s3fs"),
        ("gs://bucket/x", "gcsfs", "pip install gcsfs"),
        ("sftp://host/x", "paramiko", "pip install paramiko"),
        ("smb://host/x", "smbclient", "pip install smbprotocol"),
    ],
)
def test_a_missing_package_is_named_with_its_command(url, module, said, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unavailable, match=said):
        check_writable(machine(tmp_path, "one", url))


def test_an_unknown_protocol_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="Protocol not known: s33; as file:///mnt/cache"):
        check_writable(machine(tmp_path, "one", "s33://bucket/x"))


def test_fsspec_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(Unavailable, match=r"fsspec cannot be imported.*: pip install fsspec"):
        check_writable(machine(tmp_path, "one", "s3://bucket/x"))


def test_what_is_logged_is_noted_while_a_command_watches():
    stream, log = io.StringIO(), logging.getLogger("pressbench")
    with watching(stream):
        log.warning("%s is full", "it")
    log.warning("later")
    assert stream.getvalue() == "note: it is full\n"


def test_who_names_no_url_never_imports_fsspec(tmp_path):
    code = (
        "import sys; from pathlib import Path; from bench.cache import check_writable, find_or_make, read\n"
        "cache = Path(sys.argv[1]); check_writable(cache)\n"
        "find_or_make(cache, 'models', 'it', lambda folder: {}); read(cache, 'models', 'it')\n"
        "assert 'fsspec' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
