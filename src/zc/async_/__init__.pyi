# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
# For type checkers: every submodule is there, and what it has is not known to them.
from typing import Any

def __getattr__(name: str) -> Any: ...
