"""What ``apex new`` and ``apex generate`` write, from the templates in ``apex/templates``."""

from __future__ import annotations

import ast
import json
import keyword
import re
import secrets
from importlib.metadata import distributions
from pathlib import Path
from string import Template

from apex.errors import ConfigError

TEMPLATES = Path(__file__).parent.parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
LONGEST_NAME = 40
MARK = re.compile(r"^\[tool\.apex\]$", re.MULTILINE)
IMPORTED = re.compile(r"^from services import \(\n(.*?)^\)\n", re.MULTILINE | re.DOTALL)
LISTED = re.compile(r"^SERVICES = \(\n(.*?)^\)\n", re.MULTILINE | re.DOTALL)
HOOKS = {
    "around": "what stands before next runs before the method, what stands behind it after",
    "before": "what the call brings, such as context.data, may be looked at and changed",
    "after": "what the method gave, context.result, may be looked at and changed",
    "error": "what was raised, context.error, may be looked at and changed",
}
"""The types of hooks, and what each is for."""
TAKEN = {"apex", "app", "context", "next", "service"}
"""Names that what is written uses itself; what begins with ``test`` would be one to pytest."""
RENAMED = {"gitignore": ".gitignore"}
"""Files that packages would leave out under their own name."""

Files = dict[Path, str]


def new_project(name: str) -> Path:
    """Writes a project into a folder of this name. Raises ConfigError where something is there."""
    _require_name(name)
    if name == "apex":
        raise ConfigError("'apex' cannot be the name: the project would require itself")
    folder = Path(name)
    if folder.exists():
        raise ConfigError(f"'{name}' is there already: choose another name, or take it away")
    _write(rendered("project", folder, name=name, secret=secrets.token_hex(32), origin=_origin()))
    return folder


def new_service(path: str) -> list[Path]:
    """Writes a service, its table's migration and its test, and lists it in ``services/app.py``. Gives what is new.

    Raises ConfigError, and writes nothing, outside of a project and where one of the files is there.
    """
    _require_project()
    module = _module(path)
    app = Path("services/app.py")
    registered = _registered(app, module)
    title = module.replace("_", " ").capitalize()
    name = title.title().replace(" ", "")
    down, revision = _revisions()
    files = rendered(
        "service", Path(), path=path, module=module, title=title, name=name, revision=revision, down_revision=down
    )
    _write(files)
    app.write_text(registered, encoding="utf-8")
    return list(files)


def new_hook(name: str, kind: str) -> list[Path]:
    """Writes a hook, of a type in ``HOOKS``, and its test. Raises ConfigError, and writes nothing, where one of the
    files is there.
    """
    _require_project()
    module = _module(name)
    template = "around_hook" if kind == "around" else "hook"
    title = module.replace("_", " ").capitalize()
    values = {"module": module, "title": title, "kind": kind, "when": kind.title(), "says": HOOKS[kind]}
    files = rendered(template, Path(), **values) | rendered("hook_test", Path(), **values)
    _write(files)
    return list(files)


def rendered(template: str, folder: Path, **values: str) -> Files:
    """The files of a template with what is in them; their names are templates, too."""
    root = TEMPLATES / template
    files: Files = {}
    for source in sorted(root.rglob("*.tmpl")):
        relative = Path(Template(str(source.relative_to(root).with_suffix(""))).substitute(values))
        target = folder / relative.with_name(RENAMED.get(relative.name, relative.name))
        files[target] = Template(source.read_text(encoding="utf-8")).substitute(values)
    return files


def _origin() -> str:
    """Where this apex is from, as a requirement has it (PEP 508); nothing where it is from an index."""
    texts = (found.read_text("direct_url.json") for found in distributions(name="apex"))
    text = next(filter(None, texts), None)
    if text is None:
        return ""
    said = json.loads(text)
    vcs = said.get("vcs_info")
    return f" @ {vcs['vcs']}+{said['url']}@{vcs['commit_id']}" if vcs else f" @ {said['url']}"


def _write(files: Files) -> None:
    """Raises ConfigError before anything is written where one of the files is there."""
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
        rule = f"small letters, digits, '-' and '_', at most {LONGEST_NAME}, a letter first"
        raise ConfigError(f"'{name}' cannot be the name: it has {rule}")


def _module(name: str) -> str:
    """The name as Python has it. Raises ConfigError for what Python has taken."""
    _require_name(name)
    if name in TAKEN or name.startswith("test"):
        raise ConfigError(f"'{name}' cannot be the name: a project has something of that name")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ConfigError(f"'{name}' cannot be the name: it is a word of Python")
    return name.replace("-", "_")


def _require_project() -> None:
    file = Path("pyproject.toml")
    if not file.is_file() or not MARK.search(file.read_text(encoding="utf-8")):
        raise ConfigError("this is no folder of a project that 'apex new' has made: go there first")


def _registered(app: Path, module: str) -> str:
    """The source of ``services/app.py`` with one more service. Raises ConfigError when its lists are not found, and
    where something else has the name there.
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
    """What a module imports from elsewhere, and what it defines."""
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
    """The newest revision, and the one to come."""
    from apex.migrations.migrate import next_revision

    following = next_revision()
    return f"{int(following) - 1:04}", following
