"""The result of a selector for one device: a match, a mismatch, or an error that ends the attempt to schedule the pod."""

from dataclasses import dataclass

import pytest

from contract.scheduling.world import Json, World, gpu

HEALTHY = (
    'device.attributes["health"].score > 90 && device.attributes["health"].xidErrors == 0 && '
    'device.attributes["health"].nvlinkStatus == "active"'
)
HINT = (
    "consider using CEL optional chaining (.? followed by orValue()) or guarding the check with has() for optional "
    "fields"
)


@dataclass(frozen=True, slots=True)
class Says:
    """An expression (D stands for the driver) and its outcome: match, or the error's text."""

    name: str
    expression: str
    outcome: bool | str


def no_key(key: str) -> str:
    return f"no such key: {key}. {HINT}"


def as_bool(kind: str, why: str) -> str:
    return f"CEL result of type {kind} could not be converted to bool: {why}"


INT = "unsupported type conversion from 'int' to bool"


TABLE = (
    Says("healthy", HEALTHY, True),
    Says("trap of a fraction", 'device.attributes["health"].low > 0.9', True),
    Says("int against string", 'device.attributes["health"].score == "95"', False),
    Says("int against double", 'device.attributes["health"].score == 95.0', True),
    Says("domain by dot", "device.attributes.health.score > 90", True),
    Says("own domain by driver", 'device.attributes[device.driver].uuid == "GPU-ab1"', True),
    Says("bare bool attribute", "device.attributes[D].healthy", True),
    Says("driver", "device.driver == D", True),
    Says("not shared", "!device.allowMultipleAllocations", True),
    # Missing attributes and domains.
    Says("domain in", '"nosuch" in device.attributes', False),
    Says("known domain in", '"health" in device.attributes', True),
    Says("domain missing", 'device.attributes["nosuch"].score > 90', no_key("score")),
    Says("domain missing is empty", 'size(device.attributes["nosuch"]) == 0', True),
    Says("domain missing has", 'has(device.attributes["nosuch"].score)', False),
    Says("domain missing bound", "cel.bind(a, device.attributes, size(a['nosuch']) == 0)", True),
    Says("domain optional", 'device.attributes[?"nosuch"].hasValue()', True),
    Says("domain optional chain", "device.attributes.?nosuch.?score.orValue(7) == 7", True),
    Says("key missing", 'device.attributes["health"].nosuch == 1', no_key("nosuch")),
    Says("key missing by index", 'device.attributes["health"]["nosuch"] == 1', no_key("nosuch")),
    Says("key has", 'has(device.attributes["health"].nosuch)', False),
    Says("key has not", '!has(device.attributes["health"].nosuch)', True),
    Says("key orValue", 'device.attributes["health"].?nosuch.orValue(0) == 0', True),
    Says("key orValue of present", 'device.attributes["health"].?score.orValue(0) == 95', True),
    Says("key optional index", 'device.attributes["health"][?"score"].orValue(0) == 95', True),
    Says("key in", '"score" in device.attributes["health"]', True),
    Says("capacity missing", 'device.capacity[D].nosuch.compareTo(quantity("1")) > 0', no_key("nosuch")),
    Says("capacity domain missing", 'size(device.capacity["nosuch"]) == 0', True),
    Says("guarded by or", 'true || device.attributes["health"].nosuch == 1', True),
    Says("guarded by a later or", 'device.attributes["health"].nosuch == 1 || true', True),
    Says("not guarded by and", 'device.attributes["health"].nosuch == 1 && true', no_key("nosuch")),
    Says("ternary", 'has(device.attributes["health"].nosuch) ? false : device.attributes["health"].score > 90', True),
    # Macros.
    Says("bind", 'cel.bind(h, device.attributes["health"], h.score > 90 && h.xidErrors == 0)', True),
    Says("in list", 'device.attributes["health"].nvlinkStatus in ["active", "none"]', True),
    Says("not in list", 'device.attributes["health"].nvlinkStatus in ["none"]', False),
    Says("exists", '["x", "active"].exists(s, s == device.attributes["health"].nvlinkStatus)', True),
    Says("all", "[90, 94].all(limit, device.attributes['health'].score > limit)", True),
    Says("exists_one", "[90, 99].exists_one(limit, device.attributes['health'].score > limit)", True),
    Says("over keys", 'device.attributes["health"].exists(key, key == "score")', True),
    Says("filter and map", "[1, 2, 3].filter(n, n > 1).map(n, n * 2) == [4, 6]", True),
    # Versions.
    Says("version greater", 'device.attributes[D].version.isGreaterThan(semver("550.54.9"))', True),
    Says("version less", 'device.attributes[D].version.isLessThan(semver("550.54.14"))', False),
    Says("version compareTo", 'device.attributes[D].version.compareTo(semver("551.0.0")) == -1', True),
    Says("version equal", 'device.attributes[D].version == semver("550.54.14")', True),
    Says("version above its candidate", 'device.attributes[D].version.isGreaterThan(semver("550.54.14-rc.1"))', True),
    Says("version parts", "device.attributes[D].version.major() == 550 && device.attributes[D].version.minor() == 54", True),
    Says("version normalized", 'device.attributes[D].version.isGreaterThan(semver("v550.1", true))', True),
    Says("version of nonsense", 'device.attributes[D].version.isGreaterThan(semver("550.1"))', "No Major.Minor.Patch elements found"),
    Says("version against text", 'device.attributes[D].version == "550.54.14"', "no such overload"),
    Says("version against another text", 'device.attributes[D].version == device.attributes[D].uuid', "no such overload"),
    Says("version unlike text", 'device.attributes[D].version != "550.54.14"', True),
    Says("text against version", '"550.54.14" == device.attributes[D].version', False),
    Says("version among texts", 'device.attributes[D].version in ["550.54.14"]', "internal error: runtime error: hash of unhashable type cel.Semver"),
    Says("version among versions", "device.attributes[D].version in [device.attributes[D].version]", True),
    Says("version against quantity", "device.attributes[D].version.isLessThan(device.capacity[D].memory)", "no such overload: isLessThan(kubernetes.Semver, kubernetes.Quantity)"),
    Says("version of letters", 'device.attributes[D].version == semver("1.2.x")', 'Invalid character(s) found in patch number "x"'),
    Says("version with zero in front", 'device.attributes[D].version == semver("01.2.3")', 'Major number must not contain leading zeroes "01"'),
    Says("isSemver of a number", "isSemver(dyn(1))", "no such overload: isSemver(int)"),
    Says("isSemver", 'isSemver("1.2.3") && !isSemver("v1.2.3")', True),
    # Quantities.
    Says("quantity compareTo", 'device.capacity[D].memory.compareTo(quantity("40Gi")) > 0', True),
    Says("quantity greater", 'device.capacity[D].memory.isGreaterThan(quantity("80Gi"))', False),
    Says("quantity less", 'device.capacity[D].memory.isLessThan(quantity("81Gi"))', True),
    Says("quantity equal", 'device.capacity[D].memory == quantity("81920Mi")', True),
    Says("quantity as integer", "device.capacity[D].memory.asInteger() == 85899345920", True),
    Says("quantity sums", 'device.capacity[D].memory.sub(quantity("79Gi")).compareTo(quantity("1Gi")) == 0', True),
    Says("quantity too large", 'quantity("8E").add(device.capacity[D].memory).add(quantity("8E")).asInteger() > 0', "cannot convert value to integer"),
    Says("quantity of nonsense", 'device.capacity[D].memory.isLessThan(quantity("many"))', "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
    Says("quantity against int", "device.capacity[D].memory.compareTo(device.attributes['health'].score) > 0", "no such overload: compareTo(kubernetes.Quantity, int)"),
    Says("quantity equals a number", "device.capacity[D].memory == dyn(1)", "no such overload"),
    Says("quantity of a number", "quantity(dyn(1)) == device.capacity[D].memory", "no such overload: quantity(int)"),
    # Strings.
    Says("startsWith", 'device.attributes[D].uuid.startsWith("GPU-")', True),
    Says("endsWith", 'device.attributes[D].uuid.endsWith("ab1")', True),
    Says("contains", 'device.attributes[D].uuid.contains("xyz")', False),
    Says("matches", 'device.attributes[D].uuid.matches("^GPU-[a-z]+[0-9]$")', True),
    Says("lowerAscii", 'device.attributes[D].uuid.lowerAscii() == "gpu-ab1"', True),
    Says("split", 'device.attributes[D].uuid.split("-")[1] == "ab1"', True),
    Says("substring", 'device.attributes[D].uuid.substring(4) == "ab1"', True),
    Says("replace", 'device.attributes[D].uuid.replace("GPU", "X") == "X-ab1"', True),
    Says("indexOf", 'device.attributes[D].uuid.indexOf("-") == 3', True),
    Says("size", "size(device.attributes[D].uuid) == 7", True),
    Says("trim", '" a ".trim() == "a"', True),
    Says("find", 'device.attributes[D].uuid.find("[0-9]+") == "1"', True),
    Says("findAll", 'device.attributes[D].uuid.findAll("[A-Z]+") == ["GPU"]', True),
    Says("format", '"%s-%d".format([device.driver, 5]) == D + "-5"', True),
    Says("upperAscii", 'device.attributes[D].uuid.upperAscii() == "GPU-AB1"', True),
    Says("lastIndexOf", '"a-b-c".lastIndexOf("-") == 3', True),
    Says("charAt", 'device.attributes[D].uuid.charAt(0) == "G"', True),
    Says("concatenated", 'device.attributes[D].uuid + "!" == "GPU-ab1!"', True),
    Says("find nothing", 'device.attributes[D].uuid.find("[x-z]+") == ""', True),
    Says("findAll with limit", '"a1b2c3".findAll("[0-9]", 2) == ["1", "2"]', True),
    # Results and errors.
    Says("int result", 'device.attributes["health"].score', as_bool("int", INT)),
    Says("string result", 'device.attributes["health"].nvlinkStatus', as_bool("string", "unsupported native conversion from string to 'bool'")),
    Says("version result", "device.attributes[D].version", as_bool("kubernetes.Semver", "type conversion error from 'Semver' to 'bool'")),
    Says("result of a choice", 'device.attributes["health"]["score"] > 90 ? device.attributes["health"].xidErrors : true', as_bool("int", INT)),
    Says("wrong operator", 'device.attributes["health"].nvlinkStatus > 90', "no such overload"),
    Says("wrong function", 'device.attributes["health"].score.startsWith("9")', "no such overload"),
    Says("division by zero", 'device.attributes["health"].score / device.attributes["health"].xidErrors == 1', "division by zero"),
    Says("index out of bounds", "[1, 2][device.attributes['health'].score] == 1", "index out of bounds: 95"),
    Says("int of a word", "int(device.attributes[D].uuid) == 1", "type conversion error from 'string' to 'int'"),
    Says("overflow", 'device.attributes["health"].score + 9223372036854775807 > 0', "integer overflow"),
    Says("bad pattern", 'device.attributes[D].uuid.matches(device.attributes[D].bad)', "error parsing regexp: missing closing ]: `[`"),
    Says("bad pattern to find", 'device.attributes[D].uuid.find(device.attributes[D].bad + "x") == ""', "Illegal regex: error parsing regexp: missing closing ]: `[x`"),
    Says("modulus by zero", 'device.attributes["health"].score % device.attributes["health"].xidErrors == 1', "modulus by zero"),
    Says("unsigned of a negative", "uint(-device.attributes['health'].score) > 1u", "unsigned integer overflow"),
    Says("timestamp of a word", 'timestamp(device.attributes[D].uuid) > timestamp("2020-01-01T00:00:00Z")', "type conversion error from 'string' to 'google.protobuf.Timestamp'"),
    Says("duration of a word", 'duration(device.attributes[D].uuid) > duration("1s")', "type conversion error from 'string' to 'google.protobuf.Duration'"),
    Says("int as condition", "!device.attributes['health'].score", "no such overload"),
    Says("int and true", "device.attributes['health'].score && true", "no such overload"),
    Says("int and false", "device.attributes['health'].score && false", False),
    Says("int or true", "device.attributes['health'].score || true", True),
    Says("value of nothing", "device.attributes['health'].?nosuch.value() == 1", "optional.none() dereference"),
    Says("most of nothing", "[].max() == 1", "max called on empty list"),
    Says("sum of words", "[device.attributes[D].uuid].sum() == 'x'", "no such overload: sum(list)"),
    Says("sum too large", "[9223372036854775807, 1].sum() > 0", "integer overflow"),
    Says("set of a number", "sets.contains(device.attributes['health'].score, [1])", "no such overload: sets.contains(int, list)"),
    Says("duration", 'duration("90s") < duration("2m")', True),
    Says("sets equivalent", "sets.equivalent([95, 95], [device.attributes['health'].score])", True),
    Says("sets intersects", "sets.intersects([1, 2], [device.attributes['health'].score])", False),
    Says("sets", "sets.contains([95, 96], [device.attributes['health'].score])", True),
    Says("list sum", "[1, 2].sum() == 3", True),
    Says("list min", "[3, 9].min() == 3 && [3, 9].isSorted()", True),
    Says("list max", "[3, 9].max() == 9", True),
)  # fmt: skip


def device(world: World) -> Json:
    return gpu(
        "gpu-0",
        95,
        capacity={"memory": "80Gi"},
        uuid={"string": "GPU-ab1"},
        version={"version": "550.54.14"},
        healthy={"bool": True},
        bad={"string": "["},
        **{
            "health/xidErrors": {"int": 0},
            "health/nvlinkStatus": {"string": "active"},
            "health/low": {"int": 5},
        },
    )


@pytest.mark.parametrize("says", TABLE, ids=lambda says: says.name)
def test_a_selector_about_a_device(world: World, says: Says) -> None:
    world.publish(device(world))
    expression = says.expression.replace("[D]", f'["{world.driver}"]').replace("== D", f'== "{world.driver}"')
    world.submit("train", world.exactly("gpu", expression))
    if says.outcome is True:
        assert world.taken("train") == ["gpu-0"]
    elif says.outcome is False:
        world.waits("train")
    else:
        where = f"claim {world.name}/train: selector #0 on device {world.driver}/{world.name}-a/gpu-0"
        world.broken("train", f"{where}: CEL runtime error: {says.outcome}")
