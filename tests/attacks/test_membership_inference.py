"""Membership inference finds what a target has memorised, and nothing in a target that never saw the images."""

from collections import OrderedDict
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.membership_inference import MembershipAttack, log_odds
from audit.contracts import AttackContext, Candidates, Images, Oracle, Task
from audit.errors import AuditError
from audit.metrics.membership import auc
from audit.monitor import SilentMonitor
from audit.registry import ATTACKS
from audit.settings import validated
from audit.spiking.conversion import balance_thresholds, match_output_scale
from audit.spiking.encoding import Coding, Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.twin import spiking_twin
from tests.networks.teachers import CPU, TASK, generator

SIGNALS = ["loss", "confidence gap", "time-steps", "input dropout", "quantile", "lira", "rmia"]
ATTACK = MembershipAttack(shadows=3, masks=4, dropout=0.05)


def context(seed: int = 0, task: Task = TASK) -> AttackContext:
    return AttackContext(task, seed, CPU, SilentMonitor())


def noise(count: int, seed: int) -> Images:
    """Images without any class in them: to know a label is to have seen it."""
    source = generator(seed)
    pixels = torch.randint(0, 256, (count, *TASK.image_shape), generator=source, dtype=torch.uint8)
    return Images(pixels, torch.randint(0, 3, (count,), generator=source))


def together(*parts: Images) -> Images:
    return Images(torch.cat([part.pixels for part in parts]), torch.cat([part.labels for part in parts]))


