"""A pruned network computes what the whole one does with the removed channels at zero, or is refused with what works."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_network import context_of
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bench.compress.interface import Context, Network
from bench.compress.prune.zeroed_network import Gone, NotRunningError, Removals, difference
from bench.compress.recipe import parse_recipe
from bench.errors import Unsupported


class Shuffled(nn.Module):
    """A channel shuffle by view and transpose between grouped convolutions, after a plain pair of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.plain = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.g1, self.g2 = nn.Conv2d(16, 32, 1, groups=4), nn.Conv2d(32, 32, 1, groups=4)
        self.fc = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.g1(F.relu(self.plain(F.relu(self.stem(x))))))
        n, c, h, w = x.shape
        x = x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(F.relu(self.g2(x)).mean((2, 3)))


class Chunked(nn.Module):
    """Half of the channels goes through two layers with a sum around them; everything is put side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.both = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 1)
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.join, self.fc = nn.Conv2d(24, 8, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.both(F.relu(self.stem(x))).chunk(2, 1)
        x = torch.cat([first, second, second + self.two(F.relu(self.one(second)))], 1)
        return self.fc(F.relu(self.join(x)).mean((2, 3)))


class Unshuffled(nn.Module):
    """PixelShuffle turns four channels into one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(F.pixel_shuffle(self.up(F.relu(self.stem(x))), 2)))


class Heads(nn.Module):
    """Attention written by hand: queries, keys and values of two heads from one layer; then a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.hidden, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1, 2)
        q, k, v = self.qkv(x).reshape(len(x), 8, 3, 2, 4).permute(2, 0, 3, 1, 4)
        x = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(F.gelu(self.hidden(x)).mean(1))


class Normed(nn.Module):
    """GroupNorm, a sigmoid (which makes 0.5 of nothing), LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.group, self.b = nn.Conv2d(1, 12, 3, padding=1), nn.GroupNorm(3, 12), nn.Conv2d(12, 8, 1)
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.b(torch.sigmoid(self.group(self.a(x)))))
        return self.fc(self.norm(x.mean((2, 3))))


class Mean(nn.Module):
    """A mean over channels: of fewer channels it is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Linear(72, 4)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.wide(F.relu(self.stem(x)))
        both = torch.cat([wide, wide.mean(1, keepdim=True)], 1)
        return self.fc(both.mean(3).flatten(1))


class Pair(nn.Module):
    """Two outputs, one of them in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.features, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found = F.relu(self.features(F.relu(self.stem(x)))).mean((2, 3))
        return self.fc(found), {"features": found}


class Gated(nn.Module):
    """Squeeze and excitation by linear layers, and a residual sum. `linear` is hidden, of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
        self.linear, self.fc = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))[:, :, None, None]
        return self.fc(F.relu(self.linear((x + self.conv(x)).mean((2, 3)))))


class Spotted(nn.Module):
    """A mask of one channel, made of a mean over channels, gates all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mask = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)
        self.conv, self.fc = nn.Conv2d(8, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = x * torch.sigmoid(self.mask(x.mean(1, keepdim=True)))
        return self.fc(F.relu(self.conv(x)).mean((2, 3)))


class GroupedHeads(nn.Module):
    """Attention whose keys and values have half as many heads as its queries."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.out, self.head = nn.Linear(8, 16), nn.Linear(8, 8), nn.Linear(16, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1, 2)
        q = self.q(x).view(len(x), 8, 2, 8).transpose(1, 2)
        kv = self.kv(x).view(len(x), 8, 1, 8).transpose(1, 2).repeat_interleave(2, 1)
        x = self.out(F.scaled_dot_product_attention(q, kv, kv).transpose(1, 2).flatten(2))
        return self.head(x.mean(1))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return replace(context_of(nn.Identity(), tmp_path), data=None)


def seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


def run(text: str, module: nn.Module, context: Context) -> Network:
    (step,) = parse_recipe("r", text).steps
    return step.apply(Network(module=module), context)


@pytest.mark.parametrize(
    ("kind", "step", "fault"),
    [
        (Shuffled, "channels(amount=0.25", "'g1'"),
        (Shuffled, "channels(amount=0.25, criterion='l1', scope='global'", "'g1'"),
        (Shuffled, "iterative(to=0.25, granularity='channel'", "'g1'"),
        (Chunked, "channels(amount=0.25", "'two'"),
        (Unshuffled, "channels(amount=0.25", "'up'"),
        (Heads, "neurons(amount=0.25", "'qkv'"),
        (Mean, "channels(amount=0.25", "'wide'"),
    ],
)
def test_what_would_compute_something_else_is_refused_with_an_argument_that_works(kind, step, fault, tmp_path):
    context = context_of(nn.Identity(), tmp_path)
    with pytest.raises(Unsupported) as told:
        run(step + ")", seeded(kind), context)
    assert f"at fault: {fault}" in str(told.value)
    found = re.search(r"tried, and works: (skip|only)=(\(.*\))$", str(told.value))
    assert found is not None, str(told.value)
    small = run(f"{step}, {found[1]}={ast.literal_eval(found[2])!r})", seeded(kind), context)
    assert small.notes["channels"]


def test_a_step_for_one_wrong_layer_is_told_which_others_work(context):
    with pytest.raises(Unsupported, match=r"at fault: 'g1'; tried, and works: only=\('stem', 'plain', 'g2'\)"):
        run("channels(amount=0.25, only=['g1'])", seeded(Shuffled), context)


def test_groups_and_norms_over_channels_are_pruned_right(context):
    """Of each of GroupNorm's three groups the same number goes, and both norms are over the channels that are left."""
    module = seeded(Normed)
    small = run("channels(amount=0.5, criterion='l1')", module, context)
    assert small.notes["channels"] == {"a": [12, 6], "b": [8, 4]}
    kept = [index for index, bias in enumerate(module.a.bias) if bool((small.module.a.bias == bias).any())]
    assert sorted(index // 4 for index in kept) == [0, 0, 1, 1, 2, 2]


def test_a_linear_gate_goes_with_the_channels_it_gates_and_other_linear_layers_stay(tmp_path, context):
    small = run("channels(amount=0.5, round_to=1)", seeded(Gated), context)
    assert small.notes["channels"] == {"stem": [8, 4], "conv": [8, 4], "excite": [8, 4]}
    for text in ("channels(amount=0.5, skip=['excite']", "channels(amount=0.5, only=['stem', 'conv']"):
        with pytest.raises(Unsupported, match="layers tied to those or to layers left out"):
            run(f"{text}, round_to=1)", seeded(Gated), context)
    assert run("neurons(amount=0.5, round_to=1)", seeded(Gated), context).notes["channels"] == {
        "squeeze": [4, 2],
        "linear": [8, 4],
    }
    trained = run("iterative(to=0.5, steps=1, granularity='channel')", seeded(Gated), context_of(Gated(), tmp_path))
    assert trained.notes["channels"] == small.notes["channels"]


def test_channels_behind_a_mask_of_one_channel_are_refused_rather_than_left_in_silence(context):
    with pytest.raises(Unsupported, match=r"at fault: 'stem'; tried, and works: skip=\('stem',\)"):
        run("channels(amount=0.5, round_to=1)", seeded(Spotted), context)


def test_heads_that_the_library_loses_track_of_are_refused(context):
    with pytest.raises(Unsupported, match="torch-pruning loses track of which channels go together; at fault"):
        run("neurons(amount=0.5, round_to=1)", seeded(GroupedHeads), context)


def test_every_output_keeps_its_channels(context):
    small = run("channels(amount=0.5)", seeded(Pair), context)
    assert small.notes["channels"] == {"stem": [8, 4]}


def pair() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 2, 1)).eval()


