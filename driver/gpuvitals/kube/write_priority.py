"""Priority of slice writes over writes of claim status and events.

The slices decide which GPUs get pods. Three writes at once slow each other down, because they share the API server's cores
and this process. Claims and events therefore wait for a pending slice write, but only briefly: slices that cannot be
written must not block the others.
"""

import threading

LONGEST_SECONDS = 0.05


class SliceWritePriority:
    """Whether a slice write is pending. Thread safe."""

    def __init__(self) -> None:
        self._free = threading.Event()
        self._free.set()

    def begin(self) -> None:
        """Marks a slice write as pending."""
        self._free.clear()

    def end(self) -> None:
        """Marks it as made, or as given up."""
        self._free.set()

    def wait(self) -> None:
        """Returns once no slice write is pending, and after `LONGEST_SECONDS` in any case."""
        self._free.wait(LONGEST_SECONDS)
