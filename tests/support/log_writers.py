"""Formats of kernel logs by log services, containers and viewers, and the table of all formats."""

import json
from collections.abc import Callable, Iterable

from support.log_tools import (
    dmesg_delta,
    dmesg_human_decoded,
    dmesg_json,
    dmesg_json_decoded,
    french,
    french_dmesg,
    german,
    japanese,
    json_few_fields,
    json_pretty,
    json_seq,
    json_sse,
    lines,
    numbered_tag,
    short_delta,
    short_full,
    short_full_east,
    short_iso,
    short_iso_precise,
    short_precise,
    short_unix,
    verbose,
    wall,
    with_year,
    without_host,
)
from support.saved_logs import LogLine, dmesg, dmesg_human, journal_short, syslog

Form = Callable[[Iterable[LogLine]], bytes]


def google_cloud(log: Iterable[LogLine]) -> bytes:
    entries = [
        {
            "insertId": f"x{at}",
            "jsonPayload": {"MESSAGE": text, "SYSLOG_IDENTIFIER": "kernel", "_TRANSPORT": "kernel"},
            "labels": {"compute.googleapis.com/resource_name": "node-7"},
            "logName": "projects/p/logs/kern",
            "resource": {"labels": {"zone": "z"}, "type": "k8s_node"},
            "timestamp": wall(at).isoformat(),
        }
        for at, text in log
    ]
    return json.dumps(entries, indent=2).encode()


def serial_console(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, at, text: json.dumps(
            {"textPayload": f"[{at:12.6f}] {text}", "timestamp": time.isoformat()}
        ),
    )


def cloud_watch(log: Iterable[LogLine]) -> bytes:
    events = [
        {
            "timestamp": round(wall(at).timestamp() * 1000),
            "message": f"{wall(at):%b %e %H:%M:%S} ip-10 kernel: {text}",
        }
        for at, text in log
    ]
    return json.dumps({"events": events, "nextForwardToken": "f/1"}, indent=4).encode()


def docker_file(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, at, text: json.dumps(
            {"log": f"[{at:12.6f}] {text}\n", "stream": "stdout", "time": f"{time:%Y-%m-%dT%H:%M:%S.%f}Z"}
        ),
    )


def fluent_bit(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, at, text: json.dumps(
            {"date": time.timestamp(), "priority": 4, "sequence": 5, "sec": int(at), "usec": 0, "msg": text}
        ),
    )


def fluent_bit_plain(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, _, text: (
            f'[0] kmsg.0: [[{time.timestamp():.9f}, {{}}], {{"priority"=>4, "msg"=>{json.dumps(text)}}}]'
        ),
    )


def fluentd_file(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, _, text: (
            f"{time.isoformat()}\tkernel\t{json.dumps({'message': text, 'time': time.isoformat()})}"
        ),
    )


def container_runtime(log: Iterable[LogLine]) -> bytes:
    return lines(
        log, lambda time, at, text: f"{time:%Y-%m-%dT%H:%M:%S.%f}000+00:00 stdout F [{at:12.6f}] {text}"
    )


def kubectl(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, at, text: f"[pod/tail-x2x/tail] {time:%Y-%m-%dT%H:%M:%S.%f}000Z [{at:12.6f}] {text}",
    )


def compose(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda _, at, text: f"tail-1  | [{at:12.6f}] {text}")


def talos(log: Iterable[LogLine]) -> bytes:
    return lines(
        log, lambda time, _, text: f"10.5.0.2: kern: warning: [{time:%Y-%m-%dT%H:%M:%S.%f}Z]: {text}"
    )


def syslog_5424(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, at, text: (
            f'<4>1 {time.isoformat()} node-7 kernel - - [a@1 b="c\\]"] [{at:12.6f}] {text}'
        ),
    )


def syslog_3164(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"<4>{time:%b %e %H:%M:%S} node-7 kernel: {text}")


def vmkernel(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time:%Y-%m-%dT%H:%M:%S}.000Z cpu12:2097999)WARNING: {text}")


def vmkernel_8(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, _, text: (
            f"{time:%Y-%m-%dT%H:%M:%S}.000Z Wa(180) vmkernel: cpu12:2097999 opID=a9f5)WARNING: {text}"
        ),
    )


def listed(log: Iterable[LogLine]) -> bytes:
    return b"".join(b"/var/log/kern.log-20261201:" + line for line in syslog(log).splitlines(keepends=True))


