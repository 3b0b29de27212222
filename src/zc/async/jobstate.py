# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How attributes of a job are stored that are not stored as they are."""

import uuid
from typing import Any

from . import clock, status
from .call import arguments_to_state, target_from_state, target_to_state
from .failure import is_failure
from .frozen import Frozen, from_state, to_state


def _result_to_state(value: Any) -> Any:
    if type(value) is Frozen:
        return value.state
    return value if is_failure(value) else to_state(value)


def _uuid_to_state(value: Any) -> Any:
    return value.bytes if isinstance(value, uuid.UUID) else value


def _uuid_from_state(value: Any) -> Any:
    return uuid.UUID(bytes=value) if isinstance(value, bytes) else value


def _timedelta_to_state(value: Any) -> Any:
    return None if value is None else value // clock.MICROSECOND


def _timedelta_from_state(value: Any) -> Any:
    return None if value is None else value * clock.MICROSECOND


TO_STATE = {
    "_status": status.ORDER.index,
    "_target": target_to_state,
    "_args": arguments_to_state,
    "_kwargs": arguments_to_state,
    "_result": _result_to_state,
    "_retry_policy_factory": _result_to_state,
    "_assigner": _uuid_to_state,
    "_begin_by": _timedelta_to_state,
}
FROM_STATE = {
    "_status": status.ORDER.__getitem__,
    "_target": target_from_state,
    "_args": from_state,
    "_kwargs": from_state,
    "_result": from_state,
    "_retry_policy_factory": from_state,
    "_assigner": _uuid_from_state,
    "_begin_by": _timedelta_from_state,
}
