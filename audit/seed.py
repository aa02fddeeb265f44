"""One seed of a run, part by part: each is made, or taken from the store, where it is first asked for."""

from collections.abc import Sequence
from functools import cached_property

from audit.assessment import Assessor
from audit.contracts import Attack, Defense
from audit.evidence import Evidence, attack
from audit.membership import Inquiry
from audit.pipeline import (
    Prepared,
    Subject,
    Target,
    Trained,
    examine,
    examine_gradients,
    protect,
    train_evaluator,
    train_teacher,
    untrained,
)
from audit.records import AttackResult, GradientHealth
from audit.registry import Component
from audit.request import Request
from audit.workshop import Workshop


class OneSeed:
    """Who asks for a part gets what it is made from made first."""

    def __init__(self, shop: Workshop, data: Prepared, request: Request, seed: int) -> None:
        self.shop, self.data, self.request, self.seed = shop, data, request, seed
        self._targets: dict[str, Target] = {}
        self._twins: dict[str, Subject] = {}

    @cached_property
    def teacher(self) -> Trained:
        recipe = self.request.settings.group("teacher")
        return train_teacher(self.shop, self.data, self.request.model, recipe, self.seed)

    @cached_property
    def evaluators(self) -> Sequence[Trained]:
        """The auditor's two."""
        return [self.evaluator(second) for second in (False, True)]

    def evaluator(self, second: bool) -> Trained:
        recipe = self.request.settings.group("evaluator")
        return train_evaluator(self.shop, self.data, self.request.model, recipe, second)

    @cached_property
    def assessor(self) -> Assessor:
        measure = self.request.settings.group("measure")
        return Assessor.of(self.shop, self.data, self.teacher, self.evaluators, measure, self.seed)

    def target(self, component: Component[Defense]) -> Target:
        """What the defense makes of the teacher, and what is measured on it alone."""
        if component.name not in self._targets:
            settings = self.request.settings
            made = protect(self.shop, self.data, self.teacher, component, settings, self.seed)
            self._targets[component.name] = examine(self.shop, self.data, made, component, settings, self.seed)
        return self._targets[component.name]

    def twin(self, component: Component[Defense]) -> Subject:
        """The untrained network of the target's shape."""
        if component.name not in self._twins:
            self._twins[component.name] = untrained(self.shop, self.data, self.target(component), self.seed)
        return self._twins[component.name]

    def gradients(self, component: Component[Defense]) -> GradientHealth | None:
        return examine_gradients(self.shop, self.data, self.target(component), self.seed)

    def attacked(self, component: Component[Defense], item: Component[Attack]) -> tuple[Evidence, AttackResult]:
        """What an attack makes of the target, and what the auditor makes of that."""
        target, settings = self.target(component), self.request.settings
        asked = Inquiry.of(self.shop, self.data, component, settings, self.request.model, self.seed)
        subject = Subject(component.name, target.network, target.key)
        found = attack(self.shop, self.data, subject, item, settings, self.seed, asked)
        return found, self.assessor.result(component.name, target.network, found, asked.truth)

    def null(self, component: Component[Defense], item: Component[Attack]) -> AttackResult:
        """The same of the untrained network."""
        twin = self.twin(component)
        found = attack(self.shop, self.data, twin, item, self.request.settings, self.seed)
        return self.assessor.result(f"{component.name} (untrained)", twin.network, found, None)
