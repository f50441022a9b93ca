"""Metrics and logs as an operator reads them."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import MonitorState, Source
from gpuvitals.model.snapshot import NodeFacts
from gpuvitals.observability.logs import configure, keys
from gpuvitals.observability.metrics import NodeMetrics
from support.worlds.snapshots import snapshot

NAMES = {
    "gpuvitals_build": {"version"},
    "gpuvitals_fault_to_publish_seconds": set(),
    "gpuvitals_signals": {"source", "kind", "verdict"},
    "gpuvitals_signal_gaps": {"source"},
    "gpuvitals_slice_writes": {"reason", "code"},
    "gpuvitals_slice_writes_suppressed": set(),
    "gpuvitals_claim_status_writes": {"code"},
    "gpuvitals_pending_faults": set(),
    "gpuvitals_prepare_seconds": {"op", "code"},
    "gpuvitals_prepared_claims": set(),
    "gpuvitals_checkpoint_recoveries": {"cause"},
    "gpuvitals_nvml_call_seconds": {"call"},
    "gpuvitals_nvml_hung": set(),
    "gpuvitals_health_stream_clients": set(),
    "gpuvitals_api_retries": {"code"},
    "gpuvitals_api_objects_skipped": {"resource"},
    "gpuvitals_devices": {"state"},
    "gpuvitals_devices_spared": set(),
    "gpuvitals_devices_left_out": set(),
    "gpuvitals_reports_refused": set(),
    "gpuvitals_statements": {"source"},
    "gpuvitals_device_score": {"bus_id"},
    "gpuvitals_omitted_versions": set(),
    "gpuvitals_monitor_watching": {"source"},
}


@pytest.fixture
def log_stream() -> Iterator[io.StringIO]:
    """Where gpuvitals logs go during the test; the logger is put back afterwards."""
    logger = logging.getLogger("gpuvitals")
    before = (logger.handlers[:], logger.level, logger.propagate)
    stream = io.StringIO()
    configure("info", stream)
    yield stream
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def fed() -> NodeMetrics:
    """Metrics of which every labelled one has a sample: without one the exposition shows no label."""
    metrics = NodeMetrics("1.2.3")
    blind = ((Source.KMSG, MonitorState.UNREADABLE),)
    metrics.watch_snapshot(SimpleNamespace(snapshot=replace(snapshot(2), facts=NodeFacts(monitors=blind))))
    metrics.signals.labels(source="kmsg", kind="XidReport", verdict="folded").inc()
    metrics.signal_gaps.labels(source="kmsg").inc()
    metrics.slice_writes.labels(reason="health", code="200").inc()
    metrics.claim_writes.labels(code="200").inc()
    metrics.prepare_seconds.labels(op="prepare", code="ok").observe(0.1)
    metrics.checkpoint_recoveries.labels(cause="torn").inc()
    metrics.nvml_call_seconds.labels(call="poll").observe(0.1)
    metrics.api_retries.labels(code="429").inc()
    metrics.standing_reports.labels(source="operator").set(1)
    metrics.objects_skipped.labels(resource="resourceslices").inc()
    return metrics


def test_the_exposition_has_these_metrics_with_these_labels_and_no_other() -> None:
    families = text_string_to_metric_families(generate_latest(fed().registry).decode())
    shown = {
        family.name.removesuffix("_info"): {label for sample in family.samples for label in sample.labels}
        - {"le"}
        for family in families
        if not family.name.endswith("_created")
    }

    assert shown == NAMES


def test_the_snapshot_is_read_at_scrape_time() -> None:
    metrics = NodeMetrics("1.2.3")
    metrics.watch_snapshot(SimpleNamespace(snapshot=snapshot(8, {3: HealthState.UNHEALTHY})))
    text = generate_latest(metrics.registry).decode()

    assert 'gpuvitals_devices{state="Unhealthy"} 1.0' in text
    assert 'gpuvitals_device_score{bus_id="0000:03:00.0"} 0.0' in text
    assert 'gpuvitals_build_info{version="1.2.3"} 1.0' in text


def test_before_the_first_snapshot_there_is_nothing_to_say() -> None:
    metrics = NodeMetrics("1.2.3")
    metrics.watch_snapshot(SimpleNamespace(snapshot=None))

    assert "gpuvitals_devices{" not in generate_latest(metrics.registry).decode()


def test_a_log_is_one_json_line_with_its_keys(log_stream: io.StringIO) -> None:
    logging.getLogger("gpuvitals.test").info("verdict", extra=keys(gpu="GPU-1", xid=79))

    (line,) = log_stream.getvalue().splitlines()
    shown = json.loads(line)
    assert list(shown) == ["time", "level", "logger", "event", "gpu", "xid"]
    assert shown["time"].endswith("Z")
    assert {key: shown[key] for key in list(shown)[1:]} == {
        "level": "info",
        "logger": "test",
        "event": "verdict",
        "gpu": "GPU-1",
        "xid": 79,
    }


def test_no_control_byte_reaches_the_log_raw_and_none_is_lost(log_stream: io.StringIO) -> None:
    controls = "".join(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029))
    logging.getLogger("gpuvitals.test").info("said %s", controls, extra=keys(reason=controls))

    written = log_stream.getvalue()
    assert written.endswith("}\n")
    assert all(" " <= character <= "~" for character in written[:-1])
    assert json.loads(written)["reason"] == controls
    assert json.loads(written)["event"] == f"said {controls}"


def test_a_traceback_stays_on_the_line_under_error(log_stream: io.StringIO) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("gpuvitals.test").exception("stopped")

    (line,) = log_stream.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(line)["error"]


def test_a_level_below_the_chosen_one_is_not_written(log_stream: io.StringIO) -> None:
    logging.getLogger("gpuvitals.test").debug("poll")

    assert log_stream.getvalue() == ""
