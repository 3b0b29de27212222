# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
"""Content of a Zope, and functions that jobs call with it."""

from AccessControl import getSecurityManager
from OFS.SimpleItem import SimpleItem
from Products.Five.browser import BrowserView
from zope.component.hooks import getSite
from zope.globalrequest import getRequest


class Document(SimpleItem):
    """Content with methods that say what they see."""

    title = ""

    def __init__(self, id):
        self.id = id

    def see(self):
        return seen(self)

    def rename(self, title):
        self.title = title

    def fail(self):
        raise ValueError("this document cannot be read")


class View(BrowserView):
    """A page."""

    def page(self):
        return "page"


def seen(ob=None):
    """User, roles, site, language and URL as a job sees them."""
    user = getSecurityManager().getUser()
    site = getSite()
    return {
        "user": user.getId(),
        "roles": sorted(user.getRoles()),
        "site": None if site is None else "/".join(site.getPhysicalPath()),
        "language": getRequest().get("HTTP_ACCEPT_LANGUAGE"),
        "url": None if ob is None else ob.absolute_url(),
        "acquired": None if ob is None else getattr(ob, "color", None),
    }


def paths(*obs, **named):
    """The physical paths of arguments, also of those in lists and dicts."""
    found = []
    for ob in (*obs, *named.values()):
        if isinstance(ob, (list, tuple)):
            found += paths(*ob)
        elif isinstance(ob, dict):
            found += paths(*ob.values())
        else:
            found.append("/".join(ob.getPhysicalPath()))
    return found
