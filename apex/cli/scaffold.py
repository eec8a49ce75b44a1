"""The files of ``apex new`` and ``apex generate``, made from the templates in ``apex/templates``."""

from __future__ import annotations

import ast
import keyword
import re
import secrets
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template

from apex.errors import ConfigError

DISTRIBUTION: str = "feathers-apex"
TEMPLATES: Path = Path(__file__).parent.parent / "templates"
NAME: re.Pattern[str] = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
LONGEST_NAME: int = 40
MARK: re.Pattern[str] = re.compile(r"^\[tool\.apex\]$", re.MULTILINE)
IMPORTED: re.Pattern[str] = re.compile(r"^from services import \(\n(.*?)^\)\n", re.MULTILINE | re.DOTALL)
RECORDS: re.Pattern[str] = re.compile(r"^RECORDS\b[^\n]* = \{\n(?:.*?\n)??(?=\})", re.MULTILINE | re.DOTALL)
LISTED: re.Pattern[str] = re.compile(r"^SERVICES = \(\n(.*?)^\)\n", re.MULTILINE | re.DOTALL)
HOOKS: dict[str, str] = {
    "around": "Run code before and after the method, around ``next()``.",
    "before": "Read or change the call before the method, such as ``context.data``.",
    "after": "Read or change the result of the method, ``context.result``.",
    "error": "Read or change the error of the call, ``context.error``.",
}
"""The types of hooks, each with the docstring of a new hook."""
TAKEN: set[str] = {"apex", "app", "context", "next", "service"}
"""Names that the templates use. Names that begin with ``test`` are taken too, by pytest."""
HIDDEN: tuple[str, ...] = ("dockerignore", "env.example", "github", "gitignore")
"""Files and folders whose names begin with a dot. A package would leave those names out."""
SERVER: str = "postgresql://postgres:postgres@localhost"
"""The server of the project's ``compose.yaml``."""
SERVER_SENTENCES: str = """\
The database is PostgreSQL. `docker compose up --detach postgres` starts a server for development. To use another one,
set `DATABASE_URL`, and for the tests, which empty their database, `TEST_DATABASE_URL`."""
DATABASES: dict[str, tuple[str, str, str]] = {
    "sqlite": ("sqlite:///var/{name}.db", "sqlite:///var/test.db", "The database is the file `var/{name}.db`."),
    "postgresql": (f"{SERVER}/{{name}}", f"{SERVER}/{{name}}_test", SERVER_SENTENCES),
    "memory": ("", "", ""),
}
"""The places in which a project may keep its records: the URLs for development and for tests, and what its README says.
"""

MARK_OF_PROJECT: str = """
# 'apex generate' writes only into a project with this table.
[tool.apex]
project = "{name}"
"""
MARK_OF_TENANTS: str = """\
tenants = true  # The records of a new service belong to an organization.
"""

REQUIRED: re.Pattern[str] = re.compile(r'^(dependencies = \["feathers-apex\[)([^\]]*)(\])', re.MULTILINE)
SETTING_OF_WEBHOOKS: str = """\
  "webhooks": { "networks": ["127.0.0.0/8"] },
"""
"""The setting that allows receivers on the same machine."""
ATTACKS_OF_WEBHOOKS: str = """\
    "webhooks": lambda made, text: {
        "url": "https://example.com/hooks",
        "events": ["*"],
        "enabled": False,
        "description": text,
        "organization_id": made["organizations"]["id"],
    },
    "webhook-deliveries": lambda made, text: {
        "webhook_id": made["webhooks"]["id"],
        "organization_id": made["organizations"]["id"],
        "entry_id": 1,
        "type": "messages created",
        "created_at": "2026-01-31T12:00:00.000Z",
        "state": "delivered",
        "attempts": 1,
        "answer": text,
    },
"""

Files = dict[Path, str]
"""The contents of files by their paths."""


def new_project(name: str, database: str | None = None, bare: bool = False, tenants: bool = False) -> Path:
    """Write a project into a new folder of this name.

    ``database`` is one of ``DATABASES``: by default SQLite, or memory for a ``bare`` project, which has no users. With
    ``tenants`` users belong to organizations.
    Raises ConfigError if the folder exists or if the options exclude each other.
    """
    _require_name(name)
    if name in ("apex", DISTRIBUTION):
        raise ConfigError(f"'{name}' cannot be the name: it is that of the framework")
    database = database or ("memory" if bare else "sqlite")
    if database == "memory" and not bare:
        raise ConfigError("users are kept in a database: choose sqlite or postgresql, or add --bare for no users")
    if tenants and bare:
        raise ConfigError("tenants are organizations of users, and a bare project has no users: leave out one of both")
    folder = Path(name)
    if folder.exists():
        raise ConfigError(f"'{name}' exists already: choose another name or remove it")
    extras = {"metrics": not bare, "postgres": database == "postgresql", "sockets": True}
    development, test, about = (text.format(name=name) for text in DATABASES[database])
    values = {
        "name": name,
        "secret": secrets.token_hex(32),
        "versions": _versions(),
        "extras": ",".join(extra for extra, is_needed in extras.items() if is_needed),
        "mark": "" if bare else MARK_OF_PROJECT.format(name=name) + (MARK_OF_TENANTS if tenants else ""),
        "database": development,
        "test_database": test,
        "about_database": about,
    }
    files: Files = {}
    for layer in _layers(database, bare, tenants):
        files |= rendered(layer, folder, **values)
    _write(files)
    return folder