def listed_around(log: Iterable[LogLine]) -> bytes:
    """As `grep -rn -B1` lists it: context lines with `-`, matches with `:`, and `--` between groups."""
    lines = syslog(log).splitlines(keepends=True)
    found = []
    for number, line in enumerate(lines, start=1):
        sep = b"-" if number % 2 else b":"
        found.append(b"kern.log" + sep + str(number).encode() + sep + line)
        if number % 3 == 0 and number < len(lines):
            found.append(b"--\n")
    return b"".join(found)


def listed_numbers(log: Iterable[LogLine]) -> bytes:
    return b"".join(
        b"%d:%s" % (at, line) for at, line in enumerate(dmesg(log).splitlines(keepends=True), start=1)
    )


def coloured(log: Iterable[LogLine]) -> bytes:
    return lines(
        log, lambda _, at, text: f"\x1b[32m[{at:12.6f}] \x1b[0m\x1b[33m{text[:6]}\x1b[0m{text[6:]}\x1b[K"
    )


def windows(log: Iterable[LogLine]) -> bytes:
    return b"\xef\xbb\xbf" + dmesg(log).replace(b"\n", b"\r\n")


def utf_16(log: Iterable[LogLine]) -> bytes:
    return dmesg_human(log).replace(b"\n", b"\r\n").decode().encode("utf-16")


def utf_16_without_mark(log: Iterable[LogLine]) -> bytes:
    return journal_short(log).decode().encode("utf-16-be")


def kubectl_of_dmesg_human(log: Iterable[LogLine]) -> bytes:
    return lines(
        log, lambda time, _, text: f"{time:%Y-%m-%dT%H:%M:%S.%f}Z [{time:%a %b %e %H:%M:%S %Y}] {text}"
    )


def kubectl_of_decoded(log: Iterable[LogLine]) -> bytes:
    return lines(
        log, lambda time, at, text: f"{time:%Y-%m-%dT%H:%M:%S.%f}Z kern  :warn  : [{at:12.6f}] {text}"
    )


def slashes(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time:%Y/%m/%d %H:%M:%S} node-7 kernel: {text}")


def relayed(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time:%b %e %H:%M:%S} node-7 node-7.example.com kernel: {text}")


def facility_first(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"{time.isoformat()} kern.warning node-7 kernel: {text}")


def numbered(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda _, at, text: f"{round(at):6}\t[{at:12.6f}] {text}")


def loki(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f'{time:%Y-%m-%dT%H:%M:%SZ} {{host="n", job="j"}} {text}')


def repeated(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, _, text: f"{time:%b %e %H:%M:%S} node-7 kernel: message repeated 3 times: [ {text}]",
    )


def quoted(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda _, at, text: f"> [{at:12.6f}] {text}")


def indented(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"    {time:%b %e %H:%M:%S} node-7 kernel: {text}")


def with_zeros(log: Iterable[LogLine]) -> bytes:
    return lines(log, lambda time, _, text: f"\0\0\0{time:%b %e %H:%M:%S} node-7 kernel: {text}")


def search_engine(log: Iterable[LogLine]) -> bytes:
    return lines(
        log,
        lambda time, _, text: json.dumps({"_source": {"message": [text], "@timestamp": [time.isoformat()]}}),
    )


PEOPLES: tuple[Form, ...] = (
    without_host, numbered_tag, german, french, japanese, french_dmesg, with_year, short_full, short_full_east, short_iso,
    short_iso_precise, short_precise, short_unix, short_delta, verbose, json_pretty, json_sse, json_seq, json_few_fields,
    dmesg_json, dmesg_json_decoded, dmesg_delta, dmesg_human_decoded, google_cloud, serial_console, cloud_watch,
    docker_file,
    fluent_bit, fluent_bit_plain, fluentd_file, container_runtime, kubectl, compose, talos, syslog_5424, syslog_3164, vmkernel,
    vmkernel_8, listed, listed_around, listed_numbers, coloured, windows, utf_16, utf_16_without_mark,
    kubectl_of_dmesg_human, kubectl_of_decoded, slashes, relayed, facility_first, numbered, loki, repeated, quoted, indented,
    with_zeros, search_engine,
)  # fmt: skip
"""Every form with time stamps that is not in `saved.STAMPED`."""
SIGNED: tuple[Form, ...] = (
    kubectl_of_decoded,
    verbose, json_pretty, json_sse, json_seq, dmesg_human_decoded, google_cloud, talos,
)  # fmt: skip
"""The formats with the author of each line. `dmesg -J -x` decodes the facility, and a file of JSON may have such fields."""
