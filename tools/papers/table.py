"""The claims that are tried, with the recipes that are to reach them."""

from __future__ import annotations

from .claims import Claim, deep_compression, distillation, few_bits, han_2015, int8, thirty_trained, up_to_30

SMALL = (
    "lenet300_100",
    "lenet5",
    "resnet8",
    "dscnn",
    "mobilenetv1(width=0.25)",
    "mobilenetv2(width=0.35)",
    "shufflenetv2",
    "squeezenet",
)
LARGE = ("vgg16", "resnet50", "densenet121", "resnet18")
"""With `SMALL` every reference network that can learn one of the data sets at hand: the autoencoder has no classes, and
AlexNet takes images of 63 pixels and more."""
PRUNED = {
    "lenet300_100": "prune(amount=0.92) + finetune(epochs=4)",
    "lenet5": "prune(amount=0.92) + finetune(epochs=2)",
}
SHARED = "share(bits=5) + finetune(epochs=1, learning_rate=0.0003)"

CLAIMS: tuple[Claim, ...] = (
    han_2015("lenet300_100", "LeNet-300-100", PRUNED["lenet300_100"], "1.64", "1.59"),
    han_2015("lenet5", "LeNet-5", PRUNED["lenet5"], "0.80", "0.77"),
    deep_compression(
        "lenet300_100",
        "LeNet-300-100",
        f"{PRUNED['lenet300_100']} + {SHARED}",
        times=40,
        errors=("1.64", "1.58"),
        kb="27",
    ),
    deep_compression("lenet5", "LeNet-5", f"{PRUNED['lenet5']} + {SHARED}", times=39, errors=("0.80", "0.74"), kb="44"),
    *(up_to_30(model, "mnist") for model in ("lenet300_100", "lenet5")),
    *(up_to_30(model, "digits") for model in SMALL),
    *(up_to_30(model, "digits", shares=(0.3,)) for model in LARGE),
    *(thirty_trained(model, "digits") for model in (*SMALL, *LARGE)),
    int8("lenet300_100", "mnist", epochs=2),
    int8("lenet5", "mnist", epochs=1),
    int8("resnet8", "digits", epochs=3),
    int8("mobilenetv2(width=0.35)", "digits", epochs=8),
    few_bits("ternary (2-bit)", "Li & Liu 2016, arXiv:1605.04711, 99.35 % with LeNet-5", "ternary(epochs=4)"),
    few_bits(
        "binary",
        "Courbariaux et al. 2015, BinaryConnect, arXiv:1511.00363, 98.71 % with three layers of 1024",
        "binary(epochs=4)",
    ),
    distillation(
        "lenet300_100",
        "lenet300_100(width=0.1)",
        "epochs=15, learning_rate=0.006",
        "alpha=0.1, temperature=4.0",
        chosen_on=frozenset({0, 1, 2}),
        note="alpha was chosen from 0.1, 0.3 and 0.5 by the test accuracies of seeds 0 to 2, so other seeds judge it.",
    ),
)
