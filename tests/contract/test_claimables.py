"""Claim specs, templates, device classes, CEL selectors, taint rules."""

import pytest

from support.kube_objects import CLAIMS, CLASSES, DRIVER, NAMESPACES, RULES, TEMPLATES, claim, condition
from support.raw_api import MERGE_PATCH, Answer, Json, RawApi
from support.realkube.answers import causes, refusal, stored

REQUEST = "spec.devices.requests[0]"
SELECTOR = f"{REQUEST}.exactly.selectors[0].cel.expression"
GPU = {"deviceClassName": "gpu"}
ADMIN = (
    "Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the "
    "containing namespace"
)


def dry_claim(api: RawApi, *requests: Json, **devices: object) -> Answer:
    body = claim("a")
    body["spec"]["devices"] = {"requests": list(requests), **devices}
    return api.post(CLAIMS, body, dryRun="All")


def exactly(**fields: object) -> Json:
    return {"name": "gpu", "exactly": {**GPU, **fields}}


def test_a_request_without_a_mode_is_for_exactly_one(api: RawApi) -> None:
    made = stored(dry_claim(api, {"name": "gpu", "exactly": GPU}))

    [request] = made["spec"]["devices"]["requests"]
    assert request["exactly"] == {**GPU, "allocationMode": "ExactCount", "count": 1}


def test_alternatives_come_in_their_order(api: RawApi) -> None:
    choices = [{"name": "healthy", **GPU}, {"name": "degraded", **GPU, "count": 2}]
    made = stored(dry_claim(api, {"name": "gpu", "firstAvailable": choices}))

    [request] = made["spec"]["devices"]["requests"]
    assert [(each["name"], each["count"]) for each in request["firstAvailable"]] == [
        ("healthy", 1),
        ("degraded", 2),
    ]


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (exactly(count=-1), f"{REQUEST}.exactly.count: Invalid value: -1: must be greater than zero"),
        (
            exactly(allocationMode="All", count=2),
            f"{REQUEST}.exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
        ),
        (
            exactly(allocationMode="Some"),
            f'{REQUEST}.exactly.allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"',
        ),
        ({"name": "gpu", "exactly": {}}, f"{REQUEST}.exactly.deviceClassName: Required value"),
        (
            {"name": "gpu"},
            f"{REQUEST}: Required value: exactly one of `exactly` or `firstAvailable` is required",
        ),
        (
            {"name": "gpu", "firstAvailable": [{"name": f"n{index}", **GPU} for index in range(9)]},
            f"{REQUEST}.firstAvailable: Too many: 9: must have at most 8 items",
        ),
        (
            exactly(tolerations=[{"key": "a", "operator": "Like"}]),
            f'{REQUEST}.exactly.tolerations[0].operator: Unsupported value: "Like": supported values: "Equal", "Exists"',
        ),
        (
            exactly(tolerations=[{"key": "a", "operator": "Exists", "value": "v"}]),
            f'{REQUEST}.exactly.tolerations[0].value: Invalid value: "v": must be empty for operator `Exists`',
        ),
        (
            exactly(selectors=[{"cel": {"expression": "true"}}] * 33),
            f"{REQUEST}.exactly.selectors: Too many: 33: must have at most 32 items",
        ),
        (exactly(adminAccess=True), f"{REQUEST}.adminAccess: {ADMIN}"),
    ],
    ids=["count", "all", "mode", "class", "nothing", "choices", "operator", "value", "selectors", "admin"],
)
def test_a_request_that_means_nothing_is_refused(api: RawApi, request_: Json, complaint: str) -> None:
    assert causes(dry_claim(api, request_)) == [complaint]


def test_a_claim_has_at_most_32_requests_of_different_names(api: RawApi) -> None:
    many = [{**exactly(), "name": f"r{index}"} for index in range(33)]

    assert causes(dry_claim(api, *many)) == [
        "spec.devices.requests: Too many: 33: must have at most 32 items"
    ]
    [complaint] = causes(dry_claim(api, exactly(), exactly()))
    assert complaint.startswith('spec.devices.requests[1]: Duplicate value: {"name":"gpu"')


