"""`pressbench compress` never writes over what it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli import main

NETWORK = "from torch import nn\n\ndef build():\n    return nn.Linear(4, 2)\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "./w.pt"), "--out w.pt: it is the file of --weights too, which would be lost: name another"),
        (("--out", "x.onnx", "--coded", "w.pt"), "--coded w.pt: it is the file of --weights too"),
        (("--out", "x.onnx", "--coded", "x.onnx"), "--coded x.onnx: it is the file of --out too"),
    ],
)
def test_a_file_that_is_read_or_written_already_is_no_place_to_write(
    options, message, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "written_over.py").write_text(NETWORK)
    (tmp_path / "w.pt").write_bytes(b"weights")
    named = (
        "--model",
        "written_over:build",
        "--weights",
        "w.pt",
        "--input-shape",
        "4",
        "--recipe",
        "float16_weights()",
    )
    with pytest.raises(SystemExit) as ended:
        main(["compress", *named, *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "w.pt").read_bytes() == b"weights"


TIED = """
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.hidden, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.head.weight = self.first.weight
        nn.init.constant_(self.hidden.weight, 0.1)

    def forward(self, x):
        return self.head(self.hidden(self.first(x)).relu())
"""


def test_layers_that_a_step_leaves_as_they_are_are_named(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tied_head.py").write_text(TIED)
    named = ("--model", "tied_head:Tied", "--input-shape", "16", "--recipe", "lowrank(rank_ratio=0.3)")
    with pytest.raises(SystemExit) as ended:
        main(["compress", *named, "--out", "x.onnx"])
    assert ended.value.code == 0
    note = "layers that were not replaced: first, head: its weight is another layer's too"
    assert f"note: {note}" in capsys.readouterr().out
