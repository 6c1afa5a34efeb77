"""What a server can be told: one frozen dataclass, read from the command line and the environment.

Every field is a flag (``--queue-size``) and a variable (``OMNI_QUEUE_SIZE``); the flag wins. Keys are variables only,
since everybody on a machine can read its command lines. The address may also come in Gradio's own variables, as it
does on a Space. Imports nothing of ours.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

PREFIX = "OMNI_"
GRADIO = {"host": "GRADIO_SERVER_NAME", "port": "GRADIO_SERVER_PORT"}
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def setting(default: Any, about: str, *, among: tuple[str, ...] = (), least: int = 0, most: int = 0) -> Any:
    """A field with what ``--help`` says of it and the values it may take."""
    return field(default=default, metadata={"about": about, "among": among, "least": least, "most": most})


def secret(about: str) -> Any:
    """A key: empty by default, no flag, and not in what is shown of the settings."""
    return field(default="", repr=False, metadata={"about": about, "among": (), "secret": True})


@dataclass(frozen=True)
class Settings:
    """How this server runs."""

    engine: str = setting("primer", "which model answers", among=("primer", "qwen3-omni", "remote"))
    model: str = setting(
        "",
        "of qwen3-omni a folder or a name on the hub, empty for Qwen3-Omni-30B-A3B-Instruct;\n"
        "of remote a name on its server, empty for the first there",
    )
    revision: str = setting("", "commit of that checkpoint; empty is the one that this version was written for")
    system: str = setting("", "what qwen3-omni is told before every conversation")
    device: str = setting("auto", "where the model runs", among=("auto", "cpu", "cuda"))
    memory: str = setting(
        "all", "most memory for the model, such as 12GB, or all; for Primer, of its experts alone (5 MB)"
    )
    server: str = setting("openai", "what the server of remote speaks", among=("openai", "vllm", "sglang", "dashscope"))
    base_url: str = setting("", "address of the server of remote, such as https://host/v1; http to this machine only")
    remote_key: str = secret("key for the server of remote")
    api: bool = setting(False, "also serve the model to programs, under /v1 as OpenAI does")
    api_key: str = secret("key that those programs have to send")
    mcp: bool = setting(False, "also offer the model to other models, as tools over MCP")
    host: str = setting("127.0.0.1", "address to listen on; 0.0.0.0 is every address of the machine")
    port: int = setting(7860, "port to listen on", least=1, most=65535)
    share: bool = setting(False, "also open a public gradio.live address")
    root: Path = setting(Path("data"), "folder for conversations and uploads; it belongs to this server alone")
    timestamps: str = setting("", "time-stamp authority (RFC 3161) that dates what is signed; empty asks none")
    memory_slider: str = setting(
        "auto",
        "who may change the experts' memory in the page, which all visitors share; auto is browsers of this machine, "
        "and nobody where the page is shared or listens on other addresses",
        among=("auto", "everyone", "nobody"),
    )
    engine_picker: str = setting(
        "auto",
        "who may start another engine from the page, for all visitors; auto as with --memory-slider",
        among=("auto", "everyone", "nobody"),
    )
    exam_start: str = setting(
        "auto",
        "who may start an exam in the page, whose questions take turns with all visitors; auto as with --memory-slider",
        among=("auto", "everyone", "nobody"),
    )
    queue_size: int = setting(16, "how many requests may wait for the model", least=1, most=1000)
    live_minutes: int = setting(10, "how long a live conversation may last, in minutes", least=1, most=240)
    max_upload_mb: int = setting(50, "largest file that a visitor may upload, in megabytes", least=1, most=2000)
    log_level: str = setting("info", "how much goes to the log", among=("debug", "info", "warning", "error"))


class BadValue(ValueError):
    """A setting that cannot be used; the message is one sentence."""


def read_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from flags, else variables, else defaults.

    A value that cannot be used ends the program with one sentence and exit code 2.
    """
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    values = {}
    try:
        for one in fields(Settings):
            if given.get(one.name) is not None:
                values[one.name] = convert(one, given[one.name], flag_of(one))
                continue
            for variable in (variable_of(one), GRADIO.get(one.name)):
                if variable and environment.get(variable):
                    values[one.name] = convert(one, environment[variable], variable)
                    break
    except BadValue as bad:
        parser.error(str(bad))
    return Settings(**values)


def flag_of(one: Field) -> str:
    """``queue_size`` is ``--queue-size``."""
    return "--" + one.name.replace("_", "-")


def variable_of(one: Field) -> str:
    """``queue_size`` is ``OMNI_QUEUE_SIZE``."""
    return PREFIX + one.name.upper()


def is_secret(one: Field) -> bool:
    """Whether the field is a key, which has no flag."""
    return one.metadata.get("secret", False)


def convert(one: Field, raw: str, source: str) -> Any:
    """The text of a flag or variable as the type of its field. Raises BadValue."""
    kind = get_type_hints(Settings)[one.name]
    if kind is bool:
        return _convert_switch(raw, source)
    if kind is int:
        return _convert_number(one, raw, source)
    among = one.metadata["among"]
    if among and raw not in among:
        raise BadValue(f"{source} must be one of {', '.join(among)}, not {raw!r}.")
    return kind(raw)


def _convert_switch(raw: str, source: str) -> bool:
    word = raw.lower()
    if word not in TRUE + FALSE:
        raise BadValue(f"{source} must be yes or no, not {raw!r}.")
    return word in TRUE


def _convert_number(one: Field, raw: str, source: str) -> int:
    least, most = one.metadata["least"], one.metadata["most"]
    try:
        number = int(raw)
    except ValueError:
        raise BadValue(f"{source} must be a whole number, not {raw!r}.") from None
    if not least <= number <= most:
        raise BadValue(f"{source} must be between {least} and {most}, not {number}.")
    return number


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage block."""

    def error(self, message: str) -> NoReturn:
        print(message, file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="app.py",
        description="Omni Playground: talk with an omni model in text, speech, pictures and clips.",
        formatter_class=argparse.RawTextHelpFormatter,
        allow_abbrev=False,
    )
    for one in fields(Settings):
        assert one.default is not MISSING
        if is_secret(one):
            continue
        among = one.metadata["among"]
        choice = f" ({', '.join(among)})" if among else ""
        switch = {"nargs": "?", "const": "yes"} if one.default is False else {}
        parser.add_argument(
            flag_of(one),
            metavar="VALUE",
            help=f"{one.metadata['about']}{choice}\n[{variable_of(one)}, default {one.default}]",
            **switch,
        )
    keys = (f"{variable_of(one)}: {one.metadata['about']}" for one in fields(Settings) if is_secret(one))
    parser.epilog = "Keys are read from the environment alone:\n  " + "\n  ".join(keys)
    return parser