@pytest.mark.parametrize(
    ("constraint", "complaint"),
    [
        (
            {"matchAttribute": "b"},
            'matchAttribute: Invalid value: "b": a fully qualified name must be a domain and a name separated by a slash',
        ),
        ({"matchAttribute": "a/"}, 'matchAttribute: Invalid value: "": name must not be empty'),
        (
            {"matchAttribute": "a/b", "requests": ["other"]},
            'requests[0]: Invalid value: "other": must be the name of a request in the claim or the name of a request '
            "and a subrequest separated by '/'",
        ),
    ],
    ids=["no domain", "no name", "no such request"],
)
def test_a_constraint_names_an_attribute_with_its_domain(
    api: RawApi, constraint: Json, complaint: str
) -> None:
    answer = dry_claim(api, exactly(), constraints=[constraint])

    assert causes(answer) == [f"spec.devices.constraints[0].{complaint}"]


@pytest.mark.parametrize(
    ("opaque", "complaint"),
    [
        ({"driver": "d"}, "parameters: Required value"),
        (
            {"driver": "d", "parameters": [1]},
            'parameters: Invalid value: "<value omitted>": must be a valid JSON object',
        ),
        (
            {"driver": "d", "parameters": {"a": "x" * 10240}},
            "parameters: Too long: may not be more than 10240 bytes",
        ),
        ({"parameters": {}}, "driver: Required value"),
    ],
    ids=["none", "a list", "too long", "no driver"],
)
def test_opaque_parameters_are_an_object_of_at_most_10_ki(api: RawApi, opaque: Json, complaint: str) -> None:
    answer = dry_claim(api, exactly(), config=[{"opaque": opaque}])

    assert causes(answer) == [f"spec.devices.config[0].opaque.{complaint}"]


@pytest.mark.parametrize(
    "expression",
    [
        "device.attributes['health'].score > 90 && device.attributes['health'].xidErrors == 0 && "
        "device.attributes['health'].nvlinkStatus == 'active'",
        "cel.bind(health, device.attributes['health'], health.score > 90)",
        "device.attributes['health'].score > 0.9",
        "device.attributes['health'].score",
        "device.attributes['health'].?score.orValue(0) > 90",
        "'nosuch' in device.attributes",
        "has(device.attributes['health'].score)",
        "device.attributes['gpu.vitals.internal'].driverVersion.compareTo(semver('535.0.0')) > 0",
        "device.capacity['gpu.vitals.internal'].memory.isGreaterThan(quantity('40Gi'))",
    ],
)
def test_a_selector_that_compiles_is_accepted(api: RawApi, expression: str) -> None:
    assert dry_claim(api, exactly(selectors=[{"cel": {"expression": expression}}])).status == 201


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("device.health.score > 0.9", "compilation failed: ERROR: <input>:1:7: undefined field 'health'"),
        ("nosuch", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'nosuch'"),
        ("1", "must evaluate to bool or the unknown type, not int"),
        ("device.driver ==", "compilation failed: ERROR: <input>:1:17: Syntax error: "),
    ],
    ids=["health", "nosuch", "number", "cut"],
)
def test_a_selector_that_does_not_compile_is_refused_at_create(
    api: RawApi, expression: str, text: str
) -> None:
    [complaint] = causes(dry_claim(api, exactly(selectors=[{"cel": {"expression": expression}}])))

    assert complaint.startswith(f'{SELECTOR}: Invalid value: "{expression}": {text}')


def test_a_selector_has_at_most_10_ki(api: RawApi) -> None:
    answer = dry_claim(api, exactly(selectors=[{"cel": {"expression": "x" * 10241}}]))

    assert causes(answer) == [f"{SELECTOR}: Too long: may not be more than 10240 bytes"]


def test_admin_access_is_for_namespaces_with_the_label(api: RawApi, unique: str) -> None:
    labels = {"resource.kubernetes.io/admin-access": "true"}
    stored(api.post(NAMESPACES, {"metadata": {"name": unique, "labels": labels}}))
    body = claim("a")
    body["spec"]["devices"]["requests"][0]["exactly"]["adminAccess"] = True
    del body["metadata"]["namespace"]

    assert api.post(f"/apis/resource.k8s.io/v1/namespaces/{unique}/resourceclaims", body).status == 201


def template(name: str, **exactly_: object) -> Json:
    spec = {"devices": {"requests": [{"name": "gpu", "exactly": {**GPU, **exactly_}}]}}
    return {"metadata": {"name": name}, "spec": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}


