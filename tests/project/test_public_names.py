"""The public names of apex: a project outside the checkout imports each of them."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from apex._moved import MOVED

ROOT = Path(__file__).parents[2]

PUBLIC = {
    "apex": (
        "Apex Around AuthenticationService Connection Context Hook HookMap JWTStrategy LocalStrategy MemoryService "
        "Next Params SQLService Schema Service TableSchema authenticate batch bus database load_config rest sockets "
        "validate_data validate_query"
    ),
    "apex.adapters": "Adapter AdapterOptions Aggregate Companion MOST_RESTORED MemoryService RESTORED Selection",
    "apex.auth": (
        "APIKey APIKeyStrategy Attempt AuthenticationService Claims Holder JWTStrategy LocalStrategy PasswordResets "
        "Passwords Result Session Sessions Strategy Tokens authenticate hash_key hash_password new_key "
        "revoked_tokens_table"
    ),
    "apex.cache": "BoundedDict Cache",
    "apex.callbacks": "Emitter Listener",
    "apex.cli": "DAY ID as_json_option load_app main require_migrated run",
    "apex.client": "Client FileStorage Live MemoryStorage RemoteService Storage rest socketio",
    "apex.common": (
        "HIDDEN InvalidSignature Limit OMIT Pruned RATE_HEADERS References SignedWebhooks Trash alter_items "
        "answers_table apply_select audit audit_create cache caller_of changed_fields check_multi "
        "check_references combine debug default_sort defer_select disable_pagination disallow discard "
        "discard_query every foreign_keys_to idempotent iff is_not is_provider keep keep_query limit_rate "
        "limit_to_tenants list_trash lower_case missing_references now populate prevent_changes prune_trash "
        "rate_exceeded require_condition required resolve resolve_all resolve_data resolve_external resolve_query "
        "resolve_result set_field set_now set_owner sign signatures_table soft_delete some stash_before "
        "timestamps transaction unless virtual when without_secrets"
    ),
    "apex.config": "Config load_config",
    "apex.context": "Context Params external_call",
    "apex.describe": "ANY Example Facts Related describe",
    "apex.encoding": "RawJSON Stream decode decode_exactly decode_storable encode timestamp",
    "apex.errors": (
        "BY_CODE BadGateway BadRequest ConfigError Conflict FeathersError Forbidden GeneralError Gone HeadersTooLarge "
        "LengthRequired MethodNotAllowed NotAcceptable NotAuthenticated NotFound NotImplemented OutcomeUnknown "
        "PayloadTooLarge PaymentError PreconditionFailed Timeout TooManyRequests URITooLong Unavailable Unprocessable "
        "UnsupportedMediaType"
    ),
    "apex.hooks": "AnyHook AnyHooks Around Hook HookMap Next belongs keeps_result run_after run_before",
    "apex.log": "Entry EventsService Log Position Read log log_table",
    "apex.limits": "FailureLimit FairQueue Rate RateLimiter Rates rates",
    "apex.migrations": (
        "add_check add_foreign_key add_unique alter_table backfill change_enum connect create_index "
        "create_search_index differences disable_row_level_security drop_check drop_foreign_key drop_index "
        "drop_search_index drop_unique enable_row_level_security enable_row_level_security_where fill "
        "is_up_to_date pin_search_path prepare_row_level_security remove_row_level_security "
        "renew_row_level_security run_migrations set_not_null upgrade"
    ),
    "apex.observability": "Observation health hide logs metrics time_database tracing",
    "apex.openapi": "document_of openapi routes start_page",
    "apex.permissions": "Mine Refused Roles Rule authorize can mine roles",
    "apex.query": "Compare DELETED Hints Junction MAX_ROWS Predicate Query Rank Syntax every is_number suggestion",
    "apex.query.coercion": (
        "Coerce anything binary boolean clock day decimal integer json nullable number optional scalar seconds "
        "small_integer text timestamp uuid"
    ),
    "apex.query.querystring": "parse write",
    "apex.realtime": "Bus Channel Channels Connection NamedChannel bus",
    "apex.relations": "Relation belongs_to has_many many_to_many",
    "apex.schema": (
        "BooleanField DecimalField Email EmailField FloatField Id IdField IntegerField Password "
        "PasswordField Schema TextField ValidationError check_rules fields load loader validate validate_data "
        "validate_query validates_schema"
    ),
    "apex.server": "serve_app",
    "apex.service": "BodyLimit BodyLimits BoundService Call Service ServiceOptions",
    "apex.sql": "ColumnType Database Fixed Json SQLService Statement Timestamp database",
    "apex.tenant": (
        "ALL_TENANTS NO_TENANTS ROLE SETTING current_tenants is_tenant_hook set_tenants tenant_context tenant_hook"
    ),
    "apex.testing": (
        "AdapterContract Attacks Contract MARK Missed Oracle Raised attackable names new_database raises wire within"
    ),
    "apex.transaction": "after_commit is_in_transaction savepoint transaction",
    "apex.transports": "authenticated batch page public_error rest sockets",
    "apex.webhooks": "Deliveries WebhookSchema Webhooks deliveries_table webhooks_table",
    "apex.types": "Id Page Paginate Row is_many items map_items with_items",
}
"""By module the names that it promises, as in its ``__all__``. Whatever is not here may change at any time."""

INTERNAL = {"events", "registration", "router", "signatures"}
"""The modules of the core without public names. ``apex.app`` is not needed either, as ``Apex`` is in ``apex``."""

IMPORT_ALL = """
import json, sys
from importlib import import_module
for module, names in json.load(sys.stdin).items():
    for name in names.split():
        exec(f"from {module} import {name}")
        if type(eval(name)).__name__ == "module" and module != "apex.schema":
            raise SystemExit(f"{module}.{name} is a module")
