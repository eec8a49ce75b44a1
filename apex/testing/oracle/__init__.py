"""The oracle: real clients of a real server, which find out if they miss anything while things go wrong."""

from apex.testing.oracle.followers import AnyClient, Follower, PythonClient
from apex.testing.oracle.oracle import Missed, Oracle, Story
from apex.testing.oracle.process import ServerProcess
from apex.testing.oracle.proxy import Proxy
from apex.testing.oracle.views import Difference, Event, View

__all__ = [
    "AnyClient",
    "Difference",
    "Event",
    "Follower",
    "Missed",
    "Oracle",
    "Proxy",
    "PythonClient",
    "ServerProcess",
    "Story",
    "View",
]  # fmt: skip