def test_a_template_holds_a_claim_that_never_changes(api: RawApi, unique: str) -> None:
    made = stored(api.post(TEMPLATES, template(unique)))
    change = {"spec": {"metadata": {"labels": {"a": "c"}}}}
    [complaint] = causes(api.patch(f"{TEMPLATES}/{unique}", MERGE_PATCH, change))

    assert made["spec"]["spec"]["devices"]["requests"][0]["exactly"]["count"] == 1
    assert complaint.endswith(": field is immutable")
    label = {"metadata": {"labels": {"x": "y"}}}
    assert api.patch(f"{TEMPLATES}/{unique}", MERGE_PATCH, label).status == 200


def test_a_templates_selector_is_compiled_too(api: RawApi) -> None:
    body = template("a", selectors=[{"cel": {"expression": "device.health.score > 0.9"}}])
    [complaint] = causes(api.post(TEMPLATES, body, dryRun="All"))

    assert complaint.startswith(
        "spec.spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: "
    )


def test_a_class_may_change_and_its_selectors_compile(api: RawApi, unique: str) -> None:
    def selecting(expression: str) -> Json:
        return {"selectors": [{"cel": {"expression": expression}}]}

    stored(api.post(CLASSES, {"metadata": {"name": unique}, "spec": selecting("device.driver == 'a'")}))
    changed = api.patch(f"{CLASSES}/{unique}", MERGE_PATCH, {"spec": selecting("device.driver == 'b'")})
    [complaint] = causes(api.patch(f"{CLASSES}/{unique}", MERGE_PATCH, {"spec": selecting("device.health")}))

    assert stored(changed)["metadata"]["generation"] == 2
    assert complaint.startswith(
        'spec.selectors[0].cel.expression: Invalid value: "device.health": compilation failed'
    )


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("gpu.vitals.internal/gpu", None),
        ("gpu", "a name must be a domain-prefixed path, such as 'example.com/my-prop'"),
        ("kubernetes.io/gpu", 'must not have "kubernetes.io/" domain'),
    ],
)
def test_a_class_may_be_an_extended_resource(api: RawApi, name: str, complaint: str | None) -> None:
    body = {"metadata": {"name": "a"}, "spec": {"extendedResourceName": name}}
    answer = api.post(CLASSES, body, dryRun="All")

    if complaint is None:
        assert answer.status == 201
    else:
        assert causes(answer) == [f'spec.extendedResourceName: Invalid value: "{name}": {complaint}']


def rule(name: str, **taint: object) -> Json:
    selector = {"driver": DRIVER, "pool": "node-a", "device": "gpu-0"}
    spec = {"deviceSelector": selector, "taint": {"key": "k", "effect": "NoSchedule", **taint}}
    return {"metadata": {"name": name}, "spec": spec}


def test_the_time_of_a_rules_taint_moves_with_its_effect(api: RawApi, unique: str) -> None:
    old = "2026-01-01T00:00:00Z"
    stored(api.post(RULES, rule(unique, timeAdded=old)))
    value = api.patch(f"{RULES}/{unique}", MERGE_PATCH, {"spec": {"taint": {"value": "v"}}})
    effect = api.patch(f"{RULES}/{unique}", MERGE_PATCH, {"spec": {"taint": {"effect": "NoExecute"}}})

    assert stored(value)["spec"]["taint"]["timeAdded"] == old
    assert stored(effect)["spec"]["taint"]["timeAdded"] > old
    assert effect.body["metadata"]["generation"] == 3


def test_a_rule_wants_a_version_for_an_update(api: RawApi, unique: str) -> None:
    stored(api.post(RULES, rule(unique)))

    assert causes(api.put(f"{RULES}/{unique}", rule(unique))) == [
        "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
    ]


def test_a_rule_selects_by_name_alone(api: RawApi) -> None:
    body = rule("a")
    body["spec"]["deviceSelector"] = {"deviceClassName": "gpu"}
    answer = api.post(RULES, body, dryRun="All", fieldValidation="Strict")

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"].endswith('unknown field "spec.deviceSelector.deviceClassName"')


def test_a_rules_status_has_at_most_8_complete_conditions(api: RawApi, unique: str) -> None:
    stored(api.post(RULES, rule(unique)))
    path = f"{RULES}/{unique}/status"
    one = {"status": {"conditions": [condition("EvictionInProgress")]}}
    many = {"status": {"conditions": [condition(f"T{index}") for index in range(9)]}}

    assert (
        stored(api.patch(path, MERGE_PATCH, one))["status"]["conditions"][0]["type"] == "EvictionInProgress"
    )
    assert causes(api.patch(path, MERGE_PATCH, many)) == [
        "status.conditions: Too many: 9: must have at most 8 items"
    ]
