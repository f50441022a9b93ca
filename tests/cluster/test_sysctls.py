"""The machine's kernel settings are as before when the last cluster has ended."""

import contextlib
import threading
from pathlib import Path

from cluster import sysctls
from cluster.machine import PREFIX, is_last
from support.realkube.workspace import Workspace

_SETTING = "vm/overcommit_memory"
_MEET_SECONDS = 0.3


def _settings(root: Path) -> Path:
    setting = root / _SETTING
    setting.parent.mkdir(parents=True)
    setting.write_text("0\n")
    return setting


def test_of_two_clusters_that_end_together_the_last_restores_the_settings(tmp_path: Path) -> None:
    """Finding K12. Each release waits for the other as long as it can: together they would both leave it to the other."""
    setting, record = _settings(tmp_path / "sys"), tmp_path / f"{PREFIX}sysctls.json"
    both = threading.Barrier(2)

    def release(folder: Path) -> None:
        last = is_last(folder)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(_MEET_SECONDS)
        if last:
            sysctls.restore(record, tmp_path / "sys")

    workspaces = [Workspace(tmp_path, prefix=PREFIX, release=release) for _ in range(2)]
    for workspace in workspaces:
        workspace.__enter__()
        sysctls.remember(record, tmp_path / "sys")
        setting.write_text("1\n")
    endings = [threading.Thread(target=each.__exit__, args=(None, None, None)) for each in workspaces]
    for ending in endings:
        ending.start()
    for ending in endings:
        ending.join(10)

    assert setting.read_text() == "0\n"
    assert not record.exists()


def test_a_second_cluster_does_not_remember_the_settings_of_the_first(tmp_path: Path) -> None:
    """Finding K12. The first record is the machine's own; a later one would be a kubelet's."""
    setting, record = _settings(tmp_path / "sys"), tmp_path / "record.json"
    sysctls.remember(record, tmp_path / "sys")
    setting.write_text("1\n")
    sysctls.remember(record, tmp_path / "sys")
    sysctls.restore(record, tmp_path / "sys")

    assert setting.read_text() == "0\n"
