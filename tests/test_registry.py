"""The registry: ours, a package's and a file's components, found and refused the same way."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from audit.contracts import Attack, DataAccess
from audit.errors import AuditError
from audit.registry import ATTACKS, DEFENSES, Registry, code_hash

ATTACK = """
from dataclasses import dataclass
from audit.registry import register_attack

@dataclass(frozen=True)
class {name}:
    \"\"\"{summary}\"\"\"
    images_per_class: int = 1
    def reconstruct(self, target, context): ...

register_attack("{registered}", {name})
"""


@dataclass(frozen=True)
class Probe:
    """Looks. Then goes."""

    images_per_class: int = 3

    def reconstruct(self, target: Any, context: Any) -> Any: ...


@dataclass(frozen=True)
class Open:
    data_access: ClassVar[DataAccess] = DataAccess.NONE

    def protect(self, teacher: Any, context: Any) -> Any: ...


def _empty() -> Registry[Attack]:
    return Registry("attack", "attacks", ("reconstruct", "recover"), discovered=True)


def _file(path: Path, registered: str = "mine", name: str = "Mine", summary: str = "Mine.") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ATTACK.format(registered=registered, name=name, summary=summary))
    return path


def test_every_component_of_ours_is_named_like_its_file_and_a_variant_begins_so() -> None:
    for registry in (ATTACKS, DEFENSES):
        assert registry.names()
        for name in registry.names():
            file = registry.get(name).source.stem.replace("_", "-")
            assert name == file or (name.startswith(f"{file}-") and file in registry.names())
            assert registry.get(name).summary


def test_two_components_of_one_name_are_refused_with_both_origins(tmp_path: Path) -> None:
    path = _file(tmp_path / "copy.py", "reconversion")
    with pytest.raises(AuditError, match=r"two attacks are named 'reconversion': attacks\.reconversion and .*copy\.py"):
        ATTACKS.get(str(path))
    assert ATTACKS.get("reconversion").origin == "attacks.reconversion"


def test_the_same_file_may_be_loaded_again(tmp_path: Path) -> None:
    path = _file(tmp_path / "mine.py")
    assert ATTACKS.get(str(path)).name == ATTACKS.get(str(path)).name == "mine"


def test_a_class_that_is_no_dataclass_is_refused() -> None:
    class Plain:
        def reconstruct(self, target: Any, context: Any) -> Any: ...

    with pytest.raises(AuditError, match="attack 'plain' must be a dataclass with one method 'reconstruct' or "):
        _empty().register("plain", Plain)  # type: ignore[arg-type]


def test_a_class_of_the_other_kind_is_refused() -> None:
    with pytest.raises(AuditError, match="attack 'open' must be a dataclass with one method 'reconstruct' or "):
        _empty().register("open", Open)  # type: ignore[arg-type]


@pytest.mark.parametrize("declared", [None, "none", True])
def test_a_defense_says_what_it_has_access_to(declared: object) -> None:
    namespace = {"protect": lambda self, teacher, context: teacher, "data_access": declared, "__module__": __name__}
    defense: type[Any] = dataclass(type("Silent", (), namespace))
    with pytest.raises(AuditError, match="defense 'silent' must declare data_access: ClassVar"):
        DEFENSES.register("silent", defense)


def test_access_to_data_is_no_setting() -> None:
    @dataclass(frozen=True)
    class Adjustable:
        data_access: DataAccess = DataAccess.NONE

        def protect(self, teacher: Any, context: Any) -> Any: ...

    with pytest.raises(AuditError, match="must declare data_access: ClassVar"):
        DEFENSES.register("adjustable", Adjustable)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "all", "attack", "teacher", "a,b", "a.b", "../a", "a b", "a.py", "-a", "a\n"])
def test_a_name_that_no_command_could_say_is_refused(name: str) -> None:
    with pytest.raises(AuditError, match=r"needs another name .*: letters and digits"):
        _empty().register(name, Probe)


def test_a_file_that_registers_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nothing.py"
    path.write_text("x = 1\n")
    with pytest.raises(AuditError, match=r"nothing\.py registers 0 attacks; it must register exactly one"):
        ATTACKS.get(str(path))


def test_a_file_that_registers_two_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path / "two.py")
    path.write_text(path.read_text() + 'register_attack("other", Mine)\n')
    with pytest.raises(AuditError, match=r"two\.py registers 2 attacks; it must register exactly one"):
        ATTACKS.get(str(path))


def test_a_file_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"mine\.py registers 0 defenses"):
        DEFENSES.get(str(_file(tmp_path / "mine.py")))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=f"there is no file {tmp_path / 'gone.py'} to load the attack from"):
        ATTACKS.get(str(tmp_path / "gone.py"))


@pytest.mark.parametrize("code", ["import no_such_module", "1 / 0", "def (", "raise SystemExit(0)"])
def test_a_file_that_cannot_be_run_is_named_with_its_error(code: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(code)
    with pytest.raises(AuditError, match=rf"{path} cannot be loaded: \w+: "):
        ATTACKS.get(str(path))


def test_a_file_s_component_says_which_file_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path / "folder" / "mine.py")
    assert ATTACKS.get(str(path)).origin == str(path)
    monkeypatch.chdir(tmp_path)
    assert ATTACKS.get(str(path)).origin == "folder/mine.py"


def test_two_files_of_one_name_do_not_take_each_other_s_code(tmp_path: Path) -> None:
    first = ATTACKS.get(str(_file(tmp_path / "a" / "mine.py", "first")))
    hashed = first.code_hash()
    second = ATTACKS.get(str(_file(tmp_path / "b" / "mine.py", "second", "Other", "Another.")))
    assert first.code_hash() == hashed
    assert second.code_hash() != hashed
    assert (first.summary, second.summary) == ("Mine.", "Another.")


def test_the_summary_is_the_first_line_of_the_docstring() -> None:
    registry = _empty()
    registry.register("probe", Probe)
    assert registry.get("probe").summary == "Looks. Then goes."
    assert registry.get("probe").fields == {"images_per_class": 3}


def test_a_package_s_components_are_found_through_its_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry[Attack]("attack", "attacks", ("reconstruct",))
    asked: list[str] = []

    def entry_points(group: str) -> list[SimpleNamespace]:
        asked.append(group)
        return [SimpleNamespace(name="probe", value="x:y", load=lambda: registry.register("probe", Probe))]

    monkeypatch.setattr("audit.registry.entry_points", entry_points)
    assert "probe" in registry.names()
    assert registry.get("probe").origin == __name__
    assert asked == ["snn_privacy_audit.attacks"]


def test_a_package_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise ImportError("no module named 'gone'")

    entry = SimpleNamespace(name="theirs", value="theirs.attacks:Theirs", load=load)
    monkeypatch.setattr("audit.registry.entry_points", lambda group: [entry])
    with pytest.raises(AuditError, match=r"attack 'theirs' \(theirs\.attacks:Theirs\) cannot be loaded: ImportError"):
        Registry[Attack]("attack", "attacks", ("reconstruct",)).names()


def test_a_change_in_the_base_class_s_file_changes_the_code_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "registry_test_base.py"
    base.write_text("class Base:\n    def reconstruct(self, target, context): ...\n")
    path = tmp_path / "derived.py"
    path.write_text(
        "from dataclasses import dataclass\nfrom registry_test_base import Base\n"
        "from audit.registry import register_attack\n\n@dataclass(frozen=True)\nclass Derived(Base):\n"
        "    images_per_class: int = 1\n\nregister_attack('derived', Derived)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    component = ATTACKS.get(str(path))
    before = component.code_hash()
    assert component.code_hash() == before
    base.write_text(base.read_text() + "# changed\n")
    assert component.code_hash() == before
    code_hash.cache_clear()  # as the next process begins
    assert component.code_hash() != before


def test_all_is_everything_and_a_list_is_taken_in_its_order_and_once() -> None:
    other_track = {name for name in DEFENSES.names() if name.startswith("quantized")}
    assert {c.name for c in DEFENSES.select("all")} == set(DEFENSES.names()) - {"checkpoint", "nir"} - other_track
    every = [c.name for c in DEFENSES.select("all")]
    assert [c.name for c in DEFENSES.select("all,checkpoint,none")] == [*every, "checkpoint"]
    assert [c.name for c in DEFENSES.select("none, all")] == ["none", *(name for name in every if name != "none")]
    assert [c.name for c in DEFENSES.select("privatesnn, none,privatesnn,")] == ["privatesnn", "none"]
    for text in ("", ",", " "):
        with pytest.raises(AuditError, match="no defense named: --defense takes a name"):
            DEFENSES.select(text)


def test_a_name_like_no_other_is_answered_with_all_of_them() -> None:
    with pytest.raises(AuditError, match=r"unknown attack 'qqq'; known: adaptive-inversion, .*, weight-recovery"):
        ATTACKS.get("qqq")


def test_what_needs_a_package_that_is_not_there_is_left_out_of_all_with_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @dataclass(frozen=True)
    class Needy(Open):
        requires: ClassVar[tuple[str, ...]] = ("torch", "no_such_package")

    DEFENSES.register("needy", Needy)
    assert "needy" not in [c.name for c in DEFENSES.select("all")]
    assert "'needy' is left out of 'all': install no_such_package" in caplog.text
    assert [c.name for c in DEFENSES.select("needy")] == ["needy"]


def test_a_component_is_known_by_the_code_that_was_loaded_and_not_by_what_became_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "changing.py"
    path.write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from audit.contracts import DataAccess\n"
        "from audit.registry import register_defense\n"
        "@dataclass(frozen=True)\n"
        "class Changing:\n"
        "    data_access: ClassVar[DataAccess] = DataAccess.NONE\n"
        "    def protect(self, teacher, context):\n"
        "        return teacher\n"
        "register_defense('changing', Changing)\n"
    )
    (component,) = DEFENSES.select(str(path))
    path.write_text(path.read_text().replace("return teacher", "return None"))
    loaded = component.code_hash()
    path.write_text(path.read_text().replace("return None", "return teacher"))
    assert component.code_hash() == loaded
    assert loaded == hashlib.sha256(path.read_bytes()).hexdigest()