def ann(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = OrderedDict(flatten=nn.Flatten(), fc1=nn.Linear(128, 64), relu=nn.ReLU(), fc2=nn.Linear(64, 3))
        return nn.Sequential(layers)


def memorise(network: nn.Sequential, images: Images) -> nn.Sequential:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    x = TASK.normalise(images.pixels)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(network(x), images.labels).backward()
        optimizer.step()
    return network.eval()


def spiking(network: nn.Sequential, images: Images, coding: Coding = "direct") -> SpikingNetwork:
    target = spiking_twin(network, Encoder(coding), 16)
    balance_thresholds(target, TASK.normalise(images.pixels), seed=0)
    match_output_scale(target, network, TASK.normalise(images.pixels), seed=0)
    return target


def shadow(seed: int, images: Images) -> nn.Module:
    return spiking(memorise(ann(100 + seed), images), images)


MEMBERS, OTHERS, POPULATION = noise(60, 1), noise(60, 2), noise(120, 3)
CANDIDATES = Candidates(together(OTHERS, MEMBERS), POPULATION, shadow)
IS_MEMBER = torch.arange(120) >= 60


@cache
def overfit_ann() -> nn.Sequential:
    return memorise(ann(7), MEMBERS)


def untrained() -> nn.Sequential:
    return ann(8).eval()


def memorised_elsewhere() -> nn.Sequential:
    return memorise(ann(9), noise(60, 12))


@cache
def scores_of(which: str, coding: Coding = "direct") -> dict[str, Tensor]:
    network = overfit_ann() if which == "overfit" else untrained() if which == "untrained" else memorised_elsewhere()
    return ATTACK.score_members(spiking(network, MEMBERS, coding), context(), CANDIDATES).scores


def unshadowed(**settings: object) -> MembershipAttack:
    return replace(ATTACK, shadows=0, **settings)  # type: ignore[arg-type]


def never(i: int, images: Images) -> nn.Module:
    raise AssertionError("a shadow was asked for")


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("coding", ["direct", "rate"])
def test_every_signal_detects_what_an_overfit_target_memorised(signal: str, coding: Coding) -> None:
    measured = auc(signal, scores_of("overfit", coding)[signal], IS_MEMBER)
    assert measured.low is not None
    assert measured.low > 0.6


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("target", ["untrained", "elsewhere"])
def test_no_signal_detects_anything_in_a_target_that_never_saw_the_images(signal: str, target: str) -> None:
    measured = auc(signal, scores_of(target)[signal], IS_MEMBER)
    assert measured.low is not None
    assert measured.high is not None
    assert measured.low < 0.5 < measured.high


def test_there_is_a_finite_score_of_every_signal_for_every_candidate() -> None:
    scores = scores_of("overfit")
    assert set(scores) == set(SIGNALS)
    for values in scores.values():
        assert values.shape == (120,)
        assert values.isfinite().all()


def test_the_seed_alone_decides_the_scores() -> None:
    results = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        target = spiking(overfit_ann(), MEMBERS, "rate")
        results.append(replace(ATTACK, shadows=2).score_members(target, context(seed), CANDIDATES).scores)
    for signal in SIGNALS:
        assert torch.equal(results[0][signal], results[1][signal])
        assert not torch.equal(results[0][signal], results[2][signal])


def test_scores_follow_their_candidates() -> None:
    order = torch.randperm(120, generator=generator(5))
    images = Images(CANDIDATES.images.pixels[order], CANDIDATES.images.labels[order])
    attack, target = replace(ATTACK, dropout=0.0, shadows=1), spiking(overfit_ann(), MEMBERS)
    straight = attack.score_members(target, context(), CANDIDATES).scores
    shuffled = attack.score_members(target, context(), replace(CANDIDATES, images=images)).scores
    for signal in SIGNALS:
        torch.testing.assert_close(shuffled[signal], straight[signal][order], rtol=1e-4, atol=1e-4)


def test_batches_change_nothing() -> None:
    target = spiking(overfit_ann(), MEMBERS)
    whole, parts = (
        unshadowed(batch_size=size, dropout=0.0).score_members(target, context(), CANDIDATES).scores
        for size in (500, 7)
    )
    for signal, values in whole.items():
        torch.testing.assert_close(parts[signal], values, rtol=1e-4, atol=1e-4)


def test_without_shadows_no_signal_that_needs_them_and_none_is_trained() -> None:
    where = context()
    found = unshadowed().score_members(spiking(overfit_ann(), MEMBERS), where, replace(CANDIDATES, shadow=never))
    assert set(found.scores) == set(SIGNALS) - {"lira", "rmia"}
    assert where.notes["lira, rmia"] == "left out, no shadows"


def test_an_oracle_and_an_ann_are_asked_for_logits_alone() -> None:
    network, where = overfit_ann(), context()
    oracle = Oracle(network)
    found = unshadowed().score_members(oracle, where, CANDIDATES).scores
    assert oracle.queries == 120 * (1 + ATTACK.masks) + 120
    assert set(found) == {"loss", "confidence gap", "input dropout", "quantile"}
    assert "one number of time-steps" in where.notes["time-steps"]
    plain = unshadowed().score_members(network, context(), CANDIDATES).scores
    assert all(torch.equal(found[signal], plain[signal]) for signal in found)


def test_each_shadow_trains_on_its_own_random_part_of_the_population() -> None:
    asked: list[tuple[int, Images]] = []

    def spy(i: int, images: Images) -> nn.Module:
        asked.append((i, images))
        return ann(i)

    quarter = replace(ATTACK, shadow_fraction=0.25)
    for seed, shadow_seed in ((0, 0), (1, 0), (0, 1)):
        again = replace(quarter, shadow_seed=shadow_seed)
        again.score_members(ann(0), context(seed), replace(CANDIDATES, shadow=spy))
    assert [i for i, _ in asked] == 3 * [0, 1, 2]
    index = {pixels.numpy().tobytes(): n for n, pixels in enumerate(POPULATION.pixels)}
    parts = [[index[pixels.numpy().tobytes()] for pixels in images.pixels] for _, images in asked]
    for part, (_, images) in zip(parts, asked, strict=True):
        assert len(set(part)) == 30
        assert torch.equal(images.labels, POPULATION.labels[part])
    assert parts[:3] == parts[3:6]  # an attacker trains his shadows once, for all seeds of a run
    assert len({tuple(part) for part in parts}) == 6


def test_no_more_of_the_population_is_asked_about_than_the_settings_say() -> None:
    asked: list[int] = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(len(x))
            return x.flatten(1)[:, :3]

    few = replace(ATTACK, shadows=0, masks=1, population_images=17)
    found = few.score_members(Counting(), context(), CANDIDATES)
    assert sum(asked) == 2 * len(CANDIDATES.images) + 17
    assert all(len(scores) == len(CANDIDATES.images) for scores in found.scores.values())


class Told(nn.Module):
    """Certain of the label of every image that it was told, and at a loss elsewhere."""

    def __init__(self, images: Images) -> None:
        super().__init__()
        normal = TASK.normalise(images.pixels)
        self.known = {x.numpy().tobytes(): int(y) for x, y in zip(normal, images.labels, strict=True)}

    def forward(self, x: Tensor) -> Tensor:
        labels = [self.known.get(image.numpy().tobytes()) for image in x]
        return torch.tensor([[30.0 * (k == y) for k in range(3)] for y in labels])


def test_an_image_of_the_population_counts_against_the_shadows_only_that_did_not_see_it() -> None:
    target, told, where = ann(3).eval(), [], context()

    def shadow_of(_: int, images: Images) -> nn.Module:
        told.append(Told(images))
        return told[-1]

    found = replace(ATTACK, shadows=2).score_members(target, where, replace(CANDIDATES, shadow=shadow_of)).scores
    # Out of training all of them say 1/3, of candidates and of the population: the ratios are the target's own.
    normal = TASK.normalise(POPULATION.pixels)
    outside = torch.tensor([not all(image.numpy().tobytes() in each.known for each in told) for image in normal])
    assert 0 < int(outside.sum()) < 120
    with torch.no_grad():
        x, z = (
            (target(TASK.normalise(part.pixels)).double() * where.notes["logits scaled by"])
            .softmax(1)
            .gather(1, part.labels[:, None])[:, 0]
            for part in (CANDIDATES.images, POPULATION)
        )
    torch.testing.assert_close(found["rmia"], (x[:, None] >= z[outside]).double().mean(1))
    logits = target(TASK.normalise(CANDIDATES.images.pixels)).detach().double() * where.notes["logits scaled by"]
    odds = log_odds(logits, CANDIDATES.images.labels)
    assert found["lira"].argsort().tolist() == odds.argsort().tolist()


def test_time_steps_are_averaged_over_equal_parts_of_t() -> None:
    target, where = spiking(overfit_ann(), MEMBERS), context()
    found = unshadowed(time_points=3).score_members(target, where, CANDIDATES).scores
    scale = where.notes["logits scaled by"]
    x, labels = TASK.normalise(CANDIDATES.images.pixels), CANDIDATES.images.labels
    with torch.no_grad():
        logits = [target(x, time_steps=t).double() * scale for t in (5, 11, 16)]
    p = [each.softmax(1).gather(1, labels[:, None])[:, 0] for each in logits]
    mean = torch.stack(p).mean(0)
    torch.testing.assert_close(found["time-steps"].sigmoid(), mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["loss"].exp(), p[-1], rtol=1e-4, atol=1e-6)
    assert "time-steps" not in unshadowed(time_points=1).score_members(target, context(), CANDIDATES).scores


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_target_that_gives_its_answers_in_another_unit_hides_nothing(factor: float) -> None:
    target = spiking(overfit_ann(), MEMBERS)
    plain = ATTACK.score_members(target, context(), CANDIDATES).scores
    target.output_scale *= factor
    again = ATTACK.score_members(target, context(), CANDIDATES).scores
    for signal in SIGNALS:
        torch.testing.assert_close(again[signal], plain[signal], rtol=1e-4, atol=1e-4)


def test_input_dropout_silences_its_share_of_the_inputs_under_a_new_mask_each_time() -> None:
    shown: list[Tensor] = []

    def answer(x: Tensor) -> Tensor:
        shown.append(x)
        return torch.zeros(len(x), 3)

    unshadowed(dropout=0.2, masks=5).score_members(Oracle(answer), context(), CANDIDATES)
    plain, masks = shown[0], shown[2:]
    dropped = [(x != plain) for x in masks]
    assert len(masks) == 5
    for x, gone in zip(masks, dropped, strict=True):
        assert (x[gone] == 0).all()
        assert float(gone.double().mean()) == pytest.approx(0.2, abs=0.01)
    assert len({gone.numpy().tobytes() for gone in dropped}) == 5


def test_the_quantile_regression_sees_that_some_classes_are_easy() -> None:
    source, many = generator(9), noise(400, 10)
    images, population = Images(many.pixels[:200], many.labels[:200]), noise(400, 11)
    member = torch.rand(200, generator=source) < 0.5

    def answer_for(labels: Tensor, bump: Tensor) -> Tensor:
        logits = torch.zeros(len(labels), 3)
        height = 8.0 * labels + bump + torch.randn(len(labels), generator=source)
        return logits.scatter(1, labels[:, None], height[:, None])

    answers = iter([answer_for(images.labels, 2.0 * member), answer_for(population.labels, torch.zeros(400))])
    attack = unshadowed(masks=1, batch_size=400)

    def answer(x: Tensor) -> Tensor:
        return next(answers, torch.zeros(len(x), 3))

    found = attack.score_members(Oracle(answer), context(), Candidates(images, population, never)).scores
    areas = {signal: auc(signal, found[signal], member).value for signal in ("quantile", "confidence gap")}
    assert areas["confidence gap"] is not None
    assert areas["quantile"] is not None
    assert areas["quantile"] > areas["confidence gap"] + 0.15


class Hard(nn.Module):
    """What it says of class 0 is how easy the image is, which only one pixel tells."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(8 * x[:, 0, 0, 0, None], (0, 2))


def test_the_quantile_regression_sees_what_the_shadows_find_easy() -> None:
    images, population = noise(300, 16), noise(400, 17)
    member, source = torch.rand(300, generator=generator(18)) < 0.5, generator(19)

    def answer(x: Tensor) -> Tensor:
        labels = images.labels if len(x) == 300 else population.labels
        bump = 2.0 * member if len(x) == 300 else torch.zeros(400)
        height = 8 * x[:, 0, 0, 0] + bump + 0.5 * torch.randn(len(x), generator=source)
        return torch.zeros(len(x), 3).scatter(1, labels[:, None], height[:, None])

    candidates = Candidates(images, population, lambda *_: Hard())
    attack = replace(ATTACK, masks=1, batch_size=400, quantile=0.5)
    areas = []
    for shadows in (0, 2):
        found = replace(attack, shadows=shadows).score_members(Oracle(answer), context(), candidates).scores
        measured = auc("quantile", found["quantile"], member)
        assert measured.value is not None
        areas.append(measured.value)
    assert areas[1] > areas[0] + 0.1


@pytest.mark.parametrize("quantile", [0.2, 0.8])
def test_the_quantile_is_that_of_non_members(quantile: float) -> None:
    source = generator(13)
    target = Oracle(lambda x: torch.randn(len(x), 3, generator=source))
    candidates = Candidates(noise(400, 14), noise(600, 15), never)
    found = unshadowed(masks=1, quantile=quantile).score_members(target, context(), candidates).scores["quantile"]
    assert float((found <= 0).double().mean()) == pytest.approx(quantile, abs=0.12)


def test_logits_that_are_not_finite_are_an_error_and_no_score() -> None:
    def answer(x: Tensor) -> Tensor:
        return torch.where(torch.arange(len(x))[:, None] == 2, torch.nan, torch.ones(len(x), 3))

    with pytest.raises(ValueError, match="not finite for 1 of 120 images"):
        unshadowed().score_members(Oracle(answer), context(), CANDIDATES)


def test_a_population_of_one_image_is_refused() -> None:
    lonely = replace(CANDIDATES, population=noise(1, 0))
    with pytest.raises(ValueError, match="population"):
        ATTACK.score_members(ann(0), context(), lonely)


def test_a_population_of_two_leaves_one_out_of_every_shadow() -> None:
    tiny = replace(CANDIDATES, population=noise(2, 0), shadow=lambda i, _: ann(i))
    found = replace(ATTACK, shadow_fraction=0.99).score_members(ann(0), context(), tiny).scores
    assert all(values.isfinite().all() for values in found.values())


@pytest.mark.parametrize(
    ("name", "text"),
    [("shadows", "-1"), ("shadow_fraction", "1"), ("gamma", "0"), ("offline_scaling", "1.1"), ("masks", "0")],
)
def test_a_setting_out_of_range_is_refused(name: str, text: str) -> None:
    with pytest.raises(AuditError, match=f"membership-inference.{name}"):
        validated(MembershipAttack, {name: text}, "membership-inference")


def test_the_attack_is_known_by_its_name() -> None:
    assert ATTACKS.get("membership-inference").factory is MembershipAttack
