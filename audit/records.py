"""The result schema: one `Record` per run, written as JSON, read without torch."""

import hashlib
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from audit.errors import AuditError
from audit.migrations import migrated
from audit.strict_json import strict_json

SCHEMA_VERSION: Literal[2] = 2

# The note of a target that no file describes, with the reason.
NOT_SUBMITTABLE = "cannot be submitted"

# Who stands behind a row without a submission, as the boards say it.
OWN = "the maintainers"
# Control, format (such as those that reverse the order of what follows), and the separators of lines and paragraphs.
UNSEEN = ("Cc", "Cf", "Zl", "Zp")


def _seen(text: str) -> str:
    if odd := [c for c in text if unicodedata.category(c) in UNSEEN]:
        raise ValueError(f"it has the character U+{ord(odd[0]):04X}, which nobody sees")
    return text


def _not_us(author: str) -> str:
    if " ".join(unicodedata.normalize("NFKC", author).casefold().split()) == OWN:
        raise ValueError(f"'{OWN}' are those of the leaderboard: a submission names its own authors")
    return author


EvidenceKind = Literal["images", "membership", "weights", "adversarial"]
Link = Annotated[str, Field(pattern=r"^https?://[^\s<>\"']+$", max_length=300)]
Line = Annotated[
    str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"), AfterValidator(_seen)
]
Author = Annotated[Line, AfterValidator(_not_us)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Direction = Literal[
    "higher is better", "lower is better", "lower means more leakage", "higher means more leakage", "neutral"
]
Status = Literal["ok", "insufficient", "undefined", "failed", "timed-out", "not-applicable", "void"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measurement(_Model):
    """One number with what is needed to believe it. `value` is None exactly when `status` is not 'ok'."""

    name: str
    value: Finite | None
    low: Finite | None = None
    high: Finite | None = None
    interval: str | None = Field(default=None, description="how low and high were made, e.g. 'Wilson 95 %'")
    n: int = Field(description="images behind the number")
    unit: str = Field(description="'fraction', 'distance', 'pJ', 'ratio', 'spikes', ...")
    direction: Direction
    status: Status = "ok"
    reason: str | None = Field(default=None, description="why there is no value, or what to keep in mind reading it")
    unclipped: Finite | None = Field(
        default=None, description="the value before it was cut to its range: an interval over seeds is made of these"
    )


class DatasetInfo(_Model):
    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    counts: dict[str, int] = Field(description="images per part: teacher, evaluator, test")
    split_hash: str = Field(description="sha256 over pixels and labels of every part, in order")


class NetworkInfo(_Model):
    """A trained ANN: the private teacher, or the auditor's evaluator."""

    architecture: str
    settings: dict[str, Any]
    parameters: int
    multiply_accumulates: int = Field(description="per image")
    hash: str = Field(description="sha256 over the weights")
    accuracy: Measurement


class LayerOperations(_Model):
    """Synaptic operations of one weight layer, per image, summed over all time-steps."""

    name: str
    ann_multiply_accumulates: float
    accumulates: float = Field(description="a binary or signed input event times its fan-out")
    multiply_accumulates: float = Field(
        description="a graded input (after average pooling, or direct or phase coding) times its fan-out"
    )
    input_density: float = Field(description="non-zero inputs per input and time-step")
    spikes_per_neuron: float | None = Field(description="summed over time-steps; None for the layer without neurons")


class Energy(_Model):
    """Energy per image; `measurements` are the ratios ANN / SNN, one per constant set and accounting."""

    time_steps: int
    images: int
    layers: tuple[LayerOperations, ...]
    measurements: tuple[Measurement, ...]


class AttackResult(_Model):
    """One attack on one target. A failed attack keeps its place, with the reason in `status` and `reason`."""

    attack: str
    settings: dict[str, Any]
    status: Status
    reason: str | None = None
    images: int
    images_hash: str | None
    measurements: tuple[Measurement, ...]
    evidence: EvidenceKind = "images"
    access: Literal["weights", "scores", "labels"] = "weights"
    leakage: Measurement | None = Field(
        default=None,
        description="in [0, 1], above the same attack on an untrained network; None where it has no images",
    )
    flags: tuple[str, ...] = ()
    scores_hash: str | None = Field(default=None, description="sha256 over the raw scores of its images")
    notes: dict[str, Any] = Field(default_factory=dict)


class GradientHealth(_Model):
    """Of a spiking target's own gradient with respect to the image, before any attack: see audit.health."""

    missing: float = Field(description="share of images whose gradient is zero everywhere")
    zero: float = Field(description="share of the gradient's entries that are zero")
    agreement: float | None = Field(
        description="mean cosine with finite differences along smooth directions; None: the target does not answer"
    )
    gain: float = Field(description="rise of the mean margin over ten steps, in spreads of the logits")
    train_eval: float = Field(description="largest difference between train() and eval() without dropout, relative")
    flags: tuple[str, ...]


class DefenseResult(_Model):
    defense: str
    origin: str = Field(description="where the code came from: a module, a package entry point or a file")
    summary: str = Field(description="the first line of the component's docstring")
    requested: bool = Field(description="False for a baseline that the requested defense is compared with")
    data_access: Literal["none", "training-images", "unknown"]
    settings: dict[str, Any]
    target_hash: str = Field(description="sha256 over the weights")
    layers_hash: str | None = Field(default=None, description="sha256 over what is no weight: layers, coding, T")
    time_steps: int | None = Field(description="None for a target that is not spiking")
    accuracy: Measurement
    accuracy_over_time: tuple[tuple[int, Measurement], ...] = ()
    energy: Energy | None
    attacks: tuple[AttackResult, ...]
    untrained: tuple[AttackResult, ...] = Field(
        default=(), description="the same attacks on an untrained network of the same shape: the negative control"
    )
    gradients: GradientHealth | None = None
    flags: tuple[str, ...] = Field(default=(), description="findings that weaken the row: see audit.flags")
    notes: dict[str, Any] = Field(default_factory=dict)
    size: Measurement | None = Field(default=None, description="of its weights, in bits; None in older records")
    evasions: tuple[Measurement, ...] = Field(
        default=(),
        description="by strength, the accuracy lost to all of its evasions together: an image is lost that any of them "
        "changed so that the target errs; empty in older records",
    )


class SeedResult(_Model):
    """Everything measured under one seed. `controls` are image sets that no attack made: real images, noise."""

    seed: int
    teacher: NetworkInfo
    evaluator: NetworkInfo
    second_evaluator: NetworkInfo | None = None
    controls: tuple[AttackResult, ...]
    defenses: tuple[DefenseResult, ...]


class StageInfo(_Model):
    name: str
    key: str
    seed: int
    cached: bool
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int | None = None
    """The most that the process had resident while it was made, what it had loaded already included; None where it came
    from the store, where the system does not say, and in records from before it was kept."""


class Environment(_Model):
    version: str
    code_hash: str
    git_revision: str | None
    python: str
    packages: dict[str, str]
    platform: str
    device: str
    threads: int
    engine: str | None = None
    """Of the spiking simulation on a CPU; None in records from before there were two."""


class Submission(_Model):
    """Who stands behind a row of a leaderboard. Text is shown, never interpreted; links are http or https."""

    name: Line = Field(description="of the defense, as the board shows it")
    authors: Annotated[tuple[Author, ...], Field(min_length=1, max_length=100)]
    paper: Link | None = None
    code: Link | None = None
    archive: Link | None = Field(default=None, description="where the submitted archive, weights included, stays")
    licence: Line = Field(description="of weights and record, as SPDX names it")


class External(_Model):
    """A third party's attack on targets that already have a row. Where it is stronger, the row's headline is its."""

    about: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] = Field(description="hash of the record of that row")


class Record(_Model):
    """A run of `python -m audit`, complete; or the part of it that is one row of a leaderboard."""

    schema_version: Literal[2] = SCHEMA_VERSION
    created: str
    command: str
    profile: str
    dataset: DatasetInfo
    settings_passed: dict[str, str]
    settings_resolved: dict[str, Any]
    feature_extractor: str
    results: tuple[SeedResult, ...]
    stages: tuple[StageInfo, ...]
    environment: Environment
    suites: tuple[str, ...] = Field(default=(), description="the suites that every target went through as a whole")
    submission: Submission | None = None
    external: External | None = None

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Every measurement with its path: what two runs of the same seed must agree on."""
        for result in self.results:
            seed = f"seed {result.seed}"
            for role in ("teacher", "evaluator"):
                yield f"{seed}/{role}", getattr(result, role).accuracy
            if result.second_evaluator is not None:
                yield f"{seed}/second evaluator", result.second_evaluator.accuracy
            for control in result.controls:
                yield from ((f"{seed}/{control.attack}/{m.name}", m) for m in control.measurements)
            for defense in result.defenses:
                where = f"{seed}/{defense.defense}"
                yield f"{where}/accuracy", defense.accuracy
                yield from ((f"{where}/accuracy@{steps}", m) for steps, m in defense.accuracy_over_time)
                if defense.energy is not None:
                    yield from ((f"{where}/{m.name}", m) for m in defense.energy.measurements)
                if defense.size is not None:
                    yield f"{where}/{defense.size.name}", defense.size
                yield from ((f"{where}/{m.name}", m) for m in defense.evasions)
                for target, attacks in ((where, defense.attacks), (f"{where} (untrained)", defense.untrained)):
                    for attack in attacks:
                        yield from ((f"{target}/{attack.attack}/{m.name}", m) for m in attack.measurements)
                        if attack.leakage is not None:
                            yield f"{target}/{attack.attack}/leakage", attack.leakage

    def text(self) -> str:
        """The file's content: the same record is the same text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"

    def hash(self) -> str:
        """sha256 of the file's content."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write atomically: the file is whole or absent."""
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(self.text(), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Also of an earlier schema. Raises AuditError naming the file and the first field that does not fit."""
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise AuditError(f"cannot read the record {path}: {error.strerror}") from error

    @classmethod
    def parse(cls, content: bytes, where: str) -> "Record":
        """The record in the bytes of a file named ``where``. Raises AuditError as `read` does.

        Stricter than JSON: no key twice, since readers differ in which of the two they take, and no NaN.
        """
        try:
            return cls.model_validate(migrated(strict_json(content)))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise AuditError(f"{where} is no record of schema {SCHEMA_VERSION}: {place}: {first['msg']}") from error
        except (ValueError, RecursionError) as error:
            raise AuditError(f"{where} is no record: {error}") from error
