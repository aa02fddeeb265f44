"""Names and components: registration, entry points, files of one's own, and 'did you mean'."""

import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import logging
import pkgutil
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from pickle import PicklingError
from typing import Any, Generic, Literal, TypeVar

from audit.contracts import Access, Attack, DataAccess, Defense
from audit.errors import AuditError
from audit.records import EvidenceKind

Kind = Literal["attack", "defense"]
FROM_FILE = "_audit_file_"
CONTENT = "_audit_content_"
# A name is a settings group, a word on the command line, and part of a file's name.
NAME = re.compile(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*")
RESERVED = ("all", "attack", "data", "defense", "evaluator", "measure", "teacher")
EVIDENCE: Mapping[str, EvidenceKind] = {
    "reconstruct": "images",
    "score_members": "membership",
    "recover": "weights",
    "evade": "adversarial",
}
C = TypeVar("C", Attack, Defense)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Component(Generic[C]):
    """A registered class: ``origin`` says where it came from, ``source`` is the file that holds it.

    A suite holds an attack several times, as variants: ``presets`` are the settings that make the variant.
    """

    kind: Kind
    name: str
    factory: type[C]
    origin: str
    source: Path
    variant: str = ""
    presets: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How the tables name it."""
        return f"{self.name} ({self.variant})" if self.variant else self.name

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]

    @property
    def access(self) -> Access:
        """What an attack holds of the target: the weights where its class does not say."""
        return Access(getattr(self.factory, "access", Access.WEIGHTS))

    @property
    def evidence(self) -> EvidenceKind:
        """What an attack brings back, by the method that it has."""
        return next(kind for method, kind in EVIDENCE.items() if hasattr(self.factory, method))

    @property
    def fields(self) -> dict[str, Any]:
        """Setting -> its default."""
        return {f.name: f.default for f in dataclasses.fields(self.factory)}  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process it goes by its name, or by its file: there it is looked up again.

        Raises PicklingError where it is registered under neither.
        """
        registry: Registry[Any] = ATTACKS if self.kind == "attack" else DEFENSES
        known = registry.components.get(self.name)
        if known is None or known.factory is not self.factory:
            raise PicklingError(f"{self.kind} '{self.name}' is of this process alone: it is not registered")
        own = self.factory.__module__.startswith(FROM_FILE)
        return _again, (self.kind, str(self.source) if own else self.name, self.variant, dict(self.presets))

    def code_hash(self) -> str:
        """sha256 over the sources of the class and of the classes that it extends, as they were when it was registered:
        what becomes of the files while it runs is no part of what it makes."""
        return code_hash(self.factory)


@cache
def code_hash(factory: type[Any]) -> str:
    """Of the files as they are at the first call."""
    files = {Path(inspect.getfile(base)) for base in factory.__mro__ if base is not object}
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(files))).hexdigest()


