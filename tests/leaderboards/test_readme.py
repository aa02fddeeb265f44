from pathlib import Path

import pytest

from leaderboards.readme import main
from leaderboards.tables import build, render
from tests.records_factory import record

SOURCE = "leaderboards/records/digits/record.json"


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    (tmp_path / SOURCE).parent.mkdir(parents=True)
    record().write(tmp_path / SOURCE)
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n<!-- tables: {SOURCE} -->\nold tables\n<!-- /tables -->\n\nAfter.\n", encoding="utf-8")
    return path


def run(readme: Path, *options: str) -> int:
    return main(["--page", str(readme), *options])


def test_the_block_becomes_the_tables_of_its_record_under_their_command(readme: Path) -> None:
    assert run(readme) == 0
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"# Title\n\n<!-- tables: {SOURCE} -->\n")
    assert text.endswith("<!-- /tables -->\n\nAfter.\n")
    assert "```sh\npython -m audit --defense privatesnn --attack all\n```" in text
    assert render(build(record(), "ablation"), "md") in text
    assert "old tables" not in text


def test_a_block_may_name_its_tables(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8").replace("record.json -->", "record.json accuracy energy -->")
    readme.write_text(text, encoding="utf-8")
    assert run(readme) == 0
    made = readme.read_text(encoding="utf-8")
    assert "**Test accuracy" in made
    assert "**Inference energy" in made
    assert "**Class leakage" not in made
    assert run(readme, "--check") == 0


def test_check_tells_a_difference_and_writes_nothing(readme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = readme.read_text(encoding="utf-8")
    assert run(readme, "--check") == 1
    assert readme.read_text(encoding="utf-8") == before
    assert "python -m leaderboards.readme" in capsys.readouterr().err
    assert run(readme) == 0
    assert run(readme, "--check") == 0


def test_a_changed_number_in_the_readme_is_found(readme: Path) -> None:
    run(readme)
    text = readme.read_text(encoding="utf-8")
    assert "96.5 %" in text
    readme.write_text(text.replace("96.5 %", "99.5 %", 1), encoding="utf-8")
    assert run(readme, "--check") == 1


def test_regenerating_twice_changes_nothing(readme: Path) -> None:
    run(readme)
    once = readme.read_text(encoding="utf-8")
    run(readme)
    assert readme.read_text(encoding="utf-8") == once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no block", "holds no block"),
        (f"<!-- tables: {SOURCE} -->\n", "has no '<!-- /tables -->'"),
        ("<!-- tables: nowhere.json -->\n<!-- /tables -->", "nowhere.json"),
    ],
)
def test_what_cannot_be_regenerated_is_said_in_one_line(
    readme: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    readme.write_text(text, encoding="utf-8")
    assert run(readme) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert readme.read_text(encoding="utf-8") == text


def test_two_blocks_are_each_made_from_their_own_record(readme: Path) -> None:
    other = "leaderboards/records/other.json"
    record(command="python -m audit --seed 7").write(readme.parent / other)
    blocks = [f"<!-- tables: {source} -->\n<!-- /tables -->\n" for source in (SOURCE, other)]
    readme.write_text("between\n".join(blocks), encoding="utf-8")
    assert run(readme) == 0
    first, second = readme.read_text(encoding="utf-8").split("between\n")
    assert "--attack all" in first
    assert "--attack all" not in second
    assert "--seed 7" in second


def test_a_command_that_would_end_the_block_is_refused(readme: Path) -> None:
    record(command="python -m audit --out '<!-- /tables -->'").write(readme.parent / SOURCE)
    assert run(readme) == 2
