# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""The inbox, its buckets and its housekeeping.

Entries are strings here, keys small integers: an inbox does not look into them.
"""

import itertools

import pytest
from ZODB.POSException import ConflictError
from ZODB.serialize import referencesf

from tests.support.queueing import World
from zc.async_ import buckets, clock, housekeeping
from zc.async_.buckets import SIZE, Bucket
from zc.async_.housekeeping import KEEP, LINGER, SPARSE, Housekeeping
from zc.async_.inbox import Inbox

PASSING = LINGER + 1


class Party:
    """One connection's view of the inbox."""

    def __init__(self, seat):
        self.seat = seat

    @property
    def inbox(self):
        return self.seat.root["inbox"]

    def put(self, *keys):
        for key in keys:
            self.inbox.add(key, f"entry {key}")

    def commit(self):
        self.seat.commit()

    def seen(self):
        """The keys that a claimer finds."""
        buckets = itertools.chain(self.inbox.buckets(), self.inbox.late_buckets())
        return [key for bucket in buckets for key in bucket]

    def all(self):
        return sorted(key for bucket in self.inbox.all_buckets() for key in bucket)

    def claim(self, count=None):
        """Take keys, by default all there are; return them."""
        taken = []
        for bucket in itertools.chain(self.inbox.buckets(), self.inbox.late_buckets()):
            for key in bucket:
                if count is not None and len(taken) == count:
                    return taken
                bucket.remove(key)
                taken.append(key)
        return taken

    def claim_and_commit(self, count=None):
        self.seat.begin()
        taken = self.claim(count)
        self.commit()
        return taken

    def keep(self):
        """Keep house and commit; return the keys that were found."""
        self.seat.begin()
        found = Housekeeping(self.inbox, clock.micros(clock.utcnow())).run()
        self.commit()
        return [key for key, entry in found]

    def touched(self, oids):
        self.seat.begin()
        return self.inbox.touched(oids)


class InboxWorld(World):
    """Three connections to an inbox: two put, and a dispatcher keeps house."""

    def __init__(self):
        super().__init__()
        self.seat.root["inbox"] = Inbox()
        self.seat.commit()
        self.one, self.other, self.dispatcher = (Party(self.open()) for _ in range(3))
        self.sync()

    def written(self, commit):
        """The object ids that a commit wrote."""
        before = self.db.lastTransaction()
        commit()
        return {
            record.oid
            for found in self.db.storage.iterator()
            if found.tid > before
            for record in found
        }


@pytest.fixture
def world():
    with InboxWorld() as world:
        yield world


def fill(world, count=SIZE, start=1):
    world.one.seat.begin()
    world.one.put(*range(start, start + count))
    world.one.commit()
    world.sync()


# Putting.


def test_entries_are_found_in_the_order_of_putting(world):
    fill(world, 5 * SIZE + 3)
    assert world.dispatcher.seen() == list(range(1, 5 * SIZE + 4))


def test_a_put_writes_the_bucket_and_no_more(world):
    fill(world, 3)
    world.one.put(4)
    written = world.written(world.one.commit)
    assert written == {world.one.inbox.tail.bucket._p_oid}


def test_a_put_into_a_full_bucket_makes_a_successor_and_moves_the_tail(world):
    fill(world)
    full = world.one.inbox.tail.bucket
    world.one.put(SIZE + 1)
    tail = world.one.inbox.tail
    assert tail.bucket is not full and tail.bucket.seq == full.seq + 1
    written = world.written(world.one.commit)
    assert written == {full._p_oid, tail._p_oid, tail.bucket._p_oid}


def test_putters_at_once_merge(world):
    fill(world, 3)
    world.one.put(4, 6)
    world.other.put(5, 7)
    world.one.commit()
    world.other.commit()
    world.sync()
    assert world.dispatcher.seen() == list(range(1, 8))


def test_more_may_be_merged_into_a_bucket_than_it_takes(world):
    fill(world, SIZE - 1)
    world.one.put(100)
    world.other.put(101)
    world.one.commit()
    world.other.commit()
    world.sync()
    assert world.dispatcher.seen()[-2:] == [100, 101]


