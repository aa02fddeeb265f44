import base64
import io
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from audit.errors import AuditError
from audit.records import Record
from audit.reporting import figures
from audit.reporting.grid import Pictures
from audit.reporting.headline import headline
from audit.reporting.report import render_report, write_report
from leaderboards.tables import build, readable
from tests.records_factory import HOSTILE, attack, defense, hostile_record, record, seed_result

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would make of the page: the tags, their attributes, and whether they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def pictures(classes: tuple[str, ...], labels: tuple[str, ...] = ("original", "reconversion\nprivatesnn")) -> Pictures:
    rng = np.random.default_rng(0)
    return Pictures(classes, tuple((x, rng.integers(0, 256, (len(classes), 16, 16, 1), np.uint8)) for x in labels))


def page(found: Record, shown: Mapping[str, Pictures] | None = None) -> str:
    grids = {"privatesnn": pictures(found.dataset.classes)} if shown is None else shown
    return render_report(found, [build(found, name) for name in readable(found)], grids)


def seen(text: str) -> list[tuple[str | None, str]]:
    """Every picture of the page in reading order: what is said of it, and its data URI."""
    parsed = Page(text)
    held = {f"#{image['id']}": image["href"] or "" for image in parsed.all("image")}
    said = [svg["aria-label"] for svg in parsed.all("svg") if svg.get("role") == "img"]
    shown = [held[use["href"]] for use in parsed.all("use") if use.get("href") in held]
    return list(zip(said, shown, strict=True))


@pytest.fixture(scope="module")
def ordinary() -> str:
    return page(record())


def test_the_page_is_well_nested_and_loads_nothing(ordinary: str) -> None:
    parsed = Page(ordinary)
    assert parsed.open == []
    assert not parsed.all("script")
    assert not parsed.all("link")
    for _, attributes in parsed.tags:
        for key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(key) or "#").startswith(("#", "data:"))
    assert "@import" not in ordinary
    assert not re.search(r"url\((?!#)", ordinary)


def test_the_header_says_the_result_in_numbers(ordinary: str) -> None:
    expected = (
        "privatesnn classifies 96.5 % of the test images correctly (teacher: 98.2 %); its class leakage is "
        "at least 16.5 % by reconversion, where 100 % is real images and 0 an untrained network; "
        "what direct-inversion would recover is unknown."
    )
    assert headline(record()) == expected
    assert expected in ordinary


def test_the_headline_of_several_targets_names_the_extremes() -> None:
    seed = seed_result()
    asked = tuple(d.model_copy(update={"requested": d.defense != "none"}) for d in seed.defenses)
    text = headline(record(results=[seed.model_copy(update={"defenses": asked})]))
    assert text.startswith("Of 4 audited targets, 'conversion' leaks most: 98.5 % by reconversion")
    assert "'privatesnn' leaks least: at least 16.5 %" in text


def test_the_headline_means_over_seeds_and_says_so() -> None:
    assert headline(record((0, 1, 2))).endswith("unknown. Means over 3 seeds.")
    assert "classifies 96.9 %" in headline(record((0, 1, 2)))


def test_the_strongest_attack_with_a_failed_seed_is_no_mean_over_the_survivors() -> None:
    first = seed_result(0)
    broken = defense(
        "privatesnn", 0.9, [attack("reconversion", None, None, status="failed", reason="x")], requested=True
    )
    second = seed_result(1).model_copy(update={"defenses": (*first.defenses[:-1], broken)})
    text = headline(record((0, 1), results=[first, second]))
    assert "no attack on it has a leakage, so it is unknown (x)" in text
    assert "16.5" not in text


def test_failures_are_shown_with_their_whole_reason(ordinary: str) -> None:
    assert "after update 37 of 149: step size 0.01 without normalisation" in ordinary
    assert ordinary.count('<span class="status">') == 2


def test_every_picture_has_a_text_and_keeps_its_pixels() -> None:
    found = record()
    shown = pictures(found.dataset.classes)
    text = page(found, {"privatesnn": shown})
    images = seen(text)
    assert len(images) == 20
    said, uri = images[1]
    assert said == "zero: reconversion, privatesnn"
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    np.testing.assert_array_equal(decoded, shown.columns[1][1][0, :, :, 0])
    assert "image-rendering: pixelated" in text


def test_one_grid_stands_open_on_the_page(ordinary: str) -> None:
    before, _, _ = ordinary.partition("Measurements")
    assert not Page(before).all("details")
    assert "<b>Figure 1.</b> privatesnn, one picture per class" in before


def test_of_several_grids_the_first_is_open_and_every_figure_has_its_number() -> None:
    found = record()
    names = ("privatesnn", "dc-cet", "conversion")
    shown = {name: pictures(found.dataset.classes, ("original", f"reconversion\non {name}")) for name in names}
    text = page(found, shown)
    before, _, after = text.partition("Measurements")
    assert [grid.get("open", "closed") for grid in Page(before).all("details")] == [None, "closed", "closed"]
    assert re.findall(r"<summary>(.*)</summary>", before) == list(names)
    assert [said for said, _ in seen(text)][1::20] == [f"zero: reconversion, on {name}" for name in names]
    assert re.findall(r"<b>Figure (\d)\.</b>", text) == ["1", "2", "3", "4", "5", "6"]
    assert "<b>Figure 4.</b> Test accuracy" in after
    assert Page(text).open == []


def test_a_picture_that_several_grids_show_is_in_the_page_once() -> None:
    found = record()
    shown = pictures(found.dataset.classes)
    text = page(found, {"privatesnn": shown, "dc-cet": shown})
    assert len(seen(text)) == 40
    assert text.count("data:image/png") == 20


