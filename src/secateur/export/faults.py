"""What foreign tools raise, as one error that says which tool and why; their chatter is kept quiet."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from secateur.errors import ModelError, SecateurError

_THEIRS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_LENGTH = 400  # of a message; some tools print the whole graph


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings inside are not shown: they concern those who maintain the tools."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def told(what: str, hint: str, *modules: ModuleType) -> Iterator[None]:
    """Around the calls of a tool: its errors become a `ModelError`, its warnings are not shown.

    Args:
        what: what the tool was to do: "torch.export cannot trace the network".
        hint: what may help.
        modules: where error classes of its own are, which have no parent but `Exception`.
    """
    own = (kind for module in modules for kind in vars(module).values())
    errors = tuple(k for k in own if isinstance(k, type) and issubclass(k, Exception))
    try:
        with quiet():
            yield
    except SecateurError:
        raise
    except (*_THEIRS, *errors) as error:
        raise ModelError(f"{what}: {_short(error)}", where="export", hint=hint) from error


def _short(error: Exception) -> str:
    """The first paragraph of the message that began it, without colours and what follows."""
    first: BaseException = error
    while first.__cause__ is not None:
        first = first.__cause__
    text = re.sub(r"\x1b\[[\d;]*m", "", str(first)).strip().partition("\n\n")[0]
    words = " ".join(text.split()) or type(first).__name__
    return words if len(words) <= _LENGTH else words[:_LENGTH] + " ..."