def without(whole: nn.Sequential, rows: list[int], columns: list[int]) -> nn.Sequential:
    small = nn.Sequential(nn.Conv2d(1, len(rows), 1), nn.Sigmoid(), nn.Conv2d(len(columns), 2, 1)).eval()
    with torch.no_grad():
        small[0].weight.copy_(whole[0].weight[rows])
        small[0].bias.copy_(whole[0].bias[rows])
        small[2].weight.copy_(whole[2].weight[:, columns])
        small[2].bias.copy_(whole[2].bias)
    return small


def test_the_difference_is_none_for_the_right_columns_and_large_for_others():
    whole, x = pair(), torch.rand(2, 1, 3, 3)
    gone = [
        Gone(name="0", outputs=True, axis=0, indices=(1,)),
        Gone(name="2", outputs=False, axis=1, indices=(1,)),
    ]
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    assert difference(without(whole, [0, 2, 3], [0, 2, 3]), whole, gone, (x,)) < 1e-6
    assert difference(without(whole, [0, 2, 3], [0, 1, 3]), whole, gone, (x,)) > 1e-2
    assert all(torch.equal(value, before[name]) for name, value in whole.state_dict().items())
    with pytest.raises(NotRunningError, match="does not run with fewer channels"):
        difference(without(whole, [0, 2, 3], [0, 1]), whole, gone, (x,))


@pytest.mark.parametrize("transposed", [False, True])
def test_channels_of_grouped_layers_are_the_ones_counted_over_all_groups(transposed):
    torch.manual_seed(0)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(4, 6, 1, groups=2).eval()
    x = torch.rand(2, 4, 3, 3)
    zeroed = x.clone()
    zeroed[:, 3] = 0
    wanted = layer(zeroed).detach()
    wanted[:, 4] = 0

    class Fixed(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            return wanted

    gone = [Gone(name="0", outputs=False, axis=0, indices=(3,)), Gone(name="0", outputs=True, axis=0, indices=(4,))]
    assert difference(Fixed(), nn.Sequential(layer), gone, (x,)) < 1e-6
    assert difference(Fixed(), nn.Sequential(layer), gone[:1], (x,)) > 1e-2


def test_channels_keep_their_first_numbers_through_several_removals():
    removals = Removals()
    removals.add("fc", outputs=False, axis=1, size=6, indices=[1, 4])
    removals.add("fc", outputs=False, axis=1, size=4, indices=[0, 3])
    (entry,) = removals.gone
    assert sorted(entry.indices) == [0, 1, 4, 5]


class Shifted(nn.Module):
    """A convolution whose channels a constant of its own shape is added to."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 1)
        self.register_buffer("shift", torch.ones(1, 4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.add(self.conv(x), self.shift)


def test_a_network_made_of_a_file_is_tried_without_a_traceback_on_the_terminal(capsys):
    """torch.fx prints one of whatever a traced network raises."""
    whole, small = (fx.symbolic_trace(Shifted(channels)) for channels in (4, 3))
    with pytest.raises(NotRunningError, match="must match the size"):
        difference(small, whole, [Gone(name="conv", outputs=True, axis=0, indices=(1,))], (torch.rand(2, 1, 3, 3),))
    assert capsys.readouterr().err == ""
