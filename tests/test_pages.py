"""Links between the pages lead somewhere."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PAGES = [*TOP.glob("*.md"), *TOP.glob("docs/*.md")]


def headings(page: Path) -> set[str]:
    """As GitHub names them in a link."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [line.lstrip("#").strip().lower() for line in text.splitlines() if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_what_is_there(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        there = (page.parent / file) if file else page
        assert there.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in headings(there), f"{page.name}: {link}"


def test_there_are_pages_and_links() -> None:
    assert {"README.md", "manual.md", "reproduction.md"} <= {page.name for page in PAGES}
    assert (TOP / "README.md").read_text(encoding="utf-8").count("](docs/") >= 8
