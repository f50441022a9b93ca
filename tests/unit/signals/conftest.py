"""Every test here gives back what it took."""

from support.leaks import no_leaks

__all__ = ["no_leaks"]