def test_ten_of_fifty_classes_are_shown_and_the_page_says_so() -> None:
    classes = tuple(f"a very long class name, number {i}, {'x' * 60}" for i in range(50))
    text = page(record(), {"privatesnn": pictures(classes)})
    assert len(seen(text)) == 20
    assert "The first 10 of 50 classes are shown." in text
    assert "classes are shown" not in page(record())


def test_tables_are_readable_by_a_screen_reader(ordinary: str) -> None:
    parsed = Page(ordinary)
    assert len(parsed.all("caption")) == len(readable(record()))
    assert all("scope" in head for head in parsed.all("th"))
    plots = [a for a in parsed.all("div") if a.get("role") == "img"]
    assert len(plots) == 3
    assert all(plot["aria-label"] for plot in plots)
    assert parsed.all("html") == [{"lang": "en"}]


def test_each_row_fills_the_table(ordinary: str) -> None:
    for table in re.findall(r'<table class="data[^"]*">.*?</table>', ordinary, re.DOTALL):
        widths = set()
        for row in re.findall(r"<tr>.*?</tr>", table.partition("<tbody>")[2], re.DOTALL):
            cells = re.findall(r'<t[hd](?: scope="row")?(?: colspan="(\d+)")?[ >]', row)
            widths.add(sum(int(span or 1) for span in cells))
        assert len(widths) == 1
    assert ordinary.count('<table class="data') == len(readable(record()))


def test_what_is_missing_for_one_reason_in_several_columns_is_said_once(ordinary: str) -> None:
    assert ordinary.count("not applicable: the target is an ANN") == 2  # one cell, one footnote


def test_hostile_strings_stay_text() -> None:
    found = hostile_record()
    text = page(found, dict.fromkeys((HOSTILE, "b"), pictures((HOSTILE, "b"), (HOSTILE, f"{HOSTILE}\n{HOSTILE}"))))
    parsed = Page(text)
    assert parsed.open == []
    assert not parsed.all("script")
    assert "&lt;script&gt;" in text
    assert {"onload", "onerror"}.isdisjoint(key for _, attributes in parsed.tags for key in attributes)


@pytest.mark.parametrize("draw", [figures.accuracy_over_time, figures.spike_density, figures.training_curves])
def test_a_figure_is_inline_svg_with_its_own_ids_and_the_pages_colours(draw) -> None:
    svg = draw(record())
    root = ElementTree.fromstring(svg)
    assert "privatesnn" in "".join(root.itertext())
    assert "currentColor" in svg
    assert "var(--series-" in svg
    assert not re.search(r"font-family|#0[0-9a-f]{5}\b|<metadata|<style", svg)
    others = {figures.accuracy_over_time, figures.spike_density, figures.training_curves} - {draw}
    ids = {e.get("id") for e in root.iter()} - {None}
    for other in others:
        assert ids.isdisjoint({e.get("id") for e in ElementTree.fromstring(other(record())).iter()} - {None})


@pytest.mark.parametrize("name", ["$x^$ \\frac{", 'font-family: a; id="b" <b>', "日本語", "a&b"])
def test_a_figure_shows_a_name_as_it_is(name: str) -> None:
    seed = seed_result()
    target = seed.defenses[-1].model_copy(update={"defense": name})
    svg = figures.accuracy_over_time(record(results=[seed.model_copy(update={"defenses": (target,)})]))
    assert svg is not None
    assert name in [text.strip() for text in ElementTree.fromstring(svg).itertext()]


def test_the_same_record_makes_the_same_page_and_leaves_matplotlib_as_it_was(ordinary: str) -> None:
    before = dict(matplotlib.rcParams)
    assert page(record()) == ordinary
    assert dict(matplotlib.rcParams) == before


def test_an_ann_alone_has_no_plots_and_the_page_says_why() -> None:
    seed = seed_result()
    alone = seed.model_copy(update={"defenses": (seed.defenses[0].model_copy(update={"requested": True}),)})
    text = page(record(results=[alone]), {})
    assert "<svg" not in text
    assert "No accuracy against T: no target of this run is spiking" in text
    assert "No pictures: no attack of this run made any." in text


def test_a_loss_that_is_not_a_number_is_left_out_of_the_curve() -> None:
    seed = seed_result()
    notes = {"training_loss": [2.0, float("nan"), 1.0]}
    target = seed.defenses[-1].model_copy(update={"notes": notes})
    assert figures.training_curves(record(results=[seed.model_copy(update={"defenses": (target,)})]))
    text = seed.defenses[-1].model_copy(update={"notes": {"training_loss": "none"}})
    assert figures.training_curves(record(results=[seed.model_copy(update={"defenses": (text,)})])) is None


def test_several_seeds_make_a_page_too() -> None:
    text = page(record((0, 1, 2)))
    assert "seeds 0, 1, 2" in text
    assert "mean over 3 seeds" in text
    assert Page(text).open == []


def test_pictures_that_do_not_fit_their_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="'original': 2 pictures for 3 classes"):
        Pictures(("a", "b", "c"), (("original", np.zeros((2, 8, 8, 3), np.uint8)),))
    with pytest.raises(ValueError, match="uint8"):
        Pictures(("a",), (("original", np.zeros((1, 8, 8, 3), np.float32)),))  # type: ignore[arg-type]


def test_the_report_is_written_whole(tmp_path: Path, ordinary: str) -> None:
    found = record()
    write_report(
        found,
        [build(found, name) for name in readable(found)],
        {"privatesnn": pictures(found.dataset.classes)},
        tmp_path / "report.html",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == ordinary


def test_a_record_without_results_is_refused() -> None:
    with pytest.raises(AuditError, match="no results"):
        render_report(record(results=[]), [], {})
