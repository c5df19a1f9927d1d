"""Data that a user's own code makes: `file.py:factory` or `package.module:factory`."""

from __future__ import annotations

from secateur.errors import DataError
from secateur.lookup import call, literal
from secateur.types.dataset import Dataset, Stream


def load_factory(text: str, options: dict[str, str]) -> Dataset:
    """What the factory returns: a `Dataset`, or a pair (train, test) of sources of batches (x, y).

    A source is an iterable that can be read again (a list, a DataLoader), or a function that
    returns a fresh iterator. It is read when needed, batch by batch, and every batch is checked.

    Raises:
        DataError: it returns something else, or a source that can be read only once.
    """
    made = call(text, **{name: literal(value) for name, value in options.items()})
    if isinstance(made, Dataset):
        return made
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise DataError(
            f"returned a {type(made).__name__}",
            where=text,
            hint="return a secateur.data.Dataset, or (train, test), each giving batches (x, y)",
        )
    train, test = (
        Stream(source, f"{text}, {part} part")
        for source, part in zip(made, ("train", "test"), strict=True)
    )
    return Dataset(text, train, test, about=f"made by {text}")
