"""Prompts become tokens in processes of their own: what one does to its process is its failure."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.support.waiting import until

from tandem.engine import (
    DEMO_MODEL,
    Message,
    PromptEncoder,
    TextLimits,
    Tokenizer,
    resolve_model,
)
from tandem.engine.text import worker as module
from tandem.engine.text.jobs import Job
from tandem.engine.text.worker import _MODULE, TextWorker
from tandem.errors import (
    CheckpointError,
    ContextLengthExceeded,
    InternalError,
    InvalidRequest,
    NoProviderAvailable,
    Overloaded,
    ServiceStopping,
    TandemError,
)

TOKENIZER = Tokenizer(resolve_model(DEMO_MODEL))
TIMEOUT_S = 60.0
MANY = 1000
#: A job that is to end never comes near; one that is to be stopped takes it all.
LIMITS = TextLimits(job_s=1.0, memory_bytes=512 * 1024 * 1024)
PLAIN = "{{ messages[0].content }}"
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
DEADLY = {
    "endless": ENDLESS,
    "power": "{{ 9 ** (9 ** 9) }}",
    "memory": "{{ 'a' * 9999999999 }}",
    "doubling": (
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}"
        "{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}"
    ),
    "much": "{% for i in range(99999) %}{{ messages[0].content * 1000 }}{% endfor %}",
}


def told(case: str) -> list[Message]:
    return [Message("user", case)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template does to itself what its message names."""
    found = tmp_path_factory.mktemp("model")
    shutil.copy(resolve_model(DEMO_MODEL) / "tokenizer.json", found)
    cases = [
        f"{{% if messages[0].content == '{name}' %}}{deed}{{% endif %}}"
        for name, deed in DEADLY.items()
    ]
    (found / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "".join(cases) + PLAIN})
    )
    return found


@pytest.fixture
def worker(directory: Path) -> Iterator[TextWorker]:
    worker = TextWorker(directory, LIMITS)
    yield worker
    worker.close()


@pytest.fixture
def encoder(directory: Path) -> Iterator[PromptEncoder]:
    encoder = PromptEncoder(directory, LIMITS)
    yield encoder
    encoder.close()


def submit(worker: TextWorker, *texts: str | list[Message]) -> Future[list[list[int]]]:
    return worker.submit(Job(list(texts), MANY))


def children() -> list[psutil.Process]:
    """The processes that tokenise, of this one."""
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it may end meanwhile
            if _MODULE in process.cmdline():
                found.append(process)
    return found


def error(answer: Future[list[list[int]]]) -> TandemError:
    found = answer.exception(TIMEOUT_S)
    assert isinstance(found, TandemError)
    return found


def test_the_ids_are_those_of_the_tokenizer(encoder: PromptEncoder) -> None:
    found = encoder.encode(["river stone", told("lamp"), "\U0001f9a4"], MANY).result(TIMEOUT_S)
    assert [TOKENIZER.decode(ids) for ids in found] == ["river stone", "lamp", "\U0001f9a4"]
    assert found[0] == TOKENIZER.encode("river stone")
    assert encoder.encode([], MANY).result(TIMEOUT_S) == []


@pytest.mark.parametrize("case", DEADLY)
def test_a_template_that_takes_too_much_costs_its_own_request_alone(
    encoder: PromptEncoder, case: str
) -> None:
    """Those that wait behind it are answered."""
    bad = encoder.encode([told(case)], MANY)
    good = [encoder.encode([told("lamp")], MANY) for _ in range(2)]
    found = error(bad)
    assert isinstance(found, InvalidRequest)
    assert found.status == 400
    assert [answer.result(TIMEOUT_S) for answer in good] == [[TOKENIZER.encode("lamp")]] * 2


def test_what_a_tokenizer_says_of_a_text_comes_through(encoder: PromptEncoder) -> None:
    assert isinstance(error(encoder.encode(["river " * 60], 50)), ContextLengthExceeded)
    with pytest.raises(ContextLengthExceeded, match="61 prompt tokens exceed"):
        TOKENIZER.encode(" river" * 60 + ".", 50)


def test_a_job_whose_process_is_killed_is_done_by_another(worker: TextWorker) -> None:
    submit(worker, "lamp").result(TIMEOUT_S)
    (process,) = children()
    process.suspend()
    answer = submit(worker, "lamp")
    until(answer.running)
    process.kill()
    assert answer.result(TIMEOUT_S) == [TOKENIZER.encode("lamp")]


def test_a_job_that_two_processes_died_of_is_given_up(directory: Path) -> None:
    worker = TextWorker(directory, TextLimits(job_s=600.0))
    try:
        answer = submit(worker, told("endless"))
        killed: set[int] = set()
        while not answer.done():
            for process in children():
                if process.pid not in killed and answer.running():
                    killed.add(process.pid)
                    process.kill()
        assert isinstance(error(answer), InternalError | NoProviderAvailable)
        assert submit(worker, "lamp").result(TIMEOUT_S)
    finally:
        worker.close()


