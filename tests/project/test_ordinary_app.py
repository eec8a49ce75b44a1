"""The CRM is an ordinary app of the framework: it uses no private part of it.

``test_public_names.py`` checks that it imports public names only.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("services", "hooks", "migrations")


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def private_attributes(file: Path) -> Iterator[str]:
    """Yield the private attributes that a file takes from another object than ``self``, ``cls`` or its own class."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)} | {"self", "cls"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            inside = node.value
            is_super = isinstance(inside, ast.Call) and ast.unparse(inside) == "super()"
            if not is_super and not (isinstance(inside, ast.Name) and inside.id in own):
                yield f"line {node.lineno} uses {ast.unparse(node)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_private_attribute_of_another_object_is_used(package: str) -> None:
    wrong = [f"{file.relative_to(ROOT)} {one}" for file in files(package) for one in private_attributes(file)]
    assert not wrong, "; ".join(wrong)


def overridden(kind: type) -> Iterator[str]:
    """Yield the private names of the framework's classes that a class replaces."""
    for base in kind.__mro__[1:]:
        if base.__module__.partition(".")[0] == "apex":
            yield from (
                f"{kind.__module__}.{kind.__name__}.{name}"
                for name in vars(kind).keys() & vars(base).keys()
                if name.startswith("_")
                and name != "_abc_impl"
                and not name.endswith("__")
                and not _is_marshmallows(base, name)
            )


def _is_marshmallows(base: type, name: str) -> bool:
    """Return True for a name that marshmallow documents for subclasses, such as ``_deserialize``."""
    return any(name in vars(one) for one in base.__mro__ if one.__module__.partition(".")[0] == "marshmallow")


@pytest.mark.parametrize("package", ["services", "hooks"])
def test_no_private_method_of_the_framework_is_replaced(package: str) -> None:
    wrong: list[str] = []
    for file in files(package):
        module = import_module(".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__:
                wrong += overridden(kind)
    assert not wrong, "; ".join(wrong)


def test_the_checks_find_what_they_look_for(tmp_path: Path) -> None:
    from apex import SQLService

    class Sly(SQLService):
        async def _count(self, where: object) -> int:
            return 0

    assert {one.rpartition(".")[2] for one in overridden(Sly)} == {"_count"}
    file = tmp_path / "sly.py"
    file.write_text("class A:\n    def f(self, bound):\n        return self._x, A._y, super()._z, bound._options\n")
    assert list(private_attributes(file)) == ["line 3 uses bound._options"]


WORDS = re.compile(
    r"organi[sz]ation|contacts?\b|\bcrm\b|\bdeals?\b|compan(y|ies)|achieveapex|agentvoice", re.IGNORECASE
)
KNOWN = {
    "migrations/row_level_security.py": "the former functions have the CRM's column as their default",
    "transports/batch.py": "clients may compare the errors, which have an example of a call",
    "cli": "apex new --tenants writes an app whose tenants are organizations",
    "testing": "the contract of adapters has a field organization_id",
}
"""The parts of the framework that have a word of the CRM, and why."""


def test_the_framework_has_no_word_of_the_crm() -> None:
    folder = ROOT / "apex"
    wrong = [
        f"{file.relative_to(folder)}:{number} {line.strip()}"
        for file in sorted(folder.rglob("*.py"))
        if not {str(file.relative_to(folder)), file.relative_to(folder).parts[0]} & KNOWN.keys()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if WORDS.search(line)
    ]
    assert not wrong, "; ".join(wrong)
