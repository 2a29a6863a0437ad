"""A two-rank cluster behind the API: it serves as one, survives its ranks, and comes back."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from openai import OpenAI
from tests.support.running_up import DEADLINE_S, Up, running_up, stream_texts

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


def _status(up: Up, rank: int) -> dict[str, object]:
    path = up.data_dir / "nodes" / f"provider-1-rank-{rank}" / "cluster-status.json"
    found: dict[str, object] = json.loads(path.read_text())
    return found


def _until_clustered(up: Up) -> None:
    """Waits until rank 0 answers for both: the coordinator lists it with its role."""
    headers = {"Authorization": f"Bearer {up.api_key}"}
    with httpx2.Client(headers=headers, timeout=DEADLINE_S) as http:
        while True:  # ends with the cluster's return, or by the test's timeout
            providers = http.get(f"{up.base_url}/status").json()["providers"]
            roles = sorted(str(p["cluster_role"]) for p in providers)
            if roles == ["0", "1"]:
                return


@pytest.fixture(scope="module", params=["tp", "pp", "auto"])
def clustered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Up]:
    directory = tmp_path_factory.mktemp("cluster")
    with running_up(directory, "--ranks=2", f"--parallelism={request.param}") as up:
        yield up


def test_it_answers_as_one_machine_would(clustered: Up) -> None:
    for question, answer in QUESTIONS.items():
        assert _ask(clustered, question) == answer


def test_only_rank_0_is_routable_and_one_provider_is_counted(clustered: Up) -> None:
    with OpenAI(base_url=clustered.base_url, api_key=clustered.api_key) as client:
        (model,) = client.models.list()
    assert model.model_dump()["provider_count"] == 1
    _until_clustered(clustered)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stalled"])
@pytest.mark.parametrize("parallelism", ["tp", "pp"])
def test_a_lost_rank_costs_no_request_and_the_cluster_comes_back(
    tmp_path: Path, parallelism: str, how: signal.Signals
) -> None:
    """The requests wait for the new session, and go on in it from the tokens that were sent."""
    with running_up(tmp_path, "--ranks=2", f"--parallelism={parallelism}") as up:
        rank_1 = psutil.Process(up.provider_pids[1])

        def disturb() -> None:
            os.kill(rank_1.pid, how)
            if how is signal.SIGSTOP:
                threading.Thread(target=_resume_when_missed, args=(up, rank_1)).start()

        undisturbed = stream_texts(up, temperature=0)
        assert stream_texts(up, disturb, temperature=0) == undisturbed
        _until_clustered(up)
        assert _status(up, 0)["cluster"]["strategy"] == parallelism  # type: ignore[index]
        assert up.stop() == 0


def _resume_when_missed(up: Up, rank_1: psutil.Process) -> None:
    headers = {"Authorization": f"Bearer {up.api_key}"}
    with httpx2.Client(headers=headers, timeout=DEADLINE_S) as http:
        while any(
            provider["cluster_role"] == 0
            for provider in http.get(f"{up.base_url}/status").json()["providers"]
        ):
            pass
    rank_1.resume()


def test_rank_0_can_be_lost_too(tmp_path: Path) -> None:
    with running_up(tmp_path, "--ranks=2", "--parallelism=tp") as up:
        os.kill(up.provider_pids[0], signal.SIGKILL)
        up.until_stderr("serves again")
        _until_clustered(up)
        assert _ask(up, "What is 3 + 4?") == QUESTIONS["What is 3 + 4?"]
        assert up.stop() == 0
