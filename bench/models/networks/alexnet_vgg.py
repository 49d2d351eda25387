"""AlexNet and VGG-16 with torchvision's layer names; the first linear layer fits the input size."""

from __future__ import annotations

from torch import Tensor, nn

from bench.models.networks.layers import Shape, image, initialise, strides


class Classic(nn.Module):
    """Convolutions, then three linear layers."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


def alexnet(input_shape: Shape, classes: int) -> nn.Module:
    """AlexNet in one tower (Krizhevsky 2014): 61,100,840 params at 3x224x224 with 1000 classes."""
    channels, height, width = image("alexnet", input_shape, least=63)
    sides = [((((side - 7) // 4 + 1 - 3) // 2 + 1 - 3) // 2 + 1 - 3) // 2 + 1 for side in (height, width)]
    features = nn.Sequential(
        nn.Conv2d(channels, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    classifier = nn.Sequential(
        nn.Dropout(0.5),
        nn.Linear(256 * sides[0] * sides[1], 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, classes),
    )
    return Classic(features, classifier)


def vgg16(input_shape: Shape, classes: int) -> nn.Module:
    """VGG-16, configuration D without BatchNorm (Simonyan & Zisserman 2015): 138,357,544 params at 224.

    The hidden linear layers are initialised as in He et al. 2015. At 224 pixels that equals N(0, 0.01). Small images
    leave only 512 features, where 0.01 is a sixth of He's deviation: with it one seed in three hardly learned.
    """
    channels, height, width = image("vgg16", input_shape, least=4)
    pools = strides(min(height, width), 5, least=1)
    layers: list[nn.Module] = []
    for (filters, repeats), pool in zip(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), pools, strict=True):
        for _ in range(repeats):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        layers.append(nn.MaxPool2d(pool))
        height, width = height // pool, width // pool
    hidden = (nn.Linear(512 * height * width, 4096), nn.Linear(4096, 4096))
    classifier = nn.Sequential(
        hidden[0],
        nn.ReLU(),
        nn.Dropout(0.5),
        hidden[1],
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, classes),
    )
    network = initialise(Classic(nn.Sequential(*layers), classifier))
    for layer in hidden:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return network
