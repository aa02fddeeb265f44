"""What the pages say of the executors is what was measured, and what was measured is one record four times."""

import json
import re
from pathlib import Path

from benchmarks.executors import KEPT, PAGE, markdown, with_table

README = Path(__file__).parents[1] / "README.md"


def test_the_table_on_the_page_is_that_of_the_kept_record_with_its_command() -> None:
    kept = json.loads(KEPT.read_text())
    text = PAGE.read_text(encoding="utf-8")
    assert with_table(text, kept) == text
    assert markdown(kept) in text
    assert f"    {kept['command']}\n" in text


def test_every_executor_made_the_record_of_one_process_and_ray_survived_a_kill() -> None:
    kept = json.loads(KEPT.read_text())
    assert [row["equal"] for row in kept["rows"]] == [True] * 4
    assert kept["rows"][-1]["executor"].endswith("a process killed")
    assert len({row["stages"] for row in kept["rows"][:3]}) == 1


def test_what_readme_says_of_ray_is_in_the_table() -> None:
    kept = json.loads(KEPT.read_text())
    one, two, ray, _ = (row["seconds"] for row in kept["rows"])
    overhead = 1000 * kept["rows"][2]["warm_seconds"] / kept["pieces"]
    [said] = re.findall(r"as fast as one process: (.*?) ms", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r"\d+(?:\.\d+)?", said) == [f"{one / two:.2f}", f"{one / ray:.2f}", f"{overhead:.0f}"]
