"""`load`: names, roots and options, whatever the data set."""

import subprocess
import sys
from pathlib import Path

import pytest

from audit.data import DATASETS, load
from audit.errors import AuditError


def test_the_list_of_data_sets_is_read_without_importing_torch() -> None:
    code = "import sys; from audit.data import DATASETS; sys.exit('torch' in sys.modules or 'cifar10' not in DATASETS)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_listed_data_set_has_a_reader_in_the_file_of_its_name() -> None:
    import audit.data

    for name in DATASETS:
        assert Path(audit.data.__file__).with_name(f"{name}.py").is_file()


def test_the_package_offers_the_names_that_it_promises() -> None:
    import audit.data

    assert all(hasattr(audit.data, name) for name in audit.data.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = audit.data.nonsense


def test_a_typo_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(AuditError, match=r"unknown data set 'cifar-10'; did you mean 'cifar10'\?"):
        load("cifar-10")


def test_a_name_like_no_other_is_answered_with_the_whole_list() -> None:
    with pytest.raises(AuditError, match="choose from cifar10, cifar100, digits, folder, tinyimagenet"):
        load("qqq")


@pytest.mark.parametrize("size", [0, -16])
def test_an_image_size_below_one_pixel_is_refused(size: int) -> None:
    with pytest.raises(AuditError, match=f"--image-size {size} "):
        load("digits", image_size=size)


def test_a_limit_on_an_unknown_split_is_refused() -> None:
    with pytest.raises(AuditError, match="unknown split 'validation'"):
        load("digits", limits={"validation": 10})


@pytest.mark.usefixtures("no_data_root")
@pytest.mark.parametrize("name", sorted(DATASETS.keys() - {"digits"}))
def test_without_a_root_the_message_says_how_to_give_one_and_what_belongs_there(name: str) -> None:
    with pytest.raises(AuditError, match=r"train/.*pass --data-root or set AUDIT_DATA"):
        load(name)


@pytest.mark.parametrize("name", sorted(DATASETS.keys() - {"digits"}))
def test_a_root_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=f"--data-root {tmp_path / 'gone'} is not a folder; {name} expects"):
        load(name, tmp_path / "gone")


def test_the_root_comes_from_the_environment_unless_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_DATA", str(tmp_path / "environment"))
    with pytest.raises(AuditError, match=f"^AUDIT_DATA {tmp_path / 'environment'} is not a folder"):
        load("folder")
    with pytest.raises(AuditError, match=f"^--data-root {tmp_path / 'option'} is not a folder"):
        load("folder", tmp_path / "option")
