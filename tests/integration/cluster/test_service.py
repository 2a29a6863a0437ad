"""A two-rank cluster behind the API: it serves as one, survives its ranks, and comes back."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator

import httpx2
import psutil
import pytest
from openai import OpenAI
from tests.support.running_up import Up, running_up, stream_texts
from tests.support.waiting import DEADLINE_S, until

QUESTIONS = {
    "What is 3 + 4?": "3 + 4 = 7.",
    "Count to 25.": ", ".join(map(str, range(1, 26))) + ".",
}


def _ask(up: Up, question: str) -> str:
    with OpenAI(
        base_url=up.base_url, api_key=up.api_key, timeout=DEADLINE_S, max_retries=8
    ) as client:
        answer = client.chat.completions.create(
            model=up.model, messages=[{"role": "user", "content": question}], temperature=0
        )
    return answer.choices[0].message.content or ""


def _strategy(up: Up) -> str:
    path = up.data_dir / "nodes" / "provider-1-rank-0" / "cluster-status.json"
    return str(json.loads(path.read_text())["cluster"]["strategy"])


def _until_clustered(up: Up) -> None:
    """Waits until rank 0 answers for both: the coordinator lists it with its role."""
    headers = {"Authorization": f"Bearer {up.operator_key}"}
    with httpx2.Client(headers=headers, timeout=DEADLINE_S) as http:

        def roles() -> list[str]:
            providers = http.get(f"{up.base_url}/status").json()["providers"]
            return sorted(str(provider["cluster_role"]) for provider in providers)

        until(lambda: roles() == ["0", "1"])


@pytest.fixture(scope="module", params=["tp", "pp", "auto"])
def clustered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Up]:
    """One cluster of each kind for all tests, which leave it whole."""
    directory = tmp_path_factory.mktemp("cluster")
    with running_up(directory, "--ranks=2", f"--parallelism={request.param}") as up:
        yield up
        assert request.param in {"auto", _strategy(up)}
        assert up.stop() == 0


def test_it_answers_as_one_machine_would(clustered: Up) -> None:
    for question, answer in QUESTIONS.items():
        assert _ask(clustered, question) == answer


def test_only_rank_0_is_routable_and_one_provider_is_counted(clustered: Up) -> None:
    with OpenAI(base_url=clustered.base_url, api_key=clustered.api_key) as client:
        (model,) = client.models.list()
    assert model.model_dump()["provider_count"] == 1
    _until_clustered(clustered)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stalled"])
@pytest.mark.parametrize("clustered", ["tp", "pp"], indirect=True)
def test_a_lost_rank_costs_no_request_and_the_cluster_comes_back(
    clustered: Up, how: signal.Signals
) -> None:
    """The requests wait for the new session, and go on in it from the tokens that were sent."""
    rank_1 = psutil.Process(clustered.provider_pids[1])

    def disturb() -> None:
        os.kill(rank_1.pid, how)
        if how is signal.SIGSTOP:
            threading.Thread(target=_resume_when_missed, args=(clustered, rank_1)).start()

    strategy = _strategy(clustered)
    undisturbed = stream_texts(clustered, temperature=0)
    assert stream_texts(clustered, disturb, temperature=0) == undisturbed
    if how is signal.SIGKILL:
        clustered.until_provider_is_back(1)
    _until_clustered(clustered)
    assert _strategy(clustered) == strategy


def _resume_when_missed(up: Up, rank_1: psutil.Process) -> None:
    headers = {"Authorization": f"Bearer {up.operator_key}"}
    with httpx2.Client(headers=headers, timeout=DEADLINE_S) as http:
        until(
            lambda: all(
                provider["cluster_role"] != 0
                for provider in http.get(f"{up.base_url}/status").json()["providers"]
            )
        )
    rank_1.resume()


@pytest.mark.parametrize("clustered", ["tp"], indirect=True)
def test_rank_0_can_be_lost_too(clustered: Up) -> None:
    os.kill(clustered.provider_pids[0], signal.SIGKILL)
    clustered.until_provider_is_back(0)
    _until_clustered(clustered)
    assert _ask(clustered, "What is 3 + 4?") == QUESTIONS["What is 3 + 4?"]
