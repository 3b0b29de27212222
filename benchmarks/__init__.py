# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""How fast zc.async is, beside what the storage can do.

    .venv/bin/python -m benchmarks              # all, some minutes
    .venv/bin/python -m benchmarks put drain    # some of them
    .venv/bin/python -m benchmarks drain --help # with their options

Each script is a module of its own that names its `CASES`, its `FIGURES` and has a
`trial`.  A trial runs in a process of its own, between two measurements of the
*ceiling*, which is how many transactions a second the same storage commits that
change one small object.  Figures that are rates are told as shares of the ceiling,
because the share is the same on slow and fast machines.
"""
