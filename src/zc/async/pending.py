# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The jobs that wait in a queue, as one sequence ordered by due time.

    front    jobs put back, ahead of all others
    inbox    where jobs are put that are due at once; claimed from here
    dated    where jobs are put that are due at another time
    later    jobs by due time, filed by dispatchers: what was dated, what came
             late to the inbox, or was left behind there
    lanes    jobs that a claim has passed because their quotas were full,
             one list for each set of quota names

A put writes a bucket of an inbox and the length, which merge with everything.
A claim takes the least key among the heads of these, leaving out lanes without
room; whatever it must pass, it files away into a lane, so that nothing is passed
twice.  Only a filter leaves jobs where they are: see `Place`.

`later` and `lanes` are BTrees, written by dispatchers only.  If a process dies,
its transaction has happened or not: each job is in one place.

A ZEO server that resolves conflicts imports this module, so it imports no more
than persistent, BTrees and ZODB.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from .claiming import NO_LANE, Blocked, Claim, Due, Lane, Overdue, Place, pack
from .containers import MergingMapping
from .housekeeping import Housekeeping
from .inbox import Inbox
from .keys import first_key, key_micros, last_key


def _never(job: Any) -> bool:
    return False


class Pending(Persistent):
    """See the module.  None of its methods commits."""

    def __init__(self):
        self.length = Length()
        self.inbox = Inbox()
        self.dated = Inbox()
        self.front = MergingMapping()
        self.aside = MergingMapping()
        self.later = OOBTree()
        self.lanes = OOBTree()

    # Putting.

    def put(self, key: int, job: Any, lane: Lane = NO_LANE, dated: bool = False):
        """Add a job; a negative key goes to the front.  Never conflicts.

        `dated` says that the key was not made for the present.
        """
        if key < 0:
            self.front.add(key, pack(job, lane))
        else:
            (self.dated if dated else self.inbox).add(key, pack(job, lane))
        self.length.change(1)

    # Claiming.

    def iter_due(
        self,
        now: int,
        blocked: Blocked,
        overdue: Overdue = _never,
        place: Place | None = None,
    ) -> Iterator[Due]:
        """The entries due at `now` (microseconds) whose lane has room, in order.

        `blocked` is asked of the lane of each entry again, since taking one may
        fill a quota; those of whose jobs `overdue` is true are yielded all the
        same.  Entries that are not taken stay where they are.  With a `place` the
        iteration begins there and moves it.
        """
        self.stop_early(False)
        return Claim(self, now, blocked, overdue, place).run()

    @property
    def more_to_file(self) -> bool:
        """Whether the last claim stopped early, and more may be due behind."""
        return getattr(self, "_v_more_to_file", False)

    def stop_early(self, value: bool = True) -> None:
        """Note that the claim at work leaves something for the next one."""
        self._v_more_to_file = value

    def take(self, due: Due) -> None:
        """Remove what `iter_due` yielded."""
        self._remove_from(due.home, due.key, due.lane)
        self.length.change(-1)

    def file(self, due: Due, home: OOBTree) -> Due:
        """Move an entry into `later` or a lane; return it as it is there."""
        self._remove_from(due.home, due.key, due.lane)
        return Due(self._insert(home, due.key, due.entry), due.entry, home)

    def _insert(self, home: OOBTree, key: int, entry: Any) -> int:
        # Two processes may have made the same key, though hardly ever.
        while not home.insert(key, entry):
            key += 1
        return key

    def lane(self, name: Lane) -> OOBTree:
        """The list of a lane, made when missing."""
        tree = self.lanes.get(name)
        if tree is None:
            tree = self.lanes[name] = OOBTree()
        return tree

    def _remove_from(self, home: Any, key: int, lane: Lane) -> None:
        if isinstance(home, MergingMapping):
            home.remove(key)
            return
        del home[key]
        if home is not self.later and not home:
            del self.lanes[lane]

    def next_due(self, after: int) -> int | None:
        """When the first job in `later` that is due later than `after` will be.

        In microseconds; None if there is none.
        """
        try:
            return key_micros(self.later.minKey(last_key(after) + 1))
        except ValueError:
            return None

    # Jobs that cannot be loaded.

    def set_aside(self, due: Due) -> None:
        """Remove a job from the sequence, and keep it."""
        self.take(due)
        self.aside.add(due.key, due.entry)

    def bring_back(self, due: Due) -> None:
        """Return what was set aside to the sequence."""
        self.file(due, self.later)
        self.length.change(1)

    # Housekeeping.

    def touched(self, oids: Iterable[bytes]) -> bool:
        """Note what another transaction wrote; whether `housekeep` is called for."""
        # Both, whatever the first says.
        return any([inbox.touched(oids) for inbox in (self.inbox, self.dated)])

    def housekeep(self, now: int) -> bool:
        """Keep the inboxes tidy; whether jobs were filed.  See `housekeeping`.

        `now` is in microseconds since the epoch.  To be called every few seconds,
        and when `touched` says so.
        """
        filed = False
        for inbox in (self.inbox, self.dated):
            for key, entry in Housekeeping(inbox, now).run():
                self._insert(self.later, key, entry)
                filed = True
        return filed

    # The sequence.

    def __len__(self) -> int:
        return self.length()

    def __iter__(self) -> Iterator[Any]:
        return (due.job for due in self._sorted())

    def _sorted(self) -> list[Due]:
        return sorted(self._all())

    def _all(self) -> Iterator[Due]:
        homes = chain([self.front, self.later], self.lanes.values())
        inboxes = (self.inbox, self.dated)
        buckets = chain.from_iterable(inbox.all_buckets() for inbox in inboxes)
        for home in chain(homes, buckets):
            for key, entry in home.items():
                yield Due(key, entry, home)

    def __getitem__(self, index: int) -> Any:
        return self._sorted()[index].job

    def pull(self, index: int = 0) -> Any:
        """Remove and return the job at `index`; IndexError when there is none."""
        due = self._sorted()[index]
        self.take(due)
        return due.job

    def remove(self, job: Any) -> None:
        """Remove `job`; LookupError when it is not here."""
        self.take(self._find(job))

    def relane(self, job: Any, lane: Lane) -> None:
        """Give `job` another lane; LookupError when it is not here."""
        due = self._find(job)
        if due.home is self.later:
            self.later[due.key] = pack(job, lane)
        elif isinstance(due.home, MergingMapping):
            due.home.replace(due.key, pack(job, lane))
        else:
            self._remove_from(due.home, due.key, due.lane)
            self.lane(lane)[due.key] = pack(job, lane)

    def _find(self, job: Any) -> Due:
        """Where `job` is; first where one with its due time would have been filed."""
        for due in chain(self._filed_near(job), self._all()):
            if due.job is job:
                return due
        raise LookupError("the job is not pending")

    def _filed_near(self, job: Any) -> Iterator[Due]:
        micros = getattr(job, "_begin_after", None)
        if micros is None:
            return
        low, high = first_key(micros), last_key(micros)
        for tree in chain([self.later], self.lanes.values()):
            for key, entry in tree.items(low, high):
                yield Due(key, entry, tree)
