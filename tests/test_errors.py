from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from secateur import errors

CLASSES = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, errors.SecateurError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_what_where_and_what_to_do(kind: type[errors.SecateurError]) -> None:
    error = kind("is too wide", where="conv1", hint="make it narrower")
    assert (error.what, error.where, error.hint) == ("is too wide", "conv1", "make it narrower")
    assert str(error) == "conv1: is too wide\nhint: make it narrower"
    assert str(kind("is too wide")) == "is too wide"


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_can_be_sent_to_another_process(kind: type[errors.SecateurError]) -> None:
    error = kind("what", "where", "hint")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_a_budget_error_carries_the_nearest_value() -> None:
    error = pickle.loads(pickle.dumps(errors.BudgetError("what", nearest=0.25)))
    assert error.nearest == 0.25


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ModelError, ValueError),
        (errors.UnknownNameError, KeyError),
        (errors.BudgetError, ValueError),
        (errors.DataError, ValueError),
        (errors.ScoreError, ValueError),
        (errors.PlanError, ValueError),
        (errors.FileError, OSError),
        (errors.OptionError, ValueError),
        (errors.MissingExtraError, ImportError),
    ],
)
def test_every_error_is_also_the_closest_built_in(
    kind: type[errors.SecateurError], builtin: type[Exception]
) -> None:
    assert issubclass(kind, builtin)
    assert kind.__mro__[1] is errors.SecateurError
