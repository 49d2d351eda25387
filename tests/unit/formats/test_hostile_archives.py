"""A hostile .npz, .pt, .safetensors or idx.gz file is refused before it fills the memory.

What filled it before runs in a process of its own, with a limit.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.data.datasets import load_data
from bench.data.npz_sets import NPZ_KEYS
from bench.errors import InvalidInput
from bench.formats import zip_archive
from bench.formats.npz_file import read_npz
from bench.models import checkpoint
from bench.models.checkpoint import load_weights
from tests.limited import answer_of

BLOCK = bytes(2**20)


def npy_header(shape: tuple[int, ...], descr: str = "<f4", order: str = "False") -> bytes:
    text = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape!r}, }}".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text) + 1) + text + b"\n"


def npz(path: Path, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    small = {key: npy_header((2,), "<i8") + bytes(16) for key in NPZ_KEYS}
    with zipfile.ZipFile(path, "w", method) as archive:
        for key, content in {**small, **members}.items():
            archive.writestr(f"{key}.npy", content)
    return path


def bomb(path: Path, name: str, header: bytes = b"") -> Path:
    """Adds a member of 3 GB of zeros, which take a thousandth of that: one packed block, repeated.

    The archive is written as if the packed bytes were the content, and its method and size are set after.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start, block = (packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH) for part in (header, BLOCK))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(name, start + 3 * 1024 * block + packer.flush())
        local = archive.getinfo(name).header_offset
    content = bytearray(path.read_bytes())
    listed = content.rindex(b"PK\1\2")
    for method, size in ((local + 8, local + 22), (listed + 10, listed + 24)):
        content[method : method + 2] = struct.pack("<H", zipfile.ZIP_DEFLATED)
        content[size : size + 4] = struct.pack("<I", len(header) + 3 * 2**30)
    path.write_bytes(content)
    return path


def test_an_npz_that_inflates_to_3_gb_is_refused_unread(tmp_path: Path):
    path = bomb(tmp_path / "bomb.npz", "x_train.npy", npy_header((3, 2**28)))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for key in NPZ_KEYS[1:]:
            archive.writestr(f"{key}.npy", npy_header((3,), "<i8") + bytes(24))
    assert path.stat().st_size < 4e6
    said, peak = answer_of(f"from bench.data.datasets import load_data; load_data({str(path)!r})")
    assert said.startswith(f"InvalidInput: {path} would inflate to 3,221,")
    assert "save it uncompressed" in said
    assert peak < 300e6


def test_a_pt_that_inflates_to_3_gb_is_refused_unread(tmp_path: Path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "bomb.pt")
    path = bomb(tmp_path / "bomb.pt", "archive/data/9")
    code = f"""
from pathlib import Path
from torch import nn
from bench.models.checkpoint import load_weights
load_weights(nn.Linear(2, 2), Path({str(path)!r}))"""
    said, peak = answer_of(code, memory=8 * 2**30)
    assert said.startswith(f"InvalidInput: {path} would inflate to 3,221,")
    assert peak < 1e9


@pytest.mark.parametrize("loader", ["npz", "pt"])
def test_what_an_archive_may_inflate_to_is_all_its_members_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: str
):
    source, target = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as given, zipfile.ZipFile(tmp_path / "z.pt", "w", 8) as packed:
        for member in given.infolist():
            packed.writestr(member.filename, given.read(member))
    file = npz(tmp_path / "a.npz") if loader == "npz" else tmp_path / "z.pt"
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    monkeypatch.setattr(zip_archive, "MAX_INFLATED", size)
    _ = read_npz(file, NPZ_KEYS) if loader == "npz" else load_weights(target, file)
    assert loader == "npz" or torch.equal(source.weight, target.weight)
    monkeypatch.setattr(zip_archive, "MAX_INFLATED", size - 1)
    with pytest.raises(InvalidInput, match=f"inflate to {size:,} bytes; at most {size - 1:,}"):
        _ = read_npz(file, NPZ_KEYS) if loader == "npz" else load_weights(target, file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy_header((2**40, 2**10)) + bytes(8), "x_train has shape .* and the archive holds 8"),
        (npy_header((-1, 4)) + bytes(8), r"x_train has shape \(-1, 4\)"),
        (npy_header((1,) * 40) + bytes(4), "x_train has shape .*up to 32 sizes"),
        (npy_header((2,), "|O") + bytes(16), "x_train holds Python objects"),
        (npy_header((2,)) + bytes(9), "8 bytes, and the archive holds 9"),
        (npy_header((2,)) + bytes(4), "8 bytes, and the archive holds 4"),
        (npy_header(("a",)) + bytes(4), "cannot be read"),
        (npy_header((2,), "<f99") + bytes(4), "cannot be read"),
        (b"\x93NUMPY\1\0" + struct.pack("<H", 60000) + b"(" * 60000, "cannot be read"),
        (b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + b"{", "cannot be read"),
        (b"\x93NUMPY\7\0" + bytes(8), r"version \(7, 0\)"),
        (b"\x93NUM", "x_train is not an array"),
    ],
)
def test_an_array_with_a_false_header_is_refused_by_name(tmp_path: Path, content: bytes, words: str):
    file = npz(tmp_path / "bad.npz", x_train=content)
    with pytest.raises(InvalidInput, match=rf"bad\.npz.*{words}"):
        load_data(str(file))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_the_compression_numpy_writes_is_read(tmp_path: Path, method: int):
    with pytest.raises(InvalidInput, match=f"x_train.npy' is compressed by method {method}; only deflate"):
        load_data(str(npz(tmp_path / "a.npz", method)))


