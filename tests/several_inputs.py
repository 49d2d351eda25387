"""Networks as users bring them: token ids and a mask, a recurrent classifier, a dict of outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """One transformer layer over token ids, whose padding a mask hides."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.up, self.down, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = self.embed(input_ids)
        weights = (self.query(x) @ self.key(x).transpose(1, 2)) * 0.25
        weights = weights.masked_fill(attention_mask[:, None, :] == 0, -1e4).softmax(-1)
        x = x + weights @ self.value(x)
        x = x + self.down(torch.relu(self.up(x)))
        kept = attention_mask[:, :, None].to(x.dtype)
        pooled = (x * kept).sum(1) / kept.sum(1).clamp(min=1)
        return {"logits": self.head(pooled), "pooled": pooled}


class Recurrent(nn.Module):
    """An LSTM whose last step is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 16, batch_first=True)
        self.hidden, self.head = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        found, _ = self.lstm(x)
        return self.head(torch.relu(self.hidden(found[:, -1])))


@dataclass
class Answer:
    """What a regression gives."""

    value: Tensor
    spread: Tensor | None = None


class Regression(nn.Module):
    """A plain network with a dict of two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.value, self.spread = nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = self.body(x)
        return {"value": self.value(found), "spread": self.spread(found).exp()}


class Scaled(nn.Module):
    """A scalar beside the samples, a parameter between that is left out, and a dataclass as output."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 2)

    def forward(self, x: Tensor, shift: Tensor | None = None, scale: Tensor | None = None) -> Answer:
        found = self.fc(x) if shift is None else self.fc(x) + shift
        return Answer(value=found if scale is None else found * scale)


def encoder() -> nn.Module:
    """What a user's `--model several_inputs:encoder` names, and so on."""
    return Encoder()


def recurrent() -> nn.Module:
    return Recurrent()


def regression() -> nn.Module:
    return Regression()


def scaled() -> nn.Module:
    return Scaled()