"""

IMPORT_MOVED = """
import json, sys, warnings
from importlib import import_module
for name in json.load(sys.stdin):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import_module(f"apex.{name}")
    if not any(issubclass(one.category, DeprecationWarning) and f"apex.{name} " in str(one.message) for one in caught):
        raise SystemExit(f"no warning for apex.{name}")
"""


def run_outside(folder: Path, code: str, given: object) -> None:
    """Run code in a process whose folder is not the checkout."""
    command = [sys.executable, "-I", "-c", code]
    ended = subprocess.run(command, cwd=folder, input=json.dumps(given), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("module", PUBLIC)
def test_a_module_promises_the_names_of_the_list(module: str) -> None:
    assert sorted(import_module(module).__all__) == sorted(PUBLIC[module].split())


def test_every_package_and_module_of_the_core_is_in_the_list_or_internal() -> None:
    found = {path.stem for path in (ROOT / "apex").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    public = {module.split(".")[1] for module in PUBLIC if "." in module}
    assert {name for name in found if not name.startswith("_")} - INTERNAL - {"app"} == public


def test_a_project_outside_the_checkout_imports_all_public_names(tmp_path: Path) -> None:
    run_outside(tmp_path, IMPORT_ALL, PUBLIC)


def test_former_modules_can_be_imported_with_a_warning(tmp_path: Path) -> None:
    run_outside(tmp_path, IMPORT_MOVED, list(MOVED))


def test_the_warning_names_the_line_of_the_import_and_the_public_place(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from apex.migrate import upgrade\n", encoding="utf-8")
    ended = subprocess.run([sys.executable, "-I", str(script)], cwd=tmp_path, capture_output=True, text=True)
    message = "apex.migrate is apex.migrations.migrate now: import its public names from apex.migrations"
    assert ended.stderr.splitlines()[0] == f"{script}:1: DeprecationWarning: {message}"


IMPORT_FUNCTIONS = """
import json, sys, warnings
from importlib import import_module
import apex
warnings.simplefilter("ignore")
app = apex.Apex({"database": "sqlite://"})
for name in json.load(sys.stdin):
    exec(f"from apex.{name} import {name} as function")
    assert function is getattr(import_module(f"apex.{name}"), name)
    app.configure(function)
    exec(f"from apex import {name} as shown")
    assert callable(shown), name
    apex.Apex({"database": "sqlite://"}).configure(shown)
"""


def test_a_function_with_the_name_of_its_former_module_can_be_called_after_its_import(tmp_path: Path) -> None:
    run_outside(tmp_path, IMPORT_FUNCTIONS, ["bus", "rest", "sockets", "batch"])


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of what a file imports from apex."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "apex":
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "apex")


def is_public(module: str, name: str) -> bool:
    """Return True for a public name, and for a public module such as ``from apex.query import coercion``."""
    inner = f"{module}.{name}".rstrip(".")
    return inner in PUBLIC or name in PUBLIC.get(module, "").split()


@pytest.mark.parametrize("package", ["services", "hooks", "migrations"])
def test_the_application_imports_public_names_only(package: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name} of {module}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for module, name in imports(file)
        if not is_public(module, name)
    ]
    assert not wrong, "not public: " + "; ".join(wrong)


def is_from_apex(member: object) -> bool:
    return str(getattr(member, "__module__", "")).startswith("apex")


def undocumented(owner: type) -> Iterator[str]:
    """Yield the class and its public methods and properties that have no docstring, not even an inherited one."""
    # A dataclass without a docstring gets its signature in place of one.
    if (vars(owner).get("__doc__") or f"{owner.__name__}(").startswith(f"{owner.__name__}("):
        yield owner.__qualname__
    for name, member in vars(owner).items():
        function = getattr(member, "fget", None) or getattr(member, "func", None) or getattr(member, "__func__", member)
        if name[0] != "_" and inspect.isroutine(function) and not inspect.getdoc(getattr(owner, name)):
            yield f"{owner.__qualname__}.{name}"


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_a_docstring(module: str) -> None:
    found = import_module(module)
    missing = [] if found.__doc__ else [module]
    for name in PUBLIC[module].split():
        member = getattr(found, name)
        if inspect.isclass(member) and is_from_apex(member):
            missing += undocumented(member)
        elif inspect.isroutine(member) and is_from_apex(member) and not member.__doc__:
            missing.append(name)
    assert not missing, "without a docstring: " + ", ".join(missing)
