"""The harness of an evasion: what is handed over, what is refused, what is measured, and once more from raw scores."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from audit.contracts import Access, Adversarial, AttackContext, Images, Task
from audit.evasions import together
from audit.metrics.robustness import AGREEMENT, CHIP_LOSS
from audit.networks.ascent import derived_seed
from audit.recompute import recomputed, recomputed_together, scored_places
from audit.records import AttackResult, Record
from audit.registry import ATTACKS, register_attack
from audit.robustness import ATTACKED, CODED, Contrast, contrast, victims
from audit.spiking.encoding import Coding
from audit.spiking.grid import Grid, round_weights
from audit.spiking.integer import finest
from audit.suites import CURRENT, SUITES
from tests.conftest import tiny_run
from tests.networks.teachers import CPU, exact_snn, generator, rand, tiny_teacher
from tests.oracles.robustness import ratio_by_hand, trains_one_by_one

UNIT = Task("toy", ("a", "b", "c"), (2, 8, 8), (0.0, 1.0))
CODINGS: tuple[Coding, ...] = ("direct", "unsigned-rate", "phase", "latency")


def images(count: int = 6) -> Images:
    pixels = torch.randint(256, (count, 2, 8, 8), generator=generator(1), dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % 3)


def named(found: Contrast) -> dict[str, Any]:
    return {m.name: m for m in found.measured()}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_spikes_are_those_of_a_plain_loop_over_images_and_time(coding: Coding, reset: Any) -> None:
    network, clean = exact_snn(coding, steps=9, reset=reset, leak=0.5), images()
    before, after = UNIT.normalise(clean.pixels), torch.rand(6, 2, 8, 8, generator=generator(3))
    found = contrast(network, UNIT, clean, after, 0, CPU)
    seed = derived_seed(0, "contrast", 0)
    (logits, coded, spikes), (changed, recoded, others) = (trains_one_by_one(network, x, seed) for x in (before, after))
    torch.testing.assert_close(found.clean, logits)
    torch.testing.assert_close(found.attacked, changed)
    assert found.spikes.keys() == spikes.keys()
    for name, train in spikes.items():
        torch.testing.assert_close(found.spikes[name].float(), train.sum(1).flatten(1).mean(1))
        torch.testing.assert_close(found.spikes_attacked[name].float(), others[name].sum(1).flatten(1).mean(1))
    for name, first, second in ((CODED, coded, recoded), *((name, spikes[name], others[name]) for name in spikes)):
        torch.testing.assert_close(found.signal[name].float(), first.square().flatten(1).sum(1))
        torch.testing.assert_close(found.noise[name].float(), (second - first).square().flatten(1).sum(1))
    assert sum(int(rows.sum()) for rows in spikes.values()) > 100


def test_a_spike_that_only_moves_in_time_is_noise() -> None:
    """Under latency coding no count of the coded input changes."""
    network = exact_snn("latency", steps=9)
    clean = Images(torch.full((6, 2, 8, 8), 128, dtype=torch.uint8), torch.arange(6) % 3)
    found = named(contrast(network, UNIT, clean, torch.full((6, 2, 8, 8), 0.75), 0, CPU))
    assert found[f"NSR, {CODED}"].value == 2


@pytest.mark.parametrize("coding", CODINGS)
def test_unchanged_images_have_no_noise_under_any_coder_since_random_numbers_are_common(coding: Coding) -> None:
    network, clean = exact_snn(coding), images()
    found = named(contrast(network, UNIT, clean, UNIT.normalise(clean.pixels), 0, CPU))
    ratios = [m for name, m in found.items() if "NSR" in name]
    assert len(ratios) == 2 * (2 + len(network.neurons))
    assert all(m.value == 0 for m in ratios)
    assert found["accuracy loss"].value == found["change of spikes per neuron"].value == 0


def test_ratios_and_spikes_are_those_of_the_oracle() -> None:
    network, clean = exact_snn("phase"), images()
    before = UNIT.normalise(clean.pixels)
    after = (before + 0.1 * rand(*before.shape)).clamp(0, 1)
    found = named(contrast(network, UNIT, clean, after, 0, CPU))
    (_, coded, spikes), (_, coded_after, spikes_after) = (trains_one_by_one(network, x, 0) for x in (before, after))
    assert found[f"NSR, {CODED}"].value == pytest.approx(ratio_by_hand(coded, coded_after), rel=1e-5)
    for layer in spikes:
        ratio = ratio_by_hand(spikes[layer], spikes_after[layer])
        assert found[f"NSR, {layer}"].value == pytest.approx(ratio, rel=1e-6)
        assert found[f"root NSR, {layer}"].value == pytest.approx(ratio**0.5, rel=1e-6)
    assert found["spikes per neuron, clean"].value == pytest.approx(
        sum(float(train.sum(1).mean()) for train in spikes.values()) / len(spikes)
    )


def test_raw_scores_are_all_that_a_measurement_needs() -> None:
    network, clean = exact_snn("latency"), images()
    found = contrast(network, UNIT, clean, torch.rand(6, 2, 8, 8, generator=generator(3)), 0, CPU)
    assert Contrast.of(found.tensors()).measured() == found.measured()
    assert all(len(rows) == 6 for rows in found.tensors().values())
    broken = {name: rows for name, rows in found.tensors().items() if name != f"noise/{CODED}"}
    with pytest.raises(ValueError, match="layers are not the same"):
        Contrast.of(broken)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_network_on_a_grid_answers_in_whole_numbers_as_well(coding: Coding) -> None:
    network, clean = exact_snn(coding), images()
    round_weights(network.layers, Grid(8))
    after = torch.rand(6, 2, 8, 8, generator=generator(3))
    found = contrast(network, UNIT, clean, after, 0, CPU)
    assert found.chip is not None
    seed = derived_seed(0, "contrast", 0)
    again = finest(network)(after, torch.Generator().manual_seed(seed))
    assert torch.equal(found.chip[1], again)
    measured = named(found)
    assert measured[AGREEMENT].value == pytest.approx(
        float((found.chip[0].argmax(1) == found.clean.argmax(1)).float().mean())
    )
    lost = [(logits.argmax(1) == clean.labels).float().mean() for logits in found.chip]
    assert measured[CHIP_LOSS].value == pytest.approx(float(lost[0] - lost[1]))
    assert Contrast.of(found.tensors()).measured() == found.measured()
    with pytest.raises(ValueError, match="one part and not the other"):
        Contrast.of({name: rows for name, rows in found.tensors().items() if name != "chip/clean"})


def test_a_network_on_no_grid_has_no_answer_in_whole_numbers() -> None:
    network, clean = exact_snn("latency"), images()
    with torch.no_grad():
        next(network.parameters()).mul_(1 + 0.3 * torch.rand(next(network.parameters()).shape, generator=generator(5)))
    found = contrast(network, UNIT, clean, UNIT.normalise(clean.pixels), 0, CPU)
    assert found.chip is None
    assert CHIP_LOSS not in named(found)


def test_an_ann_has_accuracies_and_no_spikes() -> None:
    clean = images()
    found = contrast(tiny_teacher(), UNIT, clean, UNIT.normalise(clean.pixels), 0, CPU)
    assert [m.name for m in found.measured()] == ["accuracy on the clean images", ATTACKED, "accuracy loss"]


def test_victims_are_as_many_of_every_class_and_always_the_same() -> None:
    test = Images(torch.arange(30).to(torch.uint8).view(30, 1, 1, 1), torch.tensor([0] * 15 + [1] * 10 + [2] * 5))
    assert victims(test, 9, 3).labels.bincount().tolist() == [3, 3, 3]
    assert victims(test, 7, 3).labels.bincount().tolist() == [3, 2, 2]
    assert torch.equal(victims(test, 6, 3).pixels, victims(test, 9, 3).pixels[:6])
    assert len(victims(test, 1000, 3)) == 30


def test_fewer_victims_are_the_first_of_more_where_a_class_has_fewer_images() -> None:
    labels = torch.tensor([0] * 9 + [1] * 2 + [2] * 7)
    test = Images(torch.arange(18, dtype=torch.uint8).reshape(18, 1, 1, 1), labels)
    for count in range(1, 30):
        found = victims(test, count, 3)
        assert len(found) == min(count, 18)
        assert torch.equal(victims(test, len(found), 3).pixels, found.pixels)
        assert torch.equal(found.pixels, victims(test, 18, 3).pixels[:count])


def said(attack: str, classes: list[int], levels: float = 8) -> tuple[AttackResult, Contrast]:
    """Of images of class 0 that the target gets right, what it says of those that the attack changed."""
    attacked = torch.eye(3)[classes]
    clean = torch.eye(3)[[0] * len(classes)]
    found = Contrast(torch.zeros(len(classes), dtype=torch.int64), clean, attacked, {}, {}, {}, {})
    result = AttackResult(attack=attack, settings={"levels": levels}, status="ok", images=len(classes),
                          images_hash=None, measurements=())  # fmt: skip
    return result, found


def test_an_image_is_lost_to_all_evasions_of_a_strength_where_any_of_them_fools_the_target() -> None:
    made = [
        said("a", [1, 0, 0, 0]),
        said("b", [0, 2, 0, 0]),
        said("c", [0, 0, 0, 1, 1, 1]),
        said("d", [1, 1, 0, 0], 16),
    ]
    results, contrasts = [result for result, _ in made], {result.attack: found for result, found in made}
    eight, sixteen = together(results, contrasts)
    assert (eight.name, eight.value, eight.n) == ("accuracy loss, all evasions, 8/255", 0.75, 4)
    assert (sixteen.name, sixteen.value) == ("accuracy loss, all evasions, 16/255", 0.5)
    assert together(results, {}) == ()
    alone = together(results[:1], contrasts)[0]
    assert alone.value == named(contrasts["a"])["accuracy loss"].value


def test_evasion_is_a_suite_of_its_own_and_no_part_of_all() -> None:
    entries = SUITES["robustness-v1"].entries
    assert "robustness-v1" not in CURRENT
    assert len({entry.label for entry in entries}) == len(entries) == 15
    kinds = {ATTACKS.get(entry.attack).evidence for entry in entries}
    assert kinds == {"adversarial"}
    assert all(ATTACKS.get(entry.attack).evidence != "adversarial" for n in CURRENT for entry in SUITES[n].entries)


@dataclass(frozen=True)
class Cheat:
    """Goes beyond its bound, by ``how``."""

    how: str = "far"
    images: int = 12
    epsilon: ClassVar[float] = 8 / 255

    def evade(self, target: Any, context: AttackContext, images: Images) -> Adversarial:
        x = context.task.normalise(images.pixels)
        lower, upper = context.task.around(x, self.epsilon)
        changed: dict[str, Tensor] = {
            "honest": upper,
            "far": torch.nextafter(upper, torch.tensor(9.0)),
            "below": torch.nextafter(lower, torch.tensor(-9.0)),
            "nan": torch.full_like(x, float("nan")),
            "few": x[:3],
            "half": x.half(),
        }
        return changed[self.how] if self.how == "few" else Adversarial(changed[self.how])  # type: ignore[return-value]


@pytest.mark.parametrize("how", ["far", "below", "nan", "few", "half"])
def test_an_image_that_is_farther_than_its_bound_by_one_bit_fails_the_attack(how: str, tiny_store: Path) -> None:
    register_attack("cheat", Cheat)
    [result] = tiny_run(tiny_store, "conversion", "cheat", cheat__how=how).record.results[0].defenses[0].attacks
    assert (result.status, result.images, result.measurements) == ("failed", 0, ())
    assert re.search("bound|came back|float16", result.reason or "")


def test_an_image_at_the_end_of_its_bound_is_within_it(tiny_store: Path) -> None:
    register_attack("cheat", Cheat)
    run = tiny_run(tiny_store, "conversion", "cheat", cheat__how="honest", cheat__images="12")
    [result] = run.record.results[0].defenses[0].attacks
    assert (result.status, result.images) == ("ok", 12)


SMALL = {
    "attack__images": "20",
    "evasion__steps": "2",
    "evasion__widths": "2",
    "evasion__shapes": "arctan",
    "square-evasion__queries_per_image": "5",
    "data__normalisation": "unit",
    "defense__coding": "phase",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    ATTACKS.discover()
    return tiny_run(tmp_path_factory.mktemp("store"), "conversion", "robustness-v1", **SMALL)


def test_every_attack_of_the_suite_is_measured_and_the_untrained_twin_has_nothing_to_lose(finished: Any) -> None:
    record: Record = finished.record
    [target] = record.results[0].defenses
    assert record.suites == ("robustness-v1",)
    assert [attack.status for attack in target.attacks] == ["ok"] * 15
    assert {attack.images for attack in target.attacks} == {20}
    assert {attack.status for attack in target.untrained} == {"not-applicable"}
    assert record.results[0].controls == ()
    assert target.size is not None
    assert target.size.value == 32 * target.size.n
    lost = {a.attack: {m.name: m.value for m in a.measurements}["accuracy loss"] for a in target.attacks}
    assert len(target.evasions) == 3
    for together_lost, strength in zip(target.evasions, ("I)", "II)", "III)"), strict=True):
        each = [value for name, value in lost.items() if name.endswith((f" {strength}", f"({strength}"))]
        assert max(each) <= together_lost.value  # type: ignore[type-var]
    assert lost["evasion (apgd III)"] >= lost["evasion (apgd I)"]  # type: ignore[operator]


def test_a_record_of_evasions_is_made_again_from_its_raw_scores(finished: Any) -> None:
    claimed = dict(scored_places(finished.record.results[0]))
    again = dict(recomputed(finished.record, finished.scores))
    assert {place: attack.measurements for place, attack in claimed.items()} == again
    assert dict(recomputed_together(finished.record, finished.scores)) == {
        "seed 0/conversion": finished.record.results[0].defenses[0].evasions
    }
    assert Access(next(iter(claimed.values())).access) is Access.WEIGHTS


def test_a_record_of_evasions_is_plausible_and_survives_its_file(finished: Any, tmp_path: Path) -> None:
    from leaderboards.plausibility import contradictions, implausible

    finished.record.write(tmp_path / "record.json")
    record = Record.read(tmp_path / "record.json")
    assert record.text() == finished.record.text()
    assert list(contradictions(record)) == []
    assert [reason for _, m in record.measurements() if (reason := implausible(m))] == []


def test_the_same_seed_gives_the_same_measurements(finished: Any, tmp_path: Path) -> None:
    again = tiny_run(tmp_path, "conversion", "robustness-v1", **SMALL).record
    assert list(again.measurements()) == list(finished.record.measurements())
