"""API servers accept every example as it is, and store all of it; what the linter calls illegal they refuse."""

from collections.abc import Mapping

import pytest
import yaml

from support.raw_api import Json, RawApi
from support.realkube.answers import stored
from support.worlds.example_cluster import CASES, api_path, objects


@pytest.mark.parametrize("case", CASES)
def test_every_object_of_a_case_is_created_and_kept_whole(api: RawApi, case: str) -> None:
    made = []
    try:
        for item in objects(case):
            answer = api.post(api_path(item), item, fieldValidation="Strict")
            assert stored(answer)["kind"] == item["kind"]
            made.append(item)
            assert lost(item, answer.body) == []
    finally:
        for item in reversed(made):
            api.delete(f"{api_path(item)}/{item['metadata']['name']}", gracePeriodSeconds=0)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("device.health.score > 0.9", "undefined field 'health'"),
        ("device.driver", "must evaluate to bool"),
        ("score > 90", "undeclared reference to 'score'"),
        ("device.driver ==", "Syntax error"),
    ],
)
def test_what_the_linter_calls_illegal_is_refused(api: RawApi, expression: str, said: str) -> None:
    item = yaml.safe_load(CLAIM)
    item["spec"]["devices"]["requests"][0]["exactly"]["selectors"] = [{"cel": {"expression": expression}}]
    answer = api.post(api_path(item), item)

    assert answer.status == 422
    assert said in answer.body["message"]


CLAIM = """
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: illegal, namespace: default}
spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.vitals.internal}}]}}
"""


def lost(sent: object, kept: object, path: str = "") -> list[str]:
    """Places of what was sent that are not in what is kept; what the server adds does not matter."""
    if isinstance(sent, Mapping):
        of: Json = dict(kept) if isinstance(kept, Mapping) else {}
        return [one for key, value in sent.items() for one in lost(value, of.get(key), f"{path}.{key}")]
    if isinstance(sent, list):
        beside = kept if isinstance(kept, list) and len(kept) == len(sent) else [None] * len(sent)
        pairs = enumerate(zip(sent, beside, strict=True))
        return [one for place, (value, has) in pairs for one in lost(value, has, f"{path}[{place}]")]
    return [] if sent == kept else [path]
