"""Data sets that a user's function gives."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from bench.data.datasets import load_data
from bench.errors import InvalidInput
from bench.tasks.own import find_task

HEAD = """
import numpy as np
x = np.random.default_rng(0).random((12, 3)).astype("float32")
y = np.arange(12) % 2
def each(part):
    for one, label in zip(x[part], y[part]):
        yield one, label
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def loaded(body, task="classification"):
        (tmp_path / "users_samples.py").write_text(HEAD + body, encoding="utf-8")
        monkeypatch.delitem(sys.modules, "users_samples", raising=False)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        return load_data("users_samples:give", task=find_task(task), cache=tmp_path / "cache")

    return loaded


LISTS = "def give(): return [(x[i], y[i]) for i in range(8)], [(x[i], y[i]) for i in range(8, 12)]"
GENERATORS = "def give(): return {'train': each(slice(0, 8)), 'test': each(slice(8, 12))}"


@pytest.mark.parametrize("body", [LISTS, GENERATORS])
def test_samples_come_in_their_order(load, body):
    data = load(body)
    wanted = np.random.default_rng(0).random((12, 3)).astype("float32")
    np.testing.assert_array_equal(data.train.inputs(slice(None))[0], wanted[:8])
    np.testing.assert_array_equal(data.test.inputs(np.array([3, 0]))[0], wanted[[11, 8]])
    assert data.test.targets(slice(None)).tolist() == [0, 1, 0, 1]
    assert data.classes == 2


def test_generators_are_kept_by_the_source_of_their_file_and_said_so(load, tmp_path):
    first = load(GENERATORS)
    assert "kept by the content of" in first.notes[0]
    assert len(list((tmp_path / "cache" / "data").iterdir())) == 2
    assert load(GENERATORS).digest == first.digest
    assert load("x = x + 1\n" + GENERATORS).digest != first.digest
    assert load(LISTS).digest == first.digest


