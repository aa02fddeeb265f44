"""Every number on the pages is made from a record, or is a setting that the code has, or is what a paper prints."""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from audit.errors import AuditError
from audit.metrics.energy import CONSTANTS
from audit.records import Record
from audit.suites import PROFILES
from audit.verdicts import LEAST_CONTROL
from benchmarks.networks import RATE
from defenses.weight_normalization import WeightNormalization
from leaderboards.cells import Column, Number, Table, Words
from leaderboards.entries import ROOT, load_folder
from leaderboards.prose import filled
from leaderboards.readme import main
from tests.records_factory import record

TOP = Path(__file__).parents[2]
PAGES = ("README.md", "docs/reproduction.md", "docs/manual.md", "docs/reading.md", "docs/engine.md")
TABLE = Table(
    "verdict",
    "",
    (Column("target"), Column("access"), Column("leakage", "measured", "fraction")),
    (
        (Words("none"), Words("none"), Number(0.82, "fraction", 0.8, 0.84)),
        (Words("privatesnn"), Words("none"), Number(0.712, "fraction")),
        (Words("dp-sgd"), Words("images"), Number.absent("fraction", "void", "it fails too")),
    ),
    (),
)


def fill(text: str) -> str:
    return filled(text, lambda path, name: [TABLE])


@pytest.mark.parametrize(
    ("mark", "shown"),
    [
        ("value rows verdict; privatesnn; leakage", "71.2 %"),
        ("cell rows verdict; target = none; leakage", "82.0 % [80.0, 84.0]"),
        ("value rows verdict; target = none; leakage", "82.0 %"),
        ("value rows verdict; none & privatesnn; target", "privatesnn"),
        ("value rows verdict; dp-sgd; leakage", "void: it fails too"),
    ],
)
def test_a_number_in_a_sentence_is_the_cell_of_its_table(mark: str, shown: str) -> None:
    assert (
        fill(f"It leaks <!-- {mark} -->9 %<!-- / -->, after.") == f"It leaks <!-- {mark} -->{shown}<!-- / -->, after."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a <!-- value rows verdict; none; leakage --><!-- / -->", "2 rows of verdict hold all of 'none'"),
        ("a <!-- value rows verdict; nobody; leakage --><!-- / -->", "0 rows of verdict"),
        (
            "a <!-- value rows verdict; privatesnn; leak --><!-- / -->",
            "has no column 'leak'; it has: target; access; leakage",
        ),
        ("a <!-- value rows verdict; privatesnn -->9 %<!-- / -->", "no number in a text: <!-- value rows"),
        ("a <!-- value rows verdict; privatesnn; leakage -->9 %", "no number in a text"),
        ("<!-- value rows verdict; privatesnn; leakage -->9 %<!-- / --> begins", "not at the beginning of a line"),
    ],
)
def test_what_is_no_cell_is_said(text: str, message: str) -> None:
    with pytest.raises(AuditError, match=re.escape(message)):
        fill(text)


def test_a_page_may_name_its_sources_and_a_changed_number_is_found(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    record().write(tmp_path / "rows" / "one.json")
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- source one: rows/one.json -->\n\nIt is <!-- value one accuracy; privatesnn; network --><!-- / -->.\n"
    )
    assert main(["--page", str(page)]) == 0
    text = page.read_text()
    assert "-->privatesnn<!-- / -->" in text
    page.write_text(text.replace("-->privatesnn", "-->other"))
    assert main(["--page", str(page), "--check"]) == 1


def prose(page: str) -> str:
    """What nothing makes anew: without tables, marked numbers, code, comments, and where links lead."""
    text = (TOP / page).read_text(encoding="utf-8")
    for part in (
        r"<!-- (tables|benchmarks|executors): .*?<!-- /\1 -->",
        r"```.*?```",
        r"^    .*?$",
        r"<!-- (cell|value) (?:(?!-->).)*-->[^<]*<!-- / -->",
        r"`[^`]*`",
        r"<!--.*?-->",
        r"\]\([^)]*\)",
    ):
        text = re.sub(part, " ", text, flags=re.DOTALL | re.MULTILINE)
    return text


def numbers(text: str) -> Iterator[str]:
    """As they are written, with the sign of a percentage; of names, such as VGG16 or int32, none."""
    yield from re.findall(r"(?<![\w.-])\d[\d,]*(?:\.\d+)*(?:e-\d+)?(?: %|×)?", text)


