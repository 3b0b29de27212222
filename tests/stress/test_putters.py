# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Many who put, in transactions that stay open, while a dispatcher drains."""

import random
import threading

import transaction
from BTrees.OOBTree import OOBTree
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from tests.support.scenario import Effect
from tests.support.site import Site
from zc.async_.interfaces import KEY, IQueue

PUTTERS, EACH, LONGEST = 8, 40, 0.05


class Putter(threading.Thread):
    """Puts jobs, each in a transaction that has seen the queue long before."""

    def __init__(self, site, number):
        super().__init__(daemon=True)
        self.site = site
        self.number = number
        self.conflicts = []
        self._chance = random.Random(number)
        self._never = threading.Event()

    def run(self):
        manager = transaction.TransactionManager()
        connection = self.site.db.open(manager)
        try:
            root = connection.root()
            for number in range(self.number, PUTTERS * EACH, PUTTERS):
                while not self._put(manager, root, number):
                    pass
        finally:
            manager.abort()
            connection.close()

    def _put(self, manager, root, number):
        before, after = (self._chance.uniform(0, LONGEST / 2) for _ in range(2))
        manager.begin()
        queue = root[KEY][""]
        len(queue)  # which reads what all write
        self._never.wait(before)
        queue.put(root["effects"][number].happen)
        self._never.wait(after)
        try:
            manager.commit()
        except ConflictError as error:
            self.conflicts.append(error)
            manager.abort()
            return False
        return True


def test_putters_never_conflict_and_each_put_has_one_effect(tmp_path):
    site = Site(FileStorage(str(tmp_path / "data.fs")), size=32, threads=4)
    try:
        site.root["effects"] = OOBTree(
            {number: Effect() for number in range(PUTTERS * EACH)}
        )
        transaction.commit()
        made = site.dispatcher()
        putters = [Putter(site, number) for number in range(PUTTERS)]
        for each in putters:
            each.start()
        for each in putters:
            each.join(60)
        assert not any(each.is_alive() for each in putters)
        assert [each.conflicts for each in putters] == [[]] * PUTTERS
        effects = site.root["effects"]
        site.wait_until(
            lambda: not len(site.queue) and not list(site.agent(made)), "the last job"
        )
        assert {effect.count for effect in effects.values()} == {1}
        assert IQueue.providedBy(site.queue) and list(site.queue) == []
    finally:
        site.close()
