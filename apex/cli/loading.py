"""The application of a command: how it is loaded, checked and run, and how its errors are shown."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib import import_module
from inspect import signature
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from apex.errors import ConfigError, FeathersError

if TYPE_CHECKING:
    from apex.app import Apex

T = TypeVar("T")

COMMAND: str = "isCommand"
FACTORY: str = "services.app:create_app"
AHEAD: str = "A later version has migrated the database to {}."


def load_app(factory: str) -> Apex:
    """Return the application that ``module:name`` names, for a command, without middleware around it.

    Its setting ``isCommand`` tells services that they leave work in the background to the servers. Raises ConfigError
    if there is none.
    """
    return app_within(load_asgi(factory), factory).set(COMMAND, True)


def app_within(outer: Any, factory: str) -> Apex:
    """Return the application inside of ASGI middleware. Raises ConfigError if there is none."""
    from apex.app import Apex

    app = outer
    while app is not None and not isinstance(app, Apex):
        app = getattr(app, "app", None)
    if app is None:
        raise ConfigError(
            f"'{factory}' makes a {type(outer).__name__}: it must make an Apex, "
            "or ASGI middleware that has what it wraps as its attribute 'app'"
        )
    return app


def load_asgi(factory: str) -> Any:
    """Return the ASGI application that ``module:name`` names, for a server.

    The name is that of an application, or of a function without arguments that makes one. Raises ConfigError if it
    cannot be made, or if it belongs to another folder.
    """
    from apex.app import Apex

    module, _, name = factory.partition(":")
    try:
        loaded = import_module(module)
        _require_own_folder(loaded)
        named = getattr(loaded, name or "create_app")
        if isinstance(named, Apex) or hasattr(named, "app") or not callable(named):  # The application, with middleware.
            return named
        signature(named).bind()
        return named()
    except (ConfigError, FeathersError):
        raise
    except Exception as error:
        if factory == FACTORY and isinstance(error, ModuleNotFoundError) and error.name in ("services", module):
            raise ConfigError(
                "there is no application here: make a project with 'apex new', or name an application with --app"
            ) from None
        raise ConfigError(f"cannot load the application '{factory}': {line_with_place(error)}") from error


def _require_own_folder(module: ModuleType) -> None:
    """Raise ConfigError if the module's migrations are in another folder than this one.

    A checkout that is installed editable can be imported anywhere, but its configuration is read from this folder.
    """
    from apex.migrations.revisions import FOLDER

    if module.__file__ is None or FOLDER.is_dir():
        return
    depth = module.__name__.count(".") + hasattr(module, "__path__")
    folder = Path(module.__file__).resolve().parents[depth]
    if (folder / FOLDER).is_dir():
        raise ConfigError(f"there is no application here: run 'apex' in {folder}, or make a project with 'apex new'")


def line_of(error: Exception) -> str:
    """Return an error in one line, with the message of each field."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {text}"
    errors: dict[str, str] = getattr(error, "errors", None) or {}
    return "; ".join([text, *(f"{name}: {rule}" for name, rule in errors.items() if rule not in text)])


def line_with_place(error: Exception) -> str:
    """Return an error in one line. It begins with its place in the project, if it has one."""
    place = place_of(error)
    if place is None:
        return line_of(error)
    text = error.msg if isinstance(error, SyntaxError) else line_of(error)
    return f"{place}: {type(error).__name__}: {text}"


def place_of(error: Exception) -> str | None:
    """Return the innermost line of the files in this folder that an error has passed, or that Python cannot read."""
    framework, folder = Path(__file__).parents[1], Path.cwd()
    lines = [(frame.filename, frame.lineno) for frame in extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename is not None:
        lines.append((error.filename, error.lineno))
    for name, line in reversed(lines):
        file = Path(name)
        if file.is_relative_to(folder) and not file.is_relative_to(framework) and "site-packages" not in file.parts:
            return f"{file.relative_to(folder)}, line {line}"
    return None


def require_migrated(app: Apex) -> None:
    """Raise ConfigError if the app's database lacks migrations, and Unavailable if it cannot be reached.

    A database that a later version has migrated is accepted, and a line on stderr says so.
    """
    from apex.migrations.revisions import FOLDER, is_up_to_date

    url = app.get("database_url")
    if url is None or not FOLDER.is_dir() or is_up_to_date(url):
        return
    from apex.migrations.migrate import pending, unknown_revision

    if pending(url):
        raise ConfigError("the database is not up to date: run 'apex migrate'")
    click.echo(AHEAD.format(unknown_revision(url)), err=True)


def warn_of_differences(app: Apex) -> None:
    """Print what differs between the tables of the code and of the database, on stderr, in development.

    Elsewhere it would take time and memory at each start. ``apex check`` finds the same before a deployment.
    """
    from apex.migrations.revisions import FOLDER

    url = app.get("database_url")
    if url is None or not FOLDER.is_dir() or app.get("env") in ("production", "test"):
        return
    from apex.migrations import differences

    try:
        found = differences(url)
    except (ConfigError, FeathersError) as error:
        found = [str(error)]
    for difference in found:
        click.echo(f"Warning: {difference}", err=True)


def run(app: Apex, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function while the app runs, and return its result. Raises as ``require_migrated`` does."""
    import asyncio

    require_migrated(app)

    async def inside() -> T:
        async with app.lifespan():
            return await work()

    return asyncio.run(inside())
