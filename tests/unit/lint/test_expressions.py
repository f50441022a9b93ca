"""Selectors with mistakes, each with its rule and a part of the finding; and selectors without mistakes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuvitals.inventory.naming import Naming
from gpuvitals.lint.cel.facts import facts
from gpuvitals.lint.cel.parser import parsed
from gpuvitals.lint.cel.tokens import SyntaxProblem
from gpuvitals.lint.findings import RULES, Level
from gpuvitals.lint.selectors import problems
from gpuvitals.lint.vocabulary import Vocabulary
from gpuvitals_sim.cel import compile_errors

H = 'device.attributes["health"]'
OWN = 'device.attributes["gpu.vitals.internal"]'
STANDARD = 'device.attributes["resource.kubernetes.io"]'
CAPACITY = 'device.capacity["gpu.vitals.internal"]'
MEMORY = f"{CAPACITY}.memory"
VOCABULARY = Vocabulary()

WRONG = [
    (f"{H}.score > 0.9", "fraction", "write > 90"),
    (f"0.7 <= {H}.score", "fraction", "write >= 70"),
    (f"{H}.score == 0.5", "fraction", "probably not intended; write == 50"),
    (f"cel.bind(h, {H}, h.score > 0.9)", "fraction", "write > 90"),
    (f"{H}.?score.orValue(0) > 0.9", "fraction", "write > 90"),
    (f"{H}.score in [0.9, 1.0]", "fraction", "health/score"),
    (f"{H}.xidErrors < 0.5", "fraction", "whole number"),
    (f"{H}.score > 100", "always", "false for every device"),
    (f"{H}.score >= 900", "always", "false for every device"),
    (f"{H}.score <= 100", "always", "true for every device"),
    (f"{H}.score == 101", "always", "false for every device"),
    (f"{H}.score > -1", "always", "true for every device"),
    (f"{H}.coverage < 0", "always", "false for every device"),
    (f"{H}.xidErrors >= 0", "always", "true for every device"),
    (f"{H}.score == '100'", "type", "always false with a string; write a number without quotes"),
    (f"{H}.score != '100'", "type", "always true"),
    (f"{H}.score > '90'", "type", "fails the pod's scheduling"),
    (f"{H}.score in ['90']", "type", "always false"),
    (f"{H}.score == true", "type", "with a bool"),
    (f"{H}.state == 1", "type", "a string in quotes"),
    (f"null == {H}.state", "type", "with null"),
    (f"{H}.?score.orValue('') == 100", "type", "write orValue(0)"),
    (f"{OWN}.?driverVersion.orValue(semver('0.0.0')) == '535.54'", "type", 'compareTo(semver("535.54.0"))'),
    (f"{OWN}.?driverVersion.orValue('0') == semver('1.0.0')", "type", 'orValue(semver("0.0.0"))'),
    (f"{OWN}.?driverVersion.orValue(semver('0.0.0')).isLessThan('535')", "type", 'semver("535.0.0")'),
    (f"{MEMORY} > '40Gi'", "type", 'compareTo(quantity("40Gi"))'),
    ("device.health.score > 90", "no-such-field", 'write device.attributes["health"].score'),
    ("device.health['score'] > 90", "no-such-field", "does not compile"),
    ("device['health'].score > 90", "no-such-field", "does not compile"),
    ("device.atributes['health'].score > 90", "no-such-field", "write device.attributes"),
    ("devce.attributes['health'].score > 90", "no-such-field", "write device"),
    ("health.score > 90", "no-such-field", "'health' is undefined"),
    (f"{H}.scor > 90", "unknown-attribute", "did you mean health/score?"),
    (f"{H}['nvlinkstatus'] == 'active'", "unknown-attribute", "did you mean health/nvlinkStatus?"),
    (f"has({H}.xiderrors)", "unknown-attribute", "did you mean health/xidErrors?"),
    (f"{OWN}.score > 90", "unknown-attribute", 'write device.attributes["health"].score'),
    (f"{H}.uuid == 'GPU-1'", "unknown-attribute", 'write device.attributes["gpu.vitals.internal"].uuid'),
    ("device.attributes['Health'].score > 90", "unknown-attribute", "did you mean health/score?"),
    ("device.capacity['gpu.vitals.internal'].mem.isInteger()", "unknown-attribute", "as a capacity"),
    (f"{OWN}.profile == '1g.10gb'", "missing-key", 'write .?profile.orValue("")'),
    (f"{OWN}.parentUUID == 'GPU-1'", "missing-key", 'write .?parentUUID.orValue("")'),
    (f"{CAPACITY}.decoders.compareTo(quantity('1')) >= 0", "missing-key", "decoders"),
    (f"{CAPACITY}.?decoder.orValue(quantity('0')) == quantity('1')", "unknown-attribute", "decoders"),
    (f"{OWN}.type == 'MIG'", "unknown-value", "mig"),
    (f"{OWN}.minor < 4", "missing-key", "write .?minor.orValue(0)"),
    (f"{STANDARD}.numaNode == 0", "missing-key", "write .?numaNode.orValue(0)"),
    (f"{OWN}.driverVersion.isGreaterThan(semver('535.0.0'))", "missing-key", 'orValue(semver("0.0.0"))'),
    (f"has({OWN}.profile) || {OWN}.profile == '1g.10gb'", "missing-key", "profile"),
    (f"has({OWN}.profile) ? true : {OWN}.profile == '1g.10gb'", "missing-key", "profile"),
    (f"{H}.score", "not-bool", "the expression is a whole number (health/score)"),
    (f"cel.bind(h, {H}, h.state)", "not-bool", "the expression is a string"),
    (f"{H}.score && true", "not-bool", "an operand that must be a boolean is a whole number"),
    (f"!{H}.state", "not-bool", "a string"),
    (f"{H}.?score", "not-bool", "optional"),
    ("1", "not-bool", "a constant"),
    ("device.driver", "not-bool", "device.driver"),
    (H, "not-bool", "a map"),
    (f"{H}.state == 'healthy'", "unknown-value", 'write "Healthy"'),
    (f"{H}.class in ['high', 'good']", "unknown-value", 'health/class is never "good"'),
    (f"{H}.nvlinkStatus != 'inactive'", "unknown-value", 'write "active"'),
    (f"{H}.reason == 'xid79'", "unknown-value", 'write "Xid79"'),
    (f"{H}.recoveryAction == 'Reset'", "unknown-value", 'write "ResetGpu"'),
    (f"{OWN}.type == 'GPU'", "unknown-value", 'write "gpu"'),
    (f"{H}.score >", "syntax", "found the end"),
    ("", "syntax", "found the end"),
    (f"{H}.score > 90 and true", "syntax", "'and'"),
    (f"{H}.state == 'Healthy", "syntax", "unterminated string"),
    (f"{H}.state = 'Healthy'", "syntax", "unexpected character '='"),
    (f"{H}.state == 'Heal\\qthy'", "syntax", "escape"),
    (f"({H}.score > 90", "syntax", "')'"),
]  # fmt: skip

RIGHT = [
    f'{H}.score > 90 && {H}.xidErrors == 0 && {H}.nvlinkStatus in ["active", "none"]',
    f'cel.bind(health, {H}, health.score > 90 && health.state == "Healthy")',
    f"{H}.score > 90.0",
    f"double({H}.score) / 100.0 > 0.9",
    f"{H}.score >= 100 || {H}.score > 0",
    f"{H}.class in ['high', 'medium']",
    "device.attributes.health.score > 90 && device.attributes['health']['score'] < 100",
    f"{H}.?score.orValue(0) > 90 && {H}[?'score'].orValue(0) > 90",
    f"{H}.reason == 'Xid999' || {H}.lastXid == 79",
    f"has({OWN}.profile) && {OWN}.profile == '1g.10gb'",
    f"{CAPACITY}.?multiprocessors.orValue(quantity('0')).compareTo(quantity('14')) >= 0",
    f"has({CAPACITY}.jpegEngines) && {CAPACITY}.jpegEngines.compareTo(quantity('1')) >= 0",
    f"{OWN}.profile == '1g.10gb' && has({OWN}.profile)",
    f"!has({OWN}.profile) || {OWN}.profile == '1g.10gb'",
    f"has({OWN}.profile) ? {OWN}.profile == '1g.10gb' : false",
    f"!('profile' in {OWN}) ? false : {OWN}.profile == '1g.10gb'",
    f"cel.bind(own, {OWN}, 'minor' in own && own.minor < 4)",
    f"{OWN}.?minor.hasValue() && {OWN}.minor < 4",
    f"{OWN}.?driverVersion.orValue(semver('0.0.0')).compareTo(semver('535.54.3')) >= 0",
    f"{MEMORY}.compareTo(quantity('40Gi')) >= 0",
    f"{OWN}.productName.lowerAscii().matches('h100') && {OWN}.uuid.startsWith('GPU-')",
    f"['H100', 'A100'].exists(name, {OWN}.productName.contains(name))",
    "device.attributes.exists(d, d == 'health' && device.attributes[d].score > 90)",
    f"type({H}.score) == int // a remark",
    "device.driver == 'gpu.vitals.internal' && !device.allowMultipleAllocations",
    "device.attributes['vendor.example.com'].ok",
    "device.attributes['vendor.example.com'].speed > 0.5",
    f'{H}.score > 0x5A && {OWN}.uuid == r\'GPU-1\' && {OWN}.uuid != """GPU\n2"""',
    f"{{'a': 1}}['a'] == 1 && [1, 2,].size() == 2 && -1 < {H}.score - 1 && {H}.score % 2 in [0, 1]",
]


@pytest.mark.parametrize(("expression", "rule", "said"), WRONG, ids=[f"{row[1]}: {row[0]}" for row in WRONG])
def test_rule_speaks_up_alone_and_says_what_to_write(expression: str, rule: str, said: str) -> None:
    try:
        found = [(one.rule, one.text) for one in problems(facts(expression), VOCABULARY)]
    except SyntaxProblem as error:
        found = [("syntax", str(error))]

    assert {name for name, _ in found} == {rule}, found
    assert any(said in text for _, text in found), found


@pytest.mark.parametrize("expression", RIGHT)
def test_a_selector_that_is_right_has_no_finding_and_compiles(expression: str) -> None:
    assert list(problems(facts(expression), VOCABULARY)) == []
    assert compile_errors(expression) is None


def test_active_is_a_hint_and_no_finding() -> None:
    (only,) = problems(facts(f'{H}.nvlinkStatus == "active"'), VOCABULARY)

    assert (only.rule, only.level) == ("nvlink-none", Level.HINT)
    assert 'nvlinkStatus in ["active", "none"]' in only.text


def test_every_rule_about_expressions_is_in_the_table() -> None:
    find_in_any_domain = {
        "driver-filter", "all-tainted", "toleration", "unknown-taint", "nvlink-none", "reference", "unused-claim",
    }  # fmt: skip

    assert {row[1] for row in WRONG} | find_in_any_domain == set(RULES)


def test_other_names_of_driver_and_domain_are_followed() -> None:
    other = Vocabulary(Naming(driver="gpu.example.com", attribute_domain="vitals"))

    assert list(problems(facts(f"{H}.score > 0.9"), other)) == []
    (only,) = problems(facts("device.attributes['vitals'].score > 0.9"), other)
    assert only.rule == "fraction"


def test_what_the_api_server_refuses_to_compile_is_never_right() -> None:
    """The linter's own parser and the one of the simulation agree on the table."""
    refused = [row[0] for row in WRONG if row[1] in ("syntax", "no-such-field")]

    assert [text for text in refused if compile_errors(text) is None] == []