def _layers(database: str, bare: bool, tenants: bool) -> list[str]:
    """Return the templates of a project. A file of a later one takes the place of the same file of an earlier one."""
    on_postgresql = database == "postgresql"
    if bare:
        more = {"sql": database != "memory", "bare_sql": database != "memory", "bare_postgresql": on_postgresql}
        first = ["common", "bare"]
    else:
        more = {"postgresql": on_postgresql, "tenants": tenants}
        first = ["common", "sql", "project"]
    return [*first, *(layer for layer, is_chosen in more.items() if is_chosen)]


def new_service(path: str, words: Sequence[str] = (), factory: str = "") -> list[Path]:
    """Write a service, the migration of its tables and its tests, and add it to ``services/app.py``.

    ``words`` are its fields, as ``apex.cli.fields`` describes them. Relations are checked with the app of ``factory``.
    In a project with tenants its records belong to organizations, and it gets a line in the test of attacks.
    Returns the new files. Raises ConfigError, and writes nothing, outside of a project, for a wrong name or field, or
    if one of the files exists.
    """
    _require_project()
    module = _module(path)
    app = Path("services/app.py")
    registered = _registered(app, module)
    title = module.replace("_", " ").capitalize()
    name = title.title().replace(" ", "")
    down, revision = _revisions()
    revisions = {"revision": revision, "down_revision": down}
    changed = {app: registered}
    if _has_tenants():
        attacks = Path("tests/test_attacks.py")
        source = attacks.read_text(encoding="utf-8") if attacks.is_file() else ""
        parts = _parts(path, module, words or ["name:string!"], factory, has_tenants=True, attacks=source)
        files = rendered("service_with_fields", Path(), **revisions, **parts)
        files |= rendered("tenant_service", Path(), **parts)
        if source:
            changed[attacks] = _attacked(attacks, source, parts["attack"])
    elif words:
        files = rendered("service_with_fields", Path(), **revisions, **_parts(path, module, words, factory))
    else:
        values = {"path": path, "module": module, "title": title, "name": name}
        files = rendered("service", Path(), **revisions, **values, use=_use(path, name))
    _write(files)
    for file, content in changed.items():
        file.write_text(content, encoding="utf-8")
    return list(files)


def new_webhooks() -> list[Path]:
    """Write services for webhooks, the migration of their tables and a test, and add them to ``services/app.py``.

    In a project with tenants webhooks are those of organizations, for their admins, else each user has their own. The
    project then requires the extra, and development allows receivers on the same machine. Returns the new files.
    Raises ConfigError, and writes nothing, outside of a project or if it has webhooks.
    """
    _require_project()
    if Path("services/webhooks.py").exists():
        raise ConfigError("the project has webhooks already, in services/webhooks.py")
    app, attacks = Path("services/app.py"), Path("tests/test_attacks.py")
    changed = {app: _registered(app, "webhooks")}
    down, revision = _revisions()
    has_tenants = _has_tenants()
    files = rendered("tenant_webhooks" if has_tenants else "webhooks", Path(), revision=revision, down_revision=down)
    if has_tenants and attacks.is_file():
        changed[attacks] = _attacked(attacks, attacks.read_text(encoding="utf-8"), ATTACKS_OF_WEBHOOKS)
    requirements, development = Path("pyproject.toml"), Path("config/development.json")
    changed[requirements] = REQUIRED.sub(_with_webhooks, requirements.read_text(encoding="utf-8"), count=1)
    settings = development.read_text(encoding="utf-8") if development.is_file() else ""
    if settings.startswith("{\n") and '"webhooks"' not in settings:
        changed[development] = settings.replace("{\n", f"{{\n{SETTING_OF_WEBHOOKS}", 1)
    _write(files)
    for file, content in changed.items():
        file.write_text(content, encoding="utf-8")
    return list(files)


def _with_webhooks(required: re.Match[str]) -> str:
    """Return a requirement of the framework with the extra for webhooks."""
    extras = {*filter(None, required[2].split(",")), "webhooks"}
    return f"{required[1]}{','.join(['all'] if 'all' in extras else sorted(extras))}{required[3]}"


def _has_tenants() -> bool:
    """Return True if the project of the current folder has tenants."""
    table = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["apex"]
    return bool(table.get("tenants"))


