"""A faulty manifest for each rule with the reported line, YAML variants, and input that is not a manifest."""

from collections.abc import Iterator
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuvitals.inventory.naming import Naming
from gpuvitals.lint.findings import Finding
from gpuvitals.lint.linter import FileError, LintSettings, lint

SCORE = 'device.attributes["health"].score > 90'
CLASS = "gpu.vitals.internal"


def findings(text: str, **settings: object) -> list[Finding]:
    return lint({"f.yaml": dedent(text).lstrip("\n")}, LintSettings(**settings))  # type: ignore[arg-type]  # its fields


def told(text: str, **settings: object) -> list[tuple[int, str]]:
    """Line and rule of each finding."""
    return [(one.line, one.rule) for one in findings(text, **settings)]


def claim(body: str, class_name: str = CLASS) -> str:
    """A claim with one exact request; `body` is flow mappings behind the class, one a line, from line 8 on."""
    head = f"""\
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {{name: gpu}}
spec:
  devices:
    requests:
    - name: gpu
      exactly:
        deviceClassName: {class_name}
"""
    return head + "".join(f"        {line}\n" for line in dedent(body).strip().splitlines())


def device_class(*expressions: str, name: str = "ours") -> str:
    head = f"apiVersion: resource.k8s.io/v1\nkind: DeviceClass\nmetadata: {{name: {name}}}\nspec:\n  selectors:\n"
    return head + "".join(f"  - cel: {{expression: '{text}'}}\n" for text in expressions)


def pod(references: str, uses: str) -> str:
    return f"""\
apiVersion: v1
kind: Pod
metadata: {{name: work}}
spec:
  resourceClaims: [{references}]
  containers:
  - {{name: work, image: work, resources: {{claims: [{uses}]}}}}
"""


