"""`pressbench decode`: coded weights become a checkpoint again, and every other file is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_network import Small, settled

from bench.commands.decode import decode_file
from bench.compress.coding.weights_file import weights_file
from bench.compress.interface import Network
from bench.errors import InvalidInput, Unavailable
from bench.models.checkpoint import load_weights


@pytest.fixture
def coded(tmp_path: Path) -> Path:
    file = tmp_path / "small.pbw"
    file.write_bytes(weights_file(Network(module=settled())))
    return file


def test_a_decoded_file_is_a_checkpoint_of_the_same_network_to_the_bit(coded: Path, tmp_path: Path):
    out = tmp_path / "new" / "small.safetensors"
    said = decode_file(file=coded, out=out, limit_mib=1)
    assert said["tensors"] == len(load_file(out))
    assert said["coded_bytes"] == coded.stat().st_size
    module = Small()
    load_weights(module, out)
    wanted = settled().state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in module.state_dict().items() if not k.endswith("batches_tracked"))


def test_a_damaged_or_foreign_file_is_refused_by_name_and_writes_nothing(coded: Path, tmp_path: Path):
    out = tmp_path / "w.safetensors"
    whole = coded.read_bytes()
    for content, why in ((whole[:-1], "damaged or cut off"), (b"not weights", "not a weights file")):
        coded.write_bytes(content)
        with pytest.raises(InvalidInput, match=rf"small\.pbw: {why}"):
            decode_file(file=coded, out=out, limit_mib=1)
    assert not out.exists()


def test_tensors_and_files_over_the_limit_are_refused(tmp_path: Path):
    zeros, large = tmp_path / "zeros.pbw", tmp_path / "large.pbw"
    zeros.write_bytes(weights_file(Network(module=_zeros(1024))))
    large.write_bytes(bytes((1 << 20) + 1))
    assert zeros.stat().st_size < 1000
    for file, why in ((zeros, "would take over 1048576 bytes"), (large, "1048577 bytes are over 1 MiB")):
        with pytest.raises(InvalidInput, match=why):
            decode_file(file=file, out=tmp_path / "w.safetensors", limit_mib=1)


def _zeros(side: int) -> torch.nn.Module:
    module = torch.nn.Linear(side, side, bias=False)
    torch.nn.init.zeros_(module.weight)
    return module


def test_a_missing_file_another_ending_and_a_place_that_cannot_be_written_are_named(coded: Path, tmp_path: Path):
    with pytest.raises(InvalidInput, match=r"missing\.pbw does not exist"):
        decode_file(file=tmp_path / "missing.pbw", out=tmp_path / "w.safetensors", limit_mib=1)
    with pytest.raises(InvalidInput, match=r"w\.onnx: decode writes \.safetensors files"):
        decode_file(file=coded, out=tmp_path / "w.onnx", limit_mib=1)
    with pytest.raises(Unavailable, match="--out"):
        decode_file(file=coded, out=coded / "w.safetensors", limit_mib=1)
