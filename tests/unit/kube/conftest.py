"""Every test here releases its threads and sockets."""

from support.leaks import no_leaks

__all__ = ["no_leaks"]