NAMED = "---\n" + claim("").replace("name: gpu}", "name: trainer}")
BAD = [
    pytest.param(claim(f"selectors: [{{cel: {{expression: '{SCORE.replace('90', '0.9')}'}}}}]"), [(10, "fraction")], id="fraction"),
    pytest.param(claim("selectors: [{cel: {expression: 'device.health.score > 90'}}]"), [(10, "no-such-field")], id="no-such-field"),
    pytest.param(claim("selectors: [{cel: {expression: 'device.driver =='}}]"), [(10, "syntax")], id="syntax"),
    pytest.param(claim("allocationMode: All"), [(10, "all-tainted")], id="all-tainted"),
    pytest.param(
        claim("allocationMode: All\nselectors: [{cel: {expression: 'device.attributes[\"gpu.vitals.internal\"].type == \"gpu\"'}}]"),
        [(10, "all-tainted")],
        id="all-tainted although something else is selected",
    ),
    pytest.param(
        claim("tolerations: [{key: gpu.vitals.internal/unhealthy, operator: Exists}]"), [(10, "toleration")], id="toleration"
    ),
    pytest.param(claim("tolerations: [{operator: Exists}]"), [(10, "toleration")], id="toleration of everything"),
    pytest.param(
        claim(f"selectors: [{{cel: {{expression: '{SCORE}'}}}}]\ntolerations:\n- key: gpu.vitals.internal/unhelthy"),
        [(12, "unknown-taint")],
        id="unknown-taint key",
    ),
    pytest.param(
        claim(f"selectors: [{{cel: {{expression: '{SCORE}'}}}}]\ntolerations:\n- key: gpu.vitals.internal/unhealthy\n  value: xid79"),
        [(13, "unknown-taint")],
        id="unknown-taint value",
    ),
    pytest.param(claim(f"selectors: [{{cel: {{expression: '{SCORE}'}}}}]", "mine"), [(10, "driver-filter")], id="driver-filter of a claim"),
    pytest.param(device_class(SCORE), [(6, "driver-filter")], id="driver-filter of a class"),
    pytest.param(
        device_class('device.attributes["a.example.com"].x == 1'), [(6, "driver-filter")], id="driver-filter of another's class"
    ),
    pytest.param(
        device_class(SCORE, 'device.driver == "gpu.vitals.internal"'), [(6, "driver-filter")], id="driver-filter that comes too late"
    ),
    pytest.param(
        claim("") + "    constraints: [{matchAttribute: gpu.vitals.internal/rack}]\n", [(10, "unknown-attribute")], id="constraint"
    ),
    pytest.param(pod("{name: a, resourceClaimName: traimer}", "{name: a}") + NAMED, [(5, "reference")], id="reference that is misspelt"),
    pytest.param(
        pod("{name: a, resourceClaimTemplateName: trainer}", "{name: a}") + NAMED, [(5, "reference")], id="reference of the other kind"
    ),
    pytest.param(
        pod("{name: a, resourceClaimName: trainer}", "{name: a, request: cpu}") + NAMED, [(7, "reference")], id="reference to no request"
    ),
    pytest.param(pod("{name: a, resourceClaimName: x}", "{name: a}, {name: b}"), [(7, "reference")], id="reference of a container"),
    pytest.param(pod("{name: a, resourceClaimName: x}", ""), [(5, "unused-claim")], id="unused-claim"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_a_bad_manifest_is_told_on_its_line_and_nothing_else_is(
    text: str, expected: list[tuple[int, str]]
) -> None:
    assert told(text) == expected


GOOD = [
    pytest.param(claim(f"selectors: [{{cel: {{expression: '{SCORE}'}}}}]"), id="the class of our name"),
    pytest.param(claim(f"selectors: [{{cel: {{expression: '{SCORE}'}}}}]", f"healthy.{CLASS}"), id="a class below our name"),
    pytest.param(device_class('device.driver == "gpu.vitals.internal"', SCORE), id="filter in the selector before"),
    pytest.param(device_class(f'{SCORE} && device.driver == "gpu.vitals.internal"'), id="filter anywhere in the conjunction"),
    pytest.param(device_class('device.driver != "gpu.vitals.internal" || ' + SCORE), id="others are let through"),
    pytest.param(device_class('device.attributes["health"].?score.orValue(0) > 90'), id="guarded"),
    pytest.param(
        device_class('device.driver == "gpu.vitals.internal"', name="mine") + "---\n"
        + claim(f"selectors: [{{cel: {{expression: '{SCORE}'}}}}]", "mine"),
        id="a class of the same files",
    ),
    pytest.param(claim(f"allocationMode: All\nselectors: [{{cel: {{expression: '{SCORE}'}}}}]"), id="All that selects on health"),
    pytest.param(claim("allocationMode: All", "nic.example.com"), id="All of another driver"),
    pytest.param(claim("tolerations: [{key: example.com/x}]"), id="another's taint"),
    pytest.param(
        claim(f"selectors: [{{cel: {{expression: '{SCORE}'}}}}]\ntolerations: [{{key: gpu.vitals.internal/unhealthy, value: Xid79}}]"),
        id="toleration of a reason",
    ),
    pytest.param(pod("{name: a, resourceClaimName: elsewhere}", "{name: a}") + NAMED, id="a claim that is in none of the files"),
    pytest.param(pod("{name: a, resourceClaimName: trainer}", "{name: a, request: gpu}") + NAMED, id="a request by name"),
    pytest.param("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", id="another kind"),
    pytest.param("---\n---\n# nothing\n", id="empty documents"),
    pytest.param(
        claim("selectors: [{cel: {expression: 'device.attributes[\"gpu.nvidia.com\"].productName == \"x\"'}}]", "gpu.nvidia.com"),
        id="another driver's claim",
    ),
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_a_good_manifest_has_no_finding(text: str) -> None:
    assert told(text) == []


def test_classes_that_the_user_names_are_known() -> None:
    text = claim(f"selectors: [{{cel: {{expression: '{SCORE}'}}}}]", "mine")

    assert told(text, classes=("mine",)) == []
    assert (
        told(text.replace("health", "vitals"), naming=Naming(driver="mine", attribute_domain="vitals")) == []
    )


BLOCKS = [
    pytest.param("|", 13, id="literal"),
    pytest.param("|-", 13, id="literal, stripped"),
    pytest.param(">", 13, id="folded"),
    pytest.param(">-  # a remark with score in it", 13, id="folded, with a remark"),
    pytest.param("", 13, id="plain"),
]


@pytest.mark.parametrize(("style", "line"), BLOCKS)
def test_a_finding_in_a_block_is_told_on_its_own_line(style: str, line: int) -> None:
    """The number is that of the line in the file, whatever the block's style."""
    text = claim(
        f"""
        selectors:
        - cel:
            expression: {style}
              device.attributes['health'].score > 0.9 &&

              device.attributes['health'].state == 'healthy' && device.attributes['health'].xidErrors == 0
        """
    )
    assert told(text) == [(line, "fraction"), (line + 2, "unknown-value")]


def test_a_quoted_text_over_several_lines_keeps_its_lines() -> None:
    text = claim(
        r"""
        selectors:
        - cel: {expression: "device.attributes[\"health\"].score > 90 &&
              device.attributes[\"health\"].xidErrors == 0 &&
              device.attributes[\"health\"].state == \"healthy\""}
        """
    )
    assert told(text) == [(13, "unknown-value")]


def test_anchors_aliases_and_merges_are_followed() -> None:
    text = f"""
    apiVersion: resource.k8s.io/v1
    kind: ResourceClaim
    metadata: {{name: gpu}}
    spec:
      devices:
        requests:
        - name: a
          exactly: &any
            deviceClassName: {CLASS}
            selectors: &careful [{{cel: {{expression: 'device.attributes["health"].score > 0.9'}}}}]
        - name: b
          exactly:
            <<: *any
            count: 2
        - name: c
          firstAvailable: [{{name: x, deviceClassName: {CLASS}, selectors: *careful}}]
    """
    found = findings(text)

    assert [one.line for one in found] == [10, 10, 10]
    assert [one.field for one in found] == [
        "spec.devices.requests[0].exactly.selectors[0].cel.expression",
        "spec.devices.requests[1].exactly.selectors[0].cel.expression",
        "spec.devices.requests[2].firstAvailable[0].selectors[0].cel.expression",
    ]


@pytest.mark.parametrize(
    ("kind", "path"),
    [("Job", ("template",)), ("Deployment", ("template",)), ("CronJob", ("jobTemplate", "spec", "template"))],
)
def test_templates_of_pods_are_looked_into(kind: str, path: tuple[str, ...]) -> None:
    spec = "{spec: {resourceClaims: [{name: a, resourceClaimName: x}], containers: []}}"
    for part in reversed(path):
        spec = f"{{{part}: {spec}}}"
    (found,) = findings(f"apiVersion: batch/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n")

    assert found.rule == "unused-claim"
    assert found.field == ".".join(("spec", *path, "spec.resourceClaims[0].name"))


def test_templates_lists_and_the_older_form_are_read() -> None:
    request = "{name: a, deviceClassName: gpu.vitals.internal, allocationMode: All}"
    item = "{apiVersion: resource.k8s.io/v1beta1, kind: ResourceClaimTemplate, metadata: {name: t}, spec: {spec: {devices: {requests: [%s]}}}}"
    (found,) = findings(f"apiVersion: v1\nkind: List\nitems:\n- {item % request}\n")

    assert (found.line, found.field) == (4, "items[0].spec.spec.devices.requests[0].allocationMode")


NO_INPUT = [
    pytest.param("a: [1, 2\n", "f.yaml:2: not YAML", id="not closed"),
    pytest.param("a: b: c\n", "f.yaml:1: not YAML", id="two values"),
    pytest.param("a: *nowhere\n", "f.yaml:1: not YAML", id="an alias of nothing"),
    pytest.param("a: \x07\n", "f.yaml:1: not YAML", id="a control character"),
    pytest.param("- 1\n- 2\n", "f.yaml:1: expected a Kubernetes object", id="a list"),
    pytest.param(
        "apiVersion: v1\nkind: Pod\n---\njust text\n", "f.yaml:4: expected a Kubernetes object", id="text"
    ),
    pytest.param("# no version\nkind: Pod\n", "f.yaml:2: expected a Kubernetes object", id="no apiVersion"),
    pytest.param(
        "apiVersion: v1\nkind: Pod\nkind: Pod\n", "f.yaml:3: duplicate key 'kind'", id="a doubled key"
    ),
    pytest.param("[" * 3000, "f.yaml", id="a deep nest"),
]


@pytest.mark.parametrize(("text", "said"), NO_INPUT)
def test_input_that_is_none_is_named_with_file_and_line(text: str, said: str) -> None:
    with pytest.raises(FileError) as caught:
        lint({"f.yaml": text}, LintSettings())

    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=12))
FIELDS = st.sampled_from(
    [
        "apiVersion", "kind", "metadata", "name", "spec", "devices", "requests", "exactly", "firstAvailable", "selectors",
        "cel", "expression", "tolerations", "key", "value", "operator", "allocationMode", "deviceClassName", "template",
        "resourceClaims", "containers", "resources", "claims", "constraints", "matchAttribute", "items", "request",
    ]
)  # fmt: skip
WORTHS = st.one_of(
    SCALARS,
    st.sampled_from(
        ["resource.k8s.io/v1", "ResourceClaim", "ResourceClaimTemplate", "DeviceClass", "Pod", "Job", "List", "All", CLASS, SCORE]
    ),
)  # fmt: skip
TREES = st.recursive(
    WORTHS,
    lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(FIELDS, inside, max_size=5)),
    max_leaves=25,
)


