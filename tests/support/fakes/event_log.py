"""An event sink that stores its events."""

from gpuvitals.inventory.event import Event


class EventLog(list[Event]):
    """An EventSink: the events, oldest first."""

    def emit(self, event: Event) -> None:
        self.append(event)
