"""Every page of docs/guides has a test that runs its blocks."""

import pytest

from support.guide_blocks import ROOT, blocks

FOLLOWED_BY = {
    "claims.md": "tests/examples/test_guide.py",
    "coexistence.md": "tests/cluster/test_guides.py",
    "dcgm.md": "tests/chart/test_guides.py",
    "eviction.md": "tests/cluster/test_eviction.py",
    "install.md": "tests/cluster/test_guides.py",
    "policy.md": "tests/chart/test_policies.py",
    "replay.md": "tests/unit/cli/test_replay.py",
    "replace-a-gpu.md": "tests/sim/node/test_replaced_node.py",
    "reports.md": "tests/cluster/test_guides.py",
    "without-gpus.md": "tests/sim/demo/test_without_gpus.py",
}
PAGES = sorted(path.name for path in (ROOT / "docs" / "guides").glob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_with_blocks_is_followed_by_a_test_that_names_it(page: str) -> None:
    """Finding U3: a page that no test follows has commands that cannot work."""
    if blocks(f"docs/guides/{page}"):
        assert page in (ROOT / FOLLOWED_BY[page]).read_text(encoding="utf-8")
    else:
        assert page not in FOLLOWED_BY
