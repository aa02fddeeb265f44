"""A NIR graph as the chain of its nodes: read from HDF5 with limits, nested graphs laid out flat."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.errors import AuditError

MOST_NUMBERS = 2**27  # in all data sets of a file together: a gigabyte in double precision
MOST_ITEMS = 20_000
MOST_NODES = 1_000  # of one graph
DEEPEST = 8
ADVICE = "a network is audited whose nodes form one chain from an Input to an Output"

Numbers = NDArray[np.float64]
Edges = dict[str, list[str]]


@dataclass(frozen=True)
class Node:
    """One node: ``name`` with the names of the graphs around it ('outer.inner'), its type, what the file says of it."""

    where: str
    name: str
    kind: str
    fields: Mapping[str, Any]

    def refusal(self, problem: str, field: str = "") -> AuditError:
        place = f"{self.where}: node {_quoted(self.name)} ({_quoted(self.kind)[1:-1]})"
        return AuditError(f"{place}, field '{field}': {problem}" if field else f"{place}: {problem}")

    def numbers(self, field: str, default: float | None = None) -> Numbers:
        """The field as float64, of any shape. Raises AuditError where it is missing or not finite."""
        value = self.fields.get(field, default)
        if value is None:
            raise self.refusal("it is missing", field)
        try:
            found = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor with a gradient
            raise self.refusal("it holds no numbers", field) from error
        if not np.isfinite(found).all():
            raise self.refusal("it has values that are not finite", field)
        return found

    def sizes(self, field: str, default: int | None = None) -> tuple[int, ...]:
        """The field as whole numbers, one or several."""
        found = self.numbers(field, default)
        if not found.size or (found != np.round(found)).any() or (np.abs(found) > 2**31).any():
            raise self.refusal("it holds no whole numbers", field)
        return tuple(int(value) for value in found.flatten())

    def pair(self, field: str, default: int | None = None) -> list[int]:
        """The field as (height, width); one number stands for both."""
        found = self.sizes(field, default)
        if len(found) not in (1, 2):
            raise self.refusal(f"it is one number, or height and width, not {list(found)}", field)
        return [found[0], found[-1]]

    @property
    def metadata(self) -> Mapping[str, Any]:
        found = self.fields.get("metadata")
        return found if isinstance(found, Mapping) else {}


def float32(values: Numbers) -> Tensor:
    """A tensor of its own; what float32 cannot hold becomes infinite."""
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.array(values, dtype=np.float32))


def graph_of(source: Any, where: str) -> Mapping[str, Any]:
    """The graph as nested dictionaries, from the bytes of a NIR file or from a nir.NIRGraph.

    Raises AuditError where the bytes are no NIR file, or claim to hold more than MOST_NUMBERS: before they are read.
    """
    if not isinstance(source, bytes):
        graph: dict[str, Any] = source.to_dict()
        return graph
    h5py = installed("h5py")
    try:
        with h5py.File(io.BytesIO(source), "r") as file:
            if not isinstance(file.get("node"), h5py.Group):
                raise AuditError(f"{where} is no NIR file: there is no group 'node' in it")
            return _Reader(h5py, where).group(file["node"], "node", 0)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:  # h5py's own
        raise AuditError(f"{where} is no readable NIR file: {' '.join(str(error).split())[:200]}") from error


def chain_of(graph: Mapping[str, Any], where: str, outer: str = "") -> list[Node]:
    """The nodes in order, Input first and Output last; those of nested graphs stand in the place of the graph.

    Raises AuditError naming the node where the graph branches, joins, recurs, or has nodes beside the chain.
    """
    nodes = _nodes(graph, where, outer)
    after: Edges = {name: [] for name in nodes}
    before: Edges = {name: [] for name in nodes}
    for source, target in _pairs(graph, nodes, where, outer):
        after[source].append(target)
        before[target].append(source)
    for name, node in nodes.items():
        loop = _reached(name, after)
        back = [other for other in before[name] if other in loop]
        if name in loop and len(back) < len(before[name]):  # where the signal comes into the loop
            raise node.refusal(f"it is recurrent: its own output comes back from {_quoted(outer + back[0])}; {ADVICE}")
    for way, others in (("branches: its output goes to", after), ("joins: its input comes from", before)):
        for name, node in nodes.items():
            if len(others[name]) > 1:
                listed = " and ".join(_quoted(outer + other) for other in others[name][:3])
                raise node.refusal(f"it {way} {listed}; {ADVICE}")
    return _laid_out(nodes, after, where, outer)


def _laid_out(nodes: Mapping[str, Node], after: Edges, where: str, outer: str) -> list[Node]:
    """Along the edges, of which each node has one."""
    inputs = [name for name, node in nodes.items() if node.kind == "Input"]
    if len(inputs) != 1:
        place = f"the graph {_quoted(outer[:-1])}" if outer else "the graph"
        raise AuditError(f"{where}: {place} has {len(inputs)} nodes of type Input; {ADVICE}")
    order = [inputs[0]]
    while after[order[-1]]:
        order += after[order[-1]]
    for name, node in nodes.items():
        if name not in order:
            raise node.refusal(f"nothing leads to it from {_quoted(outer + inputs[0])}; {ADVICE}")
    if nodes[order[-1]].kind != "Output":
        raise nodes[order[-1]].refusal(f"the chain ends in it; {ADVICE}")
    found: list[Node] = []
    for node in (nodes[name] for name in order):
        found += chain_of(node.fields, where, f"{node.name}.")[1:-1] if node.kind == "NIRGraph" else [node]
    return found


def _nodes(graph: Mapping[str, Any], where: str, outer: str) -> dict[str, Node]:
    nodes = graph.get("nodes")
    if str(graph.get("type")) != "NIRGraph" or not isinstance(nodes, Mapping):
        raise AuditError(f"{where} is no NIR graph: it has no nodes")
    if len(nodes) > MOST_NODES:
        raise AuditError(f"{where}: {len(nodes):,} nodes in a graph; at most {MOST_NODES:,} are read")
    for name, fields in nodes.items():
        if not isinstance(fields, Mapping) or not isinstance(fields.get("type"), str):
            raise AuditError(f"{where}: node {_quoted(outer + name)} has no type")
    return {name: Node(where, f"{outer}{name}", fields["type"], fields) for name, fields in nodes.items()}


def _pairs(graph: Mapping[str, Any], nodes: Mapping[str, Node], where: str, outer: str) -> list[tuple[str, str]]:
    listed = graph.get("edges")
    try:
        edges = [(str(source), str(target)) for source, target in ([] if listed is None else listed)]
    except (TypeError, ValueError) as error:
        raise AuditError(f"{where}: the edges of its graph are no pairs of names") from error
    if len(edges) > 2 * MOST_NODES:
        raise AuditError(f"{where}: {len(edges):,} edges in a graph; {ADVICE}")
    for name in (name for edge in edges for name in edge):
        if name not in nodes:
            raise AuditError(f"{where}: an edge leads to or from {_quoted(outer + name)}, and there is no such node")
    return edges


def _quoted(name: str) -> str:
    """In quotes and on one line, whatever is in it."""
    return repr(name[-80:])


def _reached(name: str, after: Edges) -> set[str]:
    """Every node that the output of ``name`` comes to."""
    found: set[str] = set()
    ahead = list(after[name])
    while ahead:
        one = ahead.pop()
        if one not in found:
            found.add(one)
            ahead += after[one]
    return found


@dataclass
class _Reader:
    """Groups and data sets of an HDF5 file as dictionaries and arrays, counted before they are read."""

    h5py: Any
    where: str
    items: int = 0
    numbers: int = 0

    def group(self, group: Any, place: str, depth: int) -> dict[str, Any]:
        if depth > 2 * DEEPEST + 2:
            raise AuditError(f"{self.where} is nested deeper than {DEEPEST} graphs, at {_quoted(place)}")
        return {name: self.item(item, f"{place}/{name}", depth) for name, item in self._members(group, place)}

    def item(self, item: Any, place: str, depth: int) -> Any:
        if isinstance(item, self.h5py.Group):
            return self.group(item, place, depth + 1)
        if not isinstance(item, self.h5py.Dataset) or item.external or item.is_virtual:
            raise AuditError(f"{self.where}: {_quoted(place)} is no data of this file")
        if item.shape is None:
            return None
        self.numbers += int(item.size)
        if self.numbers > MOST_NUMBERS:
            raise AuditError(
                f"{self.where}: {_quoted(place)} is {item.shape}: at most {MOST_NUMBERS:,} numbers are read"
            )
        return item.asstr()[()] if self.h5py.check_string_dtype(item.dtype) else item[()]

    def _members(self, group: Any, place: str) -> Iterator[tuple[str, Any]]:
        for name in group:
            self.items += 1
            if self.items > MOST_ITEMS:
                raise AuditError(f"{self.where} holds more than {MOST_ITEMS:,} items")
            if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
                link = _quoted(f"{place}/{name}")
                raise AuditError(f"{self.where}: {link} is a link, and links are not followed")
            yield name, group[name]


def installed(package: str) -> Any:
    """The module, imported when it is needed. Raises AuditError that says how to install it."""
    try:
        return import_module(package)
    except ImportError as error:
        advice = "pip install 'snn-privacy-audit[nir]'"
        raise AuditError(f"NIR needs the package '{package}', which cannot be imported ({error}): {advice}") from error
