"""Stage 2 of 10: decodes a classified kernel line into a Signal. Pure."""

from typing import assert_never

from gpuvitals.model.clock import Moment
from gpuvitals.model.signal import (
    IdentityReport,
    InitFailureReport,
    Nvlink5Detail,
    OffBusReport,
    RecoveryActionReport,
    Signal,
    Source,
    SwitchReport,
    XidReport,
)
from gpuvitals.signals.kmsg.xid_line import Line, LineKind


def kernel_signal(line: Line, seen: Moment, sequence: int) -> Signal | None:
    """The signal of a line; None for a line without news of a GPU's health."""
    match line.kind:
        case LineKind.XID:
            return _xid(line, seen, sequence)
        case LineKind.OFF_BUS:
            return OffBusReport(source=Source.KMSG, seen=seen, bus_id=line.bus_id)
        case LineKind.INIT_FAILED:
            return InitFailureReport(source=Source.KMSG, seen=seen, bus_id=line.bus_id)
        case LineKind.RECOVERY_ACTION:
            return _recovery_action(line, seen)
        case LineKind.IDENTITY:
            # A serial number alone does not identify a GPU: the agent knows UUIDs and bus IDs.
            return (
                IdentityReport(source=Source.KMSG, seen=seen, bus_id=line.bus_id, uuid=line.uuid)
                if line.uuid
                else None
            )
        case LineKind.SXID:
            return _switch(line, seen)
        case LineKind.NONE | LineKind.SPOOFED | LineKind.MALFORMED:
            return None
        case _:
            assert_never(line.kind)


def _xid(line: Line, seen: Moment, sequence: int) -> XidReport:
    assert line.code is not None
    detail = None
    if line.nvlink5 is not None:
        words = line.nvlink5.words
        detail = Nvlink5Detail(
            unit=line.nvlink5.unit,
            intr_info=words[0] if words else None,
            error_status=words[1] if len(words) > 1 else None,
        )
    return XidReport(
        source=Source.KMSG,
        seen=seen,
        bus_id=line.bus_id,
        code=line.code,
        gpu_instance=line.gpu_instance,
        compute_instance=line.compute_instance,
        pid=line.pid,
        process=line.process,
        link=line.link,
        fatal=line.fatal,
        caused_by=line.caused_by,
        words=line.words,
        nvlink5=detail,
        record_seq=sequence,
    )


def _recovery_action(line: Line, seen: Moment) -> RecoveryActionReport:
    assert line.action_from is not None
    assert line.action_to is not None
    return RecoveryActionReport(
        source=Source.KMSG,
        seen=seen,
        bus_id=line.bus_id,
        action_from=line.action_from,
        action_to=line.action_to,
    )


def _switch(line: Line, seen: Moment) -> SwitchReport | None:
    if line.bus_id is None or line.code is None or line.switch is None or line.is_detail:
        # Severity and data lines belong to an error that an earlier line has reported.
        return None
    return SwitchReport(
        source=Source.KMSG,
        seen=seen,
        switch_bus_id=line.bus_id,
        switch=line.switch,
        code=line.code,
        link=line.link,
        fatal=line.fatal,
    )
