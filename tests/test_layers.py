"""Holds the layers of the framework, and keeps each library behind the packages that wrap it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent

# A package imports from its own line and from lines above. The first lines are the modules of the core.
LAYERS = [
    [
        "_moved", "_lazy", "errors", "encoding", "types", "tenant", "cache", "signatures", "callbacks",
        "transaction",
    ],
    ["limits", "query"],
    ["realtime"],
    ["context", "hooks", "describe", "events", "router", "permissions", "service", "registration", "app"],
    ["adapters", "migrations", "relations"],
    ["sql"],
    ["schema"],
    ["log"],
    ["common", "observability"],
    ["auth"],
    ["webhooks"],
    ["config"],
    ["client", "transports"],
    ["openapi", "server"],
    ["testing"],
    ["cli"],
    ["__main__"],
]  # fmt: skip
LAYER = {name: layer for layer, names in enumerate(LAYERS) for name in names}

FENCES = {
    "aiohttp": {"client"},
    "alembic": {"migrations"},
    "apispec": {"openapi"},
    "argon2": {"auth"},
    "bcrypt": {"auth"},
    "click": {"cli", "server"},
    "cryptography": {"adapters", "webhooks"},
    "engineio": {"transports"},
    "httpcore2": {"webhooks"},
    "httpx2": {"client"},
    "jwt": {"auth"},
    "marshmallow": {"openapi", "schema"},
    "opentelemetry": {"observability"},
    "prometheus_client": {"observability"},
    "psycopg": {"sql"},
    "psycopg_pool": {"sql"},
    "redis": {"realtime"},
    "socketio": {"client", "transports"},
    "sqlalchemy": {"auth", "cli", "common", "log", "migrations", "schema", "sql", "webhooks"},
    "sqlite3": {"sql"},
    "starlette": {"observability", "openapi", "transports"},
    "structlog": {"observability"},
    "uvicorn": {"server", "transports"},
    "websockets": {"transports"},
}


class Imports(ast.NodeVisitor):
    """Collects the dotted names that a file imports: when it is loaded, in functions, and for types alone."""

    def __init__(self) -> None:
        self.when = "loaded"
        self.names: dict[str, set[str]] = {"loaded": set(), "called": set(), "typed": set()}

    def visit_Import(self, node: ast.Import) -> None:
        self.names[self.when].update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.names[self.when].update(f"{node.module}.{alias.name}" for alias in node.names)

    def visit_If(self, node: ast.If) -> None:
        self._inside("typed" if "TYPE_CHECKING" in ast.unparse(node.test) else self.when, node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._inside("called", node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def _inside(self, when: str, node: ast.AST) -> None:
        outside, self.when = self.when, when
        self.generic_visit(node)
        self.when = outside


@cache
def imports(file: Path) -> dict[str, set[str]]:
    """Return the dotted names that a file imports, by when it does."""
    visitor = Imports()
    visitor.visit(ast.parse(file.read_text(encoding="utf-8")))
    return visitor.names


def sources(package: str) -> list[Path]:
    """Return the Python files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def module_of(file: Path) -> str:
    """Return the dotted name of a file below the root."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules(package: str) -> dict[str, Path]:
    """Return the files of a package by the dotted names of their modules."""
    return {module_of(file): file for file in sources(package)}


def dependencies(file: Path, *when: str) -> set[str]:
    """Return the other modules of apex that a file imports."""
    known = modules("apex")
    names = {name for moment in when for name in imports(file)[moment] if name.split(".")[0] == "apex"}
    return {name if name in known else name.rpartition(".")[0] for name in names} - {module_of(file)}


def part_of(module: str) -> str:
    """Return the package or core module below apex that a module belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def framework() -> Iterator[tuple[str, Path]]:
    """Yield every file of apex below its packages and core modules, with the name of that part."""
    for module, file in modules("apex").items():
        if not part_of(module).startswith("_"):
            yield part_of(module), file


def libraries(file: Path) -> set[str]:
    """Return the top-level packages a file uses."""
    return {name.partition(".")[0] for moment in ("loaded", "called") for name in imports(file)[moment]}


def test_every_package_has_a_layer() -> None:
    missing = {part for part, _ in framework()} - LAYER.keys()
    assert not missing, f"add to LAYERS in tests/test_layers.py: {', '.join(sorted(missing))}"


def test_packages_import_from_lower_layers_only() -> None:
    wrong = [
        f"{module_of(file)} imports {other}"
        for part, file in framework()
        for other in sorted(dependencies(file, "loaded"))
        if part_of(other) != "__init__" and LAYER[part_of(other)] > LAYER[part]
    ]
    assert not wrong, "not on a lower layer: " + ", ".join(wrong)


def test_circles_of_imports_for_types_stay_inside_one_layer() -> None:
    wrong = [
        f"{module_of(file)} imports {other}"
        for part, file in framework()
        for other in sorted(dependencies(file, "typed"))
        if part_of(other) != "__init__" and LAYER[part_of(other)] > LAYER[part]
    ]
    assert not wrong, "for types, not on a lower layer: " + ", ".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: dependencies(file, "loaded") for module, file in modules("apex").items()}
    assert list(TopologicalSorter(graph).static_order())


def test_libraries_stay_behind_their_packages() -> None:
    wrong = [
        f"{part} imports {library}"
        for part, file in framework()
        for library in sorted(libraries(file) & FENCES.keys())
        if part not in FENCES[library]
    ]
    assert not wrong, "behind a fence: " + ", ".join(wrong)


def test_the_framework_does_not_know_the_application() -> None:
    wrong = [file.name for file in sources("apex") if libraries(file) & {"services", "hooks"}]
    assert not wrong, "import the application: " + ", ".join(wrong)


def test_hooks_do_not_know_services() -> None:
    wrong = [file.name for file in sources("hooks") if "services" in libraries(file)]
    assert not wrong, "import services: " + ", ".join(wrong)


def test_files_stay_small() -> None:
    lengths = {
        file.relative_to(ROOT): len(file.read_text(encoding="utf-8").splitlines())
        for package in ("apex", "services", "hooks")
        for file in sources(package)
    }
    long = [f"{file} has {lines} lines" for file, lines in lengths.items() if lines > 700]
    assert not long, "split: " + ", ".join(long)
