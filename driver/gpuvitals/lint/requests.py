"""Rules about the requests of a claim: class, selectors, allocation mode and tolerations.

The linter applies them to claims and templates. Rules about a single expression are in `selectors.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from gpuvitals.health.reasons import is_reason
from gpuvitals.lint.cel.facts import Facts, facts
from gpuvitals.lint.cel.tokens import SyntaxProblem
from gpuvitals.lint.documents import View
from gpuvitals.lint.findings import Finding, Level, Problem
from gpuvitals.lint.selectors import problems, reads_health, unfiltered_reads, unknown_attribute
from gpuvitals.lint.vocabulary import Vocabulary, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The context of the rules. `classes` maps a DeviceClass to the drivers that its selectors permit."""

    file: str
    vocabulary: Vocabulary
    classes: dict[str, frozenset[str]] = field(default_factory=dict)

    def finding(self, view: View, rule: str, text: str) -> Finding:
        """A finding about a whole field."""
        return Finding(file=self.file, line=view.line, field=view.path, rule=rule, text=text)

    def in_expression(self, view: View, problem: Problem) -> Finding:
        """A finding about a position in an expression."""
        return Finding(
            file=self.file,
            line=view.line_of(problem.at),
            field=view.path,
            rule=problem.rule,
            text=problem.text,
            level=problem.level.value,
        )

    def drivers_of(self, class_name: str) -> frozenset[str]:
        """The drivers that the class permits; empty if unknown."""
        known = self.classes.get(class_name)
        if known is not None:
            return known
        driver = self.vocabulary.naming.driver
        named = class_name == driver or class_name.endswith(f".{driver}")
        return frozenset({driver}) if named else frozenset()


def selectors_findings(
    owner: View, context: Context, drivers: frozenset[str], *, of_class: bool
) -> Iterator[Finding]:
    """Findings about the selectors of `owner`. `drivers` are the only possible drivers before the first selector."""
    for expression, found in _expressions(owner):
        if isinstance(found, Problem):
            yield context.in_expression(expression, found)
            continue
        for problem in problems(found, context.vocabulary):
            yield context.in_expression(expression, problem)
        if not drivers:
            for problem in unfiltered_reads(found, context.vocabulary, any_domain=of_class):
                yield context.in_expression(expression, problem)
        drivers = drivers or found.drivers


def selected_drivers(owner: View) -> frozenset[str]:
    """The drivers to which the selectors restrict."""
    drivers: frozenset[str] = frozenset()
    for _, found in _expressions(owner):
        if isinstance(found, Facts):
            drivers = drivers or found.drivers
    return drivers


def claim_findings(spec: View, context: Context) -> Iterator[Finding]:
    """Findings about a claim's spec."""
    devices = spec.get("devices")
    for request in devices.get("requests").items():
        if request.get("firstAvailable").is_present:
            for choice in request.get("firstAvailable").items():
                yield from _request(choice, context)
        elif request.get("exactly").is_present:
            yield from _request(request.get("exactly"), context)
        else:
            yield from _request(request, context)  # v1beta1
    for constraint in devices.get("constraints").items():
        for name in ("matchAttribute", "distinctAttribute"):
            yield from _constraint(constraint.get(name), context)


def _request(request: View, context: Context) -> Iterator[Finding]:
    drivers = context.drivers_of(request.get("deviceClassName").text)
    yield from selectors_findings(request, context, drivers, of_class=False)
    driver = context.vocabulary.naming.driver
    selected = [found for _, found in _expressions(request) if isinstance(found, Facts)]
    ours = driver in drivers or any(
        context.vocabulary.owns(read.domain) or driver in found.drivers
        for found in selected
        for read in found.reads
    )
    tolerated = [one for one in request.get("tolerations").items() if _is_ours(one, context.vocabulary)]
    for one in tolerated:
        yield from _toleration(one, context)
    if not ours:
        return
    by_health = any(reads_health(found, context.vocabulary) for found in selected)
    mode = request.get("allocationMode")
    if mode.text == "All" and not by_health and not tolerated:
        domain = context.vocabulary.naming.attribute_domain
        text = f'one tainted GPU fails the whole request; add a selector such as device.attributes["{domain}"].score > 0'
        yield context.finding(mode, "all-tainted", text)
    if tolerated and not any(found.reads for found in selected):
        text = "the toleration permits any failed GPU; select the intended one by health/state, health/reason or uuid"
        yield context.finding(request.get("tolerations"), "toleration", text)


def _is_ours(toleration: View, vocabulary: Vocabulary) -> bool:
    """Whether the toleration matches taints of the agent: by key prefix, or every taint without a key."""
    key = toleration.get("key").text
    if not key:
        return toleration.get("operator").text == "Exists" and toleration.get("effect").text != "NoExecute"
    return key.startswith(f"{vocabulary.naming.driver}/")


def _toleration(toleration: View, context: Context) -> Iterator[Finding]:
    key, value = toleration.get("key"), toleration.get("value")
    known = context.vocabulary.taint_keys()
    if key.text and key.text not in known:
        near = nearest(key.text, known) or known[0]
        yield context.finding(
            key, "unknown-taint", f"the agent sets no taint with key {key.text}; write {near}"
        )
    elif value.text and not is_reason(value.text):
        text = (
            f"{value.text!r} is not a reason, the value of the agent's taints; see docs/reference/reasons.md"
        )
        yield context.finding(value, "unknown-taint", text)


def _constraint(name: View, context: Context) -> Iterator[Finding]:
    domain, slash, key = name.text.partition("/")
    vocabulary = context.vocabulary
    if slash and vocabulary.owns(domain) and vocabulary.find("attributes", domain, key) is None:
        yield context.finding(
            name,
            "unknown-attribute",
            f"{unknown_attribute('attributes', domain, key, vocabulary)}; a device without it never satisfies a constraint",
        )


def _expressions(owner: View) -> Iterator[tuple[View, Facts | Problem]]:
    for selector in owner.get("selectors").items():
        expression = selector.at("cel", "expression")
        if expression.is_string:
            try:
                yield expression, facts(expression.text)
            except SyntaxProblem as error:
                yield (
                    expression,
                    Problem("syntax", f"{error}; the API server rejects it", error.at, Level.FINDING),
                )
