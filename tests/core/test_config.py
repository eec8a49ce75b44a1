"""Tests of the configuration: the order of its sources, and errors that prevent the start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apex.config import Config, exposed_secrets, load_config
from apex.errors import ConfigError
from apex.schema.validation import fields

CONFIG = Path(__file__).parents[2] / "config"
SECRET = "a-secret-of-tests-that-nobody-knows"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "default", {"host": "default", "port": 1, "paginate": {"default": 1, "max": 2}})
    return tmp_path


def write(folder: Path, name: str, content: Any) -> None:
    (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def complaint(folder: Path, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(folder, environ)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_later_layers_win_key_by_key(folder: Path) -> None:
    write(folder, "development", {"port": 2, "paginate": {"max": 20}})
    write(folder, "local", {"port": 3})
    write(folder, "custom-environment-variables", {"port": {"__name": "PORT", "__format": "number"}})
    config = load_config(folder, {})
    assert (config["host"], config["port"]) == ("default", 3)
    assert dict(config["paginate"]) == {"default": 1, "max": 20}
    assert load_config(folder, {"PORT": "4"})["port"] == 4


def test_the_environment_chooses_the_layer(folder: Path) -> None:
    for env in ("development", "test", "production"):
        write(folder, env, {"host": env})
    assert load_config(folder, {})["host"] == "development"
    for env in ("test", "production"):
        config = load_config(folder, {"APEX_ENV": env})
        assert (config["host"], config["env"]) == (env, env)


def test_an_unknown_environment_is_refused(folder: Path) -> None:
    assert complaint(folder, APEX_ENV="prod") == "APEX_ENV is 'prod': use one of development, test, production"


def test_an_empty_variable_counts_as_not_set(folder: Path) -> None:
    write(folder, "custom-environment-variables", {"host": "HOST"})
    assert load_config(folder, {"HOST": ""})["host"] == "default"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"prot": 1}, "prot: Unknown field. Did you mean 'port'?"),
        ({"paginate": {"default": 1, "max": 2, "maxx": 3}}, "paginate.maxx: Unknown field. Did you mean 'max'?"),
        ({"port": "x"}, "port: Must be an integer"),
        ({"port": 65_536}, "port: Must be greater than or equal to 0 and less than or equal to 65535"),
        ({"origins": "*"}, "origins: Must be a list"),
        ({"paginate": {"default": 0}}, "paginate.default: Must be greater than or equal to 1"),
        ({"authentication": {"secret": SECRET, "jwtOptions": {"algorithm": "none"}}}, "jwtOptions.algorithm: Must be"),
        ({"authentication": {"secret": SECRET, "jwtOptions": {"expiresIn": "soon"}}}, "'soon' is not a duration"),
        ({"authentication": {}}, "authentication.secret: Is required (set APEX_SECRET)"),
        ({"authentication": {"secret": "short"}}, "authentication.secret needs at least 32 bytes: set APEX_SECRET"),
        (
            {"authentication": {"secret": SECRET, "previousSecret": "short"}},
            "authentication.previousSecret needs at least 32 bytes: set APEX_PREVIOUS_SECRET",
        ),
        ({"database": "mysql://host/name"}, "database: must be sqlite:///file.db or postgresql://host/name"),
        ({"database": "x"}, "database: must be sqlite:///file.db or postgresql://host/name"),
        ({"database": "sqlite://"}, "database: must be sqlite:///file.db or postgresql://host/name"),
        ({"database": "postgresql://h:port/x"}, "database: must be sqlite:///file.db or postgresql://host/name"),
    ],
)
def test_an_unusable_setting_is_named(folder: Path, content: Any, part: str) -> None:
    write(folder, "local", content)
    assert part in complaint(folder)


def test_everything_that_is_wrong_is_said_at_once(folder: Path) -> None:
    write(folder, "local", {"prot": 1, "port": "x", "bodyLimit": 0})
    message = complaint(folder)
    assert message.startswith("Invalid configuration for development: ")
    assert all(f"{key}: " in message for key in ("prot", "port", "bodyLimit"))


@pytest.mark.parametrize("value", ["x", "80a", "{"])
def test_a_variable_of_the_wrong_form_is_named(folder: Path, value: str) -> None:
    write(folder, "custom-environment-variables", {"port": {"__name": "PORT", "__format": "number"}})
    assert complaint(folder, PORT=value) == f"PORT is '{value}': it must be a number"


@pytest.mark.parametrize("content", ["{", "[]", '"x"', "", "\x00"])
def test_a_file_that_cannot_be_read_is_named(folder: Path, content: str) -> None:
    write(folder, "local", content)
    assert str(folder / "local.json") in complaint(folder)


def test_a_file_that_is_not_utf_8_is_named(folder: Path) -> None:
    (folder / "local.json").write_bytes(b'{"host": "\xff"}')
    assert str(folder / "local.json") in complaint(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert complaint(tmp_path / "nowhere") == f"{tmp_path}/nowhere/default.json is missing"


def test_the_configuration_cannot_be_changed(folder: Path) -> None:
    write(folder, "local", {"origins": ["a"]})
    config = load_config(folder, {})
    with pytest.raises(TypeError):
        config["port"] = 5  # type: ignore[index]
    with pytest.raises(TypeError):
        config["paginate"]["max"] = 5
    assert config["origins"] == ("a",)


def test_an_application_adds_keys_of_its_own(folder: Path) -> None:
    class Own(Config):
        mail = fields.String(required=True)

    write(folder, "local", {"mail": "x"})
    assert load_config(folder, {}, Own)["mail"] == "x"
    assert "mail: Unknown field." in complaint(folder)


# The configuration of the CRM.


@pytest.mark.parametrize("env", ["development", "test"])
def test_the_crm_starts_without_any_variable(env: str) -> None:
    config = load_config(CONFIG, {"APEX_ENV": env})
    assert config["authentication"]["jwtOptions"]["expiresIn"] == "1d"


def test_the_crm_reads_its_variables() -> None:
    environ = {"APEX_ENV": "production", "HOST": "::1", "PORT": "0", "APEX_SECRET": SECRET}
    config = load_config(CONFIG, {**environ, "DATABASE_URL": "postgresql://u:p@h:1/n"})
    assert (config["host"], config["port"], config["database"]) == ("::1", 0, "postgresql://u:p@h:1/n")
    assert config["authentication"]["secret"] == SECRET


def test_production_needs_its_own_secret() -> None:
    assert "authentication.secret" in complaint(CONFIG, APEX_ENV="production")
    assert "set APEX_SECRET" in complaint(CONFIG, APEX_ENV="production")


@pytest.mark.parametrize("env", ["development", "test"])
def test_a_published_secret_is_refused_in_production(env: str) -> None:
    secret = load_config(CONFIG, {"APEX_ENV": env})["authentication"]["secret"]
    message = complaint(CONFIG, APEX_ENV="production", APEX_SECRET=secret)
    assert message == "authentication.secret is published in the configuration: set APEX_SECRET"


def test_a_default_secret_is_refused_in_production(folder: Path) -> None:
    write(folder, "default", {"authentication": {"secret": SECRET}})
    assert "set APEX_SECRET" in complaint(folder, APEX_ENV="production")
    assert load_config(folder, {})["authentication"]["secret"] == SECRET


def test_a_secret_is_never_said() -> None:
    assert "too-short" not in complaint(CONFIG, APEX_SECRET="too-short")
    assert "p4ss" not in complaint(CONFIG, DATABASE_URL="mysql://u:p4ss@h/n")


@pytest.mark.parametrize(
    ("host", "refused"),
    [("localhost", 0), ("127.0.0.1", 0), ("::1", 0), ("0.0.0.0", 1), ("::", 1), ("192.0.2.1", 1), ("crm.test", 1)],
)
def test_a_published_secret_is_for_this_machine_alone(host: str, refused: int) -> None:
    config = load_config(CONFIG, {"HOST": host})
    assert len(list(exposed_secrets(config, config["host"]))) == refused
    own = load_config(CONFIG, {"HOST": host, "APEX_SECRET": "0123456789abcdef" * 2})
    assert not list(exposed_secrets(own, own["host"]))


def test_the_configuration_and_the_command_load_no_server() -> None:
    code = """
import sys, apex.cli, apex.config
print(sorted({"aiohttp", "argon2", "engineio", "redis", "socketio", "uvicorn"} & sys.modules.keys()))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
