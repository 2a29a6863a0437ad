"""Options that several commands share, declared once."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tandem.client import find_endpoint
from tandem.provider import DEFAULT_MAX_SEQUENCES, DEFAULT_SPECULATE

if TYPE_CHECKING:
    from tandem.client import ChatRequest, Client, Endpoint, Message

# As the engine has them, which is too heavy to import for a `--help`; a test compares both.
DEFAULT_MODEL = "tandem-demo"
SPECULATE_WITHOUT_MODEL = ("off", "lookup")
_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?|mps")


class Dtype(StrEnum):
    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Quantization(StrEnum):
    INT8 = "int8"
    INT4 = "int4"


class CacheFormat(StrEnum):
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="TANDEM_DATA_DIR",
        help="Where keys, logs and the session are kept.",
        show_default="the user's data folder",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Host = Annotated[
    str, typer.Option(help="The address to listen on; 0.0.0.0 for every machine in the network.")
]
RequestTimeout = Annotated[
    float,
    typer.Option(
        min=1.0, help="Seconds that a request may wait, or stand still; one that moves goes on."
    ),
]
Level = Annotated[LogLevel, typer.Option("--log-level", help="How much to log, on stderr.")]
StopOnStdinEof = Annotated[
    bool, typer.Option("--stop-on-stdin-eof", hidden=True, help="Stop when stdin closes.")
]

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A checkpoint folder, a GGUF file, a Hugging Face name, or tandem-demo.",
    ),
]


def _device(text: str) -> str:
    """Whether it can be a device at all; whether this machine has it, the engine says."""
    if not _DEVICE.fullmatch(text):
        raise typer.BadParameter(
            f"{text!r} is no device: name auto, cpu, cuda, one of several GPUs as cuda:1, or mps"
        )
    return text


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which model a provider serves, and how. `tandem up` hands them on to its providers."""

    model: ModelOption = DEFAULT_MODEL
    model_name: Annotated[
        str | None, typer.Option(help="The name in the API.", show_default="the model's own")
    ] = None
    dtype: Annotated[Dtype, typer.Option(help="Number format of the weights.")] = Dtype.AUTO
    quantize: Annotated[
        Quantization | None, typer.Option(help="Store weights in fewer bits.", show_default="no")
    ] = None
    kv_cache: Annotated[
        CacheFormat | None,
        typer.Option(help="Keep the KV cache in fewer bits.", show_default="no"),
    ] = None
    device: Annotated[
        str,
        typer.Option(
            help="What computes; auto takes the best there.",
            metavar="auto|cpu|cuda[:N]|mps",
            callback=_device,
        ),
    ] = "auto"
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPU threads of a provider.", show_default="the cores, shared out"
        ),
    ] = None
    kv_tokens: Annotated[
        int | None,
        typer.Option(min=64, help="Tokens that the KV cache holds.", show_default="what fits"),
    ] = None
    speculate: Annotated[
        str,
        typer.Option(
            help="What guesses tokens ahead: the text itself, or a smaller model.",
            metavar="lookup|off|MODEL",
        ),
    ] = DEFAULT_SPECULATE
    max_sequences: Annotated[
        int, typer.Option(min=1, help="Sequences decoded at the same time.")
    ] = DEFAULT_MAX_SEQUENCES


ClientTimeout = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the next token.")
]


class ServiceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which service a command talks to."""

    base_url: Annotated[
        str | None,
        typer.Option(
            envvar="TANDEM_BASE_URL",
            help="The service's address, e.g. http://127.0.0.1:8000/v1.",
            show_default="the running `tandem up`",
        ),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="TANDEM_API_KEY",
            help="The API key; better in the variable than in the shell's history.",
            show_default="the key of the running `tandem up`",
        ),
    ] = None
    data_dir: DataDir = None

    def endpoint(self) -> Endpoint:
        """Raises NotServing when none is named and none runs here."""
        return find_endpoint(self.base_url, self.api_key, self.data_dir)


class AnswerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers, and how."""

    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Which model answers.", show_default="the one served"),
    ] = None
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Longest answer.", show_default="what the context holds"),
    ] = None
    temperature: Annotated[
        float | None, typer.Option(min=0.0, max=2.0, help="0 always takes the likeliest token.")
    ] = None
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None
    system: Annotated[str | None, typer.Option("--system", "-s", help="The system prompt.")] = None

    def request(self, client: Client, messages: list[Message]) -> ChatRequest:
        """Messages for the model that was named, or for the only one there."""
        from tandem.client import ChatRequest

        return ChatRequest(
            client.choose_model(self.model),
            messages,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=self.seed,
        )
