"""The rows of the cluster's requirements, B1 to B20: which test answers for which.

A row without a test, or a test that was renamed away, fails here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

ROWS = {
    "B1 discovery": (
        "cluster/test_discovery.py",
        "test_paired_nodes_find_each_other_by_mdns",
    ),
    "B2 rank election": (
        "unit/cluster/test_plan.py",
        "test_every_node_elects_the_same_order",
    ),
    "B3 handshake": (
        "unit/link/test_links.py",
        "test_a_paired_node_in_anothers_place_is_refused",
    ),
    "B4 sealed link": (
        "cluster/test_capture.py",
        "test_the_data_link_carries_nothing_but_tls_records",
    ),
    "B5 replay, reorder, duplicates": (
        "cluster/test_shard_server.py",
        "test_a_step_out_of_turn_ends_the_session",
    ),
    "B6 version": (
        "unit/link/test_links.py",
        "test_without_a_common_version_both_versions_are_named",
    ),
    "B7 strict group": (
        "cluster/test_executors.py",
        "test_a_group_that_is_not_the_planned_one_is_an_error",
    ),
    "B8 parallelism choice": (
        "unit/cluster/test_plan.py",
        "test_auto_weighs_the_link_against_the_computing",
    ),
    "B9 TP engine": (
        "cluster/test_executors.py",
        "test_the_tokens_are_those_of_one_process",
    ),
    "B10 PP engine": (
        "cluster/test_shard_server.py",
        "test_states_keep_their_dtype_on_the_way",
    ),
    "B11 stateful steps": (
        "cluster/test_shard_server.py",
        "test_a_step_out_of_turn_ends_the_session",
    ),
    "B12 bad frames": (
        "cluster/test_shard_server.py",
        "test_a_frame_that_is_no_plan_is_answered_with_an_error",
    ),
    "B13 stale cache": (
        "cluster/test_service.py",
        "test_a_lost_rank_costs_no_request_and_the_cluster_comes_back",
    ),
    "B14 split": (
        "unit/cluster/test_plan.py",
        "test_a_small_machine_gets_what_it_has_room_for",
    ),
    "B15 construction order": (
        "cluster/test_service.py",
        "test_rank_0_can_be_lost_too",
    ),
    "B16 degraded": (
        "unit/cluster/test_plan.py",
        "test_a_role_can_only_be_left_through_degraded",
    ),
    "B17 wake-up": (
        "cluster/test_capture.py",
        "test_the_control_link_carries_nothing_but_tls_records",
    ),
    "B18 ports": (
        "cluster/test_commands.py",
        "test_status_shows_ranks_processes_links_and_why",
    ),
    "B19 reconnect": (
        "cluster/test_service.py",
        "test_a_lost_rank_costs_no_request_and_the_cluster_comes_back",
    ),
    "B20 two-host smoke test": (
        "cluster/test_smoke.py",
        "test_two_hosts_with_a_cable_between_them",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_the_row_has_its_test(row: str) -> None:
    path, name = ROWS[row]
    assert re.search(rf"^def {name}\(", (TESTS / path).read_text(), re.MULTILINE)
