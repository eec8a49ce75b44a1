"""Literals say in each language what the value is."""

from __future__ import annotations

import ast
import json
import subprocess
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from apex.openapi.literals import JAVASCRIPT, JSON, PYTHON
from tests.interop.node import NODE, needs_node

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20)


@given(VALUES)
def test_python_and_json_read_what_was_written(value: Any) -> None:
    assert ast.literal_eval(PYTHON.write(value)) == value
    assert ast.literal_eval(PYTHON.on_lines(value)) == value
    assert json.loads(JSON.write(value)) == value


@needs_node
def test_javascript_reads_what_was_written() -> None:
    value = {"a b": 'it\'s "so"\n\\', "first_name": [None, True, 1.5], "2x": {}, "$in": [], "é": "\u2028"}
    program = f"console.log(JSON.stringify([{JAVASCRIPT.write(value)}, {JAVASCRIPT.on_lines(value)}]))"
    printed = subprocess.run([str(NODE), "-e", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == [value, value]


def test_what_is_long_is_written_on_lines() -> None:
    assert JAVASCRIPT.write({"id": 1, "name": "John"}) == "{ id: 1, name: 'John' }"
    assert JAVASCRIPT.write({"id": 1, "name": "J" * 90}).count("\n") == 3
