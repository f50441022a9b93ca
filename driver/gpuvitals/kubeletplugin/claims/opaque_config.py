"""Opaque parameters that a device class or a claim may set for this driver.

One kind, `GpuConfig`, with one field: `env`, environment variables of compute libraries for the device's containers.

    {"apiVersion": "vitals.internal/v1alpha1", "kind": "GpuConfig", "env": {"NCCL_DEBUG": "INFO"}}

The text is untrusted. It can't name a device, a path or a program.
"""

import json
import re
from typing import NoReturn

from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim, ConfigSource, OpaqueConfig
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError

KIND = "GpuConfig"
VERSION = "v1alpha1"
MAX_BYTES = 10 * 1024
"""Size of one config. Source: kubernetes/api resource/v1/types.go, OpaqueParametersMaxLength."""
MAX_DEPTH = 16
MAX_VARIABLES = 32
MAX_VALUE = 1024

_ENV_NAME = re.compile(r"(CUDA|CUBLAS|CUDNN|NCCL|NVSHMEM|UCX)_[A-Z0-9_]{1,60}")
"""Settings of compute libraries. Loader variables such as LD_PRELOAD are refused: hooks inherit them (CVE-2025-23266)."""
_ENV_VALUE = re.compile(r"[\x20-\x7e]*")


def environment(
    claim: AllocatedClaim, requests: tuple[str, ...], naming: Naming
) -> tuple[tuple[str, str], ...]:
    """The variables for a device of these `requests` (including the subrequest part), sorted by name.

    Configs of the claim override those of the class, and later ones override earlier ones, for each variable. Configs of
    other drivers are ignored. Raises RefusedError with the config, the field and the value.
    """
    merged: dict[str, str] = {}
    for position, config in _ordered(claim):
        if config.driver == naming.driver and _applies(config, requests):
            merged.update(parse(config.parameters, f"config {position}", naming))
    return tuple(sorted(merged.items()))


def parse(text: bytes, label: str, naming: Naming) -> dict[str, str]:
    """The `env` of one config. `label` names the config in errors. Raises RefusedError."""
    document = _document(text, label)
    expected = f"{naming.api_group}/{VERSION}"
    for field, want in (("apiVersion", expected), ("kind", KIND)):
        if document.get(field) != want:
            _refuse(label, field, f"must be {want}, not {_shown(document.get(field))}")
    return _env(document, label)


def _ordered(claim: AllocatedClaim) -> list[tuple[int, OpaqueConfig]]:
    numbered = list(enumerate(claim.configs))
    return sorted(numbered, key=lambda pair: pair[1].source is ConfigSource.CLAIM)


def _applies(config: OpaqueConfig, requests: tuple[str, ...]) -> bool:
    """A config without requests applies to all; a name matches a request with or without its subrequest part."""
    if not config.requests:
        return True
    names = {*requests, *(request.split("/")[0] for request in requests)}
    return not names.isdisjoint(config.requests)


def _document(text: bytes, label: str) -> dict[str, object]:
    if len(text) > MAX_BYTES:
        _refuse(label, "parameters", f"has {len(text)} bytes, more than {MAX_BYTES}")
    if _depth(text) > MAX_DEPTH:
        _refuse(label, "parameters", f"is nested deeper than {MAX_DEPTH}")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                _refuse(label, key, "is given twice")
            found[key] = value
        return found

    def constant(name: str) -> NoReturn:
        _refuse(label, "parameters", f"holds {name}, which is not JSON")

    try:
        # UTF-8 only: the depth above was counted for this encoding, and json.loads would accept UTF-16 too.
        document = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except ValueError as error:
        _refuse(label, "parameters", f"is not JSON: {error}", error)
    if not isinstance(document, dict):
        _refuse(label, "parameters", "must be an object")
    return document


def _depth(text: bytes) -> int:
    """The nesting depth, counted without recursion before the text is parsed."""
    deepest = depth = 0
    quoted = escaped = False
    for byte in text:
        if escaped:
            escaped = False
        elif quoted:
            escaped = byte == 0x5C
            quoted = byte != 0x22
        elif byte == 0x22:
            quoted = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _env(document: dict[str, object], label: str) -> dict[str, str]:
    unknown = sorted(set(document) - {"apiVersion", "kind", "env"})
    if unknown:
        _refuse(label, unknown[0], "is an unknown field")
    env = document.get("env", {})
    if not isinstance(env, dict):
        _refuse(label, "env", f"must be an object, not {_shown(env)}")
    if len(env) > MAX_VARIABLES:
        _refuse(label, "env", f"has {len(env)} variables, more than {MAX_VARIABLES}")
    for name, value in env.items():
        if _ENV_NAME.fullmatch(name) is None:
            _refuse(label, f"env.{_shown(name)}", f"is not an allowed name ({_ENV_NAME.pattern})")
        if not isinstance(value, str):
            _refuse(label, f"env.{name}", f"must be a string, not {_shown(value)}")
        if len(value) > MAX_VALUE or _ENV_VALUE.fullmatch(value) is None:
            _refuse(label, f"env.{name}", f"must be at most {MAX_VALUE} printable ASCII characters")
    return env


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return ascii(text[:80])


def _refuse(label: str, field: str, problem: str, cause: Exception | None = None) -> NoReturn:
    message = f"{label}: {ascii(field[:120])[1:-1]} {problem}; correct the claim or its device class"
    raise RefusedError(RefusalCode.INVALID_CONFIG, message) from cause
