"""Settings from flags, variables and defaults; a bad one ends the program with one sentence."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from omni.settings import Settings, flag_of, is_secret, read_settings, variable_of


def test_defaults_are_safe():
    settings = read_settings([], {})
    assert settings == Settings()
    assert settings.host == "127.0.0.1" and not settings.share


def test_every_field_is_a_flag_and_a_variable_in_the_help(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as end:
        read_settings(["--help"], {})
    shown = capsys.readouterr().out
    assert end.value.code == 0
    for field in fields(Settings):
        if is_secret(field):
            assert f"{variable_of(field)}: {field.metadata['about']}" in shown
            continue
        assert flag_of(field) in shown
        assert f"[{variable_of(field)}, default {field.default}]" in shown


def test_keys_come_from_the_environment_alone_and_are_not_shown(capsys: pytest.CaptureFixture):
    settings = read_settings([], {"OMNI_REMOTE_KEY": "sk-1", "OMNI_API_KEY": "sk-2"})
    assert (settings.remote_key, settings.api_key) == ("sk-1", "sk-2")
    assert "sk-" not in repr(settings)
    with pytest.raises(SystemExit):
        read_settings(["--api-key", "sk-3"], {})
    assert "--api-key" in capsys.readouterr().err


def test_a_flag_wins_over_a_variable():
    environment = {"OMNI_PORT": "9000", "OMNI_QUEUE_SIZE": "3"}
    settings = read_settings(["--port", "9001"], environment)
    assert (settings.port, settings.queue_size) == (9001, 3)


def test_the_address_may_come_in_gradio_s_own_variables():
    environment = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": "7861"}
    settings = read_settings([], environment)
    assert (settings.host, settings.port) == ("0.0.0.0", 7861)
    assert read_settings([], {**environment, "OMNI_PORT": "9000"}).port == 9000


def test_values_get_the_type_of_their_field():
    settings = read_settings(["--share", "--root", "/tmp/x"], {"OMNI_LOG_LEVEL": "debug"})
    assert settings == Settings(share=True, root=Path("/tmp/x"), log_level="debug")


@pytest.mark.parametrize("word", ["0", "no", "False", "off"])
def test_a_switch_can_be_turned_off_by_its_variable(word: str):
    assert not read_settings([], {"OMNI_SHARE": word}).share


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["--port", "0"], {}, "--port must be between 1 and 65535, not 0."),
        (["--port", "http"], {}, "--port must be a whole number, not 'http'."),
        ([], {"OMNI_ENGINE": "oracle"}, "OMNI_ENGINE must be one of primer, qwen3-omni, remote, not 'oracle'."),
        ([], {"OMNI_SHARE": "maybe"}, "OMNI_SHARE must be yes or no, not 'maybe'."),
    ],
)
def test_a_bad_value_is_one_sentence_and_exit_code_2(arguments, environment, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        read_settings(arguments, environment)
    assert end.value.code == 2
    assert capsys.readouterr().err == sentence + "\n"
