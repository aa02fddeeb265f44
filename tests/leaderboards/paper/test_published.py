import tomllib

import pytest
from pydantic import ValidationError

from leaderboards.paper.published import FILE, Published, published
from leaderboards.said import Said

# The rows of the tables as the text of the paper has them.
TABLE_2 = """
VGG16 - CIFAR10 91.6
Rueckauer et al. (2017) Yes CIFAR10 90.9
Sengupta et al. (2019) Yes CIFAR10 91.5
Han et al. (2020) Yes CIFAR10 91.4
Zambrano et al. (2019) Yes CIFAR10 89.7
PrivateSNN (ours) No CIFAR10 89.2
VGG16 - CIFAR100 64.3
Sengupta et al. (2019) Yes CIFAR100 62.7
Zambrano et al. (2019) Yes CIFAR100 63.4
PrivateSNN (ours) No CIFAR100 62.3
VGG16 - TinyImgNet 51.9
Sengupta et al. (2019) Yes TinyImgNet 50.6
PrivateSNN (ours) No TinyImgNet 50.7
"""
TABLE_3 = """
DC (T=150) - 82.8
DC + CET 5000 86.9
DC + CET + OD 5000 89.2
"""
TABLE_4 = """
Attack scenario 1 354.8 448.2
Attack scenario 2 447.9 422.4
"""
TABLE_5 = """
VGG16 (ANN) 1 91.5 1x
Sengupta et al. (2019) 500 91.2 27.9x
Han et al. (2020) 250 91.4 53.9x
PrivateSNN (ours) 150 89.2 55.8x
"""
DATASETS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "tinyimagenet": "TinyImgNet"}
PRINTED = {"vgg16": "VGG16", "privatesnn": "PrivateSNN (ours)"}


def lines(table: str) -> list[str]:
    return table.strip().splitlines()


def name_of(system: str) -> str:
    return PRINTED.get(system, published().systems[system].name)


def test_table_2_is_the_printed_one_row_for_row() -> None:
    rows = published().table_2.rows
    made = [f"{name_of(r.system)} {r.train_data} {DATASETS[r.dataset]} {r.accuracy.shown}" for r in rows]
    assert made == lines(TABLE_2)


def test_table_3_is_the_printed_one_row_for_row() -> None:
    rows = published().table_3.rows
    made = [f"{r.method}{' (T=150)' * (r.system == 'dc')} {r.samples} {r.accuracy.shown}" for r in rows]
    assert made == lines(TABLE_3)


def test_table_4_is_the_printed_one_cell_for_cell() -> None:
    cells = {(r.scenario, r.encryption): r.fid.shown for r in published().table_4.rows}
    made = [f"{name} {cells[name, False]} {cells[name, True]}" for name in ("Attack scenario 1", "Attack scenario 2")]
    assert made == lines(TABLE_4)


def test_table_5_is_the_printed_one_row_for_row() -> None:
    names = {"vgg16": "VGG16 (ANN)", "privatesnn": "PrivateSNN (ours)"}
    rows = published().table_5.rows
    made = [
        f"{names.get(r.system, name_of(r.system))} {r.time_steps} {r.accuracy.shown} {r.ratio.shown}x" for r in rows
    ]
    assert made == lines(TABLE_5)


def test_every_number_of_a_figure_is_in_a_table_or_in_a_quoted_sentence() -> None:
    paper = published()
    for figure in (paper.figure_5a, paper.figure_5b):
        for point in figure.points:
            if point.accuracy.value is not None:
                assert point.accuracy.shown in " ".join((TABLE_3, *paper.figure_5b.quotes))


def test_every_system_of_a_row_stands_for_a_defense_and_no_defense_stands_for_two() -> None:
    paper = published()
    named = {s for row in paper.table_1.rows for s in row.systems} | {row.system for row in paper.table_2.rows}
    named |= {row.system for row in paper.table_3.rows} | {row.system for row in paper.table_5.rows}
    assert named <= paper.systems.keys()
    defenses = [system.defense for system in paper.systems.values()]
    assert len(defenses) == len(set(defenses))
    assert not set(defenses) & paper.others.keys()


def test_a_cell_with_a_value_and_words_or_with_neither_is_refused() -> None:
    with pytest.raises(ValidationError, match="either a value or text"):
        Said()
    with pytest.raises(ValidationError, match="either a value or text"):
        Said(value=1.0, text="about one")


def test_a_field_that_nobody_knows_is_refused() -> None:
    document = tomllib.loads(FILE.read_text(encoding="utf-8"))
    with pytest.raises(ValidationError, match="table_6"):
        Published.model_validate(document | {"table_6": {}})
