"""Every leakage measurement comes from raw scores alone, and none of them flatters."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from audit.contracts import Images, Task
from audit.observation import Observation, Observer, Yardstick, first_per_class, measure, penultimate
from audit.records import Measurement
from audit.settings import MeasureSettings
from tests.networks.teachers import CPU, generator, rand, tiny_teacher

TASK = Task("toy", ("a", "b", "c"), (2, 8, 8))
MANY = Images(torch.randint(0, 256, (90, 2, 8, 8), generator=generator(2)).to(torch.uint8), torch.arange(90) % 3)


def observer(private: Images = MANY) -> Observer:
    return Observer.of((tiny_teacher(seed=5), tiny_teacher(seed=6)), TASK, private, MeasureSettings(), CPU)


def named(found: Observation, unfit: str | None = None) -> dict[str, Measurement]:
    eyes = observer()
    real = eyes.observe(TASK.normalise(MANY.pixels), MANY.labels)
    return {m.name: m for m in measure(found, Yardstick(eyes.sample(90), real, TASK.classes, unfit))}


def test_features_are_what_enters_the_last_layer() -> None:
    network, x = tiny_teacher(), rand(3, 2, 8, 8)
    torch.testing.assert_close(network[-1](penultimate(network)(x)), network(x))


def test_images_that_are_the_private_ones_are_as_near_as_can_be_by_every_measure() -> None:
    found = named(observer().observe(TASK.normalise(MANY.pixels), MANY.labels))
    assert found["FD, evaluator features"].value == pytest.approx(0.0, abs=1e-4)
    assert found["density, evaluator features"].value == 1
    assert found["coverage, evaluator features"].value == 1
    assert found["SSIM to the nearest private image"].value == pytest.approx(1)
    assert found["recognised, relative to real images"].value == 1
    right = tiny_teacher(seed=5)(TASK.normalise(MANY.pixels)).argmax(1) == MANY.labels
    assert found["recognised by the evaluator"].value == pytest.approx(float(right.float().mean()))


def test_noise_is_farther_than_real_images() -> None:
    eyes = observer()
    noise = named(eyes.observe(torch.rand(90, 2, 8, 8, generator=generator(4)) * 0.02, MANY.labels))
    real = named(eyes.observe(TASK.normalise(MANY.pixels), MANY.labels))
    for name in ("FD, evaluator features", "KID, evaluator features", "KID within classes, evaluator features"):
        assert noise[name].value is not None
        assert noise[name].value > real[name].value  # type: ignore[operator]


def test_too_few_images_for_a_distance_have_none_and_not_0() -> None:
    found = named(observer().observe(rand(2, 2, 8, 8).clamp(-1, 1), torch.tensor([0, 1])))
    distance = found["FD, evaluator features"]
    assert (distance.value, distance.status) == (None, "insufficient")
    assert distance.reason


def test_an_evaluator_that_is_no_better_than_chance_certifies_nothing() -> None:
    torch.manual_seed(0)
    dead = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))
    with torch.no_grad():
        dead[1].bias.fill_(-1e6)  # type: ignore[union-attr, operator]
    task = Task("toy", tuple("abcd"), (1, 8, 8))
    test = Images(torch.randint(0, 256, (80, 1, 8, 8), dtype=torch.uint8), torch.arange(80) % 4)
    eyes = Observer.of((dead, dead), task, test, MeasureSettings(), CPU)
    unfit = eyes.unfit(test)
    assert unfit is not None
    assert "no better than chance among 4 classes" in unfit
    seen = eyes.observe(task.normalise(test.pixels), test.labels)
    measured = {m.name: m for m in measure(seen, Yardstick(eyes.sample(80), seen, task.classes, unfit))}
    similarity = measured.pop("SSIM to the nearest private image")
    assert similarity.value == pytest.approx(1), "pixels need no evaluator"
    assert {m.status for m in measured.values()} == {"undefined"}, "a dead network's distance is 0 to everything"
    assert {m.reason for m in measured.values()} == {unfit}


def test_raw_scores_survive_a_file_and_give_the_same_measurements(tmp_path: Path) -> None:
    seen = observer().observe(rand(60, 2, 8, 8).clamp(-1, 1), torch.arange(60) % 3)
    np.savez_compressed(tmp_path / "scores.npz", **{k: v.numpy() for k, v in seen.tensors().items()})  # type: ignore[arg-type]
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as stored:
        again = Observation.of({name: torch.from_numpy(stored[name]) for name in stored})
    assert named(again) == named(seen)


def test_the_first_of_every_class_are_taken_as_far_as_there_are() -> None:
    images = Images(torch.arange(7).view(7, 1, 1, 1).to(torch.uint8), torch.tensor([1, 0, 1, 1, 0, 1, 2]))
    chosen = first_per_class(images, 2, 3)
    assert chosen.labels.tolist() == [0, 0, 1, 1, 2]
    assert chosen.pixels.flatten().tolist() == [1, 4, 0, 2, 6]
