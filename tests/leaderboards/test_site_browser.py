"""The site in headless Chromium: what only a browser can tell. Nothing is downloaded, and nothing may be requested."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderboards.entries import ROOT, load
from leaderboards.site.build import write_site
from tests.leaderboards.site_rows import BOARD, fill, hostile, named

ROWS = Path(__file__).parent.parent.parent / ROOT
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW = (
    "install both: pip install playwright; apt-get install chromium (or another package with one of these commands: {})"
)
NETWORK, RANKED, CLEAN, SEARCH = "#network", "#ranked", "#clean", "#search"
RATIO = """selector => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => Number(part) / 255)
      .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const found = [...document.querySelectorAll(selector)].map((element) => light(getComputedStyle(element).color));
  return found.map((ink) => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    how = HOW.format(", ".join(NAMES))
    playwright = pytest.importorskip("playwright.sync_api", reason=f"no playwright package; {how}")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium on the PATH; {how}")
    with playwright.sync_playwright() as running:
        try:
            opened = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"{found} does not start: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    write_site(fill(root / "rows"), root / "out")
    return root / "out"


class Visit:
    """A page in a window of a given width; what it said on the console and what it asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1200, dark: bool = False) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light", java_script_enabled=True
        )
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message) or dialog.dismiss())
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = path.resolve().as_uri()
        self.page.goto(self.address)

    @property
    def names(self) -> list[str]:
        """The defenses of the rows that are shown, from the top."""
        shown = self.page.locator("#board tbody tr:visible th")
        return [text.strip() for text in shown.all_inner_texts()]

    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.id || document.activeElement.textContent"))

    def tab_to(self, what: str) -> None:
        """Press Tab until ``what``, an id or a text, has the focus."""
        for _ in range(60):
            self.page.keyboard.press("Tab")
            if self.focused() == what:
                return
        raise AssertionError(f"{what} is not reached by Tab")


@pytest.fixture
def board(browser: Any, site: Path) -> Iterator[Visit]:
    visit = Visit(browser, site / BOARD)
    yield visit
    assert visit.said == []
    visit.page.close()


def test_the_keyboard_sorts_by_a_column_and_back(board: Visit) -> None:
    board.tab_to("leakage, worst attack")
    board.page.keyboard.press("Enter")
    head = board.page.locator("th:has-text('leakage, worst attack')")
    assert head.get_attribute("aria-sort") == "ascending"
    assert board.names == ["masked", "elsewhere", "quiet", "ann", "loud", "clumsy", "unmeasured"]
    board.page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    # Without a value: last in both directions.
    assert board.names == ["clumsy", "loud", "ann", "quiet", "elsewhere", "masked", "unmeasured"]
    assert board.page.inner_text("#status") == "7 of 7 rows, sorted by leakage, worst attack, descending"


def test_every_column_can_be_sorted_by(board: Visit) -> None:
    buttons = board.page.locator("#board thead button")
    assert buttons.count() == board.page.locator("#board thead th").count() == 14
    for place in range(14):
        buttons.nth(place).press("Enter")
        assert board.page.locator("#board th[aria-sort]").count() == 1
        keys = board.page.locator("#board tbody tr").evaluate_all(
            f"rows => rows.map(r => r.cells[{place}].dataset.sort)"
        )
        known = [key for key in keys if key]
        assert keys[: len(known)] == known
        number = board.page.locator("#board thead th").nth(place).get_attribute("data-kind") == "number"
        assert known == sorted(known, key=float if number else str)


def test_a_slash_goes_to_the_search_and_words_narrow_the_rows(board: Visit) -> None:
    board.page.keyboard.press("/")
    assert board.focused() == "search"
    board.page.keyboard.type("A. AUTHOR loud")
    assert board.names == ["loud"]
    assert board.page.inner_text("#status") == "1 of 7 rows"
    board.page.keyboard.type("/")
    assert board.page.input_value(SEARCH) == "A. AUTHOR loud/"
    board.page.keyboard.press("Escape")
    assert len(board.names) == 7


def test_filters_narrow_the_rows_together(board: Visit) -> None:
    board.page.select_option(NETWORK, label="vgg5, smoke")
    assert "elsewhere" not in board.names
    board.page.focus(RANKED)
    board.page.keyboard.press("Space")
    assert set(board.names) == {"quiet", "ann", "loud", "clumsy"}
    board.page.focus(CLEAN)
    board.page.keyboard.press("Space")
    assert set(board.names) == {"quiet", "ann", "clumsy"}
    board.page.fill(SEARCH, "clumsy")
    assert board.names == ["clumsy"]
    board.page.fill(SEARCH, "nowhere")
    assert board.names == []
    assert board.page.inner_text("#status") == "0 of 7 rows"


def test_the_first_tab_skips_to_the_content(board: Visit) -> None:
    board.page.keyboard.press("Tab")
    assert board.focused() == "Skip to the content"
    assert board.page.locator(".skip").bounding_box()["y"] >= 0
    board.page.keyboard.press("Enter")
    assert board.focused() == "main"


def test_focus_is_visible(board: Visit) -> None:
    board.tab_to("defense")
    outline = board.page.evaluate("getComputedStyle(document.activeElement).outline")
    assert "2px" in outline
    assert "solid" in outline


@pytest.mark.parametrize("width", [360, 1200])
def test_no_page_is_wider_than_its_window_or_asks_for_anything(browser: Any, site: Path, width: int) -> None:
    for path in sorted(site.rglob("*.html")):
        visit = Visit(browser, path, width)
        for details in visit.page.locator("details").all():
            details.evaluate("element => { element.open = true; }")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, path.name
        assert visit.page.evaluate("document.body.scrollWidth") <= width, path.name
        assert visit.said == []
        assert [url for url in visit.asked if url != visit.address and not url.startswith("data:")] == []
        visit.page.close()


def test_hostile_rows_run_nothing_and_do_not_break_a_narrow_page(browser: Any, tmp_path: Path) -> None:
    for path in sorted(hostile(tmp_path).rglob("*.html")):
        visit = Visit(browser, path, 360)
        assert visit.said == []
        assert len(visit.asked) == len([url for url in visit.asked if url == visit.address or url.startswith("data:")])
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360, path.name
        visit.page.close()


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_paper(browser: Any, site: Path, tmp_path: Path, dark: bool) -> None:
    entry = named(fill(tmp_path / "rows"), "quiet")
    for name in (BOARD, f"rows/{entry.hash}.html", "index.html", "submit.html"):
        visit = Visit(browser, site / name, dark=dark)
        assert (
            min(visit.page.evaluate(RATIO, "main p, main a, main td, main th, main li, dd, dt, small, summary")) >= 4.5
        )
        assert min(visit.page.evaluate(RATIO, "body, h1")) >= 7
        visit.page.screenshot(path=tmp_path / f"{Path(name).stem}.png", full_page=True)
        visit.page.close()
    paper = tmp_path / f"{Path(BOARD).stem}.png"
    assert paper.stat().st_size > 10_000


def test_a_board_is_whole_without_scripts(browser: Any, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / BOARD).resolve().as_uri())
    assert page.locator("#board tbody tr:visible").count() == 7
    assert not page.locator("#controls").is_visible()
    assert page.locator("#board button").count() == 0
    context.close()


def test_the_committed_boards_are_readable_and_their_pictures_can_be_made(browser: Any, tmp_path: Path) -> None:
    """AUDIT_SCREENSHOTS=docs writes the two pictures that the documentation shows."""
    entries = load(ROWS)
    write_site(entries, tmp_path / "site")
    kept = Path(os.environ.get("AUDIT_SCREENSHOTS", tmp_path))
    row = next(e for e in entries if (e.record.dataset.name, e.defense) == ("digits", "privatesnn"))
    for picture, page in (("board", "boards/class-leakage-v2-digits.html"), ("row", f"rows/{row.hash}.html")):
        visit = Visit(browser, tmp_path / "site" / page, 1400)
        assert visit.said == []
        path = kept / f"{picture}.png"
        visit.page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": 1400, "height": 1250})
        assert path.stat().st_size > 20_000
        visit.page.close()
