# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A transaction manager whose commits arrive, and whose answers may not."""

from .jobs import AnswerLostError


class LossyManager:
    """Like `manager`; the next `losses` commits seem to fail and do not."""

    def __init__(self, manager, losses=1):
        self._manager = manager
        self.losses = losses

    def commit(self):
        self._manager.commit()
        if self.losses:
            self.losses -= 1
            raise AnswerLostError("the answer was lost")

    def __getattr__(self, name):
        return getattr(self._manager, name)
