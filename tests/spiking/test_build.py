"""The kernels are built where they can be and kept; where they cannot, the log says so and the network works."""

import logging
import shutil
from pathlib import Path

import pytest
import torch

from audit.spiking.kernels import COMPILERS, SWITCH, Kernels, kernels
from tests.networks.teachers import generator, rand, small_snn
from tests.spiking.conftest import Without


@pytest.mark.usefixtures("rebuilt")
def test_a_machine_with_a_compiler_has_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    if not any(map(shutil.which, COMPILERS)):
        pytest.skip(f"none of {', '.join(COMPILERS)} is on the PATH")
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.delenv("CXX", raising=False)
    assert kernels() is not None, "there is a compiler, and kernels.cpp does not build or load"


X = rand(3, 2, 6, 6)


def test_switched_off_the_network_gives_the_same_spikes(without_kernels: Without) -> None:
    expected = small_snn()(X, generator())
    with without_kernels():
        torch.testing.assert_close(small_snn()(X, generator()), expected)


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return str(path)


@pytest.mark.usefixtures("rebuilt")
@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (None, 0),
        ("exit 1", 0o755),
        ("echo 'no such option' >&2; exit 2", 0o755),
        ("exit 0", 0o755),  # and no library at all
        ('while [ "$1" != -o ]; do shift; done; echo rubbish > "$2"', 0o755),
    ],
)
def test_a_broken_compiler_is_one_line_in_the_log_leaves_nothing_behind_and_the_network_works(
    text: str | None, mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = small_snn()(X, generator())
    kernels.cache_clear()
    compiler = str(tmp_path / "missing") if text is None else script(tmp_path / "cxx", text, mode)
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with caplog.at_level(logging.DEBUG, "audit"):
        assert kernels() is None
        torch.testing.assert_close(small_snn()(X, generator()), expected)
    assert len(caplog.records) == 1
    assert "kernels are not used" in caplog.messages[0]
    assert [path for path in (tmp_path / "cache").rglob("*") if path.name not in ("snn-privacy-audit", "kernels")] == []


@pytest.fixture
def copier(library: Kernels, rebuilt: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that takes no time, for an empty cache; every library that it makes is a line of the log returned."""
    again = kernels()
    built = Path("" if again is None else again._functions._name)
    if not built.is_file():
        pytest.skip("this user's cache cannot be written to, so there is no library to copy")
    log = tmp_path / "log"
    copies = f'echo built >> {log}; while [ "$1" != -o ]; do shift; done; cp {built} "$2"'
    monkeypatch.setenv("CXX", script(tmp_path / "cxx", copies))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kernels.cache_clear()
    return log


def cached(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").rglob("*") if path.is_file()]


def test_what_was_compiled_once_is_found_again(copier: Path, tmp_path: Path) -> None:
    for _ in range(2):
        kernels.cache_clear()
        assert kernels() is not None
        assert copier.read_text().split() == ["built"]
        assert len(cached(tmp_path)) == 1


def test_a_damaged_library_is_built_again_and_the_log_says_so(
    copier: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert kernels() is not None
    kernels.cache_clear()
    (library,) = cached(tmp_path)
    library.unlink()  # not overwritten: it is loaded
    library.write_text("rubbish")
    assert kernels() is not None
    assert copier.read_text().split() == ["built"] * 2
    assert [f"{library} is damaged and is built again"] == caplog.messages
    assert cached(tmp_path) == [library]
    assert library.stat().st_size > 1000


@pytest.mark.usefixtures("rebuilt")
def test_a_user_without_a_home_folder_can_simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("CXX", script(tmp_path / "cxx", "exit 1"))
    assert small_snn()(X, generator()).isfinite().all()
