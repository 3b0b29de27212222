# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A word index of all texts in a folder, built by durable jobs.

An application to read, of the size that one module of a real one has.  Begin with
`build`: it has the jobs, and all that is worth knowing about zc.async is there.

    build      the jobs: what is done, in which transaction, and what then
    diary      a scheduled job, which puts itself into the queue again
    working    starting and stopping a dispatcher; signals
    index      the stored index: words, documents, failures
    texts      from a file to its words
    folder     which files there are
    progress   watching from outside, without writing
    place      the data folder: database, identity, lock, log
    summary, searching, options, trouble, __main__    the program around it

What it shows, and where:

    jobs in parallel, then one thing more        `build.Build._start_batch`
    a quota, since all updates write the index   `build.Build._update_job`
    a retry, later, by a policy                  `build.ReadAgain`
    failures as results                          `build.Build.update`
    callbacks for success and for failure        `build.Build.start`, `report`
    a job at a certain time, again and again     `diary.Diary.snapshot`
    methods of stored objects as jobs            all over `build`
"""
