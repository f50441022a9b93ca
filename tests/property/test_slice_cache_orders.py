"""The cache of slices ends true in whatever order answers, watch events, lists and foreign writes arrive."""

from dataclasses import dataclass
from itertools import product

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.kube.slices.cache import SliceCache
from gpuvitals.kube.slices.codec import ObservedSlice
from support.long_runs import cases, share

NAMES = ("00000-a", "00001-b")


@dataclass(frozen=True)
class Event:
    """One change as the watch shows it."""

    gone: bool
    name: str
    uid: str
    version: int


class History:
    """A server with two names, the cache of one writer, and everything that is on its way to it."""

    def __init__(self) -> None:
        self.revision = 0
        self.stored: dict[str, tuple[str, int]] = {}
        self.events: list[Event] = []
        self.told = 0
        self.answer: tuple[str, bytes | ObservedSlice] | None = None
        self.cache = SliceCache("note", {})
        self.cache.settle([], "0", rewound=False)
        self.buried: set[str] = set()

    def step(self, word: tuple[str, int]) -> None:
        what, which = word
        getattr(self, what)(NAMES[which])
        shown = {entry.uid for entry in self.cache.view()[0]}
        assert not shown & self.buried, "an object came back that was known to be deleted"

    def foreign_put(self, name: str) -> None:
        uid = self.stored.get(name, (f"uid-{self.revision + 1}", 0))[0]
        self.revision += 1
        self.stored[name] = (uid, self.revision)
        self.events.append(Event(gone=False, name=name, uid=uid, version=self.revision))

    def foreign_delete(self, name: str) -> None:
        if name in self.stored:
            uid, _ = self.stored.pop(name)
            self.revision += 1
            self.events.append(Event(gone=True, name=name, uid=uid, version=self.revision))

    def own_put(self, name: str) -> None:
        self.own_answer(name)
        self.foreign_put(name)
        self.answer = ("put", body(name, *self.stored[name]))

    def own_delete(self, name: str) -> None:
        self.own_answer(name)
        known = next((entry for entry in self.cache.view()[0] if entry.name == name), None)
        if known is not None and self.stored.get(name) == (known.uid, int(known.resource_version)):
            self.foreign_delete(name)
            self.answer = ("delete", known)

    def own_list(self, name: str) -> None:
        self.own_answer(name)
        self.answer = ("list", listed(self.stored, self.revision))

    def own_answer(self, name: str) -> None:
        answer, self.answer = self.answer, None
        if answer is None:
            return
        what, content = answer
        if isinstance(content, ObservedSlice):
            self.cache.record_delete(content)
            self.buried.add(content.uid)
        elif what == "put":
            self.cache.record_write(content)
        else:
            self.cache.replace(content)

    def lost_answer(self, name: str) -> None:
        """A writer that got no answer lists before it does anything else."""
        if self.answer is not None:
            self.answer = None
            self.own_list(name)

    def watch(self, name: str) -> None:
        if self.told == len(self.events):
            self.cache.observe_version(str(self.revision))
            return
        event = self.events[self.told]
        self.told += 1
        if event.gone:
            self.cache.observe_delete(event.name, event.uid)
            self.buried.add(event.uid)
        else:
            self.cache.observe(body(event.name, event.uid, event.version))
        self.cache.observe_version(str(event.version))

    def relist(self, name: str) -> None:
        """The watch expires (410), so later changes are only visible in a list."""
        self.told = len(self.events)
        self.cache.settle(
            [body(stored, *entry) for stored, entry in self.stored.items()],
            str(self.revision),
            rewound=False,
        )

    def ends_true(self) -> None:
        self.own_answer("")
        while self.told < len(self.events):
            self.step(("watch", 0))
        assert self.shown() == self.stored

    def shown(self) -> dict[str, tuple[str, int]]:
        return {entry.name: (entry.uid, int(entry.resource_version)) for entry in self.cache.view()[0]}


def body(name: str, uid: str, version: int) -> bytes:
    pool = {"name": "n", "generation": 1, "resourceSliceCount": 2}
    metadata = {"name": name, "uid": uid, "resourceVersion": str(version)}
    return msgspec.json.encode({"metadata": metadata, "spec": {"pool": pool, "nodeName": "n"}})


def listed(stored: dict[str, tuple[str, int]], revision: int) -> bytes:
    items = b",".join(body(name, *entry) for name, entry in stored.items())
    return b'{"metadata":{"resourceVersion":"%d"},"items":[%s]}' % (revision, items)


WORDS = (
    "foreign_put",
    "foreign_delete",
    "own_put",
    "own_delete",
    "own_list",
    "own_answer",
    "lost_answer",
    "watch",
    "relist",
)
steps = st.tuples(st.sampled_from(WORDS), st.sampled_from((0, 0, 1)))


def play(course: list[tuple[str, int]]) -> None:
    history = History()
    for word in course:
        history.step(word)
    history.ends_true()


@given(st.lists(steps, max_size=25))
@settings(max_examples=500, deadline=None)
def test_in_any_order_nothing_deleted_comes_back_and_the_cache_ends_true(
    course: list[tuple[str, int]],
) -> None:
    """Finding K3."""
    play(course)


@pytest.mark.long
@pytest.mark.timeout(1200)
@given(st.lists(steps, max_size=40))
@settings(max_examples=share(10_000), deadline=None)
def test_in_ten_thousand_orders_the_cache_ends_true(course: list[tuple[str, int]]) -> None:
    """Finding K3."""
    play(course)


SHORT = ("own_put", "foreign_put", "foreign_delete", "own_answer", "watch", "relist")


def test_every_short_order_of_one_slice_ends_true() -> None:
    """Finding K3: all courses of five steps."""
    for words in product(SHORT, repeat=5):
        play([(word, 0) for word in words])


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_order_of_seven_steps_of_one_slice_ends_true() -> None:
    """Finding K3."""
    for words in cases(list(product(SHORT, repeat=7))):
        play([(word, 0) for word in words])
