"""Widths: multiples of what the target's kernels take at a time, unless the recipe says otherwise."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from small_network import context_of, settled
from torch import nn

from bench.compress.interface import Context, Network
from bench.compress.prune import channel_groups
from bench.compress.recipe import fit_widths, parse_recipe
from bench.config.target import BackendChoice
from bench.errors import InvalidInput, Unsupported
from bench.line.options import find_width_step, fit_recipe
from bench.line.plan import Request, make_plan
from bench.models.factory import build
from bench.models.registry import resolve
from bench.plugins import available, load


@pytest.fixture
def context(tmp_path) -> Context:
    return context_of(nn.Identity(), tmp_path)


def wide() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 40, 3), nn.ReLU(), nn.Conv2d(40, 24, 3), nn.ReLU(), nn.Conv2d(24, 4, 1)]
    return nn.Sequential(*layers).eval()


def pruned(text: str, step: int, module: nn.Module, context: Context) -> Network:
    """After a recipe of one step, for kernels that take `step` channels at a time; 0: no target is known."""
    recipe = parse_recipe("r", text)
    (one,) = (fit_widths(recipe, step) if step else recipe).steps
    return one.apply(Network(module=module), context)


@pytest.mark.parametrize(("step", "widths"), [(0, (28, 17)), (1, (28, 17)), (8, (32, 16)), (16, (32, 16))])
def test_widths_are_multiples_of_the_targets_step_and_any_number_without_a_target(step, widths, context):
    small = pruned("channels(amount=0.3)", step, wide(), context)
    assert (small.module[0].out_channels, small.module[2].out_channels) == widths


def test_the_notes_say_which_share_was_asked_for_and_which_went(context):
    small = pruned("channels(amount=0.3)", 8, wide(), context)
    said = "25.0% of the channels went and 30.0% were asked for: the widths are multiples of 8"
    assert small.notes["rounded"] == said
    assert "rounded" not in pruned("channels(amount=0.3, round_to=1)", 8, wide(), context).notes


def test_a_network_too_narrow_for_the_step_takes_half_of_it_and_says_so(context):
    small = pruned("channels(amount=0.5)", 16, settled(), context)
    assert (small.module.conv.out_channels, small.module.pointwise.out_channels) == (8, 8)
    assert small.notes["rounded"].endswith("multiples of 8 (16 is too wide for this network)")


def test_round_to_is_kept_strictly(context):
    with pytest.raises(Unsupported, match="multiples of round_to=16: take a smaller one"):
        pruned("channels(amount=0.5, round_to=16)", 8, settled(), context)
    assert pruned("neurons(amount=0.6, round_to=3)", 8, settled(), context).module.fc1.out_features == 6


def test_the_width_step_is_in_the_text_only_where_widths_are_left_to_the_target():
    recipe = parse_recipe("r", "channels(amount=0.3) + neurons(amount=0.3, round_to=1) + int8")
    text = "channels(amount=0.3, width_step=8) + neurons(amount=0.3, round_to=1) + int8"
    assert fit_widths(recipe, 8).text == text
    again = parse_recipe("r", text)
    assert fit_widths(again, 16) == again == fit_widths(recipe, 8)


@pytest.mark.parametrize("name", ["channels", "neurons"])
def test_round_to_and_width_step_contradict_each_other(name):
    with pytest.raises(InvalidInput, match="give one of the two"):
        parse_recipe("r", f"{name}(amount=0.3, round_to=4, width_step=8)")
    with pytest.raises(InvalidInput, match="one of 'auto' or a whole number at least 1"):
        parse_recipe("r", f"{name}(amount=0.3, round_to=0)")
    with pytest.raises(InvalidInput, match="round_to must be"):
        parse_recipe("r", f"{name}(amount=0.3, round_to='all')")


@pytest.mark.parametrize("name", sorted(available("backend")))
def test_a_backend_says_a_width_for_every_place_it_runs(name):
    backend = load("backend", name)
    options = {value for values in backend.options.values() for value in values}
    assert set(backend.width_steps) <= {"", "avx512"} | options
    assert "" in backend.width_steps
    assert min(backend.width_steps.values()) >= 1


@pytest.mark.parametrize(
    ("options", "reach", "flags", "found"),
    [
        ({}, "local", "avx2", ("", 8)),
        ({}, "local", "avx2 avx512f", (" with avx512", 16)),
        ({}, "emulated", "avx2 avx512f", ("", 8)),
        ({"provider": "cuda"}, "local", "avx2 avx512f", (" with cuda", 8)),
    ],
)
def test_the_step_follows_the_options_and_this_machines_cpu(options, reach, flags, found, tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(f"flags : fpu {flags}\n")
    assert find_width_step(load("backend", "ort"), options, reach, tmp_path) == found


def test_a_recipe_without_widths_stays_as_it_is_and_needs_no_note():
    for text in ("", "prune(amount=0.5) + int8", "channels(amount=0.5, round_to=1)"):
        recipe = parse_recipe("r", text)
        assert fit_recipe(recipe, BackendChoice(name="vela"), "local") == (recipe, "")


def test_a_cells_key_follows_the_width_that_its_target_chose():
    """The same width asked for by the target or by the text is the same cell; a recipe without widths keeps its key."""
    asked = {"suite": "smoke", "recipes": ("channels(amount=0.5)", "channels(amount=0.5, round_to=1)", "int8")}
    cells = make_plan(Request(target="cpu", backends=("ort", "litert"), **asked)).cells
    assert len({cell.key for cell in cells}) == len(cells)
    for _, auto, naive, int8 in (cells[:4], cells[4:]):
        assert re.fullmatch(r"channels\(amount=0\.5, width_step=(8|16)\)", auto.recipe.text)
        assert re.match(r"width step (8|16): the kernels of \w+ take \1 channels at a time", auto.chosen)
        assert auto.recipe.name == "channels(amount=0.5)"
        assert (naive.recipe.text, naive.chosen) == ("channels(amount=0.5, round_to=1)", "")
        assert int8.chosen == ""


def test_a_layer_that_fails_for_two_channels_is_not_tried_with_all(context, monkeypatch):
    """In ShuffleNet torch-pruning's indices multiply; asking for all channels of each such layer took a minute."""
    failed, whole = [], channel_groups.group_of

    def watch(graph, layer, indices):
        try:
            return whole(graph, layer, indices)
        except Exception:
            failed.append(len(indices))
            raise

    monkeypatch.setattr(channel_groups, "group_of", watch)
    model = resolve("shufflenetv2(size=64)", None)
    seeing = replace(context, example=(torch.randn(2, *model.input_shape),))
    with pytest.raises(Unsupported, match="tried, and works: skip=") as refused:
        pruned("channels(amount=0.5)", 0, build(model, 0).eval(), seeing)
    assert len(failed) > 20
    assert max(failed) == 2
    assert "'stage4.0.branch2.5'" in str(refused.value)


