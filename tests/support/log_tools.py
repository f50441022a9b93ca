"""Formats of kernel logs by tools on the machine: syslog daemons, journalctl and dmesg, in several languages."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from support.saved_logs import EPOCH, LogLine

_FRENCH = ["janv.", "févr.", "mars", "avril", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc."]
_WEEKDAYS = ["lun.", "mar.", "mer.", "jeu.", "ven.", "sam.", "dim."]


def wall(at: float) -> datetime:
    return EPOCH + timedelta(seconds=at)


def lines(log: Iterable[LogLine], line: Callable[[datetime, float, str], str]) -> bytes:
    return "".join(f"{line(wall(at), at, text)}\n" for at, text in log).encode()


def without_host(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time:%b %e %H:%M:%S} kernel: {text}")


def numbered_tag(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time:%b %e %H:%M:%S} node-7 kernel[0]: {text}")


def german(log: Iterable[LogLine]) -> bytes:
    return lines(
        log, lambda time, _, text: f"{time:%b %d %H:%M:%S} node-7 kernel: {text}".replace("Dec", "Dez")
    )


def french(log: Iterable[LogLine]) -> bytes:
    return lines(
        log, lambda time, _, text: f"{_FRENCH[time.month - 1]} {time:%d %H:%M:%S} node-7 kernel: {text}"
    )


def japanese(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time.month}月 {time:%d %H:%M:%S} node-7 kernel: {text}")


def french_dmesg(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, _, text: (
            f"[{_WEEKDAYS[time.weekday()]} {_FRENCH[time.month - 1]} {time:%e %H:%M:%S %Y}] {text}"
        ),
    )


def with_year(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time:%b %e %H:%M:%S %Y} node-7 kern.warn kernel: {text}")


def short_full(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time:%a %Y-%m-%d %H:%M:%S} UTC node-7 kernel: {text}")


def short_full_east(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, _, text: (
            f"{time + timedelta(hours=1):%a %Y-%m-%d %H:%M:%S.%f} CET node-7 kernel: {text}"
        ),
    )


def short_iso(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time:%Y-%m-%dT%H:%M:%S%z} node-7 kernel: {text}")


def short_iso_precise(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time:%Y-%m-%dT%H:%M:%S.%f%z} node-7 kernel: {text}")


def short_precise(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time:%b %e %H:%M:%S.%f} node-7 kernel: {text}")


def short_unix(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time.timestamp():.6f} node-7 kernel: {text}")


def short_delta(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda _, at, text: f"[{at:12.6f} <{1.5:12.6f} >] node-7 kernel: {text}")


def verbose(log: Iterable[LogLine]) -> bytes:
    def entry(time: datetime, at: float, text: str) -> str:
        head = f"{time:%a %Y-%m-%d %H:%M:%S.%f} UTC [s=0c4e;i={round(at):x};b={'a' * 32};m=1;t=2;x=3]"
        message = text.replace("\n", "\n            ")
        return f"{head}\n    PRIORITY=4\n    _TRANSPORT=kernel\n    SYSLOG_FACILITY=0\n    MESSAGE={message}"

    return lines(log, entry)


def json_pretty(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: json.dumps(journal_entry(time, text), indent="\t"))


def json_sse(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"data: {json.dumps(journal_entry(time, text))}\n")


def json_seq(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"\x1e{json.dumps(journal_entry(time, text))}")


def json_few_fields(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, _, text: json.dumps(
            {
                key: value
                for key, value in journal_entry(time, text).items()
                if key in ("__REALTIME_TIMESTAMP", "MESSAGE")
            }
        ),
    )


def dmesg_json(log: Iterable[LogLine]) -> bytes:
    records = [
        f'      {{\n         "pri": 4,\n         "time": {at:12.6f},\n         "msg": {json.dumps(text)}\n      }}'
        for at, text in log
    ]
    return ('{\n   "dmesg": [\n' + ",".join(records).lstrip("\n") + "\n   ]\n}\n").encode()


def dmesg_json_decoded(log: Iterable[LogLine]) -> bytes:
    records = [{"fac": "kern", "pri": "warn", "time": at, "msg": text} for at, text in log]
    return json.dumps({"dmesg": records}).encode()


def dmesg_delta(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda _, at, text: f"[{at:12.6f} <{1.5:12.6f}>] {text}")


def dmesg_human_decoded(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"kern  :warn  : [{time:%a %b %e %H:%M:%S %Y}] {text}")


def journal_entry(time: datetime, text: str) -> dict[str, str]:
    return {
        "__REALTIME_TIMESTAMP": str(round(time.timestamp() * 1e6)),
        "_BOOT_ID": "a" * 32,
        "_TRANSPORT": "kernel",
        "SYSLOG_FACILITY": "0",
        "MESSAGE": text,
    }
