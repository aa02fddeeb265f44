"""An attacker's prior: a small convolutional variational autoencoder of public images."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audit.contracts import Monitor
from audit.networks.epochs import epochs as shuffled


class VAE(nn.Module):
    """Images in [0, 1] of one shape <-> a standard normal latent (Kingma and Welling 2014).

    Convolutions of stride 2 until no side is longer than 4, and as many enlargements by nearest neighbours back.
    ``width`` channels at full size, up to four times as many below.
    """

    def __init__(self, image_shape: Sequence[int], latent: int, width: int) -> None:
        super().__init__()
        channels, *size = image_shape
        sizes = [tuple(size)]
        while max(sizes[-1]) > 4:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        depth = [width * min(2**level, 4) for level in range(len(sizes))]
        flat = depth[-1] * math.prod(sizes[-1])
        down: list[nn.Module] = [nn.Conv2d(channels, depth[0], 3, padding=1), nn.ReLU()]
        up: list[nn.Module] = [nn.Linear(latent, flat), nn.ReLU(), nn.Unflatten(1, (depth[-1], *sizes[-1]))]
        for before, after in pairwise(depth):
            down += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        for level in range(len(sizes) - 1, 0, -1):
            up += [
                nn.Upsample(size=sizes[level - 1]),
                nn.Conv2d(depth[level], depth[level - 1], 3, padding=1),
                nn.ReLU(),
            ]
        self.latent = latent
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, 2 * latent))
        self.decoder = nn.Sequential(*up, nn.Conv2d(depth[0], channels, 3, padding=1), nn.Sigmoid())

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> mean and log variance of the latent, each [N, latent]."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 12)

    def decode(self, z: Tensor) -> Tensor:
        """[N, latent] -> [N, C, H, W] in [0, 1]."""
        images: Tensor = self.decoder(z)
        return images


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) per row, [N]."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def train_vae(
    pixels: Tensor,
    latent: int,
    width: int,
    epochs: int,
    learning_rate: float,
    seed: int,
    device: torch.device,
    monitor: Monitor,
    batch_size: int = 64,
) -> tuple[VAE, list[float]]:
    """A VAE of ``pixels`` uint8 [N, C, H, W], in eval() and without gradients, and its mean loss by epoch.

    The likelihood is Gaussian with the variance that is best for the batch (sigma-VAE, Rybkin et al. 2021), so
    that no weight between the two terms has to be chosen. The loss is in nats per pixel.
    """
    source = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        vae = VAE(pixels.shape[1:], latent, width)
    vae.to(device).train()
    optimizer = torch.optim.Adam(vae.parameters(), lr=learning_rate)
    dimension = math.prod(pixels.shape[1:])
    state = {"vae": vae, "optimizer": optimizer}
    with shuffled(monitor, "training of the prior", len(pixels), batch_size, epochs, source, **state) as batches:
        for index in batches:
            x = pixels[index].to(device).float() / 255
            mean, log_variance = vae.encode(x)
            noise = torch.randn(mean.shape, generator=source).to(device)
            error = F.mse_loss(vae.decode(mean + (log_variance / 2).exp() * noise), x)
            # Below a grey level there is nothing to learn, and the logarithm has no end.
            loss = 0.5 * error.clamp(min=1 / 255**2).log() + divergence(mean, log_variance).mean() / dimension
            batches.descend(loss, optimizer, len(index))
    return vae.eval().requires_grad_(False), batches.losses
