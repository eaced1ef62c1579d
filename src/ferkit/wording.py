"""Counts in words, as every message has them."""


def count(number: int, thing: str) -> str:
    """`1 picture`, `2,000 pictures`.

    >>> count(1, "face"), count(2000, "face")
    ('1 face', '2,000 faces')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
