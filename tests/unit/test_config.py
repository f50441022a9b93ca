"""The node agent's file: defaults, and errors that name the field."""

from pathlib import Path

import pytest

from gpuvitals.config import ConfigError, load_config
from gpuvitals.inventory.taints import ServiceMode


def test_without_a_file_the_defaults_hold() -> None:
    config = load_config(None)

    assert (config.naming.driver, config.forced_mode) == ("gpu.vitals.internal", None)


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("service_mode: withdraw\npolicy: {probation_seconds: 2}\n")
    config = load_config(path)

    assert config.forced_mode is ServiceMode.WITHDRAW
    assert config.health_policy.probation_seconds == 2


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("servicemode: taint", "servicemode"),
        ("service_mode: none", "service_mode"),
        ("poll_seconds: fast", "poll_seconds"),
        ("driver: UPPER", "driver"),
        ("policy: {dwel: 1}", "dwel"),
        ("policy: {dwell_seconds: -1}", "dwell_seconds"),
        ("- a", "the document"),
        ("a: [", "not YAML"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_file_and_the_field(
    tmp_path: Path, text: str, named: str
) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(path)

    assert str(path) in str(error.value)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        load_config(tmp_path / "absent")


@pytest.mark.parametrize(
    "text",
    [
        "policy: {{dwell_seconds: {long}}}",
        "policy: {{{long}: 1}}",
        "{long}: taint",
        "service_mode: {long}",
        "driver: {long}",
    ],
)
def test_the_error_of_a_long_text_is_short(tmp_path: Path, text: str) -> None:
    """Finding R2: the whole text stood in the error, and errors become events and log lines."""
    path = tmp_path / "node.yaml"
    path.write_text(text.format(long="x" * 20_000))
    with pytest.raises(ConfigError) as error:
        load_config(path)

    assert len(str(error.value)) < 2_000
