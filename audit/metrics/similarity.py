"""Structural similarity of a reconstruction to the private training image that it resembles most."""

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

RANGE_TOLERANCE = 1e-4
# The Gaussian window of the paper is 11 pixels wide, with deviation 1.5; torchmetrics derives the width from it.
PUBLISHED_WINDOW, PUBLISHED_DEVIATION = 11, 1.5
# For images that it does not fit into, 8 x 8 digits: 7 pixels wide.
SMALL_WINDOW, SMALL_DEVIATION = 7, 0.8
# Images that are compared at a time, and private images that they are compared with: torch unfolds every window.
BATCH, PRIVATE_BATCH = 32, 512


def nearest_similarity(
    images: Tensor, labels: Tensor, private_images: Tensor, private_labels: Tensor, data_range: tuple[float, float]
) -> Tensor:
    """float64 [N] on the CPU: the SSIM of each image and the private image of its class that is nearest in pixel L2.

    ``images`` float [N, C, H, W] with ``labels`` int [N], ``private_images`` float [P, C, H, W] with
    ``private_labels`` int [P]; any device. ``data_range``: (low, high), what black and white are in both; pixels are
    moved to 0..1 first, because SSIM compares brightness as a ratio and means nothing around 0. In [-1, 1], the mean
    over pixels and channels, mirrored at the borders; 1 for a copy. NaN for an image with a pixel that is not finite.
    The window is the published one, 11 x 11, or 7 x 7 for images smaller than that: compare within one image size only.
    The private images are searched in batches: beside the inputs it needs a few hundred MB at 3 x 32 x 32.

    Raises ValueError for other shapes, different lengths, images smaller than 7 pixels, private pixels that are not
    finite, pixels outside the range, or a class without a private image.
    Source: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", IEEE TIP 13 (2004), Sec. III-B.
    """
    _check(images, labels, private_images, private_labels, data_range)
    labels, private_labels = labels.to(images.device), private_labels.to(private_images.device)
    deviation = PUBLISHED_DEVIATION if min(images.shape[2:]) >= PUBLISHED_WINDOW else SMALL_DEVIATION
    similarities = torch.full((len(images),), torch.nan, dtype=torch.float64)
    usable = images.isfinite().flatten(1).all(dim=1)
    for c in labels[usable].unique().tolist():
        members = torch.nonzero(private_labels == c).flatten()
        if not len(members):
            raise ValueError(f"no private image of class {c}")
        for part in torch.nonzero(usable & (labels == c)).flatten().split(BATCH):
            found = images[part]
            nearest = private_images[_nearest(found, private_images, members)]
            similarities[part.cpu()] = _ssim(found, nearest.to(found.device), data_range, deviation).cpu()
    return similarities


def _ssim(images: Tensor, others: Tensor, data_range: tuple[float, float], deviation: float) -> Tensor:
    low, high = data_range
    first, second = (((pixels.double() - low) / (high - low)).clamp(0, 1) for pixels in (images, others))
    scores = structural_similarity_index_measure(first, second, sigma=deviation, reduction="none", data_range=1.0)
    assert isinstance(scores, Tensor)  # a tuple only where more is asked for
    return scores


def _nearest(images: Tensor, private_images: Tensor, members: Tensor) -> Tensor:
    """int64 [N]: which of the private images ``members`` is nearest to each image, the first of equally near ones."""
    rows = images.to(private_images.device).double().flatten(1)
    best = torch.full((len(rows),), torch.inf, dtype=rows.dtype, device=rows.device)
    where = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for batch in members.split(PRIVATE_BATCH):
        # Matrix products are ten times as fast as differences, and tell near images apart in float64 only.
        others = private_images[batch].double().flatten(1)
        nearest, index = torch.cdist(rows, others, compute_mode="use_mm_for_euclid_dist").min(dim=1)
        closer = nearest < best
        best, where = torch.where(closer, nearest, best), torch.where(closer, batch[index], where)
    return where


def _check(
    images: Tensor, labels: Tensor, private_images: Tensor, private_labels: Tensor, data_range: tuple[float, float]
) -> None:
    low, high = data_range
    if not low < high:
        raise ValueError(f"data_range must be (low, high), not {data_range}")
    for what, pixels, classes in (
        ("images", images, labels),
        ("private_images", private_images, private_labels),
    ):
        if pixels.ndim != 4 or 0 in pixels.shape[1:] or pixels.shape[1:] != images.shape[1:]:
            raise ValueError(f"{what} must have the shape [N, C, H, W], the same for both, not {list(pixels.shape)}")
        if min(pixels.shape[2:]) < SMALL_WINDOW:
            raise ValueError(f"{what} must be at least {SMALL_WINDOW} pixels wide and high, not {list(pixels.shape)}")
        if not pixels.is_floating_point():
            raise ValueError(f"{what} must be floating point, not {pixels.dtype}")
        if classes.shape != pixels.shape[:1]:
            raise ValueError(f"{what} and their labels differ in length: {len(pixels)} and {list(classes.shape)}")
    finite = images[images.isfinite()]
    for what, pixels in (("images", finite), ("private_images", private_images)):
        if not pixels.numel():
            continue
        least, most = (float(bound) for bound in torch.aminmax(pixels))
        if not (least >= low - RANGE_TOLERANCE and most <= high + RANGE_TOLERANCE):
            raise ValueError(f"{what} must lie in [{low:g}, {high:g}], found {least:g} to {most:g}")
