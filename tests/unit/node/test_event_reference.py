"""The page of events names every reason that the agent can give, and no other."""

import re
from pathlib import Path

from gpuvitals.health.unusable import FILE_REASONS
from gpuvitals.kubeletplugin.outcome import RefusalCode
from gpuvitals.model.health import HealthState

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "events.md"


def test_every_reason_is_documented_and_none_is_made_up() -> None:
    package = ROOT / "driver" / "gpuvitals"
    sources = [*(package / "node").rglob("*.py"), *(package / "kubeletplugin").rglob("*.py")]
    given = {
        reason
        for path in sources
        for reason in re.findall(r'reason="([A-Z][A-Za-z]+)"', path.read_text(encoding="utf-8"))
    }
    given |= {f"Gpu{state.value}" for state in HealthState} | {"CheckpointCorrupt", "CheckpointNewer"}
    given |= set(FILE_REASONS)
    page = PAGE.read_text(encoding="utf-8").partition("## Claims that are refused")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([A-Za-z]+)`", row)}

    assert given == named


def test_every_refusal_is_documented_and_none_is_made_up() -> None:
    page = PAGE.read_text(encoding="utf-8").partition("## Claims that are refused")[2]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([A-Za-z]+)`", row)}

    assert named == {code.value for code in RefusalCode}
