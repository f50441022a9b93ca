"""After any existing override, the output of `gpuvitals report` can be read and names each GPU once."""

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gpuvitals.cli.gpu_names import GpuNames
from gpuvitals.cli.override_text import RULES, OverrideText
from gpuvitals.kube.slices.view import DeviceView
from gpuvitals.model.clock import Moment
from gpuvitals.signals.reports.text import ReportError, reports_from_json

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
_VIEWS = [
    DeviceView(driver="d", node="n", device=f"gpu-0000-{bus}-00-0", uuid=f"GPU-{bus}", bus_id=f"0000:{bus}:00.0", product="", in_service=True)
    for bus in ("3b", "5e")
]  # fmt: skip
NAMES = GpuNames(_VIEWS)
_SPELLINGS = st.sampled_from(
    [
        "gpu-0000-3b-00-0",
        "GPU-3b",
        "gpu-3B",
        "3b:00.0",
        "00000000:3B:00.0",
        "PCI:0000:3b:00",
        "0000:5E:00.0",
        "GPU-5e",
        "gpu-9",
    ]
)
_TIMES = st.sampled_from(
    [
        "2026-11-20T00:00:00Z",
        "2026-11-23T00:00:00+01:00",
        "2026-12-24T00:00:00Z",
        "9999-12-31T23:59:59-08:00",
        "soon",
        None,
    ]
)
_ENTRIES = st.fixed_dictionaries(
    {
        "gpu": st.one_of(_SPELLINGS, st.just(""), st.integers()),
        "say": st.sampled_from(["bad", "degraded", "clear", "baad"]),
        "by": st.just("joe"),
        "reason": st.sampled_from(["x", "", "y" * 200]),
        "at": _TIMES,
        "expires": _TIMES,
    }
)
_TEXTS = st.one_of(
    st.lists(st.one_of(_ENTRIES, st.integers(), st.text(max_size=5)), max_size=8).map(json.dumps),
    st.text(max_size=30),
)


@given(_TEXTS, _SPELLINGS, st.booleans())
def test_what_is_written_can_be_read_and_names_each_gpu_once(text: str, gpu: str, takes_back: bool) -> None:
    """Finding C1, finding C2."""
    entry = None if takes_back else {
        "gpu": gpu,
        "say": "bad",
        "by": "jane",
        "reason": "z",
        "at": NOW.isoformat(),
        "expires": (NOW + timedelta(days=7)).isoformat(),
    }  # fmt: skip
    try:
        written = OverrideText(text, NAMES, NOW, repair=False).edited(gpu, entry).text
    except ReportError:
        written = OverrideText(text, NAMES, NOW, repair=True).edited(gpu, entry).text
    said = reports_from_json((written or "[]").encode(), Moment(at=0.0, time=NOW), RULES)
    keys = [NAMES.key(each.gpu) for each in said]

    assert len(keys) == len(set(keys))
    assert (NAMES.key(gpu) in keys) is not takes_back
