"""Host side of PyTorch: writes the exported program in the precision asked for."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, final

from bench.errors import InvalidInput, Unsupported
from bench.types import FLOAT32, Artifact, Backend, Compressed, Conditions, Json, Precision, Probe, QuantSpec, Scalar

FLOATS = ("float32", "tf32", "float16", "bfloat16")


@final
class PytorchBackend(Backend):
    """Runs the exported graph op by op, through torch.compile, or as a captured CUDA graph."""

    name: ClassVar[str] = "pytorch"
    accepts: ClassVar[tuple[str, ...]] = ("pt2",)
    session: ClassVar[str | None] = "backends.pytorch.session:PytorchSession"
    width_steps: ClassVar[Mapping[str, int]] = {"cuda": 8, "avx512": 16, "": 8}
    compilers: ClassVar[tuple[str, ...]] = ("torch", "torchao")
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "mode": ("eager", "compile", "cudagraph"),
        "precision": FLOATS,
        "device": ("cpu", "cuda"),
        "sparse": (False, True),
        "channels_last": (False, True),
    }

    def probe(self) -> Probe:
        """Whether torch is installed; whether a GPU answers is found when a session asks for one."""
        try:
            return Probe(available=True, version=version("torch"))
        except PackageNotFoundError:
            return Probe(available=False, reason="torch is not installed", remedy="pip install torch")

    def open_program(self, file: Path) -> Any:
        """The `torch.export.ExportedProgram` of a .pt2 file. Raises as `load_archive`."""
        from backends.programs.archive import load_archive

        return load_archive(file)

    def compile(self, source: Compressed, conditions: Conditions, options: Mapping[str, Scalar], out: Path) -> Artifact:
        """`out/model.pt2`, its weights and arithmetic in the precision of the recipe or the option."""
        del conditions  # the batch stays free in the file; threads are the session's
        asked = _choose_precision(source.quant, options)
        _refuse_combinations(options, asked)
        path = out / "model.pt2"
        precision = FLOAT32 if asked == "float32" else Precision(asked=asked)
        facts: dict[str, Json] = {}
        if source.quant is not None and asked == "int8":
            precision, facts = _write_int8(source.files["pt2"], source.quant, source.calibration, path)
        elif asked in ("float16", "bfloat16"):
            _write_cast(source.files["pt2"], asked, path)
        else:
            shutil.copyfile(source.files["pt2"], path)
        return Artifact(path=path, format="pt2", precision=precision, facts=facts)


def _choose_precision(quant: QuantSpec | None, options: Mapping[str, Scalar]) -> str:
    """The arithmetic asked for by the recipe, else by the option. Raises `Unsupported` where torch has none."""
    option = str(options.get("precision", "float32"))
    if quant is None:
        return option
    if quant.kind not in ("float16", "bfloat16"):
        from backends.pytorch.quantize import refuse

        refuse(quant, options)
        return "int8"
    if quant.keep_float:
        raise Unsupported(f"torch computes a whole graph in one type: keep_float={quant.keep_float} cannot be kept")
    if option not in ("float32", "tf32", quant.kind):
        raise Unsupported(f"the recipe asks for {quant.kind}, the backend's option for {option}")
    return quant.kind


def _refuse_combinations(options: Mapping[str, Scalar], precision: str) -> None:
    if options.get("device", "cpu") == "cuda":
        if options.get("sparse") and options.get("mode") == "compile":
            raise Unsupported("torch.compile and 2:4 weights together are not supported here: use eager or cudagraph")
        return
    if options.get("mode") == "cudagraph":
        raise InvalidInput('mode "cudagraph" needs device = "cuda"')
    if options.get("sparse"):
        raise Unsupported("2:4 kernels need an NVIDIA GPU of compute capability 8.0 or later")
    if precision == "tf32":
        raise Unsupported("TF32 is a mode of NVIDIA tensor cores: it needs device = 'cuda'")


def _write_cast(file: Path, precision: str, out: Path) -> None:
    import torch

    from backends.programs.archive import load_archive, read_output_names, write_output_names
    from backends.programs.graph import cast_program

    names = write_output_names(read_output_names(file))
    torch.export.save(cast_program(load_archive(file), precision), out, extra_files=names)


def _write_int8(file: Path, spec: QuantSpec, calibration: Path | None, out: Path) -> tuple[Precision, dict[str, Json]]:
    import torch

    from backends.programs.archive import load_archive, read_output_names, write_output_names
    from backends.pytorch.quantize import quantize

    program, precision, facts = quantize(load_archive(file), spec, calibration)
    torch.export.save(program, out, extra_files=write_output_names(read_output_names(file)))
    return precision, {"int8": facts}
