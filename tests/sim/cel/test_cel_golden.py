"""CEL for devices against a golden table: the answers of Kubernetes 1.37.2, and its own compile and match cases."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuvitals_sim.cel import CelDevice, CelError, compile_errors, compiled
from gpuvitals_sim.cel.quantity import parse_quantity
from gpuvitals_sim.cel.semver import parse_semver

DRIVER = "gpu.vitals.internal"
HINT = (
    "consider using CEL optional chaining (.? followed by orValue()) "
    "or guarding the check with has() for optional fields"
)
DEVICE: dict[str, Any] = {
    "name": "gpu-0",
    "attributes": {
        "health/score": {"int": 5},
        "health/xidErrors": {"int": 0},
        "health/nvlinkStatus": {"string": "active"},
        "uuid": {"string": "GPU-1"},
        "driverVersion": {"version": "535.54.3"},
        "brand.example.com/ok": {"bool": True},
    },
    "capacity": {"memory": {"value": "80Gi"}, "other.example.com/share": {"value": "500m"}},
}
OWN = f"device.attributes['{DRIVER}']"
MEMORY = f"device.capacity['{DRIVER}'].memory"
HEALTH = "device.attributes['health']"

MATCHES = [
    (f"device.driver == '{DRIVER}'", True),
    (f"{HEALTH}.score > 0.9", True),
    (f"{HEALTH}.score > 90", False),
    (f"{HEALTH}.score == '100'", False),
    (f"{HEALTH}.score > 4 && {HEALTH}.xidErrors == 0 && {HEALTH}.nvlinkStatus == 'active'", True),
    (f"cel.bind(health, {HEALTH}, health.score > 4 && health.xidErrors == 0)", True),
    ("device.attributes.health.score == 5", True),
    ("'nosuch' in device.attributes", False),
    ("'health' in device.attributes", True),
    ("'nosuch' in device.attributes && device.attributes['nosuch'].x == 1", False),
    (f"{HEALTH}.?nosuch.orValue(0) == 0", True),
    (f"{HEALTH}.?nosuch.orValue('') == '' && [0, 1][0] == 0 && !false", True),
    ("device.attributes['nosuch'].?x.orValue(7) == 7", True),
    ("device.attributes[?'nosuch'].?x.orValue(7) == 7", True),
    (f"has({HEALTH}.score)", True),
    ("has(device.attributes['nosuch'].score)", False),
    (f"{HEALTH}.score > 3 || {HEALTH}.nosuch == 2", True),
    (f"{HEALTH}.nosuch == 2 || true", True),
    (f"{OWN}.uuid == 'GPU-1'", True),
    ("device.attributes['brand.example.com'].ok", True),
    ("device.attributes.exists(d, d == 'health' && device.attributes[d].score == 5)", True),
    (f"{HEALTH}.nvlinkStatus.matches('^act')", True),
    (f"{HEALTH}.nvlinkStatus.lowerAscii().split('t')[0] == 'ac'", True),
    ("!device.allowMultipleAllocations", True),
    (f"{OWN}.driverVersion.isGreaterThan(semver('535.9.0'))", True),
    (f"{OWN}.driverVersion.compareTo(semver('535.54.3')) == 0", True),
    (f"{OWN}.driverVersion.isLessThan(semver('v536', true))", True),
    (f"{OWN}.driverVersion.major() == 535", True),
    (f"'535.54.3' == {OWN}.driverVersion", False),
    ("isSemver('1.2.3') && !isSemver('v1.2.3') && isSemver('v1.2', true)", True),
    (f"{MEMORY}.compareTo(quantity('40Gi')) > 0", True),
    (f"{MEMORY} == quantity('81920Mi')", True),
    (f"{MEMORY}.isLessThan(quantity('80Gi'))", False),
    (f"{MEMORY}.add(1).asInteger() == 85899345921", True),
    ("device.capacity['other.example.com'].share.asApproximateFloat() == 0.5", True),
    ("!device.capacity['other.example.com'].share.isInteger()", True),
    ("isQuantity('1Gi') && !isQuantity('1GiB')", True),
]

RUNTIME_ERRORS = [
    (f"{HEALTH}.nosuch > 0", f"no such key: nosuch. {HINT}"),
    ("device.attributes['nosuch'].score == 1", f"no such key: score. {HINT}"),
    ("cel.bind(h, device.attributes['nosuch'], h.score > 1)", f"no such key: score. {HINT}"),
    (
        f"{HEALTH}.score",
        "CEL result of type int could not be converted to bool: unsupported type conversion from 'int' to bool",
    ),
    (f"{HEALTH}.score < 'x'", "no such overload"),
    (
        f"{MEMORY}.isGreaterThan(semver('1.0.0'))",
        "no such overload: isGreaterThan(kubernetes.Quantity, kubernetes.Semver)",
    ),
    (f"{OWN}.driverVersion == '535.54.3'", "no such overload"),
    (f"{HEALTH}.score / 0 == 1", "division by zero"),
]

COMPILE_ERRORS = [
    ("device.health.score > 0.9", "compilation failed: ERROR: <input>:1:7: undefined field 'health'"),
    ("device.atributes['x'].y == 1", "compilation failed: ERROR: <input>:1:7: undefined field 'atributes'"),
    ("foo == 1", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')"),
    ("device.driver > 3", "compilation failed: ERROR: <input>:1:15: found no matching overload for '_>_' applied to '(string, int)'"),
    ("quantity('1').compareTo(3) > 0", "compilation failed: ERROR: <input>:1:24: found no matching overload for 'compareTo' applied to 'kubernetes.Quantity.(int)'"),
    ("1", "must evaluate to bool or the unknown type, not int"),
    ("device.attributes['a']", "must evaluate to bool or the unknown type, not map(string, google.protobuf.Any)"),
    ("device.driver", "must evaluate to bool or the unknown type, not string"),
    ("device.driver ==", "compilation failed: ERROR: <input>:1:17: Syntax error: mismatched input '<EOF>' expecting"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), MATCHES, ids=[row[0] for row in MATCHES])
def test_expression_evaluates_as_in_kubernetes(expression: str, expected: bool) -> None:
    assert compile_errors(expression) is None
    assert compiled(expression).matches(CelDevice(DRIVER, DEVICE)) is expected


@pytest.mark.parametrize(("expression", "text"), RUNTIME_ERRORS, ids=[row[0] for row in RUNTIME_ERRORS])
def test_error_is_neither_match_nor_mismatch(expression: str, text: str) -> None:
    assert compile_errors(expression) is None
    with pytest.raises(CelError) as caught:
        compiled(expression).matches(CelDevice(DRIVER, DEVICE))
    assert str(caught.value) == text


@pytest.mark.parametrize(("expression", "start"), COMPILE_ERRORS, ids=[row[0] for row in COMPILE_ERRORS])
def test_compile_error_is_the_api_servers(expression: str, start: str) -> None:
    assert (compile_errors(expression) or "").startswith(start)


def test_compile_error_points_at_the_place_once() -> None:
    """The error that follows from the first one is left out, as cel-go does."""
    assert compile_errors("device.health.score > 0.9") == (
        "compilation failed: ERROR: <input>:1:7: undefined field 'health'\n | device.health.score > 0.9\n | ......^"
    )


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", Fraction(1)), ("80Gi", Fraction(80 * 1024**3)), ("1.5k", Fraction(1500)), ("100m", Fraction(1, 10)),
        ("1e3", Fraction(1000)), ("-2Ki", Fraction(-2048)), (".5", Fraction(1, 2)), ("1E", Fraction(10**18)),
        ("1n", Fraction(1, 10**9)), ("0.1n", Fraction(1, 10**9)), ("5.", Fraction(5)),
    ],
)  # fmt: skip
def test_quantity_is_exact_and_rounds_up_to_nano(text: str, amount: Fraction) -> None:
    assert parse_quantity(text) == amount


@pytest.mark.parametrize("text", ["", "Gi", "1GiB", "1 Gi", "--1", "1.2.3", "1KI"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        parse_quantity(text)


def test_versions_have_the_order_of_semver() -> None:
    """The example of semver.org section 11."""
    words = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
    ]
    backwards = list(reversed(words))
    assert sorted(backwards, key=parse_semver) == words
    assert parse_semver("1.0.0+a") == parse_semver("1.0.0+b")


@pytest.mark.parametrize("text", ["1.2", "01.2.3", "v1.2.3", "1.2.3-01", "1.2.3-", ""])
def test_a_loose_version_is_refused_unless_normalized(text: str) -> None:
    complaint = (
        r"no semantic version|No Major\.Minor\.Patch|Invalid character|must not contain leading zeroes"
    )
    with pytest.raises(ValueError, match=complaint):
        parse_semver(text)
    if text in ("1.2", "01.2.3", "v1.2.3"):
        assert parse_semver(text, True).major == 1


@given(st.text(max_size=60))
def test_any_text_compiles_or_says_why(text: str) -> None:
    answer = compile_errors(text)
    assert answer is None or answer
