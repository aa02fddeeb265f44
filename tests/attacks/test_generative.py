"""The prior is learnt from public images and nothing else, and the search goes through it into the target."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import attacks.generative_inversion as module
from attacks.generative_inversion import GenerativeInversion, public_images
from audit.contracts import AttackContext, NotApplicable, Reconstructions, Task
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.networks.generator import VAE, divergence, train_vae
from tests.networks.teachers import CPU, TASK, generator, small_snn, tiny_target

GREY = Task("toy", ("upper", "lower"), (1, 8, 8), (0.0, 1.0))
SMALL: dict[str, Any] = {"images_per_class": 3, "latent": 8, "epochs": 30, "updates": 40, "rate": 0.1, "restarts": 2}


def bars(count: int, seed: int = 0) -> Tensor:
    """Bright rows at random heights, uint8 [count, 8, 8]."""
    source = generator(seed)
    images = torch.randint(0, 40, (count, 8, 8), generator=source).to(torch.uint8)
    for image, row in zip(images, torch.randint(0, 7, (count,), generator=source).tolist(), strict=True):
        image[row : row + 2] = 230
    return images


def write(folder: Path, classes: dict[str, Tensor], mode: str = "L") -> str:
    """A data set of the form 'folder' with the images of ``classes``, each [N, 8, 8]."""
    for split in ("train", "test"):
        for name, images in classes.items():
            (folder / split / name).mkdir(parents=True)
            for n, image in enumerate(images):
                Image.fromarray(image.numpy()).convert(mode).save(folder / split / name / f"{n}.png")
    return str(folder)


@pytest.fixture
def public(tmp_path: Path) -> str:
    white = torch.full((4, 8, 8), 255, dtype=torch.uint8)
    return write(tmp_path / "public", {"Upper": white, "bars": bars(96), "others": bars(32, 1), "white": white})


@pytest.fixture
def target() -> nn.Sequential:
    """Tells a bright upper half from a bright lower one."""
    half = torch.ones(8, 8)
    half[4:] = -1
    layer = nn.Linear(64, 2, bias=False)
    layer.weight.data = torch.stack([half.flatten(), -half.flatten()]) / 16
    return nn.Sequential(nn.Flatten(), layer)


def context(seed: int = 0, task: Task = GREY) -> AttackContext:
    return AttackContext(task, seed, CPU, SilentMonitor())


def attack(public: str | None, **changed: Any) -> GenerativeInversion:
    return GenerativeInversion(**{"public": public, "exclude": "white", **SMALL, **changed})


def test_images_are_of_the_prior_and_of_the_class(public: str, target: nn.Sequential) -> None:
    where = context()
    found = attack(public).reconstruct(target, where)
    rows = found.images.mean((1, 3))
    assert found.images.shape == (6, 1, 8, 8)
    assert (rows.argmax(1) < 4).tolist() == (found.labels == 0).tolist()
    across = found.images.std(3).mean()
    assert float(across) < 0.1  # rows, as the public images have them: nothing in the target asks for that
    before, after = where.notes["target confidence before and after"]
    assert after > before + 0.1


def test_classes_named_like_private_ones_and_excluded_ones_are_never_seen(
    public: str, target: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def spy(pixels: Tensor, *rest: Any) -> tuple[VAE, list[float]]:
        seen.append(pixels)
        return train_vae(pixels, *rest)

    monkeypatch.setattr(module, "train_vae", spy)
    where = context()
    attack(public, epochs=1, updates=1).reconstruct(target, where)
    expected = torch.cat([bars(96), bars(32, 1)])[:, None]
    assert torch.equal(seen[0].flatten(1).sort(0).values, expected.flatten(1).sort(0).values)
    assert where.notes["public images"] == 128
    assert where.notes["public classes left out"] == ["Upper", "white"]


def test_only_the_training_split_is_used(tmp_path: Path) -> None:
    folder = write(tmp_path / "public", {"bars": bars(6), "others": bars(6, 1)})
    for n in range(6):
        Image.fromarray(np.full((8, 8), 255, dtype=np.uint8)).save(tmp_path / "public" / "test" / "bars" / f"{n}.png")
    assert len(public_images(folder, [], GREY)[0]) == 12
    assert public_images(folder, [], GREY)[0].float().mean() < 100


def test_public_images_take_the_size_and_the_colours_of_the_task(public: str, tmp_path: Path) -> None:
    coloured = public_images(public, [], replace(GREY, image_shape=(3, 16, 16)))[0]
    assert coloured.shape == (132, 3, 16, 16)
    assert torch.equal(coloured[:, 0], coloured[:, 2])
    red = tmp_path / "red"
    write(red, {"one": bars(2), "two": bars(2, 1)}, mode="RGB")
    Image.new("RGB", (8, 8), (255, 0, 0)).save(red / "train" / "one" / "0.png")
    grey = public_images(str(red), [], GREY)[0]
    assert grey.shape == (4, 1, 8, 8)
    assert int(grey[0].unique()) == 76


def test_a_data_set_is_known_by_its_name(target: nn.Sequential) -> None:
    pixels, left_out = public_images("digits", ["0", " 1"], GREY)
    assert pixels.shape[1:] == (1, 8, 8)
    assert left_out == ["0", "1"]


@pytest.mark.parametrize(
    ("changed", "task", "reason"),
    [
        ({"public": None}, GREY, "needs public images: --set generative-inversion.public=DATASET or a folder"),
        ({"exclude": "bars,others, WHITE"}, GREY, "no public image is left"),
        ({}, replace(GREY, image_shape=(1, 8, 16)), "square"),
        ({}, replace(GREY, image_shape=(2, 8, 8)), "2x8x8"),
    ],
)
def test_where_there_is_no_prior_the_attack_says_why(
    public: str, target: nn.Sequential, changed: dict[str, Any], task: Task, reason: str
) -> None:
    with pytest.raises(NotApplicable, match=reason):
        attack(**{"public": public, **changed}).reconstruct(target, context(task=task))


def test_the_private_data_set_itself_is_no_public_one(target: nn.Sequential) -> None:
    with pytest.raises(NotApplicable, match="every class of digits is a private one"):
        attack("digits").reconstruct(target, context(task=replace(GREY, classes=tuple("0123456789"))))


def test_a_folder_that_is_not_there_is_named(target: nn.Sequential) -> None:
    with pytest.raises(AuditError, match="nowhere"):
        attack("nowhere").reconstruct(target, context())


def test_a_coding_without_a_gradient_is_not_attacked(public: str) -> None:
    with pytest.raises(NotApplicable, match="phase coding has no gradient"):
        attack(public).reconstruct(small_snn("phase"), context())


@pytest.mark.parametrize("coding", ["direct", "rate"])
def test_a_spiking_network_is_searched_through_its_surrogate_gradients(public: str, coding: Any) -> None:
    target, task = tiny_target(coding), replace(TASK, image_shape=(3, 8, 8))
    target.layers[0] = widened(target.layers[0])
    where = context(task=task)
    found = attack(public, time_steps=8, epochs=5).reconstruct(target, where)
    assert isinstance(found, Reconstructions)
    assert found.images.shape == (9, 3, 8, 8)
    before, after = where.notes["target confidence before and after"]
    assert after > before
    assert where.notes["share of updates without a gradient"] < 1


def widened(layer: nn.Module) -> nn.Conv2d:
    """The same convolution for a third channel, which it ignores."""
    assert isinstance(layer, nn.Conv2d)
    wider = nn.Conv2d(3, layer.out_channels, 3, padding=1, bias=False)
    wider.weight.data = torch.cat([layer.weight.data, torch.zeros_like(layer.weight.data[:, :1])], dim=1)
    return wider


def test_the_seed_alone_decides_the_images(public: str, target: nn.Sequential) -> None:
    images = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        where = context(seed)
        images.append(attack(public, epochs=2, updates=3).reconstruct(target, where).images)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_of_the_restarts_the_one_that_the_target_is_surest_of_is_kept(public: str, target: nn.Sequential) -> None:
    confidence = []
    for restarts in (1, 4):
        where = context()
        attack(public, restarts=restarts, epochs=5, updates=2).reconstruct(target, where)
        confidence.append(where.notes["target confidence before and after"])
    assert confidence[0][0] == confidence[1][0]  # the first start is the same
    assert confidence[1][1] > confidence[0][1]


def test_a_silent_target_leaves_the_search_where_it_was(public: str) -> None:
    silent = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    nn.init.zeros_(silent[1].weight)
    nn.init.zeros_(silent[1].bias)
    where = context()
    found = attack(public, epochs=1, updates=3).reconstruct(silent, where)
    assert torch.isfinite(found.images).all()
    assert where.notes["share of updates without a gradient"] == pytest.approx(1.0)
    assert where.notes["target confidence before and after"] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 17), (3, 4, 4), (1, 12, 10)])
def test_the_generator_makes_images_of_the_shape_that_it_was_asked_for(shape: tuple[int, int, int]) -> None:
    vae = VAE(shape, latent=5, width=4)
    mean, log_variance = vae.encode(torch.rand(2, *shape))
    assert mean.shape == log_variance.shape == (2, 5)
    images = vae.decode(mean).detach()
    assert images.shape == (2, *shape)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


def test_the_divergence_is_that_of_the_two_normal_distributions() -> None:
    mean, log_variance = torch.tensor([[0.3, -1.2]]), torch.tensor([[0.4, -0.7]])
    of = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(of, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(mean, log_variance), expected)


def test_the_generator_learns_and_its_training_leaves_the_global_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    pixels = bars(128)[:, None]
    vae, losses = train_vae(pixels, 8, 16, 40, 2e-3, 0, CPU, SilentMonitor())
    assert torch.equal(torch.rand(3), expected)
    assert losses[-1] < losses[0] - 0.2
    x = pixels.float() / 255
    error = (vae.decode(vae.encode(x)[0]) - x).square().mean()
    assert float(error) < 0.5 * float(x.var(0).mean())
