"""Random sequences of overlapping faults: whatever came together, the cluster gets healthy and keeps its promises.

`pytest chaos/ -m random --sequences 20`; a sequence is played again by the seed in its title: `--seed N --sequences 1`.
`--cuts guest` has the cuts made inside the guests; there they do not come beside a machine that cannot be logged in to,
so that a seed may mean another sequence: the title says where the cuts were asked for.
"""

from __future__ import annotations

import secrets

import pytest

from chaos.faults.base import Fault
from chaos.faults.network.nft import Bridge
from chaos.faults.registry import KINDS
from chaos.harness.declare import Declared
from chaos.harness.scenario_run import ScenarioRun
from chaos.harness.sequences import Move, Planned, plan

SEQUENCE_SECONDS = 900
"""Limit of one sequence with its mending: several boots of a machine under TCG."""

pytestmark = [pytest.mark.random, pytest.mark.slow, pytest.mark.timeout(SEQUENCE_SECONDS)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One scenario per seed: R1, R2, …"""
    options = metafunc.config.option
    first = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    seeds = [first + number for number in range(options.sequences)]
    where = "" if options.cuts == "auto" else f", cuts {options.cuts}"
    metafunc.parametrize(
        "scenario",
        [
            pytest.param(
                Declared(f"R{number}", f"A random sequence of faults, seed {seed}{where}"), id=f"R{number}-seed{seed}"
            )
            for number, seed in enumerate(seeds, 1)
        ],
        indirect=True,
    )


def test_a_random_sequence_ends_healthy(scenario: ScenarioRun, request: pytest.FixtureRequest) -> None:
    """Each fault is proved, each is seen to be gone, in random order; the fixture requires health and kept promises."""
    seed = int(request.node.callspec.id.rpartition("seed")[2])
    scenario.metric("seed", seed)
    manifest = scenario.lab.manifest
    where = request.config.option.cuts
    inside = where == "guest" or not Bridge.of(manifest).ours()
    moves = plan(seed, manifest.node_names, KINDS, cuts_inside=inside)
    in_force: dict[Planned, Fault] = {}
    for move in moves:
        if move.inject:
            params = {"where": where} if move.fault.cut and where != "auto" else {}
            in_force[move.fault] = scenario.inject(move.fault.name, *move.fault.words, **params)
        else:
            scenario.heal(in_force.pop(move.fault))
    scenario.metric("most at once", max(_heights(moves)))


def _heights(moves: list[Move]) -> list[int]:
    """How many faults were in force after each move."""
    height, heights = 0, [0]
    for move in moves:
        height += 1 if move.inject else -1
        heights.append(height)
    return heights