def _attacked(file: Path, source: str, line: str) -> str:
    """Return the source of the test of attacks with one more line. Raises ConfigError if its list is not found."""
    records = RECORDS.search(source)
    if records is None:
        raise ConfigError(f"{file} has no 'RECORDS = {{' with a line for each service")
    return source.replace(records[0], f"{records[0]}{line}")


def _use(path: str, name: str) -> str:
    from apex.cli.service import use
    from apex.migrations.source import laid_out

    return laid_out([use(path, name)])


def _parts(
    path: str, module: str, words: Sequence[str], factory: str, *, has_tenants: bool = False, attacks: str = ""
) -> dict[str, str]:
    """Return the parts of a service with fields. The app is loaded only if a field is a relation to its services."""
    from apex.cli.fields import OWN, RELATIONS, TENANT, parse
    from apex.cli.loading import load_app
    from apex.cli.service import made

    fields = parse(words, (*OWN, TENANT) if has_tenants else OWN)
    app = load_app(factory) if any(field.kind in RELATIONS for field in fields) else None
    return made(path, module, fields, app, has_tenants=has_tenants, attacks=attacks)


def new_hook(name: str, kind: str) -> list[Path]:
    """Write a hook of a type in ``HOOKS`` and its test, and return the files.

    Raises ConfigError, and writes nothing, outside of a project or if one of the files exists.
    """
    _require_project()
    module = _module(name)
    template = "around_hook" if kind == "around" else "hook"
    title = module.replace("_", " ").capitalize()
    values = {"module": module, "title": title, "kind": kind, "says": HOOKS[kind]}
    files = rendered(template, Path(), **values) | rendered("hook_test", Path(), **values)
    _write(files)
    return list(files)


def rendered(template: str, folder: Path, **values: str) -> Files:
    """Return the files of a template. Their names are templates too."""
    root = TEMPLATES / template
    files: Files = {}
    for source in sorted(root.rglob("*.tmpl")):
        relative = Path(Template(str(source.relative_to(root).with_suffix(""))).substitute(values))
        target = folder.joinpath(*(f".{part}" if part in HIDDEN else part for part in relative.parts))
        files[target] = Template(source.read_text(encoding="utf-8")).substitute(values)
    return files


def _versions() -> str:
    """Return the versions of apex that a new project may use (PEP 440): this one and later ones without a break.

    Before 1.0 the second number of a version changes with a break.
    """
    this = version(DISTRIBUTION)
    major, minor, *_ = (int(number) for number in this.split(".")[:2])
    return f">={this},<{f'0.{minor + 1}' if major == 0 else major + 1}"


def _write(files: Files) -> None:
    """Write files. Raises ConfigError, and writes nothing, if one of them exists."""
    if there := [str(file) for file in files if file.exists()]:
        raise ConfigError(f"{', '.join(there)} would be overwritten: choose another name")
    try:
        for file, content in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write '{error.filename}': {error.strerror}") from None


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        rule = f"small letters, digits, '-' and '_', at most {LONGEST_NAME}, beginning with a letter"
        raise ConfigError(f"'{name}' cannot be the name: use {rule}")


def _module(name: str) -> str:
    """Return the name as a Python name. Raises ConfigError for a name that is taken."""
    _require_name(name)
    if name in TAKEN or name.startswith("test"):
        raise ConfigError(f"'{name}' cannot be the name: a project has something of that name")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ConfigError(f"'{name}' cannot be the name: it is a word of Python")
    return name.replace("-", "_")


def _require_project() -> None:
    file = Path("pyproject.toml")
    if not file.is_file() or not MARK.search(file.read_text(encoding="utf-8")):
        raise ConfigError("'apex generate' works in a project that 'apex new' has made without --bare: go there first")


def _registered(app: Path, module: str) -> str:
    """Return the source of ``services/app.py`` with one more service.

    Raises ConfigError if its lists are not found, or if something else has the name there.
    """
    source = app.read_text(encoding="utf-8") if app.is_file() else ""
    if module in _names(source):
        raise ConfigError(f"'{module}' cannot be the name: {app} has something of that name")
    imported, listed = IMPORTED.search(source), LISTED.search(source)
    if imported is None or listed is None:
        raise ConfigError(f"{app} has no 'from services import (' and 'SERVICES = (' with a line for each service")
    names = sorted({*imported[1].split(), f"{module},"})
    source = source.replace(imported[0], _lines("from services import (", names))
    return source.replace(listed[0], _lines("SERVICES = (", [*listed[1].split(), f"{module},"]))


def _names(source: str) -> set[str]:
    """Return the names that a module imports from elsewhere or defines."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom | ast.Import) and getattr(node, "module", "") != "services":
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


def _lines(head: str, names: list[str]) -> str:
    return "".join([f"{head}\n", *(f"    {name}\n" for name in names), ")\n"])


def _revisions() -> tuple[str, str]:
    """Return the newest revision and the next one."""
    from apex.migrations.migrate import next_revision

    following = next_revision()
    return f"{int(following) - 1:04}", following
