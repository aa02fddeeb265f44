"""The VGG family of PrivateSNN and its code: 3x3 convolutions, average pooling, no bias; batch norm where asked for."""

from collections import OrderedDict
from typing import Literal

import torch
from torch import nn

from audit.errors import AuditError

# 'A' is a 2x2 average pooling; the last number is the hidden fully connected layer.
PLANS: dict[str, tuple[tuple[int | Literal["A"], ...], int]] = {
    "vgg5": ((64, "A", 128, 128, "A"), 1024),
    "vgg9": ((64, 64, "A", 128, 128, "A", 256, 256, 256, "A"), 1024),
    "vgg11": ((64, "A", 128, 256, "A", 512, 512, "A", 512, "A", 512, 512, "A"), 4096),
    "vgg16": ((64, 64, "A", 128, 128, "A", *(256,) * 3, "A", *(512,) * 3, "A", *(512,) * 3, "A"), 4096),
}

PLAIN = {
    "vgg5": "3 convolutions and 2 linear layers",
    "vgg9": "7 convolutions and 2 linear layers",
    "vgg11": "8 convolutions and 2 linear layers; images of at least 32x32",
    "vgg16": "13 convolutions and 2 linear layers, the paper's; images of at least 32x32",
}
NORMED = "-bn"
NETWORKS = {
    **PLAIN,
    **{f"{name}{NORMED}": f"{name} trained with batch norm, which is then folded: it has biases" for name in PLAIN},
}


def vgg(
    name: str,
    image_shape: tuple[int, int, int],
    classes: int,
    width: float = 1.0,
    hidden: int | None = None,
    dropout: float = 0.2,
    hidden_dropout: float = 0.5,
    seed: int = 0,
) -> nn.Sequential:
    """Network ``name`` for images (C, H, W), its channels and hidden units multiplied by ``width``.

    One whose name ends in '-bn' has a batch norm after every convolution, to be folded once it is trained.
    ``hidden`` fixes the number of hidden units instead. Dropout with rate ``dropout`` follows the convolutions that do
    not precede a pooling, and with ``hidden_dropout`` the hidden layer. Weights start Kaiming-normal (fan in), drawn
    from ``seed``.
    Raises AuditError where the image is too small for the poolings.
    """
    plan, units = PLANS[name.removesuffix(NORMED)]
    units = hidden or max(8, round(units * width))
    channels, height, columns = image_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    convolutions = pools = 0
    for index, item in enumerate(plan):
        if item == "A":
            pools += 1
            layers[f"pool{pools}"] = nn.AvgPool2d(2)
            height, columns = height // 2, columns // 2
            continue
        convolutions += 1
        out = max(4, round(item * width))
        layers[f"conv{convolutions}"] = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        if name.endswith(NORMED):
            layers[f"norm{convolutions}"] = nn.BatchNorm2d(out)
        layers[f"relu{convolutions}"] = nn.ReLU()
        if plan[index + 1] != "A":
            layers[f"drop{convolutions}"] = nn.Dropout(dropout)
        channels = out
    if height < 1 or columns < 1:
        raise AuditError(
            f"{name} halves the image {pools} times: {image_shape[1]}x{image_shape[2]} is too small; "
            f"use --image-size {2**pools} or more, or a smaller --model"
        )
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(channels * height * columns, units, bias=False)
    layers["relu_fc1"] = nn.ReLU()
    layers["drop_fc1"] = nn.Dropout(hidden_dropout)
    layers["fc2"] = nn.Linear(units, classes, bias=False)
    network = nn.Sequential(layers)
    generator = torch.Generator().manual_seed(seed)
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
    return network
