import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import urljoin

import pytest

from audit.errors import AuditError
from audit.flags import FLAGS
from leaderboards.board import boards, table
from leaderboards.entries import Entry
from leaderboards.leakage import MASKED
from leaderboards.site.build import write_site
from leaderboards.site.folder import MARKER
from leaderboards.site.markdown import html
from leaderboards.site.pareto import plots
from leaderboards.site.templates import slug, web_link
from tests.leaderboards.site_rows import BOARD, SUITE, fill, hostile, named, submitted
from tests.records_factory import HOSTILE

VOID = {"meta", "img", "br", "link", "input", "hr"}
NEVER = {"iframe", "object", "embed", "base", "form", "video", "audio", "source", "frame"}
LOADS = {"src", "srcset", "data", "poster", "background", "action", "formaction", "ping", "manifest"}


class Page(HTMLParser):
    """What a browser would make of a page: its tags, their attributes and their text, and whether they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    return fill(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def site(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "out"
    write_site(entries, out)
    return out


def pages(site: Path) -> dict[str, Page]:
    found = sorted(site.rglob("*.html"))
    return {path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8")) for path in found}


def content(site: Path) -> Mapping[str, bytes]:
    files = (path for path in site.rglob("*") if path.is_file())
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in files}


def page_of(site: Path, entries: Sequence[Entry], name: str) -> Page:
    return Page((site / f"rows/{named(entries, name).hash}.html").read_text(encoding="utf-8"))


def test_every_board_and_every_row_has_its_page(site: Path, entries: list[Entry]) -> None:
    found = boards(entries)
    index = Page((site / "index.html").read_text(encoding="utf-8"))
    assert {board.title for board in found} == {f"{SUITE} on digits", "paper-v1 on digits"}
    for board in found:
        path = f"boards/{slug(f'{board.suite}-{board.dataset}')}.html"
        assert path in [link.get("href") for link in index.all("a")]
        page = Page((site / path).read_text(encoding="utf-8"))
        links = [link.get("href") for link in page.all("a")]
        assert [link for link in links if link and link.startswith("../rows/")] == [
            f"../rows/{row.entry.hash}.html" for row in board.rows
        ]


def test_a_board_shows_every_cell_of_its_table(site: Path, entries: list[Entry]) -> None:
    board = next(board for board in boards(entries) if board.suite == SUITE)
    page = Page((site / BOARD).read_text(encoding="utf-8"))
    made = table(board)
    for cells in made.rows:
        for cell in cells:
            assert cell.main in page.text
            assert cell.interval_text in page.text
    for note in made.footnotes:
        assert note.text.partition(":")[2] in page.text
    assert len([head for head in page.all("th") if head.get("scope") == "col"]) == len(made.columns)


def test_what_is_missing_says_why_in_full(site: Path, entries: list[Entry]) -> None:
    reason = "the image left the number range at update 37"
    board = Page((site / BOARD).read_text(encoding="utf-8"))
    assert "failed: the image left the number" in board.text
    assert board.text.count(reason) >= 2  # a footnote, and the list of what is not drawn
    assert f"failed: {reason}" in page_of(site, entries, "unmeasured").text
    assert "not applicable: the target is an ANN" in page_of(site, entries, "ann").text


def test_each_flag_leads_to_its_explanation(site: Path) -> None:
    board = Page((site / BOARD).read_text(encoding="utf-8"))
    links = [link["href"] for link in board.all("a") if link.get("class") == "flag"]
    assert len(links) == 2
    assert {link.removeprefix("#") for link in links} <= set(board.ids)
    assert FLAGS[MASKED] in board.text
    assert FLAGS["transfer-beats-direct"] in board.text


def test_a_row_shows_who_submitted_it_and_how_to_run_it_again(site: Path, entries: list[Entry]) -> None:
    page = page_of(site, entries, "clumsy")
    for text in ("clumsy", "A. Author", "MIT", "python -m audit --defense privatesnn --attack all", "settings"):
        assert text in page.text
    for text in ("torch 2.6.0", "0.1.0", "c0de" * 16, "5a1f" * 16, "defense.privatesnn.tau"):
        assert text in page.text
    link = next(link for link in page.all("a") if link["href"] == "https://example.org/paper")
    assert set(link["rel"].split()) == {"noopener", "noreferrer", "nofollow"}
    assert named(entries, "clumsy").results()[0].target_hash in page.text
    assert "the attacks were run again" in page.text
    assert f"{named(entries, 'clumsy').hash}.verified.json" in [link["href"] for link in page.all("a")]


def test_a_row_shows_the_tables_of_its_record(site: Path, entries: list[Entry]) -> None:
    page = page_of(site, entries, "quiet")
    for title in ("Verdict", "Test accuracy", "Class leakage", "Inference energy", "Ablation"):
        assert f"{title}: vgg5 on digits, profile smoke" in page.text
    assert len(page.all("svg")) == 2
    assert page.all("img")[0]["src"].startswith("data:image/png;base64,")


def test_an_external_result_leaves_the_old_value_visible(site: Path, entries: list[Entry]) -> None:
    page = page_of(site, entries, "quiet")
    assert "Before them this row's leakage was 11.0 %" in page.text
    assert "with them it is 41.7 %" in page.text
    assert "Not in force: nobody but its submitter has run it yet." in page.text
    stronger = named(entries, "stronger")
    assert f"{stronger.hash}.json" in [link["href"] for link in page.all("a")]
    assert "https://example.org/attack" in [link["href"] for link in page.all("a")]


def test_downloads_are_the_files_themselves(site: Path, entries: list[Entry]) -> None:
    for entry in entries:
        assert f'href="{entry.hash}.json" download' in "".join(p.read_text() for p in site.glob("rows/*.html"))
        assert (site / f"rows/{entry.hash}.json").read_bytes() == entry.path.read_bytes()
        assert (site / f"rows/{entry.hash}.npz").read_bytes() == b"raw scores"


def test_every_link_leads_somewhere(site: Path) -> None:
    found = pages(site)
    for name, page in found.items():
        assert len(set(page.ids)) == len(page.ids), name
        for attributes in page.all("a"):
            if attributes["href"].startswith("https://example.org/"):
                continue
            target, _, fragment = urljoin(name, attributes["href"]).partition("#")
            target = target or name
            assert (site / target).is_file(), (name, attributes)
            assert not fragment or fragment in found[target].ids, (name, attributes)
        for _, attributes in page.tags:
            for key in ("aria-labelledby", "aria-describedby"):
                assert set(attributes.get(key, "").split()) <= set(page.ids), (name, attributes)


def no_request(name: str, text: str) -> None:
    """Nothing that a browser would load by itself."""
    page = Page(text)
    assert not NEVER & {tag for tag, _ in page.tags}, name
    for tag, attributes in page.tags:
        for key, value in attributes.items():
            if key in LOADS:
                assert value.startswith("data:"), (name, tag, attributes)
            assert not key.startswith("on"), (name, tag, attributes)
            if key == "href" and tag == "link":
                assert value == "data:,"
            if key.endswith("href") and tag not in ("a", "link"):
                assert value.startswith("#"), (name, tag, attributes)
            assert "url(" not in value.replace("url(#", ""), (name, tag, attributes)
    assert "@import" not in text
    for style in re.findall(r"<style>.*?</style>", text, re.DOTALL):
        assert "url(" not in style
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-")


def test_no_page_loads_anything(site: Path) -> None:
    for path in site.rglob("*.html"):
        no_request(path.name, path.read_text(encoding="utf-8"))


def test_pages_have_what_a_screen_reader_goes_by(site: Path) -> None:
    for name, page in pages(site).items():
        tags = [tag for tag, _ in page.tags]
        assert tags.count("main") == tags.count("nav") == tags.count("h1") == 1, name
        assert page.all("html") == [{"lang": "en"}]
        assert tags.count("caption") == tags.count("table"), name
        assert all("scope" in head for head in page.all("th")), name
        assert all("alt" in image for image in page.all("img")), name
        assert page.all("a")[0]["href"] == "#main"
        levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
        assert all(after <= before + 1 for before, after in pairwise(levels)), name


def test_the_same_rows_are_the_same_bytes(site: Path, entries: list[Entry], tmp_path: Path) -> None:
    write_site(list(reversed(entries)), tmp_path / "again")
    assert content(tmp_path / "again") == content(site)


def test_the_files_are_listed(entries: list[Entry], tmp_path: Path) -> None:
    listed = write_site(entries, tmp_path / "out")
    assert {path.relative_to(tmp_path / "out").as_posix() for path in listed} | {MARKER} == set(
        content(tmp_path / "out")
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    site = hostile(tmp_path)
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        no_request(path.name, text)
        assert "<script>alert" not in text
        scripts = Page(text).all("script")
        assert len(scripts) == (1 if path.parent.name == "boards" else 0)
        assert re.fullmatch(r"[a-z0-9.-]+", path.name)
    assert HOSTILE in pages(site)[BOARD].text
    assert "The file of its pictures is no PNG" in " ".join(page.text for page in pages(site).values())
    for name in content(site):
        assert re.fullmatch(r"[a-z0-9./-]+", name)


def test_links_of_other_kinds_are_no_links() -> None:
    assert web_link("https://example.org/a?b=c&d") == "https://example.org/a?b=c&d"
    for bad in (
        None,
        "javascript:alert(1)",
        "ftp://x.org",
        "https:",
        'https://x.org/"onload=',
        "http://x y",
        "//x.org",
    ):
        assert web_link(bad) is None


def test_two_texts_have_two_names() -> None:
    assert slug("class-leakage-v1-digits") == "class-leakage-v1-digits"
    assert len({slug("a b"), slug("a/b"), slug("a-b"), slug("A-B"), slug("../a-b")}) == 5
    assert re.fullmatch(r"[0-9a-f]{8}", slug("../.."))


def test_rows_that_no_other_row_beats_are_marked(entries: list[Entry]) -> None:
    board = next(board for board in boards(entries) if board.suite == SUITE)
    small, smoke = plots(board)
    assert (small.title, smoke.title) == ("vgg5, small", "vgg5, smoke")
    # 'masked' would beat all of them, but its leakage rests on masked gradients; 'loud' and 'clumsy' lose to 'ann'.
    assert {point.row.name for point in smoke.front} == {"quiet", "ann"}
    assert {point.row.name for point in smoke.points} == {"quiet", "ann", "loud", "clumsy", "masked"}
    assert [absent.partition(":")[0] for absent in smoke.absent] == ["unmeasured"]
    assert [point.row.name for point in small.front] == ["elsewhere"]


def test_points_lie_in_their_plot_and_labels_apart(entries: list[Entry]) -> None:
    for board in boards(entries):
        for plot in plots(board):
            places = sorted(point.label_y for point in plot.points)
            assert all(after - before >= 16.9 for before, after in pairwise(places))
            for point in plot.points:
                assert 58 <= point.left <= point.x <= point.right <= 420
                assert 16 <= point.top <= point.y <= point.bottom <= plot.height - 52
                assert 0 < point.label_y < plot.height


def test_an_earlier_site_is_replaced_whole(entries: list[Entry], tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_site(entries, out)
    write_site([], out)
    assert set(content(out)) == {"index.html", "submit.html", MARKER}
    assert "There are no rows yet" in pages(out)["index.html"].text


def test_a_folder_that_is_no_site_is_left_alone(entries: list[Entry], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_site([], out)
    (out / "own.txt").write_text("mine")
    before = content(out)
    with pytest.raises(AuditError, match=r"holds own\.txt, which is not of the site"):
        write_site(entries, out)
    assert content(out) == before
    (out / MARKER).unlink()
    with pytest.raises(AuditError, match="neither empty nor an earlier site"):
        write_site(entries, out)
    (tmp_path / "link").symlink_to(out)
    for place in (out / "own.txt", tmp_path / "link"):
        with pytest.raises(AuditError, match="is no folder of its own"):
            write_site(entries, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]


def test_a_row_without_files_offers_none(tmp_path: Path) -> None:
    lost = Entry(submitted("gone", (0.1, 0.2)), tmp_path / f"{'ab' * 32}.json")
    write_site([lost], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out/rows").iterdir()] == [f"{'ab' * 32}.html"]
    assert "No pictures were kept with this row." in page_of(tmp_path / "out", [lost], "gone").text


def test_markdown_is_a_small_part_and_all_of_it_is_escaped() -> None:
    text = (
        "# Title `a<b`\n\nOne\nparagraph, **bold** and [a page](https://example.org/x?a=b&c).\n"
        "1. first\n   goes on\n2. `code <x>`\n\n```sh\nmake <b> *x*\n```\n- see [threats](threat-models.md)\n"
        "- [bad](javascript:alert) [here](#title-ab) <img src=x onerror=alert(1)>\n## Next\n"
    )
    made = str(html(text))
    assert made.splitlines() == [
        '<h1 id="title-ab">Title <code>a&lt;b</code></h1>',
        '<p>One paragraph, <strong>bold</strong> and <a href="https://example.org/x?a=b&amp;c" '
        'rel="noopener noreferrer nofollow">a page</a>.</p>',
        '<ol start="1"><li>first goes on</li><li><code>code &lt;x&gt;</code></li></ol>',
        "<pre><code>make &lt;b&gt; *x*</code></pre>",
        "<ul><li>see threats (<code>threat-models.md</code>)</li><li>bad (<code>javascript:alert</code>) "
        '<a href="#title-ab">here</a> &lt;img src=x onerror=alert(1)&gt;</li></ul>',
        '<h2 id="next">Next</h2>',
    ]


def test_how_to_submit_is_the_text_given(tmp_path: Path) -> None:
    write_site([], tmp_path / "out", submitting="# Send it\n\nTo us.")
    page = Page((tmp_path / "out/submit.html").read_text(encoding="utf-8"))
    assert "Send it To us." in page.text
    assert len(page.all("h1")) == 1
