"""Ray makes what one process makes: the same record, also where it loses a process in the middle."""

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import Any

import pytest
import torch

from audit import ray_executor
from audit.errors import AuditError
from audit.executors import Crew, OnRay
from audit.monitor import SilentMonitor
from audit.records import Record
from audit.remote_store import open_store
from audit.run import run
from audit.store import Store
from audit.workers import workers
from tests.conftest import Command, tiny_options, tiny_request
from tests.test_workers import told

DC = "data-free-conversion"
CPU = torch.device("cpu")
CREW = Crew(2, 1, OnRay())
# Ends its process the first time, or every time, that it runs on Ray.
DEADLY = '''
"""An attack that finds nothing, and ends its process before it does."""
import os, signal, sys
from dataclasses import dataclass
from pathlib import Path

import torch

from audit.contracts import Reconstructions
from audit.registry import register_attack


@dataclass(frozen=True)
class Deadly:
    """One that finds nothing."""

    images_per_class: int = 2

    def reconstruct(self, target, context):
        been = Path(__file__).with_suffix(".been")
        if "ray._private.workers.default_worker" in sys.modules or "default_worker.py" in sys.argv[0]:
            if ALWAYS or not been.exists():
                been.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return Reconstructions(torch.zeros(20, *context.task.image_shape), torch.arange(10).repeat(2))


register_attack("deadly", Deadly)
'''


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """One Ray of two processes for all tests: to start one takes seconds."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'snn-privacy-audit[ray]'")
    # Ray's processes give way to all others: on a machine that is busy with tests they would hardly get on.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def deadly(folder: Path, always: bool = False) -> str:
    path = folder / "deadly.py"
    # Ray's processes are the same for all tests: there, too, two files may not register one name.
    name = '"deadlier"' if always else '"deadly"'
    path.write_text(DEADLY.replace("ALWAYS", str(always)).replace('"deadly"', name))
    return str(path)


def equal(spread: Record, alone: Record) -> bool:
    keys = [{(line.name, line.key) for line in record.stages} for record in (spread, alone)]
    return told(spread) == told(alone) and keys[0] == keys[1]


def test_ray_makes_the_record_that_one_process_makes(ray: Any, tmp_path: Path) -> None:
    request = tiny_request(f"none,{DC}", "reconversion,membership-inference")
    store, monitor = Store(tmp_path / "store"), SilentMonitor()
    with workers(CREW, store, CPU) as cluster:
        assert cluster is not None
        (elsewhere,) = cluster.spread([request], monitor)
    spread = run(request, store, monitor, elsewhere).record
    assert equal(spread, run(request, Store(tmp_path / "alone"), monitor).record)
    made = [line.key for line in elsewhere if not line.cached]
    assert len(made) == len(set(made)) > 10
    assert {kept.stage for kept in store.kept()}.isdisjoint({ray_executor.SHARED})
    assert ray.is_initialized()


def test_a_process_that_is_killed_in_the_middle_changes_nothing(ray: Any, tmp_path: Path) -> None:
    request = tiny_request(f"none,{DC}", f"reconversion,{deadly(tmp_path)}")
    store, monitor = Store(tmp_path / "store"), SilentMonitor()
    with workers(CREW, store, CPU) as cluster:
        assert cluster is not None
        (elsewhere,) = cluster.spread([request], monitor)
    assert (tmp_path / "deadly.been").exists()
    assert "attack: deadly on none" in {line.name for line in elsewhere}
    spread = run(request, store, monitor, elsewhere).record
    assert equal(spread, run(request, Store(tmp_path / "alone"), monitor).record)


def test_a_piece_that_kills_every_process_ends_the_run_with_a_line(ray: Any, tmp_path: Path) -> None:
    request = tiny_request("none", deadly(tmp_path, always=True))
    store = Store(tmp_path / "store")
    with workers(replace(CREW, ray=OnRay(retries=1)), store, CPU) as cluster:
        assert cluster is not None
        with pytest.raises(AuditError, match=r"lost on Ray, after 1 retries .*Crashed.* the same command goes on") as e:
            cluster.spread([request], SilentMonitor())
    assert "\n" not in str(e.value)
    assert {"teacher", "evaluator"} <= {kept.stage for kept in store.kept()}


def test_the_store_may_be_a_url_and_the_command_says_so(
    ray: Any, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shared = (tmp_path / "shared").as_uri()
    given = ["--defense", "none", "--attack", "reconversion", "--executor", "ray", "--store", shared]
    done = command(*given, "--out", tmp_path / "out", *tiny_options("defense", attacks=["reconversion"]))
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    stored = {path.stem for path in (tmp_path / "shared").rglob("*.safetensors")}
    assert {line["key"] for line in record["stages"]} <= stored
    assert open_store(shared).kept()


def test_a_store_that_is_not_shared_is_one_line(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    monkeypatch.setattr(Store, "address", property(lambda _: ""))
    monkeypatch.setattr(Store, "root", tmp_path / "another", raising=False)
    with workers(CREW, store, CPU) as cluster:
        assert cluster is not None
        monkeypatch.setattr(ray_executor, "_agreed", None)
        store.drop(ray_executor.SHARED, cluster._executor._terms.token)  # type: ignore[attr-defined]
        with pytest.raises(AuditError, match=r"the store .* is another one on node .*: pass --store with a folder"):
            cluster.spread([tiny_request("none", "none")], SilentMonitor())


def test_another_version_on_a_node_is_one_line(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_executor, "_code", lambda: "another")
    with workers(CREW, Store(tmp_path), CPU) as cluster:
        assert cluster is not None
        with pytest.raises(AuditError, match="has another version of this package"):
            cluster.spread([tiny_request("none", "none")], SilentMonitor())


def test_what_no_node_has_is_one_line(ray: Any, tmp_path: Path) -> None:
    crew = Crew(None, 1, OnRay(memory=1e6))
    with (
        pytest.raises(AuditError, match=r"a piece needs 1 CPU, 1 GPU, 1e\+06 GB of memory, and no node .*2 CPU, 0 GPU"),
        workers(crew, Store(tmp_path), torch.device("cuda")),
    ):
        pass


def test_without_ray_there_is_one_line(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    given = ["--defense", "none", "--executor", "ray", "--store", tmp_path / "store", "--out", tmp_path / "out"]
    refused = command(*given)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert refused.err.startswith("error: --executor ray: ")
    assert refused.err.endswith("pip install 'snn-privacy-audit[ray]'\n")


def _closed_port() -> int:
    with closing(socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.parametrize("address", ["PORT", "nonsense", "ray://127.0.0.1:10001"])
def test_an_address_where_no_cluster_is_is_one_line(
    address: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    address = address.replace("PORT", f"127.0.0.1:{_closed_port()}")
    given = ["--defense", "none", "--store", tmp_path / "store", "--out", tmp_path / "out"]
    refused = command(*given, "--executor", "ray", "--address", address)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert refused.err.startswith(f"error: --address {address}: no Ray cluster is reached: ")
    assert not (tmp_path / "out").exists()


def test_a_process_of_a_run_takes_its_environment_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DATA", "/data")
    monkeypatch.chdir(tmp_path)
    terms = ray_executor._terms(Store(Path("store")), 3)
    assert terms.environment["AUDIT_DATA"] == "/data"
    assert (terms.store, terms.folder, terms.threads) == (str(tmp_path / "store"), os.getcwd(), 3)  # noqa: PTH109
    assert ray_executor._terms(open_store("memory://x"), 1).store == "memory://x"
