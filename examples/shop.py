# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""A shop, as far as it has work to do later: what the documents in docs call.

Each document shows what it uses of this, so there is no need to read it first.
"""

import asyncio
import datetime

from persistent import Persistent
from twisted.internet.defer import Deferred

from zc.async_ import clock, local
from zc.async_.job import Job
from zc.async_.retry import RetryCommonFourTimes


def invoice(customer, amount, currency="EUR"):
    return f"{customer} pays {amount} {currency}"


class Stock(Persistent):
    """How many things are in store."""

    count = 0

    def add(self, number=1):
        self.count += number
        return self.count


class Reminder(Persistent):
    def __init__(self, text):
        self.text = text

    def __call__(self):
        return f"Remember: {self.text}"


def nightly():
    queue = local.getQueue()
    tomorrow = clock.utcnow() + datetime.timedelta(days=1)
    queue.put(nightly, begin_after=tomorrow)
    queue.put(tidy_up)


def tidy_up():
    return "tidy"


class CardRefused(Exception):
    """The bank does not want to pay."""


def charge(card, amount):
    if not card.isdigit():
        raise CardRefused(f"found card {card!r}, expected digits")
    return f"{amount} charged"


class BankBusy(Exception):
    """The bank asks to come again later."""


def transfer(amount):
    if local.getJob().attempts < 3:
        raise BankBusy("please try again later")
    return f"{amount} transferred"


class AfterTea(RetryCommonFourTimes):
    """Tries once more, five minutes later, when the bank is busy."""

    may_repeat = False

    def jobError(self, failure, data_cache):
        if failure.check(BankBusy) and self.parent.attempts < 2:
            return datetime.timedelta(minutes=5)
        return super().jobError(failure, data_cache)


def is_charge(job):
    return job.callable is charge


def charges_first(agent):
    job = agent.queue.claim(is_charge)
    if job is None:
        job = agent.queue.claim()
    return job


def leave():
    raise SystemExit("I do not want to work here any more")


def open_shelf():
    return open(__file__)


def shout(text):
    return text.upper() + "!"


def apologize(failure):
    failure.trap(CardRefused)
    return "we are sorry"


def count_shelves(number):
    for shelf in range(number):
        local.setLiveAnnotation("progress", f"{shelf} of {number}")
    return number


def ask_owner(question):
    local.setLiveAnnotation("question", question)
    return local.getLiveAnnotation("answer", timeout=60, poll=0.05)


def about_me(job):
    return f"attempt {job.attempts}, status {job.status}"


def ship(order):
    box = f"a box for {order}"
    queue = local.getQueue()
    return queue.put(Job(label, box))


def label(box):
    return f"{box}, labelled"


def ship_all(*orders):
    queue = local.getQueue()
    return [queue.put(Job(label, order)) for order in orders]


def price(article):
    return {"tea": 3, "milk": 1, "sugar": 2}[article]


def total(*jobs):
    return sum(job.result for job in jobs)


def track(parcel):
    deferred = Deferred()
    reactor = local.getReactor()
    # Imagine a question to another computer, answered a moment later.
    reactor.callFromThread(
        reactor.callLater, 0.01, deferred.callback, f"{parcel} is on its way"
    )
    return deferred


async def rate(currency):
    await asyncio.sleep(0.01)  # imagine a question to another computer
    return {"EUR": 1.0, "CHF": 1.04}[currency]


class Parcel(Job):
    """A job whose callable can be one of its own methods."""

    def deliver(self, address):
        return f"delivered to {address} at attempt {self.attempts}"


SAID: list[str] = []


class PoliteJob(Job):
    def setUp(self):
        SAID.append("good morning")
        return "goodbye"

    def tearDown(self, info):
        SAID.append(info)


class OpenShop(Job):
    """A job that is performed while the shop is open."""

    def setUp(self):
        SAID.append("open")

    def tearDown(self, info):
        SAID.append("close")

    def surroundings(self):
        return "an open shop"
