"""The reference networks: where each comes from, its own input and classes, and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bench.types import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a network is trained from scratch; `small_epochs` where the training set has under 10,000 examples."""

    epochs: int = 10
    small_epochs: int = 30
    batch: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    label_smoothing: float = 0.0

    def epochs_for(self, examples: int) -> int:
        """Epochs for a training set of that many examples."""
        return self.small_epochs if examples < 10_000 else self.epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A reference network. `input_shape` and `classes` are used when no data set gives them.

    `width`: it takes a width multiplier. `size`: the side of its square input can be chosen.
    """

    factory: str
    source: str
    input_shape: tuple[int, ...]
    classes: int
    width: bool = False
    size: bool = True
    training: Training = field(default_factory=Training)


IMAGENET = (3, 224, 224)
_ENTRIES = {
    "lenet300_100": Entry(
        factory="bench.models.networks.lenet:lenet300_100",
        source="LeCun et al. 1998; pruned in Han et al. 2015",
        input_shape=(1, 28, 28),
        classes=10,
        width=True,
        training=Training(epochs=15, small_epochs=40, batch=128, optimizer="sgd", learning_rate=0.1, weight_decay=1e-4),
    ),
    "mlp": Entry(
        factory="bench.models.networks.lenet:mlp",
        source="two hidden layers of 32, a size of hls4ml's own studies: Duarte et al. 2018, arXiv:1804.06913",
        input_shape=(1, 8, 8),
        classes=10,
        width=True,
        training=Training(epochs=15, small_epochs=60, batch=64, learning_rate=2e-3, weight_decay=1e-4),
    ),
    "lenet5": Entry(
        factory="bench.models.networks.lenet:lenet5",
        source="LeCun et al. 1998 in Caffe's shape; pruned in Han et al. 2015",
        input_shape=(1, 28, 28),
        classes=10,
        width=True,
        training=Training(epochs=8, batch=128, optimizer="sgd", learning_rate=0.1, weight_decay=5e-4),
    ),
    "resnet8": Entry(
        factory="bench.models.networks.mlperf_tiny:resnet8",
        source="MLPerf Tiny image classification (Banbury et al. 2021)",
        input_shape=(3, 32, 32),
        classes=10,
        width=True,
        training=Training(small_epochs=15, learning_rate=3e-3),
    ),
    "dscnn": Entry(
        factory="bench.models.networks.mlperf_tiny:dscnn",
        source="MLPerf Tiny keyword spotting (Zhang et al. 2017)",
        input_shape=(1, 49, 10),
        classes=12,
        width=True,
        size=False,
        training=Training(small_epochs=15, learning_rate=3e-3),
    ),
    "autoencoder": Entry(
        factory="bench.models.networks.mlperf_tiny:autoencoder",
        source="MLPerf Tiny anomaly detection (Banbury et al. 2021)",
        input_shape=(640,),
        classes=0,
        width=True,
        size=False,
    ),
    "mobilenetv1": Entry(
        factory="bench.models.networks.mobilenetv1:mobilenetv1",
        source="Howard et al. 2017",
        input_shape=IMAGENET,
        classes=1000,
        width=True,
        training=Training(small_epochs=15, learning_rate=1e-2),
    ),
    "mobilenetv2": Entry(
        factory="bench.models.networks.mobilenetv2:mobilenetv2",
        source="Sandler et al. 2018",
        input_shape=IMAGENET,
        classes=1000,
        width=True,
        training=Training(small_epochs=15, learning_rate=1e-2),
    ),
    "alexnet": Entry(
        factory="bench.models.networks.alexnet_vgg:alexnet",
        source="Krizhevsky 2014",
        input_shape=IMAGENET,
        classes=1000,
    ),
    "vgg16": Entry(
        factory="bench.models.networks.alexnet_vgg:vgg16",
        source="Simonyan & Zisserman 2015",
        input_shape=IMAGENET,
        classes=1000,
        training=Training(small_epochs=15, learning_rate=3e-4),
    ),
    "resnet18": Entry(
        factory="bench.models.networks.resnet:resnet18",
        source="He et al. 2016",
        input_shape=IMAGENET,
        classes=1000,
        training=Training(small_epochs=4),
    ),
    "resnet50": Entry(
        factory="bench.models.networks.resnet:resnet50",
        source="He et al. 2016",
        input_shape=IMAGENET,
        classes=1000,
        training=Training(small_epochs=4),
    ),
    "densenet121": Entry(
        factory="bench.models.networks.densenet:densenet121",
        source="Huang et al. 2017",
        input_shape=IMAGENET,
        classes=1000,
        training=Training(small_epochs=4),
    ),
    "shufflenetv2": Entry(
        factory="bench.models.networks.shufflenet:shufflenetv2",
        source="Ma et al. 2018",
        input_shape=IMAGENET,
        classes=1000,
        training=Training(small_epochs=8, learning_rate=3e-3),
    ),
    "squeezenet": Entry(
        factory="bench.models.networks.squeezenet:squeezenet",
        source="SqueezeNet 1.1 (Iandola et al. 2016)",
        input_shape=IMAGENET,
        classes=1000,
        training=Training(small_epochs=15),
    ),
}

MODELS: Mapping[str, Entry] = MappingProxyType(_ENTRIES)
"""Name -> network, for `bench.models.registry.resolve`."""


def is_reference(model: Model) -> bool:
    """Whether it is one of our networks, whose weights are ours to make."""
    return any(entry.factory == model.factory for entry in MODELS.values())


def training_of(model: Model) -> Training:
    """The settings a network is trained with; the defaults for a network of the user's own."""
    return next((entry.training for entry in MODELS.values() if entry.factory == model.factory), Training())