@dataclass
class Registry(Generic[C]):
    """Components of one kind. ``package`` is the folder of ours; others come as entry points or as files.

    A component has exactly one of ``methods``: which one says what it brings back.
    """

    kind: Kind
    package: str
    methods: tuple[str, ...]
    components: dict[str, Component[C]] = field(default_factory=dict)
    discovered: bool = False

    def register(self, name: str, factory: type[C], origin: str | None = None) -> None:
        """Raises AuditError where the name is taken by another class, or the class is not of this kind."""
        component = self.component(name, factory, origin)
        taken = self.components.get(name)
        if taken is not None and taken.source != component.source:
            raise AuditError(f"two {self.kind}s are named '{name}': {taken.origin} and {component.origin}")
        self.components[name] = component
        with suppress(OSError, TypeError):  # of a class without a file it is asked for when it is needed
            component.code_hash()

    def component(self, name: str, factory: type[C], origin: str | None = None) -> Component[C]:
        """The class as a component, not registered. Raises AuditError where it is not of this kind."""
        source = Path(inspect.getfile(factory)).resolve()
        found = [method for method in self.methods if callable(getattr(factory, method, None))]
        if not dataclasses.is_dataclass(factory) or len(found) != 1:
            wanted = " or ".join(f"'{method}'" for method in self.methods)
            raise AuditError(f"{self.kind} '{name}' must be a dataclass with one method {wanted} ({source})")
        if self.kind == "attack" and getattr(factory, "access", Access.WEIGHTS) not in tuple(Access):
            raise AuditError(f"attack '{name}' must declare access as an audit.contracts.Access ({source})")
        fixed = "data_access" not in {f.name for f in dataclasses.fields(factory)}
        if self.kind == "defense" and not (fixed and isinstance(getattr(factory, "data_access", None), DataAccess)):
            raise AuditError(f"defense '{name}' must declare data_access: ClassVar[DataAccess] ({source})")
        if not NAME.fullmatch(name) or name in RESERVED:
            raise AuditError(
                f"{self.kind} '{name}' needs another name ({source}): letters and digits, joined by - or _, "
                f"and none of {', '.join(RESERVED)}"
            )
        return Component(self.kind, name, factory, origin or _origin(factory, source), source)

    def discover(self) -> None:
        """Import our own components and those of installed packages, once."""
        if self.discovered:
            return
        self.discovered = True
        package = importlib.import_module(self.package)
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
            importlib.import_module(f"{self.package}.{module.name}")
        for entry in entry_points(group=f"snn_privacy_audit.{self.package}"):
            try:
                entry.load()
            except AuditError:
                raise
            except Exception as error:  # the plugin is anybody's code: whatever it raises, its name comes along
                raise AuditError(
                    f"the installed {self.kind} '{entry.name}' ({entry.value}) cannot be loaded: "
                    f"{type(error).__name__}: {error}"
                ) from error

    def names(self) -> list[str]:
        self.discover()
        return sorted(self.components)

    def get(self, name: str) -> Component[C]:
        """By name, or by the path of a Python file that registers exactly one. Raises AuditError with a suggestion."""
        self.discover()
        if name.endswith(".py"):
            return self._from_file(Path(name))
        if name not in self.components:
            raise unknown(self.kind, name, self.components, hint="python -m audit list")
        return self.components[name]

    def select(self, text: str) -> list[Component[C]]:
        """Names separated by commas, each once and in the order given; ``all`` is one of them.

        A component that needs something that only its user can name is not among all: ``in_all`` of its class is False.
        One that ``requires`` a package which is not installed is left out with a warning.
        """
        names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if not names:
            raise AuditError(f"no {self.kind} named: --{self.kind} takes a name, several with commas, or 'all'")
        found = [component for name in names for component in (self._all() if name == "all" else [self.get(name)])]
        return list({component.name: component for component in found}.values())

    def _all(self) -> list[Component[C]]:
        every = [self.components[name] for name in self.names()]
        return [c for c in every if getattr(c.factory, "in_all", True) and self._installed(c)]

    def _installed(self, component: Component[C]) -> bool:
        missing = [name for name in getattr(component.factory, "requires", ()) if find_spec(name) is None]
        if missing:
            _log.warning("%s '%s' is left out of 'all': install %s", self.kind, component.name, ", ".join(missing))
        return not missing

    def _from_file(self, path: Path) -> Component[C]:
        if not path.is_file():
            raise AuditError(f"there is no file {path} to load the {self.kind} from")
        # Two files may have the same name: where a class comes from is looked up by the name of its module.
        module_name = f"{FROM_FILE}{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        loaded = getattr(sys.modules.get(module_name), CONTENT, None) == content
        mine = [c for c in self.components.values() if c.factory.__module__ == module_name]
        if loaded and len(mine) == 1:  # once is enough: a class of its second run would be another one
            return dataclasses.replace(mine[0], origin=_origin(mine[0].factory, mine[0].source))
        before = set(self.components)
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        setattr(module, CONTENT, content)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except AuditError:
            raise
        except (Exception, SystemExit) as error:  # the file is the user's: whatever it raises is theirs to read
            raise AuditError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
        added = [c for n, c in self.components.items() if n not in before or c.source == path.resolve()]
        if len(added) != 1:
            raise AuditError(f"{path} registers {len(added)} {self.kind}s; it must register exactly one")
        return added[0]


def _again(kind: Kind, name: str, variant: str, presets: Mapping[str, Any]) -> Component[Any]:
    registry: Registry[Any] = ATTACKS if kind == "attack" else DEFENSES
    return dataclasses.replace(registry.get(name), variant=variant, presets=presets)


def _origin(factory: type, source: Path) -> str:
    if not factory.__module__.startswith(FROM_FILE):
        return factory.__module__
    here = Path.cwd()
    return str(source.relative_to(here) if source.is_relative_to(here) else source)


def unknown(what: str, name: str, known: Any, hint: str = "") -> AuditError:
    """'unknown defense 'privatsnn'; did you mean 'privatesnn'?'"""
    close = difflib.get_close_matches(name, list(known), n=1)
    advice = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"
    return AuditError(f"unknown {what} '{name}'; {advice}" + (f" ({hint})" if hint else ""))


ATTACKS: Registry[Attack] = Registry("attack", "attacks", tuple(EVIDENCE))
DEFENSES: Registry[Defense] = Registry("defense", "defenses", ("protect",))


def register_attack(name: str, factory: type[Attack]) -> None:
    """Make an attack known under ``name``; call it at the end of the attack's own file."""
    ATTACKS.register(name, factory)


def register_defense(name: str, factory: type[Defense]) -> None:
    """Make a defense known under ``name``; call it at the end of the defense's own file."""
    DEFENSES.register(name, factory)
