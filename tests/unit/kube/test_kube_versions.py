"""The table of supported Kubernetes versions."""

import pytest

from gpuvitals.kube.versions import NEWEST, OLDEST, VERSIONS, kubernetes_version


def test_every_minor_from_the_oldest_to_the_newest_has_one_row() -> None:
    assert [row.minor for row in VERSIONS] == [(1, minor) for minor in range(OLDEST[1], NEWEST[1] + 1)]
    assert all("v1" in row.resource_apis for row in VERSIONS)


@pytest.mark.parametrize(
    ("text", "name"), [("v1.37.2", "1.37"), ("1.34.4-gke.1", "1.34"), ("v1.33.9", None), ("master", None)]
)
def test_a_servers_own_word_finds_its_row(text: str, name: str | None) -> None:
    row = kubernetes_version(text)

    assert (row.name if row is not None else None) == name


def test_taints_are_kept_by_default_from_1_36_on() -> None:
    assert [row.name for row in VERSIONS if row.taints_kept] == ["1.36", "1.37"]
