"""Mutation tests: each small change of a module makes one of its tests fail, or is one that nobody could notice.

``make mutants`` runs all modules of ``mutants.toml``, ``make mutants ARGS="hooks/tenancy.py"`` those that are named.
The modules are changed in copies of the checkout. cosmic-ray makes most changes; that something is left out, such as a
role, a hook or a call, is what reviews overlook most often, and is made here.
"""

from __future__ import annotations

import ast
import compileall
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue
from typing import Any

import click
import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

ROOT = Path(__file__).parents[1]
MODULES: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())
OPERATORS = (
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "Lt_Gt", "LtE_Lt", "LtE_Gt")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Gt_GtE", "Gt_Lt", "GtE_Gt", "GtE_Lt")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Mod_Mul", "BitOr_BitAnd", "BitAnd_BitOr", "LShift_RShift")),
    *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_USub", "AddNot"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer"),
    *("RemoveDecorator", "ZeroIterationForLoop"),
)
"""cosmic-ray's operators, one or two for each sign: of its eight for each comparison most fail in the same way."""
PRELOADED = (
    "__main__", "alembic.command", "httpx2", "hypothesis.strategies", "marshmallow", "phonenumbers", "psycopg_pool",
    "pytest_asyncio.plugin", "sqlalchemy.ext.asyncio", "starlette.applications", "uvicorn", "websockets",
)  # fmt: skip
"""Loaded once, before the processes of the mutants are forked: it is what others have written, and nothing of apex."""
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload([*PRELOADED])
PLAIN = ("--exitfirst", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:xdist")
"""The first failure is enough, and what the tests of these modules do not need is not loaded."""
PATIENCE = 4
"""A mutant has so many times the seconds of the unchanged module, and as many seconds more."""


@dataclass(frozen=True)
class Mutant:
    """A changed text of a module, and how it differs: ``old => new``."""

    module: str
    text: str
    change: str


def mutants_of(module: str) -> list[Mutant]:
    """Return the mutants of a module, each once, without those whose differences ``_parts`` leaves out."""
    source = (ROOT / module).read_text()
    tree, only = ast.parse(source), MODULES[module].get("only")
    parts = _parts(tree)
    found: dict[str, Mutant] = {}
    for changed in (*_replaced(source), *_removed(tree)):
        names = [name for name, text in _parts(changed).items() if parts.get(name) != text]
        if names and (only is None or names[0] in only):
            text = ast.unparse(changed)
            found.setdefault(text, Mutant(module, text, _difference(ast.unparse(tree), text)))
    return list(found.values())


def _parts(tree: ast.Module) -> dict[str, str]:
    """Return the statements of a module by their names or places.

    Annotations, which nobody evaluates, and ``__all__`` are left out, and so are descriptions and examples for OpenAPI,
    which have tests of their own.
    """
    tree = deepcopy(tree)
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, ast.Constant(None))
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("describe", "examples_of")
        ):
            node.args, node.keywords = [], []
    parts = {getattr(part, "name", str(place)): ast.unparse(part) for place, part in enumerate(tree.body)}
    return {name: text for name, text in parts.items() if not text.startswith("__all__ = ")}


def _replaced(source: str) -> Iterator[ast.Module]:
    operators = OperatorProvider()
    for name in OPERATORS:
        place = 0
        while (changed := mutate_code(source, operators[name](), place)) is not None:
            place += 1
            with suppress(SyntaxError):
                yield ast.parse(changed)


def _removed(tree: ast.Module) -> Iterator[ast.Module]:
    """Yield the tree without one statement, element, named argument or condition; and with ``in`` for ``not in``."""
    typed = {part for node in ast.walk(tree) if isinstance(node, ast.Subscript) for part in ast.walk(node.slice)}
    for place, node in enumerate(ast.walk(tree)):
        for name, values in () if node in typed else ast.iter_fields(node):
            for index, value in enumerate(values if isinstance(values, list) else ()):
                for others in _instead(node, name, value):
                    changed = deepcopy(tree)
                    there: Any = next(islice(ast.walk(changed), place, None))
                    getattr(there, name)[index : index + 1] = others
                    if isinstance(there, ast.Dict):
                        del there.values[index]
                    yield changed


def _instead(node: ast.AST, name: str, value: Any) -> Iterator[list[ast.AST]]:
    """Yield what may stand instead of a value in a list of the syntax tree."""
    if isinstance(value, ast.In | ast.NotIn):
        yield [ast.NotIn() if isinstance(value, ast.In) else ast.In()]
    if name in ("elts", "ifs") and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
        yield []
    if name in ("keys", "keywords") and isinstance(node, ast.Dict | ast.Call):
        yield []
    if _is_removable(value):
        yield [ast.Pass()]


def _is_removable(statement: Any) -> bool:
    """Return True for calls, raises, and what sets attributes or items: no other statement could be left out."""
    if isinstance(statement, ast.Assign):
        return not isinstance(statement.targets[0], ast.Name | ast.Tuple)
    called = isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant)
    return called or isinstance(statement, ast.Raise | ast.AugAssign | ast.Delete)