def test_successors_made_by_two_putters_at_once_are_both_found(world):
    fill(world)
    world.one.put(100)
    world.other.put(101)
    world.one.commit()
    world.other.commit()
    world.sync()
    assert world.dispatcher.seen() == [*range(1, SIZE + 1), 100, 101]


def test_branches_are_walked_in_the_order_of_their_keys(world):
    fill(world)
    world.other.put(103)
    world.one.put(100, *range(200, 200 + 5 * SIZE))
    world.one.commit()
    world.other.commit()
    world.sync()
    seen = world.dispatcher.seen()
    assert seen.index(103) < SIZE * 3
    assert len(seen) == len(set(seen)) == 6 * SIZE + 2


@pytest.mark.parametrize("longer_first", [True, False])
def test_the_tail_follows_the_longer_branch(world, longer_first):
    fill(world)
    world.one.put(*range(100, 100 + 3 * SIZE))
    world.other.put(500)
    writers = [world.one, world.other]
    for writer in writers if longer_first else reversed(writers):
        writer.commit()
    world.sync()
    tail = world.dispatcher.inbox.tail.bucket
    assert list(tail)[0] == 100 + 2 * SIZE and not tail.successors


def test_a_putter_of_a_shorter_branch_goes_on_in_the_longer_one(world):
    fill(world)
    world.one.put(*range(100, 100 + 3 * SIZE))
    world.other.put(500)
    world.one.commit()
    world.other.commit()
    world.sync()
    world.other.put(501)
    assert 501 in world.other.inbox.tail.bucket
    world.other.commit()
    world.sync()
    assert 501 in world.dispatcher.seen()


# Claiming.


def test_a_putter_and_a_claimer_never_conflict(world):
    fill(world, 2 * SIZE)
    world.one.put(100)
    world.dispatcher.claim()
    world.dispatcher.commit()
    world.one.commit()
    world.sync()
    assert world.dispatcher.seen() == [100]


def test_a_putter_who_saw_a_full_bucket_merges_with_one_who_empties_it(world):
    fill(world)
    world.one.put(100)
    world.dispatcher.claim()
    world.dispatcher.commit()
    world.one.commit()
    world.sync()
    assert world.dispatcher.seen() == [100]


def test_two_who_claim_the_same_conflict(world):
    fill(world, 3)
    world.dispatcher.claim()
    world.other.claim(1)
    world.dispatcher.commit()
    with pytest.raises(ConflictError):
        world.other.commit()


def test_two_who_claim_different_entries_of_a_bucket_merge(world):
    fill(world, 3)
    for party, key in (world.dispatcher, 1), (world.other, 3):
        next(iter(party.inbox.buckets())).remove(key)
        party.commit()
    world.sync()
    assert world.dispatcher.seen() == [2]


def test_emptied_buckets_are_not_walked_again(world):
    fill(world, 20 * SIZE)
    world.dispatcher.claim_and_commit()
    world.dispatcher.keep()
    assert len(list(world.dispatcher.inbox.buckets())) == 1


def test_what_was_seen_is_remembered_whatever_the_cache_drops(world):
    fill(world, 20 * SIZE)
    world.dispatcher.claim_and_commit()
    world.dispatcher.keep()
    world.dispatcher.seat.connection.cacheMinimize()
    assert len(list(world.dispatcher.inbox.buckets())) == 1
    world.advance(seconds=PASSING)
    world.dispatcher.keep()
    assert len(world.dispatcher.inbox.passed) == 1


def test_a_claim_that_is_aborted_hides_nothing(world):
    fill(world, 3 * SIZE)
    world.dispatcher.claim()
    world.dispatcher.seat.abort()
    assert len(world.dispatcher.seen()) == 3 * SIZE


def test_a_claim_that_is_aborted_after_a_savepoint_hides_nothing(world):
    fill(world, 3 * SIZE)
    world.dispatcher.keep()  # a dispatcher does not look again by itself
    world.dispatcher.claim()
    world.dispatcher.seat.manager.savepoint()
    assert world.dispatcher.seen() == []
    world.dispatcher.seat.abort()
    assert len(world.dispatcher.seen()) == 3 * SIZE
    assert len(world.dispatcher.all()) == 3 * SIZE


