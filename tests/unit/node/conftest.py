"""Every test in this folder has to release its threads, files and sockets."""

from support.leaks import no_leaks

__all__ = ["no_leaks"]
