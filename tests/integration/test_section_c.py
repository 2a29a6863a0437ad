"""The rows of the coordinator's requirements: which test answers for which.

A row without a test, or a test that was renamed away, fails here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PROVIDERS = "integration/coordinator/test_providers.py"
ADMISSION = "integration/coordinator/test_admission.py"
REGISTRY = "unit/coordinator/test_registry.py"
RESUMING = "integration/coordinator/test_resuming.py"

ROWS = {
    "C1 cluster_role on the heartbeat": (PROVIDERS, "test_only_rank_0_is_routable"),
    "C2 malformed role": (PROVIDERS, "test_only_rank_0_is_routable"),
    "C3 find_provider_with_trust": (REGISTRY, "test_every_path_asks_for_eligibility"),
    "C4 reserve": (REGISTRY, "test_every_path_asks_for_eligibility"),
    "C5 quick capacity check": (ADMISSION, "test_a_full_queue_refuses_with_a_time_to_come_back"),
    "C6 model capacity": (ADMISSION, "test_requests_wait_their_turn_and_the_capacity_tells"),
    "C7 provider counts": (
        "cluster/test_service.py",
        "test_only_rank_0_is_routable_and_one_provider_is_counted",
    ),
    "C8 peers of an account": (ADMISSION, "test_an_account_sees_its_own_machines"),
    "C8 machines in a cluster": (
        REGISTRY,
        "test_a_machine_in_a_cluster_is_not_offered_to_another",
    ),
    "C9 retry before the first token": (
        RESUMING,
        "test_before_the_first_token_another_provider_is_asked",
    ),
    "C9 resume after it": (
        RESUMING,
        "test_after_it_the_answer_goes_on_from_the_tokens_that_were_sent",
    ),
    "C9 under a storm": (
        "integration/service/test_storm.py",
        "test_nobody_notices_a_storm_of_kills",
    ),
    "C10 trust": (ADMISSION, "test_trust_is_asked_of_a_key_or_of_a_request"),
    "C10 challenges": (ADMISSION, "test_a_provider_that_fails_three_challenges_is_cut_off"),
    "C11 ten load scenarios": (
        "integration/service/test_scenarios.py",
        "test_every_request_of_every_scenario_succeeds_and_its_time_is_accounted_for",
    ),
    "C11 latency decomposition and assertion report": (
        "unit/bench/test_latency.py",
        "test_every_segment_is_what_passed_between_two_clock_readings",
    ),
    "C12 console: chat": ("browser/test_console.py", "test_a_conversation_is_streamed"),
    "C12 console: dashboard": (
        "browser/test_console.py",
        "test_the_operator_sees_the_cluster_and_drains_it",
    ),
    "C10 attestation": (
        "unit/security/test_attestation.py",
        "test_what_is_no_proof_of_hardware_is_refused",
    ),
}


def test_no_row_is_missing() -> None:
    numbers = {int(found[1]) for row in ROWS if (found := re.match(r"C(\d+) ", row))}
    assert numbers == {*range(1, 13)}


@pytest.mark.parametrize("row", ROWS)
def test_the_row_has_its_test(row: str) -> None:
    path, name = ROWS[row]
    assert re.search(rf"^(async )?def {name}\b", (TESTS / path).read_text(), re.MULTILINE)