def written(tree: object) -> Iterator[str]:
    """The tree in flow style, by hand: a dumper would refuse nothing, and so would not find our own slips."""
    match tree:
        case dict():
            yield "{" + ", ".join(f"{key}: {''.join(written(value))}" for key, value in tree.items()) + "}"
        case list():
            yield "[" + ", ".join("".join(written(value)) for value in tree) + "]"
        case None:
            yield "null"
        case str():
            yield "'" + tree.replace("'", "''") + "'"
        case _:
            yield str(tree).lower()


@given(
    st.sampled_from(["ResourceClaim", "ResourceClaimTemplate", "DeviceClass", "Pod", "Job", "List"]),
    st.dictionaries(FIELDS, TREES, max_size=5),
)
def test_no_object_makes_the_linter_raise(kind: str, fields: dict[str, object]) -> None:
    whole = {**fields, "kind": kind, "apiVersion": "resource.k8s.io/v1"}
    try:
        found = lint({"f.yaml": "".join(written(whole))}, LintSettings())
    except FileError:
        return
    assert all(one.line >= 1 for one in found)


@given(st.text(max_size=200))
def test_no_text_makes_the_linter_raise_anything_but_its_own_error(text: str) -> None:
    try:
        lint({"f.yaml": text}, LintSettings())
    except FileError as error:
        assert str(error).startswith("f.yaml")  # noqa: PT017  # either outcome is right; this is about the text
