"""Tests that you run on your own code: the contract of adapters, attacks of tenants on each other, missed events.

Subclass ``AdapterContract`` and write ``make``, which makes the service (see ``docs/guide/testing.md``). Each test is
one rule, a coroutine without arguments, so any test runner can run it. A rule that does not apply raises
``unittest.SkipTest``. ``Contract`` describes the fields of the service.

``Oracle`` follows a server with real clients, and finds out if they miss anything. It needs the extra ``client``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apex._lazy import lazy_names
from apex.testing.attacks import MARK, Attacks, attackable
from apex.testing.basics import Basics, Contract, Raised, names, raises, wire, within
from apex.testing.creating import Creating
from apex.testing.cursors import Cursors
from apex.testing.databases import new_database
from apex.testing.paging import Paging
from apex.testing.querying import Querying
from apex.testing.reading import Reading
from apex.testing.scope import Hiding, Scoping
from apex.testing.writing import Merging, Writing

if TYPE_CHECKING:
    from apex.testing.oracle import Missed, Oracle

__all__ = [
    "MARK", "AdapterContract", "Attacks", "Contract", "Missed", "Oracle", "Raised", "attackable", "names",
    "new_database", "raises", "wire", "within",
]  # fmt: skip

__getattr__ = lazy_names(__name__, {"oracle": ["Missed", "Oracle"]})


class AdapterContract(Basics, Reading, Querying, Paging, Cursors, Creating, Writing, Merging, Scoping, Hiding):
    """All rules of the contract.

    A subclass makes the service::

        class TestNotes(AdapterContract):
            @asynccontextmanager
            async def make(self, **options): ...
    """
