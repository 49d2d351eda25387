"""The claims that are tried, with the recipes that are to reach them."""

from __future__ import annotations

from tests.papers.claims import Claim, distillation, han_2015, int8, up_to_30

DIGITS = ("lenet300_100", "lenet5", "resnet8", "mobilenetv2(width=0.35)")

CLAIMS: tuple[Claim, ...] = (
    han_2015("lenet300_100", "LeNet-300-100", "prune(amount=0.919) + finetune(epochs=4)", "1.64", "1.59"),
    han_2015("lenet5", "LeNet-5", "prune(amount=0.919) + finetune(epochs=2)", "0.80", "0.77"),
    *(up_to_30(model, "mnist") for model in ("lenet300_100", "lenet5")),
    *(up_to_30(model, "digits") for model in DIGITS),
    int8("lenet300_100", "mnist", epochs=2),
    int8("lenet5", "mnist", epochs=1),
    int8("resnet8", "digits", epochs=3),
    int8("mobilenetv2(width=0.35)", "digits", epochs=3),
    distillation("lenet300_100", "lenet300_100(width=0.1)", "epochs=6, learning_rate=0.002"),
)
