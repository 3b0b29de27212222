# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zc.async_ import keys

NOW = 1_700_000_000_000_000
MOMENTS = st.integers(0, 4_000_000_000_000_000)


@given(st.lists(st.integers(NOW, NOW + 3), min_size=2, max_size=60))
def test_keys_never_collide_in_whatever_order_their_moments_come(moments):
    made = [keys.new_key(moment) for moment in moments]
    assert len(set(made)) == len(made)


@given(st.lists(st.integers(NOW, NOW + 3), min_size=2, max_size=60))
def test_keys_order_by_moment_and_then_by_their_making(moments):
    made = [keys.new_key(moment) for moment in moments]
    numbered = sorted(range(len(moments)), key=lambda number: moments[number])
    assert [made[number] for number in numbered] == sorted(made)


@given(MOMENTS)
def test_the_moment_of_a_key_can_be_read(moment):
    key = keys.new_key(moment)
    assert keys.key_micros(key) == moment
    assert keys.first_key(moment) <= key <= keys.last_key(moment)
    assert keys.last_key(moment) < keys.first_key(moment + 1)


@given(st.lists(MOMENTS, min_size=1, max_size=20))
def test_each_front_key_is_ahead_of_all_keys_before_it(moments):
    made = [keys.new_key(0)]
    for moment in moments:
        made.append(keys.front_key(moment))
        assert made[-1] < min(made[:-1])
        assert keys.key_micros(made[-1]) < 0


def test_a_later_front_key_of_another_process_is_ahead(monkeypatch):
    monkeypatch.setattr(keys, "_front_micros", 0)
    mine = keys.front_key(NOW)
    monkeypatch.setattr(keys, "_tag", keys._tag ^ 1)
    monkeypatch.setattr(keys, "_front_micros", 0)
    monkeypatch.setattr(keys, "_numbers", iter(range(10)))
    assert keys.front_key(NOW + 1) < mine


def test_threads_never_make_the_same_key():
    made = [[] for _ in range(4)]
    barrier = threading.Barrier(len(made))

    def make(mine):
        barrier.wait(10)
        mine.extend(keys.new_key(NOW) for _ in range(2000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    together = [key for mine in made for key in mine]
    assert len(set(together)) == 8000
    assert all(mine == sorted(mine) for mine in made)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="not applicable: no fork here")
def test_a_forked_process_makes_keys_of_its_own():
    reader, writer = os.pipe()
    before = keys._tag
    pid = os.fork()
    if not pid:
        os.write(writer, b"%d %d" % (keys._tag, keys.new_key(NOW)))
        os._exit(0)
    os.waitpid(pid, 0)
    tag, key = map(int, os.read(reader, 100).split())
    os.close(reader)
    os.close(writer)
    assert tag != before
    assert key != keys.new_key(NOW)


def test_keys_stay_apart_when_the_numbers_begin_anew(monkeypatch):
    monkeypatch.setattr(keys, "_numbers", iter([keys.NUMBERS - 1, keys.NUMBERS]))
    last, first = keys.new_key(NOW), keys.new_key(NOW)
    assert keys.key_micros(last) == keys.key_micros(first) == NOW
    assert first != last


def test_keys_of_one_process_alternate_between_shares():
    shares = [keys.share(keys.new_key(NOW), 2) for _ in range(6)]
    assert shares in ([0, 1] * 3, [1, 0] * 3)
    assert {keys.share(keys.front_key(NOW), 3) for _ in range(3)} == {0, 1, 2}
