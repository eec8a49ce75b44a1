"""``apex generate service`` with fields: each type passes lint, types and tests, and mistakes are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_new import contents, project, run
from tests.process.commands import apex_here_for, apex_here_in

__all__ = ["project"]

EVERYTHING = [
    "name:string(3)!:unique", "body:text", "count:integer=3", "price:decimal!", "rate:decimal(4)=1.5", "size:float=1.5",
    "done:boolean=false", "day:date!", "seen:datetime=now", "clock:time", "key:uuid:unique", "data:json={}",
    "tags:json", "mail:email!", "other:email", "state:enum(in progress,closed)!:index", "kind:enum(a,b)=a",
    "note:string=", "title:string(80):index", "parent:belongs_to(everything)", "author:belongs_to(users)",
    "issue:belongs_to!", "similar:many_to_many(everything)", "people:many_to_many(users)", "labels:many_to_many",
]  # fmt: skip

LONG = "a234567890_234567890_234567890_2345678"


def generated(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Generate a service. Relations import the services of the project."""
    done = apex_here_for(folder, "generate", "service", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done


@pytest.fixture
def tracker(project: Path) -> Path:
    """A project with services that refer to each other."""
    apex_here_in(project, "generate", "service", "projects", "name:string!", "budget:decimal")
    apex_here_in(project, "generate", "service", "labels", "name:string(30)!:unique")
    generated(project, "issues", "title:string!", "status:enum(open,closed)=open", "due:date", "project:belongs_to!",
              "labels:many_to_many")  # fmt: skip
    return project


def test_a_service_with_every_type_passes_lint_types_and_its_tests(tracker: Path, postgres_server: str) -> None:
    generated(tracker, "everything", *EVERYTHING)
    generated(tracker, LONG, f"{LONG}:string!")
    generated(tracker, "b-a234567890-234567890", f"a234567890_234567890:belongs_to({LONG})!", f"{LONG}:string!",
              "everything:belongs_to(everything)!", f"b:many_to_many({LONG})")  # fmt: skip
    for tool in (("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), ("pytest", "-q", "-W", "error")):
        done = run(tracker, sys.executable, "-m", *tool)
        assert done.returncode == 0, done.stdout + done.stderr
    url = f"{postgres_server}/everything_test"
    done = run(tracker, sys.executable, "-m", "pytest", "-q", "-W", "error", TEST_DATABASE_URL=url)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tables_agree_with_the_migrations(tracker: Path) -> None:
    generated(tracker, "everything", *EVERYTHING)
    assert apex_here_for(tracker, "migrate").returncode == 0
    assert apex_here_for(tracker, "check").stdout == "Nothing is wrong.\n"
    assert apex_here_for(tracker, "migrate", "--down", "0001").returncode == 0


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("title", "'title' is no field: write name:type, such as title:string!"),
        ("title:", "there is no type ''. The types are string, text,"),
        ("title:strng", "'title:strng': there is no type 'strng'. Did you mean 'string'? The types are"),
        ("Title:string", "use small letters, digits and '_' for the name, at most 40, beginning with a letter"),
        ("_a:string", "use small letters"),
        (f"{'a' * 41}:string", "at most 40"),
        ("../x:string", "use small letters"),
        ('a"b:string', "use small letters"),
        ("class:string", "'class' is a word of Python: choose another name"),
        ("id:integer", "every service has the field 'id' already: leave it out"),
        ("user:belongs_to", "every service has the field 'user_id' already: leave it out"),
        ("fields:email", "a schema of marshmallow has something of that name"),
        ("a:string(0)", "string takes one length from 1 to 10000, such as string(200)"),
        ("a:string(9,9)", "string takes one length"),
        ("a:decimal(99)", "decimal takes one number of places from 0 to 12, such as decimal(2)"),
        ("a:integer(3)", "integer takes nothing in brackets: leave out '(3)'"),
        ("a:enum", "an enum takes its values in brackets: quote it as in 'status:enum(open,closed)'"),
        ("a:enum(x,)", "an enum takes its values in brackets"),
        ("a:enum(x,x)", "a value occurs twice: name each once"),
        ("a:enum(x';--)", "cannot be a value: use at most 40 letters, digits"),
        ("a:string:uniqe", "after the type may come :unique or :index, one of them"),
        ("a:string:unique:index", "one of them: a unique field has an index"),
        ("a:text:index", "a text of any length fits into no index: use string, or leave out ':index'"),
        ("a:string!=x", "a field with a default is never missing: leave out '!' or the default"),
        ("a:string(2)=abc", "its default must fit into the length"),
        ("a:string=a\nb", "its default must be one line without spaces around it"),
        ("a:integer=1.5", "its default must be an integer of at most 32 bits"),
        ("a:decimal=1.555", "its default must be a number below a million with at most 2 decimal places"),
        ("a:float=x", "its default must be a finite number"),
        ("a:boolean=yes", "its default must be true or false"),
        ("a:enum(x,y)=z", "its default must be one of: x, y"),
        ("a:date=2026-01-01", "date has no default here: write it into the column"),
        ("a:json=1", "json has no default but {} or [] here: write others into the column"),
        ("a:many_to_many!", "many_to_many has a table of its own, so it takes neither '!' nor flags nor a default"),
        ("a:belongs_to=1", "belongs_to has no default here: write it into the column"),
        ("a:has_many", "generate the other service with a belongs_to to this one, and then add 'a': has_many(...)"),
        ("x" * 1_000_000, "is no field"),
    ],
)
def test_a_wrong_field_is_refused_before_anything_is_written(project: Path, word: str, rule: str) -> None:
    before = contents(project)
    done = apex_here_in(project, "generate", "service", "things", "name:string!", word)
    assert (done.returncode, rule in done.stderr, len(done.stderr) < 500) == (1, True, True), done.stderr
    assert (len(done.stderr.splitlines()), contents(project)) == (1, before)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["a:string", "a:text"], "'a:text': 'a:string' has the name 'a' already: choose another one"),
        (["a:belongs_to(users)", "a_id:integer"], "'a:belongs_to(users)' has the name 'a_id' already"),
        (["a:belongs_to"], "the app has no service 'as'. Generate that first, or name another one in brackets"),
        (["message:belongs_to(mesages)"], "no service 'mesages'. Did you mean 'messages'?"),
        (["a:belongs_to(authentication)"], "'authentication' is no service with a table of its own"),
        (["a:belongs_to(users,messages)"], "belongs_to takes one service in brackets, such as belongs_to(users)"),
        (["things:many_to_many"], "the ids of its links would have the name of the own ids: choose another name"),
    ],
)
def test_wrong_relations_are_refused_before_anything_is_written(project: Path, words: list[str], rule: str) -> None:
    before = contents(project)
    done = apex_here_for(project, "generate", "service", "things", *words)
    assert (done.returncode, rule in done.stderr) == (1, True), done.stderr
    assert (len(done.stderr.splitlines()), contents(project)) == (1, before)


@pytest.mark.parametrize("name", ["date", "tables", "integer", "mine", "metadata", "enums"])
def test_a_service_cannot_have_a_name_that_its_module_imports(project: Path, name: str) -> None:
    done = apex_here_in(project, "generate", "service", name, "a:date", "b:enum(x,y)")
    refused = done.returncode == 1 and f"'{name}' cannot be the name" in done.stderr
    assert refused == (name != "enums"), done.stderr


def test_an_index_whose_name_postgresql_would_cut_is_refused(project: Path) -> None:
    before = contents(project)
    done = apex_here_in(project, "generate", "service", LONG, f"{LONG}:string:index")
    assert (done.returncode, "would have 80 characters, and PostgreSQL keeps 63" in done.stderr) == (1, True)
    assert contents(project) == before