def test_a_leaf_that_putters_have_left_is_done_with_when_emptied(world):
    fill(world)
    world.one.put(*range(100, 100 + SIZE + 1))
    world.other.put(500)
    world.one.commit()
    world.other.commit()
    world.dispatcher.claim_and_commit()
    world.dispatcher.keep()
    assert list(world.dispatcher.inbox.buckets()) == [
        world.dispatcher.inbox.tail.bucket
    ]


# Late arrivals.


def put_late(world, keys=(1000,), before=None):
    """Put with an old view, into buckets that were emptied meanwhile.

    The oids that the late commit wrote.
    """
    fill(world, SIZE - 4)
    world.one.put(*keys)
    world.other.put(*range(100, 100 + 2 * SIZE))
    world.other.commit()
    world.dispatcher.claim_and_commit()
    world.dispatcher.seat.begin()
    assert world.dispatcher.seen() == []
    if before is not None:
        before()
    return world.written(world.one.commit)


def test_one_who_claims_by_hand_finds_late_arrivals(world):
    put_late(world)
    assert world.dispatcher.claim_and_commit() == [1000]


def test_one_who_claims_by_hand_finds_late_successors(world):
    put_late(world, range(1000, 1000 + 2 * SIZE))
    assert world.dispatcher.claim_and_commit() == list(range(1000, 1000 + 2 * SIZE))


def test_a_dispatcher_that_hears_of_late_arrivals_fetches_them(world):
    oids = put_late(world, before=world.dispatcher.keep)
    world.sync()
    assert world.dispatcher.seen() == []
    assert world.dispatcher.touched(oids)
    assert world.dispatcher.keep() == [1000]
    assert world.dispatcher.all() == []


def test_a_dispatcher_that_hears_of_late_successors_sees_them(world):
    late = list(range(1000, 1000 + 3 * SIZE))
    oids = put_late(world, late, before=world.dispatcher.keep)
    assert world.dispatcher.touched(oids)
    found = world.dispatcher.keep()
    world.sync()
    assert found + world.dispatcher.seen() == late


def test_a_successor_made_by_one_who_saw_the_full_bucket_is_seen(world):
    fill(world)
    world.one.put(1000)
    world.other.put(100)
    world.other.commit()
    world.dispatcher.claim_and_commit()
    world.dispatcher.keep()
    oids = world.written(world.one.commit)
    assert world.dispatcher.touched(oids)
    found = world.dispatcher.keep()
    world.sync()
    assert found + world.dispatcher.seen() == [1000]


def test_who_does_not_hear_finds_late_arrivals_when_the_frontier_passes(world):
    put_late(world, range(1000, 1000 + SIZE), before=world.dispatcher.keep)
    world.advance(seconds=PASSING)
    found = world.dispatcher.keep()
    world.sync()
    assert found + world.dispatcher.seen() == list(range(1000, 1000 + SIZE))


def passed(world):
    """Have the frontier pass what was emptied."""
    world.dispatcher.keep()
    world.advance(seconds=PASSING)
    world.dispatcher.keep()
    assert len(world.dispatcher.inbox.passed) == 1


@pytest.mark.parametrize("count", [1, 2 * SIZE])
def test_a_dispatcher_hears_of_late_arrivals_in_passed_buckets(world, count):
    late = list(range(1000, 1000 + count))
    oids = put_late(world, late, before=lambda: passed(world))
    assert world.dispatcher.touched(oids)
    found = world.dispatcher.keep()
    world.sync()
    assert found + world.dispatcher.seen() == late
    newcomer = Party(world.open())
    assert found + newcomer.seen() == late


def test_a_dispatcher_hears_of_them_when_another_passed_the_buckets(world):
    oids = put_late(world, before=lambda: passed(world))
    second = Party(world.open())
    assert second.touched(oids)
    assert second.keep() == [1000]


def test_after_an_abort_what_was_heard_is_not_forgotten(world):
    oids = put_late(world, before=lambda: passed(world))
    party = world.dispatcher
    assert party.touched(oids)
    assert Housekeeping(party.inbox, 0).run() == [(1000, "entry 1000")]
    party.seat.abort()
    assert party.touched(())
    assert party.keep() == [1000]
    party.keep()
    assert not party.touched(())


