"""Inception features come from the published weights or not at all."""

import hashlib
from pathlib import Path

import pytest
import torch

from audit.errors import AuditError
from audit.metrics import inception
from audit.metrics.frechet import frechet_distance
from audit.metrics.inception import InceptionFeatures, inception_features


def test_another_file_than_the_published_one_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    weights = tmp_path / "inception.pth"
    weights.write_bytes(b"<html>not found</html>")
    found = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    with pytest.raises(AuditError, match=rf"inception\.pth .* starts with {found}, expected 6726825d"):
        inception_features(weights)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"missing\.pth: No such file"):
        inception_features(tmp_path / "missing.pth")


def test_a_missing_package_is_answered_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(**_: object) -> None:
        raise ModuleNotFoundError

    monkeypatch.setattr(inception, "NoTrainInceptionV3", absent)
    with pytest.raises(AuditError, match=r"pip install snn-privacy-audit\[fid\]"):
        inception_features(_accepted(tmp_path / "weights.pth", b"any", monkeypatch))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the network's parameters as they are drawn, in the layout of the published one."""
    extractor = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity (extra 'fid') is not installed"
    )

    class Untrained(extractor.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: object) -> None:
            """Keep the parameters as drawn."""

    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Untrained("inception-v3-compat", ["2048"], str(folder / "empty.pth"))
    torch.save(network.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


@pytest.fixture
def features(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> InceptionFeatures:
    _accept(untrained, monkeypatch)
    return inception_features(untrained, batch_size=2)


def test_features_are_those_of_the_network_on_the_grey_levels(features: InceptionFeatures) -> None:
    levels = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = features(levels / 127.5 - 1)
    assert found.shape == (3, 2048)
    assert not found.requires_grad
    torch.testing.assert_close(found, features.network(levels))
    assert (found[0] - found[1]).abs().max() > 1e-4 * found.abs().max()


def test_a_grey_image_is_the_same_image_in_three_channels(features: InceptionFeatures) -> None:
    grey = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    torch.testing.assert_close(features(grey), features(grey.repeat(1, 3, 1, 1)))


def test_a_broken_image_does_not_pass_for_a_black_one(features: InceptionFeatures) -> None:
    images = torch.zeros(2, 1, 8, 8)
    images[1, 0, 0, 0] = torch.nan
    found = features(images)
    assert found[0].isfinite().all()
    assert found[1].isnan().all()
    assert frechet_distance("FID", found, found).status == "undefined"


def test_no_images_are_no_features_and_too_few_for_a_distance(features: InceptionFeatures) -> None:
    found = features(torch.zeros(0, 3, 8, 8))
    assert found.shape == (0, 2048)
    assert frechet_distance("FID", found, found).status == "insufficient"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 2, 8, 8), "1 or 3"),
        (torch.zeros(3, 8, 8), "1 or 3"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floating point"),
        (torch.full((1, 3, 8, 8), 255.0), r"\[-1, 1\], found 255 to 255"),
    ],
)
def test_images_that_are_not_in_the_range_of_an_attack_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InceptionFeatures(torch.nn.Identity())(images)  # type: ignore[arg-type]


def _accepted(weights: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    weights.write_bytes(content)
    _accept(weights, monkeypatch)
    return weights


def _accept(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(inception, "WEIGHTS_SHA256_PREFIX", prefix)