def test_widths_removes_down_to_the_outputs_asked_for_and_takes_tied_layers_along(context):
    small = pruned("widths(keep=('depthwise=4', 'fc1=6'))", 8, settled(), context)
    module = small.module
    widths = (module.conv.out_channels, module.depthwise.out_channels, module.pointwise.out_channels)
    assert (*widths, module.fc1.out_features) == (4, 4, 12, 6)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("widths(keep=())", InvalidInput, "name at least one layer"),
        ("widths(keep=('conv',))", InvalidInput, "write 'layer=number'"),
        ("widths(keep=('conv=0',))", InvalidInput, "a number from 1 up"),
        ("widths(keep=('conv=4', 'conv=5'))", InvalidInput, "layer 'conv' is named twice"),
        ("widths(keep=('kernel=4',))", InvalidInput, "no layer 'kernel'"),
        ("widths(keep=('conv=4', 'depthwise=5'))", InvalidInput, "are tied and must be equally wide"),
        ("widths(keep=('conv=9',))", Unsupported, "has 8 outputs and cannot have 9: ask for up to 8"),
        ("widths(keep=('fc2=2',))", Unsupported, "the outputs of layer 'fc2' must stay"),
        ("widths(keep=('conv=8',))", Unsupported, "as narrow as asked already"),
    ],
)
def test_widths_refuses_what_no_network_can_have(text, error, said, context):
    with pytest.raises(error, match=re.escape(said)):
        pruned(text, 8, settled(), context)
