"""Every error secateur raises: what went wrong, where, and what to do about it.

Each class has `SecateurError` as first parent and the closest built-in as second, so that both
`except sec.SecateurError` and `except ValueError` read naturally. Nothing else is raised on
purpose.
"""

from __future__ import annotations


class SecateurError(Exception):
    """Root of all errors.

    Attributes:
        what: one sentence: what is wrong.
        where: the layer, file, operator or argument it concerns; "" where there is none.
        hint: what to do; "" where nothing can be done.
    """

    def __init__(self, what: str, where: str = "", hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\nhint: {self.hint}" if self.hint else ""
        return f"{place}{self.what}{advice}"


class ModelError(SecateurError, ValueError):
    """The network cannot be used as it is (wrapped, NaN weights, does not run on the example)."""


class UnknownNameError(SecateurError, KeyError):
    """A layer, group, saliency, method or data set of that name does not exist."""


class BudgetError(SecateurError, ValueError):
    """A budget is malformed or cannot be met.

    Attributes:
        nearest: the nearest value of the budgeted quantity that can be reached; None where unknown.
    """

    def __init__(
        self, what: str, where: str = "", hint: str = "", nearest: float | None = None
    ) -> None:
        super().__init__(what, where, hint)
        self.nearest = nearest


class DataError(SecateurError, ValueError):
    """The data are empty, of the wrong shape, or not finite."""


class ScoreError(SecateurError, ValueError):
    """Scores are missing, of the wrong length, or not finite."""


class PlanError(SecateurError, ValueError):
    """A plan does not fit the network, or removes nothing."""


class FileError(SecateurError, OSError):
    """A file cannot be read or written, is truncated, or lies about its contents."""

    def __str__(self) -> str:  # OSError formats its arguments itself
        return SecateurError.__str__(self)


class OptionError(SecateurError, ValueError):
    """An argument or option has a value that makes no sense."""


class MissingExtraError(SecateurError, ImportError):
    """An optional dependency is not installed; the hint names the extra."""