@pytest.mark.parametrize("count", [1, 2 * SIZE])
@pytest.mark.parametrize("age", [30, 100, 400])
def test_passed_buckets_are_looked_at_again_when_their_age_has_doubled(
    world, count, age
):
    late = list(range(1000, 1000 + count))

    def before():
        passed(world)
        wait(world, age)

    put_late(world, late, before)
    found = wait(world, age + LINGER)
    world.sync()
    assert found + world.dispatcher.seen() == late


def wait(world, seconds):
    """Keep house every five seconds; what was found."""
    found = []
    for _ in range(0, seconds, 5):
        world.advance(seconds=5)
        found += world.dispatcher.keep()
    return found


def test_young_lots_are_looked_at_while_old_ones_are_closed(world):
    """Under steady load a lot is passed, and one closed, at each poll."""
    keys = iter(range(2000, 10**6))
    looked = {}

    def note(self, at, only=None, original=Housekeeping._look):
        looked[at] = looked.get(at, 0) + 1
        return original(self, at, only)

    world.advance(seconds=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Housekeeping, "_look", note)
        for _ in range((KEEP + 300) // 5):
            world.one.seat.begin()
            world.one.put(*(next(keys) for _ in range(SIZE + 1)))
            world.one.commit()
            world.dispatcher.claim_and_commit()
            world.advance(seconds=5)
            world.dispatcher.keep()
    young = [at for at in world.dispatcher.inbox.passed if looked.get(at, 0) >= 3]
    assert len(young) > 50
    assert len(world.dispatcher.inbox.passed) < (KEEP + 60) // 5


# Closing.


def closed(world):
    passed(world)
    wait(world, KEEP + 30)
    assert not world.dispatcher.inbox.passed


@pytest.mark.parametrize("count", [1, 5, 2 * SIZE])
def test_a_put_into_a_closed_bucket_conflicts_and_is_repeated(world, count):
    keys = range(1000, 1000 + count)
    with pytest.raises(ConflictError):
        put_late(world, keys, before=lambda: closed(world))
    world.one.seat.abort()
    world.one.put(*keys)
    world.one.commit()
    world.sync()
    assert world.dispatcher.seen() == list(keys)


def test_a_successor_of_a_closed_bucket_conflicts(world):
    """Its maker saw the bucket full, so it adds nothing to the bucket itself."""
    fill(world)
    world.one.put(1000)
    world.other.put(100)
    world.other.commit()
    world.dispatcher.claim_and_commit()
    world.dispatcher.claim_and_commit()
    closed(world)
    with pytest.raises(ConflictError):
        world.one.commit()


@pytest.mark.parametrize("full", [True, False])
def test_closing_conflicts_with_what_came_first(world, full):
    fill(world, SIZE if full else 3)
    world.one.put(1000)
    world.other.put(*range(100, 100 + SIZE))
    world.other.commit()
    world.dispatcher.claim_and_commit()
    passed(world)
    world.advance(seconds=KEEP + 1)
    party = world.dispatcher
    party.seat.begin()
    Housekeeping(party.inbox, clock.micros(clock.utcnow())).run()
    world.one.commit()
    with pytest.raises(ConflictError):
        party.commit()
    party.seat.abort()
    found = party.keep()
    world.sync()
    assert found + party.seen() == [1000]


def test_closed_buckets_are_let_go(world):
    before = reachable(world).count(Bucket)
    fill(world, 4 * SIZE)
    world.dispatcher.claim_and_commit()
    closed(world)
    world.sync()
    assert reachable(world).count(Bucket) == before


def reachable(world):
    """The classes of all that a pack would keep."""
    connection = world.seat.connection
    storage, waiting, met = connection._storage, [world.seat.root._p_oid], set()
    while waiting:
        oid = waiting.pop()
        if oid not in met:
            met.add(oid)
            waiting.extend(referencesf(storage.load(oid)[0]))
    return [type(connection.get(oid)) for oid in met]


# Housekeeping.


def test_housekeeping_of_an_idle_inbox_writes_nothing(world):
    fill(world, 5 * SIZE)
    world.dispatcher.claim_and_commit()
    wait(world, KEEP + 60)
    before = world.db.lastTransaction()
    wait(world, 120)
    assert world.db.lastTransaction() == before


def test_housekeeping_twice_does_no_more_than_once(world):
    fill(world, 5 * SIZE)
    world.dispatcher.claim_and_commit()
    passed(world)
    before = world.db.lastTransaction()
    assert world.dispatcher.keep() == []
    assert world.db.lastTransaction() == before


def test_two_who_keep_house_at_once_conflict_and_nothing_is_lost(world):
    fill(world, 5 * SIZE + 3)
    first, second = world.dispatcher, Party(world.open())
    first.claim_and_commit(4 * SIZE)
    for party in (first, second):
        party.keep()
    world.advance(seconds=PASSING)
    now = clock.micros(clock.utcnow())
    for party in (first, second):
        party.seat.begin()
        Housekeeping(party.inbox, now).run()
    first.commit()
    with pytest.raises(ConflictError):
        second.commit()
    second.seat.abort()
    second.keep()
    world.sync()
    assert first.seen() == second.seen() == list(range(4 * SIZE + 1, 5 * SIZE + 4))
    assert first.inbox.frontier == (first.inbox.frontier[0],)


def test_a_frontier_that_another_moved_is_followed(world):
    fill(world, 8 * SIZE)
    second = Party(world.open())
    world.dispatcher.claim_and_commit(4 * SIZE)
    second.keep()
    passed(world)
    world.dispatcher.claim_and_commit(2 * SIZE)
    second.seat.begin()
    assert second.seen() == list(range(6 * SIZE + 1, 8 * SIZE + 1))
    second.keep()
    world.advance(seconds=PASSING)
    second.keep()
    world.sync()
    assert (
        world.dispatcher.seen()
        == second.seen()
        == list(range(6 * SIZE + 1, 8 * SIZE + 1))
    )


def test_only_so_many_buckets_are_passed_at_once(world, monkeypatch):
    monkeypatch.setattr(housekeeping, "AT_ONCE", 3)
    fill(world, 10 * SIZE)
    world.dispatcher.claim_and_commit()
    world.dispatcher.keep()
    world.advance(seconds=PASSING)
    for expected in (1, 2, 3):
        world.dispatcher.keep()
        assert len(world.dispatcher.inbox.passed) == expected
    assert [len(lot.items) for lot in world.dispatcher.inbox.passed.values()] == [3] * 3


def test_entries_left_among_emptied_buckets_are_gathered(world):
    count = SPARSE + 10
    fill(world, count * SIZE)
    world.dispatcher.seat.begin()
    left = set(range(1, count * SIZE, 7 * SIZE))
    for bucket in world.dispatcher.inbox.buckets():
        for key in set(bucket) - left:
            bucket.remove(key)
    world.dispatcher.commit()
    assert set(world.dispatcher.keep()) == left
    world.sync()
    assert world.dispatcher.all() == []
    world.dispatcher.keep()
    assert len(list(world.dispatcher.inbox.buckets())) == 1


def test_a_backlog_is_not_gathered(world):
    fill(world, (SPARSE + 10) * SIZE)
    world.dispatcher.claim_and_commit(SIZE // 2)
    assert world.dispatcher.keep() == []


def test_a_few_entries_left_stay_where_they_are(world):
    fill(world, 5 * SIZE)
    world.dispatcher.seat.begin()
    for bucket in world.dispatcher.inbox.buckets():
        for key in list(bucket)[1:]:
            bucket.remove(key)
    world.dispatcher.commit()
    assert world.dispatcher.keep() == []
    assert len(world.dispatcher.seen()) == 5


def test_a_bucket_can_be_taken_up_where_a_walk_ended(world):
    fill(world, 4 * SIZE)
    inbox = world.dispatcher.inbox
    third = list(inbox.buckets())[2]
    assert [key for bucket in inbox.buckets(third) for key in bucket] == list(
        range(2 * SIZE + 1, 4 * SIZE + 1)
    )
    third.closed = True
    assert len(list(inbox.buckets(third))) == 4  # from the beginning


def test_the_module_says_how_many_entries_a_bucket_takes(world, monkeypatch):
    monkeypatch.setattr(buckets, "SIZE", 2)
    fill(world, 5)
    assert [len(bucket) for bucket in world.dispatcher.inbox.buckets()] == [2, 2, 1]