def measured(text: str) -> bool:
    """Whether a number is one that a measurement would have: a fraction, a percentage, a ratio."""
    return "." in text or "%" in text or "×" in text


# Numbers in running text that no record holds, and where they come from.
PACKAGES = json.loads((TOP / "benchmarks/results.json").read_text())["made_with"]["packages"]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
EXECUTED = json.loads((TOP / "benchmarks/executors.json").read_text())["rows"]
TRACKED = [*TOP.glob("leaderboards/tracks/robustness/*/direct-4-bit-*/record.json")]
PARAMETERS = [Record.read(path).results[0].defenses[0].settings for path in TRACKED]
KNOWN: dict[str, set[str]] = {
    "README.md": {
        PROJECT["requires-python"].removeprefix(">="),
        "100 %",  # the end of the scale of leakage
        "2104.03414",  # arXiv
        *(f"{EXECUTED[0]['seconds'] / row['seconds']:.2f}" for row in EXECUTED[1:3]),
    },
    # Of intervals, and the ends of two scales; of the published code; of attack 2 and a triple; of the neurons.
    "docs/reproduction.md": {"95 %", "100 %", "1×", "0.3", "0.01", "1.0"}
    | {f"{each[name]:g}" for each in PARAMETERS for name in ("firing_threshold", "surrogate_gain", "leak")},
    "docs/manual.md": {f"{WeightNormalization().normalization_percentile:g}"},
    "docs/reading.md": {f"{LEAST_CONTROL:g}", *(f"{each:g}" for constants in CONSTANTS.values() for each in constants)},
    "docs/engine.md": {f"{100 * RATE:g} %", *PACKAGES.values()},
}


@pytest.mark.parametrize("page", PAGES)
def test_every_measured_number_of_a_page_is_made_from_a_record(page: str) -> None:
    found = {number for number in numbers(prose(page)) if measured(number)}
    assert found - KNOWN[page] == set(), "mark it, see leaderboards/prose.py, or say in KNOWN where it comes from"


def test_the_pages_have_such_numbers() -> None:
    counts = [len(re.findall(r"<!-- (?:cell|value) ", (TOP / page).read_text())) for page in PAGES[:2]]
    assert min(counts) >= 20


def test_a_number_that_nobody_marked_would_be_found() -> None:
    assert [n for n in numbers("it leaks 71.2 % or 80 % on VGG16, 1.5× of 3, CIFAR-10") if measured(n)] == [
        "71.2 %",
        "80 %",
        "1.5×",
    ]


def values(node: Any) -> Iterator[float]:
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list | tuple):
        for each in node:
            yield from values(each)
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield float(node)


def settings_of(records: Sequence[Record]) -> set[float]:
    known: set[float] = set()
    for one in records:
        first = one.results[0]
        parts = [one.settings_resolved, one.dataset.counts, first.teacher.settings, first.evaluator.settings]
        parts += [defense.settings for defense in first.defenses]
        known |= {value for part in parts for value in values(part)}
    return known


def test_the_set_ups_that_the_reproduction_names_are_those_of_paper_and_records() -> None:
    paper = tomllib.loads((ROOT.parent / "published" / "privatesnn.toml").read_text())["setups"]["cifar10"]
    rows = [entry.record for entry in load_folder(ROOT / "class-leakage-v2" / "cifar10")]
    known = set(values(paper)) | settings_of(rows)
    section = prose("docs/reproduction.md").partition("## PrivateSNN")[2].partition("###")[0]
    named = {float(number.replace(",", "")) for number in numbers(section)}
    assert {32.0, 150.0, 500.0, 5000.0, 8.0, 20.0, 30000.0} <= named
    assert named - known == set()


@pytest.mark.parametrize("name", ["smoke", "small"])
def test_what_the_manual_says_of_a_profile_is_what_it_sets(name: str) -> None:
    [line] = [line for line in (TOP / "docs/manual.md").read_text().splitlines() if line.startswith(f"| `{name}` |")]
    said = line.split("|")[3]
    named = {float(number.removesuffix("th").replace(",", "")) for number in re.findall(r"(?<![\w-])\d[\d,]*", said)}
    known = set(values(dict(PROFILES[name].settings)))
    per_class = {10 * value for value in known}  # said of all classes
    assert len(named) >= 5
    assert named - known - per_class - {2.0} == set()  # 2: of attack 2