def test_a_directory_that_lies_is_refused(tmp_path: Path):
    """The sizes of the directory come after the four bytes of its mark, at 20 (compressed) and 24."""
    file = npz(tmp_path / "a.npz", zipfile.ZIP_STORED)
    good = file.read_bytes()
    place = good.index(b"PK\1\2")
    for at, words in ((20, "has two sizes|ends outside"), (24, "has two sizes")):
        file.write_bytes(good[: place + at] + struct.pack("<I", 2**31) + good[place + at + 4 :])
        with pytest.raises(InvalidInput, match=rf"a\.npz: member 'x_train\.npy' ({words})"):
            read_npz(file, NPZ_KEYS)


def test_an_archive_of_two_disks_is_refused(tmp_path: Path):
    """Python's own check of a zip file raises here instead of answering."""
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    end = content.rindex(b"PK\5\6")
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 2)
    (tmp_path / "w.pt").write_bytes(content[:end] + locator + content[end:])
    with pytest.raises(InvalidInput, match=r"w\.pt is not a readable state dict"):
        load_weights(nn.Linear(2, 2), tmp_path / "w.pt")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "|u1", "<i8", "|b1"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_good_array_is_read_as_numpy_reads_it(tmp_path: Path, order: str, dtype: str, compressed: bool):
    array = np.asarray(np.arange(24).reshape(2, 3, 4), dtype=dtype, order=order)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", x=array, empty=array[:0], one=np.float32(2))
    ours = read_npz(tmp_path / "a.npz", ("x", "empty", "one"))
    with np.load(tmp_path / "a.npz") as theirs:
        for key, found in ours.items():
            assert found.dtype == theirs[key].dtype
            assert found.shape == theirs[key].shape
            assert np.array_equal(found, theirs[key])


def test_an_idx_file_that_inflates_without_bound_is_refused_unread(tmp_path: Path):
    header = struct.pack(">4I", 0x803, 3, 2**15, 2**15)
    members = gzip.compress(header) + 3 * 1024 * gzip.compress(BLOCK)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(members)
    code = f"from pathlib import Path; from bench.data.datasets import load_data; load_data('mnist', Path({str(tmp_path)!r}))"
    said, peak = answer_of(code)
    assert "train-images-idx3-ubyte.gz: its header says 3221225472 bytes, at most 2147483648" in said
    assert peak < 300e6


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (safetensors(b"{}", length=2**63), r"a header of 9223372036854775808 bytes in \d+"),
        (safetensors(b"{}", length=10**9), "a header of 1000000000 bytes in 10"),
        (b"\1\2", "not a readable safetensors file"),
        (safetensors(b'{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}', b"0000"), "not a"),
        (safetensors(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,99999]}}', b"0" * 8), "not a readable"),
        (safetensors(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}', b"0" * 8), "not a readable"),
        (safetensors(b'{"a":' * 100_000), "not a readable"),
    ],
)
def test_a_safetensors_file_with_a_false_header_is_refused(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(InvalidInput, match=rf"w\.safetensors.*{words}"):
        load_weights(nn.Linear(2, 2), tmp_path / "w.safetensors")


def test_a_safetensors_header_beyond_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint, "MAX_HEADER", 1)
    (tmp_path / "w.safetensors").write_bytes(safetensors(b"{}"))
    with pytest.raises(InvalidInput, match="a header of 2 bytes; at most 1"):
        load_weights(nn.Linear(2, 2), tmp_path / "w.safetensors")


@pytest.mark.parametrize("kind", ["sparse", "meta", "quantized"])
def test_a_tensor_without_plain_numbers_is_refused(tmp_path: Path, kind: str):
    state = nn.Linear(2, 2).state_dict()
    weight = state["weight"]
    if kind == "quantized":
        state["weight"] = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
    else:
        state["weight"] = weight.to_sparse() if kind == "sparse" else weight.to("meta")
    stream = io.BytesIO()
    torch.save(state, stream)
    (tmp_path / "w.pt").write_bytes(stream.getvalue())
    with pytest.raises(InvalidInput, match=r"w\.pt"):
        load_weights(nn.Linear(2, 2), tmp_path / "w.pt")
