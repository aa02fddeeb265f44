"""Whether an option can name a file is read off the types of the settings, and of no list of names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from audit.named_files import NoFile, may_be_a_path
from audit.registry import ATTACKS, DEFENSES
from audit.settings import GROUPS, all_settings, may_name_a_file


@pytest.mark.parametrize(
    "kind", [str, Path, str | None, tuple[str, ...], Any, Annotated[str, Field(max_length=9)], "x"]
)
def test_free_text_may_be_a_path(kind: Any) -> None:
    assert may_be_a_path(kind, "photos")
    assert not may_be_a_path(kind, "none")


@pytest.mark.parametrize(
    "kind",
    [int, float, bool, int | None, Literal["a", "b"], Annotated[int, Field(ge=1)] | None, tuple[float, ...],
     Annotated[str, NoFile()] | None, Annotated[str | None, NoFile()], Annotated[str, NoFile(("photos",))]],
)  # fmt: skip
def test_a_number_a_word_of_a_list_and_marked_text_are_none(kind: Any) -> None:
    assert not may_be_a_path(kind, "photos")


def test_text_that_is_a_name_or_a_path_is_the_former_where_it_is_known() -> None:
    assert may_be_a_path(Annotated[str, NoFile(("digits",))] | None, "digits/../../photos")


def test_the_settings_that_may_name_a_file_are_these() -> None:
    found = {key for key in all_settings() if may_name_a_file(key, "/x")}
    assert found == {"checkpoint.path", "nir.graph", "generative-inversion.public", "measure.inception_weights"}
    assert may_name_a_file("generative-inversion.public", "folder")
    assert not may_name_a_file("generative-inversion.public", "cifar100")
    assert not may_name_a_file("evaluator.model", "vgg9")
    assert set(GROUPS) == {key.partition(".")[0] for key in all_settings()} - {*ATTACKS.names(), *DEFENSES.names()}


@pytest.mark.parametrize("key", ["attack.public", "defense.path", "defense.graph"])
def test_so_does_one_that_reaches_every_component_with_the_field(key: str) -> None:
    assert may_name_a_file(key, "photos")


def test_a_component_of_somebody_elses_that_is_installed_needs_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class FromTable:
        table: str = ""
        rows: int = 1

    component = DEFENSES.get("privatesnn")
    monkeypatch.setitem(DEFENSES.components, "from-table", type(component)(
        "defense", "from-table", FromTable, "elsewhere", component.source,  # type: ignore[type-var]
    ))  # fmt: skip
    assert may_name_a_file("from-table.table", "private")
    assert may_name_a_file("defense.table", "private")
    assert not may_name_a_file("from-table.rows", "3")


@pytest.mark.parametrize(
    ("value", "may"),
    [("3", False), ("-0.5", False), ("1e-4", False), ("soft", False), ("0.1,0.2", False), ("none", False),
     ("/etc/passwd", True), ("../x", True), ("~", True), ("a.png", True), ("seed{seed}", True), ("", True),
     ("tests", True)],
)  # fmt: skip
def test_of_what_is_not_registered_only_numbers_and_words_are_no_path(
    value: str, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert may_name_a_file("mine.field", value) is may
    assert may_name_a_file("defense.field-of-mine", value) is may
