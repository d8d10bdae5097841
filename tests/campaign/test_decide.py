"""What several people's answers add up to."""

from itertools import permutations, product

import pytest

from mcdal.campaign.decide import MOST_ASKED, Answer, Decision, decide

A, B, C = (Answer("label", value) for value in range(3))
CANNOT, SKIP = Answer("cannot_tell"), Answer("skip")


@pytest.mark.parametrize(
    ("answers", "wanted", "expected"),
    [
        ([], 1, Decision(False, 1)),
        ([A], 1, Decision(True, 1, "label", 0)),
        ([A], 2, Decision(False, 2)),
        ([A, A], 2, Decision(True, 2, "label", 0)),
        ([A, B], 2, Decision(False, 3)),
        ([A, B, B], 3, Decision(True, 3, "label", 1)),
        ([A, B, C], 3, Decision(False, 4)),
        ([A, B, C, CANNOT], 4, Decision(False, 5)),
        ([A, B, A, B, C], 5, Decision(True, 5, "cannot_tell")),
        ([CANNOT], 1, Decision(False, 2)),
        ([CANNOT, CANNOT], 2, Decision(True, 2, "cannot_tell")),
        ([CANNOT, A], 2, Decision(False, 3)),
        ([CANNOT, A, A], 3, Decision(True, 3, "label", 0)),
        ([SKIP, SKIP, SKIP], 1, Decision(False, 1)),
        ([SKIP, B], 1, Decision(True, 1, "label", 1)),
    ],
)
def test_the_rule(answers, wanted, expected):
    assert decide(answers, wanted) == expected


@pytest.mark.parametrize(
    ("answers", "people", "expected"),
    [
        ([A], 1, Decision(True, 2, "label", 0)),
        ([], 1, Decision(False, 2)),
        ([SKIP], 1, Decision(False, 2)),
        ([CANNOT], 1, Decision(True, 2, "cannot_tell")),
        ([A], 2, Decision(False, 2)),
        ([A, B], 2, Decision(True, 2, "cannot_tell")),
        ([A, CANNOT], 2, Decision(True, 2, "cannot_tell")),
    ],
)
def test_what_all_have_answered_waits_for_nobody_else(answers, people, expected):
    assert decide(answers, 2, people=people) == expected


def test_a_late_opinion_that_ties_changes_nothing_and_a_majority_does():
    assert decide([A, B], 1, decided=True) == Decision(True, 1, "label", 0)
    assert decide([A, B, B], 1, decided=True) == Decision(True, 1, "label", 1)


def test_everybody_is_asked_at_most_five_times_and_the_order_decides_no_majority():
    for answers in product([A, B, CANNOT, SKIP], repeat=3):
        decisions = {decide(order, 3) for order in permutations(answers)}
        assert len(decisions) == 1
    for answers in product([A, B, C, CANNOT], repeat=MOST_ASKED):
        decision = decide(answers, MOST_ASKED)
        assert decision.closed and decision.wanted == MOST_ASKED
        counts = {a: answers.count(a) for a in answers}
        most = max(counts.values())
        if decision.verdict == "label":
            assert counts[Answer("label", decision.value)] == most and list(counts.values()).count(most) == 1
