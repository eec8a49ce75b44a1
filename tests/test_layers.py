"""Holds the layers of the framework, and keeps each library behind the modules that wrap it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

# A module imports from lines above its own; the modules of a line do not know each other.
LEVELS = [
    ["errors", "sparing", "reload"],
    ["queues", "socketio", "extras", "frames", "background", "pace"],
    ["callbacks"],
    [
        "types",
        "encoding",
        "coerce",
        "executor",
        "commit",
        "channels",
        "bus",
        "wire",
        "tenant",
        "fresh",
        "predicates",
        "etags",
        "describe",
    ],
    ["scope", "items"],
    [
        "query",
        "brackets",
        "querystring",
        "context",
        "router",
        "emitter",
        "tokens",
        "passwords",
        "guard",
        "engine",
        "seals",
        "ddl",
        "accept",
        "fields",
    ],
    ["hooks"],
    ["schema", "events", "client", "keys", "rates", "lanes", "cursors", "beside"],
    ["config", "service", "postgres", "sqlite", "resolvers", "redis", "revisions", "observe"],
    ["app", "adapter", "locks"],
    ["common", "memory", "sql", "sessions", "preconditions", "exposition", "redaction"],
    ["auth", "rest", "migrate", "logs", "tracing", "pages"],
    ["endpoint", "batch", "health", "metrics", "openapi", "protocol"],
    ["sockets"],
    ["__init__"],
    ["testing", "server", "routes", "scaffold"],
    ["workers", "checks"],
    ["cli"],
    ["__main__"],
]
LEVEL = {module: level for level, modules in enumerate(LEVELS) for module in modules}

FENCES = {
    "apispec": {"openapi"},
    "starlette": {"health", "metrics", "openapi", "pages", "rest"},
    "socketio": {"socketio", "client"},
    "engineio": {"socketio"},
    "aiohttp": {"client"},
    "httpx2": {"client"},
    "sqlalchemy": {"sql", "migrate", "revisions", "checks", "ddl", "locks"},
    "alembic": {"migrate", "seals", "ddl"},
    "psycopg": {"postgres", "lanes"},
    "psycopg_pool": {"postgres"},
    "sqlite3": {"sqlite"},
    "marshmallow": {"accept", "fields", "schema", "openapi"},
    "jwt": {"auth", "tokens"},
    "argon2": {"passwords"},
    "cryptography": {"cursors"},
    "bcrypt": {"passwords"},
    "redis": {"redis"},
    "structlog": {"logs"},
    "prometheus_client": {"exposition", "metrics"},
    "opentelemetry": {"tracing"},
    "click": {"cli", "server", "workers"},
    "uvicorn": {"frames", "protocol", "server"},
    "websockets": {"frames", "wire"},
}

LONGEST_FILE = 600


class Imports(ast.NodeVisitor):
    """Collects the dotted names a file imports; those for the type checker alone do not count."""

    def __init__(self, package: list[str], *, lazy: bool) -> None:
        self.package = package
        self.lazy = lazy
        self.names: set[str] = set()

    def visit_Import(self, node: ast.Import) -> None:
        self.names.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        parents = self.package[: len(self.package) - node.level + 1] if node.level else []
        origin = [*parents, *([node.module] if node.module else [])]
        self.names.update(".".join([*origin, alias.name]) for alias in node.names)

    def visit_If(self, node: ast.If) -> None:
        for child in node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else ast.iter_child_nodes(node):
            self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if self.lazy:
            self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef


def imports(file: Path, *, lazy: bool) -> set[str]:
    """Return what a file imports, with or without the imports inside its functions."""
    visitor = Imports(list(file.relative_to(ROOT).parent.parts), lazy=lazy)
    visitor.visit(ast.parse(file.read_text(encoding="utf-8")))
    return visitor.names


def sources(package: str) -> list[Path]:
    """Return the Python files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def module_of(file: Path) -> str:
    """Return the module of apex a file belongs to; a package in apex is one module."""
    return file.relative_to(ROOT / "apex").with_suffix("").parts[0]


def framework() -> Iterator[tuple[str, Path]]:
    """Yield every file of apex with the module it belongs to."""
    for file in sources("apex"):
        yield module_of(file), file


def dependencies(file: Path) -> set[str]:
    """Return the other modules of apex that loading a file loads."""
    modules = {module for module, _ in framework()}
    names = [name.split(".") for name in imports(file, lazy=False)]
    found = {name[1] if name[1:] and name[1] in modules else "__init__" for name in names if name[0] == "apex"}
    return found - {module_of(file)}


def libraries(file: Path) -> set[str]:
    """Return the top-level packages a file uses."""
    return {name.partition(".")[0] for name in imports(file, lazy=True)}


def test_every_module_has_a_level() -> None:
    missing = {module for module, _ in framework()} - LEVEL.keys()
    assert not missing, f"add to LEVELS in tests/test_layers.py: {', '.join(sorted(missing))}"


def test_modules_import_from_lower_levels_only() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, file in framework()
        for other in sorted(dependencies(file))
        if LEVEL.get(other, 0) >= LEVEL.get(module, len(LEVELS))
    ]
    assert not wrong, "not on a lower level: " + ", ".join(wrong)


def test_libraries_stay_behind_their_modules() -> None:
    wrong = [
        f"{module} imports {library}"
        for module, file in framework()
        for library in sorted(libraries(file) & FENCES.keys())
        if module not in FENCES[library]
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
    long = [f"{file} has {lines} lines" for file, lines in lengths.items() if lines > LONGEST_FILE]
    assert not long, "split: " + ", ".join(long)
