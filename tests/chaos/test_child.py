"""Processes of ours that are talked to by lines: answers, death with its last words, an end when the pipe ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from machine.child import Child
from machine.errors import LabError


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child("tests.chaos.child_echo", "one", "two", title="The echo", env={"ECHO_WORD": "ho"})
    yield made
    made.close()


def test_it_hears_and_answers_with_its_arguments_and_environment(child: Child) -> None:
    child.say({"n": 1})
    assert child.read() == {"heard": {"n": 1}, "argv": ["one", "two"], "word": "ho"}
    assert child.alive()


def test_the_end_of_its_input_ends_it(child: Child) -> None:
    child.close()
    assert not child.alive()
    with pytest.raises(LabError, match=r"The echo ended: it said nothing.*child_echo"):
        child.say({"n": 1})
    child.close()


def test_one_that_dies_in_the_middle_of_a_line_tells_what_it_said_last(child: Child) -> None:
    child.say({"die": "no room left"})
    with pytest.raises(LabError, match=r"The echo ended: no room left"):
        child.read()
