"""What is said of a conversion that died."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.tflite.convert import _explain_death


@pytest.mark.parametrize("frames", [1, 100])
def test_of_a_traceback_of_any_length_the_last_line_is_said(tmp_path: Path, frames: int) -> None:
    log = tmp_path / "convert.log"
    frame = '  File "/a/converter.py", line 1, in convert\n    deeper()\n    ^^^^^^^^\n'
    log.write_text(f"INFO: loaded\nTraceback (most recent call last):\n{frame * frames}KeyError: 'sequence'\n")
    said = str(_explain_death(1, {"format": "onnx", "source": "net.onnx"}, log))
    assert said == "the conversion to .tflite ended with exit code 1: KeyError: 'sequence'"