def test_generators_are_taken_again_when_a_module_that_they_import_changes(load, tmp_path, monkeypatch):
    (tmp_path / "users_package").mkdir()
    (tmp_path / "users_package" / "__init__.py").write_text("from .more import factor")
    found = []
    for factor in (1, 2):
        (tmp_path / "users_package" / "more.py").write_text(f"factor = {factor}")
        for name in ("users_package", "users_package.more"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        found.append(load(f"from users_package import factor\nx = factor * x\n{GENERATORS}"))
    first, second = (data.train.inputs(slice(None))[0] for data in found)
    np.testing.assert_array_equal(2 * first, second)
    assert "and of 2 modules it imports" in found[0].notes[0]


@pytest.mark.parametrize("targets", ["(x[0], x[1])", "{'boxes': x[0]}"])
def test_several_targets_are_refused(load, targets):
    with pytest.raises(InvalidInput, match=r"targets of sample 0 of .* are several; a task takes one"):
        load(f"def give(): return [(x[0], {targets})], [(x[0], {targets})]", task="regression")


FLIPS = """
import itertools
turns = itertools.cycle([1, -1])
class Flips(list):
    "Turns inputs and targets together, by chance or as the sample's number says."
    def __getitem__(self, index):
        inputs, targets = super().__getitem__(index)
        turn = DRAW
        return inputs[::turn], targets[::turn]
def give():
    part = [(one, one) for one in x]
    return Flips(part[:10]), Flips(part[10:])
"""


def test_samples_that_are_augmented_by_chance_are_refused(load):
    """Inputs and targets are read apart: those of two readings would be turned differently."""
    with pytest.raises(
        InvalidInput, match=r"sample \d of users_samples:give: train differs .*leave random augmentation out"
    ):
        load(FLIPS.replace("DRAW", "next(turns)"), task="regression")
    data = load(FLIPS.replace("DRAW", "np.random.default_rng(index).choice([-1, 1])"), task="regression")
    np.testing.assert_array_equal(data.train.inputs(slice(None))[0], data.train.targets(slice(None)))


def test_a_generator_is_read_once(load):
    load(GENERATORS)
    count = "import pathlib\nseen = pathlib.Path(__file__).with_name('seen')\n"
    body = (
        count
        + "def noted(part):\n    seen.open('a').write('+')\n    yield from each(part)\n"
        + "def give(): return noted(slice(0, 8)), noted(slice(8, 12))"
    )
    load(body)
    data = load(body)
    assert len(data.train) == 8
    import users_samples

    assert users_samples.seen.read_text(encoding="utf-8") == "++"


def test_inputs_may_be_a_dict_a_tuple_or_tensors(load):
    tensors = "import torch\nmake = lambda part: [(torch.tensor(x[i]), torch.tensor(y[i])) for i in part]\n"
    give = "\ndef give(): return make(range(8)), make(range(8, 12))"
    assert load(tensors + give).sample[0].dtype == np.float32
    assert isinstance(torch.tensor(0), torch.Tensor)
    named = load("make = lambda part: [({'b': x[i], 'a': y[i]}, y[i]) for i in part]" + give)
    assert named.input_names == ("b", "a")
    assert [array.shape for array in named.sample] == [(1, 3), (1,)]
    several = load("make = lambda part: [((x[i], y[i], x[i]), y[i]) for i in part]" + give)
    assert several.input_names == ()
    assert [array.shape for array in several.sample] == [(1, 3), (1,), (1, 3)]


def test_the_first_dict_says_the_order_of_inputs_and_any_other_may_have_another(load):
    make = "make = lambda i: ({'b': x[i], 'a': y[i]} if i % 3 == 0 else {'a': y[i], 'b': x[i]}, y[i])\n"
    data = load(make + "def give(): return [make(i) for i in range(8)], [make(i) for i in range(8, 12)]")
    assert data.input_names == ("b", "a")
    wanted = np.random.default_rng(0).random((12, 3)).astype("float32")
    for part, rows in ((data.train, slice(0, 8)), (data.test, slice(8, 12))):
        first, second = part.inputs(slice(None))
        np.testing.assert_array_equal(first, wanted[rows])
        np.testing.assert_array_equal(second, np.arange(12)[rows] % 2)


def test_targets_are_those_of_the_task(load):
    data = load("def give(): return [(x[i], x[i, :2]) for i in range(8)], [(x[8], x[8, :2])]", "regression")
    assert (data.target_shape, data.classes) == ((2,), 0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def give(): return 3", "users_samples:give returned int: give (train, test)"),
        ("def give(): return [], [(x[0], y[0])]", "train has 0 samples"),
        ("def give(): return iter(()), [(x[0], y[0])]", "train has 0 samples"),
        ("def give(): return [(x[0], y[0])], 4", "test is int"),
        ("def give(): return (x, y), (x, y)", "sample 0 of users_samples:give: train is ndarray; wanted the pair"),
        (
            "def give(): return [(x[0], 0), (x[1, :2], 1)], [(x[0], 0)]",
            "sample 1 of users_samples:give: train has shapes",
        ),
        ("def give(): return [('text', 0)], [('text', 0)]", "wanted one array or tensor of numbers"),
        ("def give(): return [(x[0], {'a': 1})], [(x[0], 0)]", "targets of sample 0"),
        ("def give(): return [({}, 0)], [(x[0], 0)]", "has no inputs"),
        ("def give(): return [(x[0], 0)], [((x[0], x[0]), 0)]", "inputs to train with are not those to test with"),
        ("def give(): return 1 / 0", "users_samples.py, line 8"),
        (
            "def bad():\n    yield x[0], 0\n    raise KeyError('k')\ndef give(): return bad(), bad()",
            "users_samples.py, line 10",
        ),
    ],
)
def test_what_is_not_samples_is_refused_by_name(load, body, said):
    with pytest.raises(InvalidInput) as caught:
        load(body)
    assert said in str(caught.value)


def test_values_that_are_masked_are_not_replaced_by_what_lies_beneath(load):
    body = """
def give():
    held = np.ma.masked_array(x, mask=x > 2)
    held[0, 1] = np.ma.masked
    return list(zip(held[:8], y[:8])), list(zip(held[8:], y[8:]))
"""
    with pytest.raises(InvalidInput, match=r"inputs of sample 0 .* \(1 masked\); fill them, as array.filled\(0\) does"):
        load(body)


def test_batches_are_refused(load):
    body = "from torch.utils.data import DataLoader\ndef give(): return [DataLoader([(x[0], 0)], batch_size=1)] * 2"
    with pytest.raises(InvalidInput, match="gives batches; return its samples"):
        load(body)


def test_a_function_may_give_validation_samples_as_a_third_part(load):
    data = load(GENERATORS.replace("}", ", 'val': each(slice(2, 6))}"))
    assert data.validation is not None
    wanted = np.random.default_rng(0).random((12, 3)).astype("float32")
    np.testing.assert_array_equal(data.validation.inputs(slice(None))[0], wanted[2:6])
    assert data.notes[-1] == "users_samples:give: a search chooses with val; nothing else uses it"
    with pytest.raises(InvalidInput, match="not those to choose with"):
        load("def give(): return {'train': each(slice(0, 8)), 'test': each(slice(8, 12)), 'val': [({'a': x[0]}, 0)]}")