def test_a_process_that_starts_while_its_worker_closes_is_ended(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came too late for `close` to see it; a prompt without an end would keep both."""
    worker = TextWorker(directory, TextLimits(job_s=600.0))
    starting = threading.Event()
    start = module._Process

    def start_late(directory: Path, limits: TextLimits) -> module._Process:
        starting.set()
        worker._closing.wait(TIMEOUT_S)
        until(lambda: answer.running() or answer.done())
        return start(directory, limits)

    try:
        submit(worker, "lamp").result(TIMEOUT_S)
        monkeypatch.setattr(module, "_Process", start_late)
        (process,) = children()
        process.kill()
        process.wait(TIMEOUT_S)
        answer = submit(worker, told("endless"))
        assert starting.wait(TIMEOUT_S)
    finally:
        worker.close()
    assert isinstance(error(answer), ServiceStopping)
    assert children() == []


def test_a_signal_to_the_whole_group_leaves_the_end_to_the_parent(worker: TextWorker) -> None:
    submit(worker, "lamp").result(TIMEOUT_S)
    (process,) = children()
    process.suspend()
    answer = submit(worker, "lamp")
    process.terminate()
    process.resume()
    assert answer.result(TIMEOUT_S)
    assert children() == [process]


def test_a_process_that_died_unasked_is_nobodys_failure(worker: TextWorker) -> None:
    submit(worker, "lamp").result(TIMEOUT_S)
    (process,) = children()
    process.send_signal(signal.SIGKILL)
    process.wait(TIMEOUT_S)
    assert submit(worker, "lamp").result(TIMEOUT_S)


def test_large_texts_have_a_process_of_their_own(directory: Path) -> None:
    encoder = PromptEncoder(directory, TextLimits(job_s=600.0, small_bytes=10))
    try:
        large = encoder.encode([told("endless"), "more than ten"], MANY)
        assert encoder.encode(["small"], MANY).result(TIMEOUT_S)
        assert not large.done()
        assert len(children()) == 2
    finally:
        encoder.close()
    assert isinstance(error(large), ServiceStopping)
    assert children() == []


def test_many_messages_are_a_large_text_however_little_they_say(directory: Path) -> None:
    encoder = PromptEncoder(directory)
    try:
        encoder.encode([[Message("user", "")] * 1000], MANY).result(TIMEOUT_S)
        encoder.encode(["small"], MANY).result(TIMEOUT_S)
        assert len(children()) == 2
    finally:
        encoder.close()


def test_what_waits_is_bounded_and_whoever_leaves_makes_room(directory: Path) -> None:
    worker = TextWorker(directory, TextLimits(job_s=600.0, waiting=2))
    try:
        first = submit(worker, told("endless"))
        until(first.running)
        waiting = [submit(worker, "lamp") for _ in range(2)]
        with pytest.raises(Overloaded):
            submit(worker, "lamp")
        assert waiting[0].cancel()
    finally:
        worker.close()
    assert isinstance(error(first), ServiceStopping)
    assert waiting[0].cancelled()
    assert isinstance(error(waiting[1]), ServiceStopping)
    with pytest.raises(ServiceStopping):
        submit(worker, "lamp")


def test_why_a_tokenizer_does_not_load_is_said(tmp_path: Path) -> None:
    worker = TextWorker(tmp_path, LIMITS)
    try:
        assert isinstance(error(submit(worker, "lamp")), CheckpointError)
    finally:
        worker.close()


def test_the_process_is_handed_no_secret_and_writes_no_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_JOIN_TOKEN", "secret")
    monkeypatch.setenv("TZ", "UTC")
    worker = TextWorker(directory, LIMITS)
    try:
        submit(worker, "lamp").result(TIMEOUT_S)
        (process,) = children()
        given = process.environ()
        assert given["TZ"] == "UTC"
        assert "secret" not in given.values()
        assert not {"TANDEM_JOIN_TOKEN", "PYTEST_CURRENT_TEST"} & given.keys()
        if sys.platform == "linux":  # elsewhere nobody tells another process's limits
            assert process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
            assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    finally:
        worker.close()


def test_a_process_that_cannot_be_started_is_no_fault_of_the_request(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(directory / "missing"))
    worker = TextWorker(directory, LIMITS)
    try:
        assert isinstance(error(submit(worker, "lamp")), NoProviderAvailable)
        monkeypatch.undo()
        assert submit(worker, "lamp").result(TIMEOUT_S)
    finally:
        worker.close()


@pytest.mark.parametrize("says", ["b'\\xff' * 8", "b'\\x00\\x00\\x00\\x01x'", "b''"])
def test_what_a_process_says_is_not_trusted(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """A template that has broken out could say anything: an answer of 4 GB, or none."""
    (tmp_path / "liar.py").write_text(
        "import sys\n"
        "from tandem.engine.text.jobs import Ready, frame\n"
        "sys.stdout.buffer.write(frame(Ready()))\n"
        "sys.stdout.buffer.flush()\n"
        "sys.stdin.buffer.read(4)\n"
        f"sys.stdout.buffer.write({says})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "_MODULE", "liar")
    worker = TextWorker(directory, LIMITS)
    try:
        found = error(submit(worker, "lamp"))
        assert isinstance(found, InternalError | NoProviderAvailable)
        monkeypatch.undo()
        assert submit(worker, "lamp").result(TIMEOUT_S)
    finally:
        worker.close()