WORDS = st.sampled_from(
    [
        "device", ".", "attributes", "capacity", "driver", '["health"]', "score", "?", "(", ")", "[", "]", "{", "}",
        ",", ":", "&&", "||", "!", "-", "+", "in", "==", ">", "<=", "0.9", "90", "'100'", "true", "null", "has",
        "cel.bind(h,", "orValue", "exists(x,", "h", "x", "//", "\n", "r'", "\\", '"""', "`a`", "0x", "1e9", "semver",
    ]
)  # fmt: skip


@given(
    st.one_of(
        st.text(max_size=80),
        st.lists(WORDS, max_size=40).map(" ".join),
        st.lists(WORDS, max_size=40).map("".join),
    )
)
def test_no_text_makes_the_rules_raise(text: str) -> None:
    try:
        found = facts(text)
    except SyntaxProblem:
        return
    assert all(one.rule in RULES and 0 <= one.at <= len(text) for one in problems(found, VOCABULARY))


OPERANDS = st.sampled_from(
    [
        "device.driver", "1", "0.5", '"a"', "true", "null", "x", "[1, 2]", '{"a": 1}', "has(a.b)", "-1", "(1)", "a.?b",
        "f(1)", "a.f(1, 2)", "T{a: 1}", "[?x]", 'a[?"b"]', "1u", "0xff", 'b"x"', r"r'\d'", ".5", "1e3", "a.`b-c`",
        "cel.bind(h, 1, h)", "!true", "a ? b : c", '{?"a": x}', "x.y.z", "in", r'"\q"', "--1", "!-1", "a.in", "a.true",
        ".a", ".f()", "[1,]", "f(1,)", "{}", "T{}", "T{a: 1,}", "x{y: 1}.z", "1.", '{"a": 1,}', "a.b{c: 1}",
    ]
)  # fmt: skip
OPERATORS = st.sampled_from(["&&", "||", "==", "<", "in", "+", "-", "*", "/", "%", ">=", "?", ":"])


@given(st.lists(st.tuples(OPERANDS, OPERATORS), max_size=3), OPERANDS)
def test_the_grammar_is_that_of_the_simulations_library(parts: list[tuple[str, str]], last: str) -> None:
    text = " ".join([*(word for part in parts for word in part), last])
    is_syntax = "Syntax error" in (compile_errors(text) or "")
    try:
        parsed(text)
        refused = False
    except SyntaxProblem:
        refused = True

    assert refused is is_syntax


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("(" * 5000, id="parentheses"),
        pytest.param("!" * 9000 + "true", id="negations"),
        pytest.param("device" + ".a" * 5000, id="fields"),
        pytest.param("1" + "+1" * 5000, id="sums"),
        pytest.param("has(a.b)||" * 1000 + "true", id="a long or"),
        pytest.param("(true==" * 60 + "(a && b)" + ")" * 60, id="nested equalities"),
        pytest.param("1" * 9000, id="digits"),
        pytest.param("true?" * 3000, id="ternaries"),
    ],
)
@pytest.mark.timeout(10)
def test_an_expression_of_any_depth_ends_soon(text: str) -> None:
    try:
        facts(text)
    except SyntaxProblem:
        return
