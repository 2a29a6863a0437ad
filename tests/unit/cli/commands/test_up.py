"""From the options of `tandem up` to what it runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.cli.conftest import RunCli

from tandem.cli.commands.up import RunOptions, _models, up_options
from tandem.cli.failures import ExitCode
from tandem.cli.options import CacheFormat, ModelOptions, Quantization
from tandem.protocol.cluster import Parallelism


def test_providers_are_told_what_was_said_of_the_model() -> None:
    model = ModelOptions(
        model="x",
        model_name="mine",
        quantize=Quantization.INT4,
        kv_cache=CacheFormat.INT8,
        device="cuda:1",
        threads=3,
        kv_tokens=4096,
        speculate="./small",
        max_sequences=8,
    )
    assert up_options(model, RunOptions(), verbose=False).provider_arguments == [
        "--model=x",
        "--model-name=mine",
        "--dtype=auto",
        "--quantize=int4",
        "--kv-cache=int8",
        "--device=cuda:1",
        "--threads=3",
        "--kv-tokens=4096",
        "--speculate=./small",
        "--max-sequences=8",
    ]


def test_the_cores_are_shared_out_unless_threads_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(12)), raising=False)
    run = RunOptions(providers=2, ranks=3)
    assert "--threads=2" in up_options(ModelOptions(), run, verbose=False).provider_arguments


def test_a_single_parallelism_has_one_rank() -> None:
    run = RunOptions(ranks=3, parallelism=Parallelism.SINGLE)
    assert up_options(ModelOptions(), run, verbose=False).ranks == 1


@pytest.mark.parametrize(("served", "code"), [(True, ExitCode.OK), (False, ExitCode.INTERRUPTED)])
def test_the_exit_code_tells_whether_it_had_served(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, served: bool, code: ExitCode
) -> None:
    class Played:
        """A run that ends at once."""

        def __init__(self, *_: object) -> None:
            pass

        async def run(self) -> bool:
            return served

    monkeypatch.setattr("tandem.up.UpService", Played)
    assert run_cli("up", "--port=0", f"--data-dir={tmp_path}") == code


def test_both_models_are_fetched_where_a_second_one_guesses() -> None:
    assert _models(ModelOptions(model="org/large")) == ["org/large"]
    assert _models(ModelOptions(model="org/large", speculate="off")) == ["org/large"]
    both = ModelOptions(model="org/large", speculate="org/small")
    assert _models(both) == ["org/large", "org/small"]
