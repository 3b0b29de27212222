# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How attributes of a job are stored that are not stored as they are."""

from typing import Any

from . import status
from .call import arguments_to_state, target_from_state, target_to_state
from .failure import is_failure
from .frozen import Frozen, from_state, to_state


def _result_to_state(value: Any) -> Any:
    if type(value) is Frozen:
        return value.state
    return value if is_failure(value) else to_state(value)


TO_STATE = {
    "_status": status.ORDER.index,
    "_target": target_to_state,
    "_args": arguments_to_state,
    "_kwargs": arguments_to_state,
    "_result": _result_to_state,
    "_retry_policy_factory": _result_to_state,
}
FROM_STATE = {
    "_status": status.ORDER.__getitem__,
    "_target": target_from_state,
    "_args": from_state,
    "_kwargs": from_state,
    "_result": from_state,
    "_retry_policy_factory": from_state,
}
