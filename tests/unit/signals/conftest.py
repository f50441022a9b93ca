"""Every test here must leave no thread, process or file descriptor behind."""

from support.leaks import no_leaks

__all__ = ["no_leaks"]
