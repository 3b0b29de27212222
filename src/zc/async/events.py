# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""What is announced with `zope.event.notify`, and to whom it matters.

Events are published from `interfaces`, so their dotted names say so.  Each is
notified in the thread and the transaction that makes it true; a subscriber
may change the database and must not commit.
"""

import zope.component.event  # noqa: F401 - lets zope.event reach handlers
from zope.interface import Attribute, Interface, implementer
from zope.processlifetime import DatabaseOpened, IDatabaseOpened

__all__ = [
    "DatabaseOpened",
    "DispatcherActivated",
    "DispatcherDeactivated",
    "DispatcherReactivated",
    "DispatcherRegistered",
    "DispatcherUnregistered",
    "IDatabaseOpenedEvent",
    "IDispatcherActivated",
    "IDispatcherDeactivated",
    "IDispatcherEvent",
    "IDispatcherReactivated",
    "IDispatcherRegistered",
    "IDispatcherUnregistered",
    "IObjectAdded",
    "IObjectEvent",
    "ObjectAdded",
]

IDatabaseOpenedEvent = IDatabaseOpened


class IObjectEvent(Interface):
    """Something happened to `object`."""

    __module__ = "zc.async.interfaces"

    object = Attribute("The object concerned.")


class IObjectAdded(IObjectEvent):
    """An installer created a queue, or the mapping of queues."""

    __module__ = "zc.async.interfaces"

    parent = Attribute("Where it was added.")
    name = Attribute("Under which name.")


class IDispatcherEvent(IObjectEvent):
    """Something happened to a dispatcher's agents: an `IDispatcherAgents`."""

    __module__ = "zc.async.interfaces"


class IDispatcherRegistered(IDispatcherEvent):
    """A dispatcher made itself known to a queue."""

    __module__ = "zc.async.interfaces"


class IDispatcherUnregistered(IDispatcherEvent):
    """A dispatcher was removed from a queue."""

    __module__ = "zc.async.interfaces"

    parent = Attribute("The queue that the dispatcher was registered with.")


class IDispatcherActivated(IDispatcherEvent):
    """A dispatcher begins to claim from a queue: time to give it agents."""

    __module__ = "zc.async.interfaces"


class IDispatcherDeactivated(IDispatcherEvent):
    """A dispatcher stopped, or was declared dead; its jobs were handed back."""

    __module__ = "zc.async.interfaces"


class IDispatcherReactivated(IDispatcherEvent):
    """A live dispatcher that had been declared dead is active again."""

    __module__ = "zc.async.interfaces"


class _Event:
    def __init__(self, object):
        self.object = object


@implementer(IObjectAdded)
class ObjectAdded(_Event):
    """See `IObjectAdded`."""

    def __init__(self, object, parent, name):
        super().__init__(object)
        self.parent = parent
        self.name = name


@implementer(IDispatcherRegistered)
class DispatcherRegistered(_Event):
    """See `IDispatcherRegistered`."""


@implementer(IDispatcherUnregistered)
class DispatcherUnregistered(_Event):
    """See `IDispatcherUnregistered`."""

    def __init__(self, object, parent):
        super().__init__(object)
        self.parent = parent


@implementer(IDispatcherActivated)
class DispatcherActivated(_Event):
    """See `IDispatcherActivated`."""


@implementer(IDispatcherDeactivated)
class DispatcherDeactivated(_Event):
    """See `IDispatcherDeactivated`."""


@implementer(IDispatcherReactivated)
class DispatcherReactivated(_Event):
    """See `IDispatcherReactivated`."""


for _published in (
    ObjectAdded, DispatcherRegistered, DispatcherUnregistered, DispatcherActivated,
    DispatcherDeactivated, DispatcherReactivated,
):  # fmt: skip
    _published.__module__ = "zc.async.interfaces"
