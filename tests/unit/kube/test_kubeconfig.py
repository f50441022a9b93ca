"""A kubeconfig is a person's file: several of them are one, and a broken one is an error that names it."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuvitals.kube.errors import Permanent
from gpuvitals.kube.kubeconfig import configuration
from gpuvitals.kube.transport import ConnectSettings, connect

PLACES = {"a": "http://127.0.0.1:1001", "b": "http://127.0.0.1:1002"}
BROKEN = {
    "cut off": "clusters: [",
    "a word": "text",
    "a list": "- x",
    "a number for a list": "{current-context: a, contexts: 3}",
    "a number for a context": "{current-context: a, contexts: [3]}",
    "no text": "\x00",
    "a cluster without a server": """
clusters: [{name: c, cluster: {}}]
users: [{name: u, user: {}}]
contexts: [{name: a, context: {cluster: c, user: u}}]
current-context: a
""",
}


def written(folder: Path, name: str, *, current: bool = True) -> Path:
    path = folder / name
    path.write_text(
        f"""apiVersion: v1
kind: Config
clusters: [{{name: {name}, cluster: {{server: "{PLACES[name]}"}}}}]
users: [{{name: {name}, user: {{token: of-{name}}}}}]
contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}}}}}]
{f"current-context: {name}" if current else ""}
""",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize(
    ("first_is_current", "expected"), [(True, PLACES["a"]), (False, PLACES["b"])], ids=["both", "second"]
)
def test_of_several_files_the_first_that_sets_a_context_wins(
    tmp_path: Path, first_is_current: bool, expected: str
) -> None:
    """Finding U4: as kubectl chooses; another choice would write a report into another cluster."""
    files = [written(tmp_path, "a", current=first_is_current), tmp_path / "absent", written(tmp_path, "b")]

    assert configuration(Path(":".join(map(str, files)))).host == expected


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_kubeconfig_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    """Finding U4."""
    path = tmp_path / "config"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(Permanent) as caught:
        connect(ConnectSettings(kubeconfig=path))

    assert str(caught.value).startswith(f"kubeconfig {path}: ")
    assert "\n" not in str(caught.value)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_no_content_of_a_kubeconfig_is_an_error_of_another_kind(tmp_path: Path, content: bytes) -> None:
    """Finding U4."""
    path = tmp_path / "config"
    path.write_bytes(content)

    with pytest.raises(Permanent, match="^kubeconfig "):
        connect(ConnectSettings(kubeconfig=path))


@pytest.mark.parametrize("url", ["ftp://host", "http://a b", "https://[::1", "http://host:99999999"])
def test_a_server_that_is_no_url_is_one_line_that_names_it(url: str) -> None:
    """Finding U4."""
    with pytest.raises(Permanent, match="^server .*is no URL of an API server"):
        connect(ConnectSettings(url=url))
