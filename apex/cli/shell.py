"""The Python console of ``apex shell``: an app that is set up, and ``await`` at the prompt."""

from __future__ import annotations

import ast
import asyncio
import sys
from code import InteractiveConsole
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from inspect import iscoroutine
from pathlib import Path
from traceback import format_exception
from types import CodeType, FunctionType
from typing import Any

from apex.app import Apex
from apex.errors import ConfigError, FeathersError

HISTORY: Path = Path("~/.apex_history")
LONGEST_HISTORY: int = 1_000

Names = dict[str, Any]


def run_shell(app: Apex, line: str | None = None) -> None:
    """Run a line of Python, or the whole standard input, or what somebody types at a terminal."""
    with asyncio.Runner() as runner, _set_up(app, runner):
        names: Names = {"app": app, "service": app.service, "database": app.get("database")}
        console = Console(names, runner)
        if line is not None:
            _run(line, "<line>", names, runner)
        elif not sys.stdin.isatty():
            _run(sys.stdin.read(), "<stdin>", names, runner)
        else:
            with _line_editing(names):
                console.interact(banner(app), exitmsg="")


def banner(app: Apex) -> str:
    """Return the text above the first prompt."""
    return f"""Python {sys.version.split()[0]}, with 'await'. At hand: app, service and database.
Services: {", ".join(app.services) or "none"}
>>> await service("{next(iter(app.services), "notes")}").find()"""


class Console(InteractiveConsole):
    """A console whose code runs on an event loop. Between two lines the loop stands still."""

    def __init__(self, names: Names, runner: asyncio.Runner) -> None:
        super().__init__(names)
        self.runner = runner
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    def runcode(self, code: CodeType) -> None:
        """Run code, and print its error."""
        try:
            self.runner.run(_result(code, self.locals))
        except SystemExit:
            raise
        except BaseException as error:
            self.write(written(error, self.filename))


def _run(source: str, name: str, names: Names, runner: asyncio.Runner) -> None:
    """Run source code, and exit with 1 after an error. A single line prints its value, as at the prompt."""
    mode = "exec" if "\n" in source.strip() else "single"
    try:
        code = compile(f"{source.strip()}\n", name, mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        runner.run(_result(code, names))
    except (FeathersError, ConfigError):
        raise  # The command prints it in one line.
    except Exception as error:
        sys.stderr.write(written(error, name))
        sys.exit(1)


def written(error: BaseException, name: str) -> str:
    """Return the traceback of an error, from the code of this name on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != name:
        trace = trace.tb_next
    return "".join(format_exception(error.with_traceback(trace)))


async def _result(code: CodeType, names: Any) -> None:
    result = FunctionType(code, names)()
    if iscoroutine(result):
        await result


@contextmanager
def _set_up(app: Apex, runner: asyncio.Runner) -> Iterator[None]:
    """Set the app up, and tear it down at the end."""
    lifespan = app.lifespan()
    runner.run(lifespan.__aenter__())
    try:
        yield
    finally:
        runner.run(lifespan.__aexit__(None, None, None))


@contextmanager
def _line_editing(names: Names) -> Iterator[None]:
    """Complete names with the tab key, and keep the lines for the next time, where Python has readline."""
    try:
        import readline
        from rlcompleter import Completer
    except ImportError:
        yield
        return
    file = HISTORY.expanduser()
    readline.set_completer(Completer(names).complete)
    readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")
    with suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        readline.set_history_length(LONGEST_HISTORY)
        with suppress(OSError):
            readline.write_history_file(file)
