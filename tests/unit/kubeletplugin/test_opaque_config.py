"""Opaque parameters: untrusted text, refused by field."""

import json

import pytest

from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim, ConfigSource, OpaqueConfig
from gpuvitals.kubeletplugin.claims.opaque_config import environment, parse
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError
from support.worlds.plugin_world import DRIVER, uid_of

HEAD = {"apiVersion": "vitals.internal/v1alpha1", "kind": "GpuConfig"}


def text(**fields: object) -> bytes:
    return json.dumps({**HEAD, **fields}).encode()


def config(source: ConfigSource, *requests: str, driver: str = DRIVER, **env: str) -> OpaqueConfig:
    return OpaqueConfig(source=source, requests=requests, driver=driver, parameters=text(env=env))


def claim(*configs: OpaqueConfig) -> AllocatedClaim:
    return AllocatedClaim(namespace="ml", name="c", uid=uid_of(1), configs=configs)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (text(env={"NCCL_DEBUG": "x" * 10240}), "parameters has"),
        (b"[" * 1000 + b"]" * 1000, "parameters is nested deeper than 16"),
        (b'{"kind": "GpuConfig", "kind": "GpuConfig"}', "kind is given twice"),
        (b'{"kind": NaN}', "parameters holds NaN"),
        (b"{", "parameters is not JSON"),
        (b"\xff\xfe", "parameters is not JSON"),
        (b"[]", "parameters must be an object"),
        (b'{"kind": "GpuConfig"}', "apiVersion must be vitals.internal/v1alpha1, not 'null'"),
        (text(apiVersion="vitals.internal/v2"), "apiVersion must be"),
        (text(kind="Other"), "kind must be GpuConfig, not 'Other'"),
        (text(device="gpu-0"), "device is an unknown field"),
        (text(env={"NCCL_DEBUG": 1}), "env.NCCL_DEBUG must be a string, not '1'"),
        (text(env={"LD_PRELOAD": "/x.so"}), "env.'LD_PRELOAD' is not an allowed name"),
        (text(env={"NCCL_DEBUG": "a\nb"}), "env.NCCL_DEBUG must be"),
        (text(env={f"NCCL_{number}": "1" for number in range(33)}), "env has 33 variables, more than 32"),
        (text(env=["NCCL_DEBUG"]), "env must be an object"),
    ],
    ids=[
        "size",
        "depth",
        "duplicate",
        "nan",
        "torn",
        "utf-8",
        "list",
        "no version",
        "version",
        "kind",
        "unknown field",
        "type",
        "loader variable",
        "newline",
        "too many",
        "env list",
    ],
)
def test_bad_parameters_are_refused_with_the_field(parameters: bytes, problem: str) -> None:
    with pytest.raises(RefusedError) as caught:
        parse(parameters, "config 3", Naming())
    assert caught.value.refusal.code is RefusalCode.INVALID_CONFIG
    assert caught.value.refusal.message.startswith(f"config 3: {problem}")


def test_claim_wins_over_class_and_later_over_earlier_for_each_variable() -> None:
    configs = claim(
        config(ConfigSource.CLAIM, NCCL_DEBUG="claim"),
        config(ConfigSource.CLASS, NCCL_DEBUG="class", CUDA_CACHE_DISABLE="1"),
        config(ConfigSource.CLAIM, NCCL_ALGO="ring"),
        config(ConfigSource.CLAIM, NCCL_ALGO="tree"),
    )
    assert environment(configs, ("r",), Naming()) == (
        ("CUDA_CACHE_DISABLE", "1"),
        ("NCCL_ALGO", "tree"),
        ("NCCL_DEBUG", "claim"),
    )


@pytest.mark.parametrize(
    ("requests", "applies"),
    [((), True), (("gpu",), True), (("gpu/healthy",), True), (("gpu/other",), False), (("nic",), False)],
    ids=["all", "parent", "subrequest", "other subrequest", "other request"],
)
def test_config_applies_to_its_requests_and_to_their_parent(requests: tuple[str, ...], applies: bool) -> None:
    configs = claim(config(ConfigSource.CLAIM, *requests, NCCL_DEBUG="INFO"))
    assert bool(environment(configs, ("gpu/healthy",), Naming())) is applies


def test_config_of_another_driver_is_ignored_however_broken() -> None:
    foreign = OpaqueConfig(source=ConfigSource.CLAIM, driver="nic.example.com", parameters=b"\xff")
    assert environment(claim(foreign), ("r",), Naming()) == ()
