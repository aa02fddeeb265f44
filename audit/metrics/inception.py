"""Features of the published Inception network, from weights that the user supplies: what 'FID' means by itself."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import NoTrainInceptionV3

from audit.errors import AuditError

# Published as weights-inception-2015-12-05-6726825d.pth and pt_inception-2015-12-05-6726825d.pth: the same bytes.
WEIGHTS_SHA256_PREFIX = "6726825d"
NUM_FEATURES = 2048
RANGE_TOLERANCE = 1e-4


class InceptionFeatures(nn.Module):
    """Images float [N, C, H, W] in [-1, 1], C = 1 or 3, to features float32 [N, 2048]; no gradient.

    Pixels are rounded to 0..255 and resized to 299 x 299 by torchmetrics' default, antialiased bilinear interpolation;
    for images smaller than that it equals the plain one. TensorFlow's 2015 resizing, which other implementations copy,
    gives slightly other distances. Grey images are repeated to three channels. An image with a pixel that is not finite
    gives a row of NaN, so that the distance is 'undefined' and not that of a black image.
    Raises ValueError for another shape, an integer type, or pixels outside [-1, 1].
    """

    num_features = NUM_FEATURES

    def __init__(self, network: NoTrainInceptionV3, batch_size: int = 64) -> None:
        super().__init__()
        self.network = network
        self.batch_size = batch_size

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        _check_images(images)
        finite = images.isfinite().flatten(1).all(dim=1)
        grey_levels = ((images.nan_to_num() + 1) * 127.5).round().clamp(0, 255).byte()
        coloured = grey_levels.expand(-1, 3, -1, -1)
        device = next(self.network.parameters()).device
        batches = [self.network(batch.to(device)) for batch in torch.split(coloured, self.batch_size) if len(batch)]
        features = torch.cat(batches) if batches else torch.zeros(0, NUM_FEATURES, device=device)
        features[~finite.to(device)] = torch.nan
        return features


def inception_features(weights: Path, batch_size: int = 64) -> InceptionFeatures:
    """The Inception network with the published FID weights in the file ``weights``, checked before it is opened.

    Raises AuditError where the file cannot be read, is not the published one (by its sha256), or where the optional
    package is missing; ValueError for a batch size below 1.
    Source: Heusel et al., NeurIPS 2017; the weights are those of the TensorFlow model of 2015-12-05.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    _check_weights(weights)
    try:
        network = NoTrainInceptionV3(
            name="inception-v3-compat",
            features_list=[str(NUM_FEATURES)],
            feature_extractor_weights_path=str(weights),
        )
    except ModuleNotFoundError as error:
        raise AuditError("FID needs an optional package: pip install snn-privacy-audit[fid]") from error
    return InceptionFeatures(network, batch_size)


def _check_weights(weights: Path) -> None:
    try:
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AuditError(f"cannot read the Inception weights {weights}: {error.strerror}") from error
    if not found.startswith(WEIGHTS_SHA256_PREFIX):
        raise AuditError(
            f"{weights} is not the published Inception file: its sha256 starts with {found[:8]}, "
            f"expected {WEIGHTS_SHA256_PREFIX} (pt_inception-2015-12-05-6726825d.pth)"
        )


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[1:]:
        raise ValueError(f"images must have the shape [N, 1 or 3, H, W], not {list(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point in [-1, 1], not {images.dtype}")
    finite = images[images.isfinite()]
    if finite.numel() and float(finite.abs().max()) > 1 + RANGE_TOLERANCE:
        raise ValueError(f"images must lie in [-1, 1], found {float(finite.min()):g} to {float(finite.max()):g}")