def _difference(before: str, after: str) -> str:
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    old, new = (" ".join(line[2:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return f"{old} => {new}"


@dataclass(frozen=True)
class Workshop:
    """A copy of the checkout, in which one mutant at a time is tested."""

    directory: Path
    postgres: str

    @classmethod
    def opened(cls, directory: Path, postgres: str) -> Workshop:
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        for file in subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout.splitlines():
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, directory / file)
        # Python tells files apart by the second, in which there may be two mutants.
        compileall.compile_dir(directory, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        return cls(directory, postgres)

    def survives(self, mutant: Mutant, seconds: float) -> bool:
        """Return True if the tests of the module do not notice the mutant, within so many seconds."""
        path = self.directory / mutant.module
        original = path.read_text()
        path.write_text(mutant.text)
        try:
            return self.passes(MODULES[mutant.module]["tests"], seconds)
        finally:
            path.write_text(original)

    def passes(self, tests: list[str], seconds: float | None = None) -> bool:
        process: Any = FORKS.Process(target=_pytest, args=(str(self.directory), self.postgres, tests))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        return bool(process.exitcode == 0)


def _pytest(directory: str, postgres: str, tests: list[str]) -> None:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(1, 2)
    os.chdir(directory)
    os.environ["APEX_TEST_POSTGRES"] = postgres
    sys.path.insert(0, directory)
    sys.dont_write_bytecode = True
    sys.exit(pytest.main([*PLAIN, *tests]))


@click.command()
@click.argument("modules", nargs=-1, type=click.Choice(list(MODULES)))
@click.option("--jobs", default=os.cpu_count() or 1, help="How many mutants are tested at the same time.")
@click.option("--sample", type=click.IntRange(1), help="Test at most so many mutants of a module, chosen at random.")
@click.option("--like", multiple=True, help="Test only the changes that contain this text.")
@click.option("--seed", type=int, help="Choose the same mutants as the run that printed this seed.")
def main(modules: tuple[str, ...], jobs: int, like: tuple[str, ...], sample: int | None, seed: int | None) -> None:
    """Change MODULES, or all that are listed, and run their tests."""
    mutants = {module: mutants_of(module) for module in modules or MODULES}
    if outdated := list(_outdated(mutants)):
        raise click.ClickException("\n".join(["These entries of harmless match no mutant:", *outdated]))
    if like:
        for module, found in mutants.items():
            mutants[module] = [mutant for mutant in found if any(part in mutant.change for part in like)]
    if sample is not None:
        seed = random.randrange(2**32) if seed is None else seed
        click.echo(f"--sample {sample} --seed {seed}")
        for module, found in mutants.items():
            mutants[module] = random.Random(seed).sample(found, min(sample, len(found)))
    # Loaded here, so that the processes of the mutants load those of their own copy.
    from tests.support.databases import start_server

    server = start_server()
    with tempfile.TemporaryDirectory(prefix="apex-mutants-") as directory, ThreadPoolExecutor(jobs) as pool:
        try:
            workshops: SimpleQueue[Workshop] = SimpleQueue()
            for job in range(jobs):
                workshops.put(Workshop.opened(Path(directory) / str(job), server.url))
            left = sum([_test(module, mutants[module], pool, workshops) for module in mutants])
        finally:
            server.stop()
    sys.exit(1 if left else 0)


def _outdated(mutants: dict[str, list[Mutant]]) -> Iterator[str]:
    """Yield the entries of ``harmless`` whose text is no longer in their module."""
    for module, found in mutants.items():
        changes = {mutant.change for mutant in found}
        yield from (f"{module}: {change}" for change in MODULES[module].get("harmless", {}) if change not in changes)


def _test(module: str, mutants: list[Mutant], pool: ThreadPoolExecutor, workshops: SimpleQueue[Workshop]) -> int:
    """Print the score of a module and its survivors, and return how many there are without a reason."""

    def survives(mutant: Mutant) -> bool:
        workshop = workshops.get()
        try:
            return workshop.survives(mutant, PATIENCE * (1 + seconds))
        finally:
            workshops.put(workshop)

    workshop, begun = workshops.get(), time.monotonic()
    if not workshop.passes(MODULES[module]["tests"]):
        raise click.ClickException(f"The tests of {module} fail without a change")
    workshops.put(workshop)
    seconds = time.monotonic() - begun
    reasons = MODULES[module].get("harmless", {})
    survivors = []
    for mutant, alive in zip(mutants, pool.map(survives, mutants), strict=True):
        if alive:
            survivors.append(mutant.change)
            click.echo(f"  {'harmless' if mutant.change in reasons else 'SURVIVES'}: {mutant.change}")
    for change in reasons.keys() & {mutant.change for mutant in mutants} - set(survivors):
        click.echo(f"  listed as harmless, but killed: {change}")
    left = len([change for change in survivors if change not in reasons])
    killed = len(mutants) - len(survivors)
    click.echo(f"{module}: {killed} of {len(mutants)} killed, {len(survivors) - left} harmless, {left} left")
    return left


if __name__ == "__main__":
    main()
