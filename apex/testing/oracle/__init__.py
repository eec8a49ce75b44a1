"""The oracle: real clients of a real server, which find out if they miss anything while things go wrong."""

from apex.testing.oracle.followers import Follower, Link, PythonLink
from apex.testing.oracle.oracle import Missed, Oracle, Story
from apex.testing.oracle.process import ServerProcess
from apex.testing.oracle.proxy import Proxy
from apex.testing.oracle.views import Difference, Event, View

__all__ = [
    "Difference", "Event", "Follower", "Link", "Missed", "Oracle", "Proxy", "PythonLink", "ServerProcess", "Story",
    "View",
]  # fmt: skip
