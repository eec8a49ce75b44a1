"""The contract that all adapters keep, as tests to run on one of yours.

A subclass of ``AdapterContract`` says in ``make`` how to make the service; ``docs/guide/testing.md`` has one. Each
method is one rule, a coroutine without arguments: any test runner will do. A rule that does not apply raises
``unittest.SkipTest``. See ``Contract`` for what the service holds.
"""

from __future__ import annotations

from apex.testing.basics import Basics, Contract, Raised, names, raises, wire, within
from apex.testing.creating import Creating
from apex.testing.paging import Paging
from apex.testing.querying import Querying
from apex.testing.reading import Reading
from apex.testing.scope import Hiding, Scoping
from apex.testing.walking import Walking
from apex.testing.writing import Merging, Writing

__all__ = ["AdapterContract", "Contract", "Raised", "names", "raises", "wire", "within"]


class AdapterContract(Basics, Reading, Querying, Paging, Walking, Creating, Writing, Merging, Scoping, Hiding):
    """Every rule there is."""
