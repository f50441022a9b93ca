"""Waiting for file descriptors, also above 1023."""

import fcntl
import os
import resource

import pytest

from gpuvitals.signals.fd_poll import readable


def test_what_can_be_read_is_told_and_an_ended_pipe_too() -> None:
    quiet, closed, spoken = os.pipe(), os.pipe(), os.pipe()
    try:
        os.write(spoken[1], b"x")
        os.close(closed[1])
        assert readable((quiet[0], closed[0], spoken[0]), 0.0) == {closed[0], spoken[0]}
    finally:
        for file in (*quiet, closed[0], *spoken):
            os.close(file)


def test_a_descriptor_above_1023_can_be_waited_for() -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1100:
        pytest.skip("the limit of open files is too low to have a descriptor above 1023")
    reader, writer = os.pipe()
    high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 1050)
    try:
        os.write(writer, b"x")
        assert readable((high,), 1.0) == {high}
    finally:
        for file in (reader, writer, high):
            os.close(file)
