"""Backend options: one check, for every caller and every registered backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from ort_nets import convnet

from bench.commands.compare import compare_files
from bench.commands.listings import check_target
from bench.errors import InvalidInput
from bench.line.artifacts import compile_cached
from bench.line.options import check_options
from bench.line.plan import Request
from bench.line.run import plan_run
from bench.plugins import available, load
from bench.types import Compressed, Conditions

CHOICES = [
    (name, option)
    for name in sorted(available("backend"))
    for option, allowed in load("backend", name).options.items()
    if allowed
]


def never(*_arguments, **_named):
    pytest.fail("options are checked before anything else is done")


def compile_with(name: str, folder: Path, **options: object):
    backend = load("backend", name)()
    backend.compile = never
    source = Compressed(model="m", recipe="r", files={backend.accepts[0]: folder / "x"}, inputs=(), digest="abc")
    return compile_cached(backend, source, Conditions(), options, folder)


@pytest.mark.parametrize("name", sorted(available("backend")))
def test_an_option_no_backend_has_is_refused_where_it_is_compiled(name, tmp_path):
    with pytest.raises(InvalidInput, match=rf"option of backend {name} 'nonsense'"):
        compile_with(name, tmp_path, nonsense=1)


@pytest.mark.parametrize(("name", "option"), CHOICES)
def test_a_value_an_option_does_not_take_is_refused_with_those_it_takes(name, option, tmp_path):
    allowed = load("backend", name).options[option]
    with pytest.raises(InvalidInput, match=f"backend {name}: option {option} = 'integr'; allowed are ") as caught:
        compile_with(name, tmp_path, **{option: "integr"})
    assert all(repr(value) in str(caught.value) for value in allowed)


@pytest.mark.parametrize(("name", "option"), CHOICES)
def test_every_value_a_backend_declares_passes(name, option):
    for value in load("backend", name).options[option]:
        check_options(load("backend", name), {option: value}, name)


def plan(target: Path, _cache: Path) -> None:
    plan_run(Request(target=str(target), suite="smoke"))


def compare(target: Path, cache: Path) -> None:
    compare_files(
        target=str(target),
        backend=None,
        a=convnet(cache / "a.onnx"),
        b=convnet(cache / "b.onnx"),
        launches=3,
        blocks=5,
        threads=1,
        batch=1,
        cache=cache / "cache",
        progress=lambda *_: None,
    )


def check(target: Path, cache: Path) -> None:
    check_target(str(target), cache / "cache")


@pytest.mark.parametrize("caller", [plan, compare, check])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('providr = "cpu"', "did you mean 'provider'"),
        ('provider = "npu"', "provider = 'npu'; allowed are 'cpu', 'cuda'"),
    ],
)
def test_every_command_that_takes_a_target_refuses_an_option_its_backend_has_not(tmp_path, caller, line, words):
    target = tmp_path / "mine.toml"
    target.write_text(f'name = "mine"\n[[backend]]\nname = "ort"\n[backend.options]\n{line}\n')
    with pytest.raises(InvalidInput, match=words):
        caller(target, tmp_path)
