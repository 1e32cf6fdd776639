"""The cells of a grid of attributes, and how many rows each of them gets.

cells({"tone": ["angry", "polite"], "channel": ["mail"]}, {"tone": {"angry": 0.7}}, 10)
# [Cell({"tone": "angry", "channel": "mail"}, 7), Cell({"tone": "polite", "channel": "mail"}, 3)]
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import floor, prod


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of values, and the number of rows that it gets."""

    values: dict[str, str]
    count: int


def cells(values: dict[str, list[str]], quota: dict[str, dict[str, float]], count: int) -> list[Cell]:
    """Every cell in the order of the recipe; the counts come to `count` exactly.

    A cell's share is the product of its values' shares. What rounding down leaves goes to the largest remainders (Hamilton's method;
    Balinski and Young 1982, "Fair Representation", chapter 3), of equal ones to the first.
    """
    shares = {name: _shares(each, quota.get(name, {})) for name, each in values.items()}
    grid = [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]
    exact = [count * prod((shares[name][value] for name, value in cell.items()), start=Fraction(1)) for cell in grid]
    counts = [floor(each) for each in exact]
    by_remainder = sorted(range(len(grid)), key=lambda place: (counts[place] - exact[place], place))
    for place in by_remainder[: count - sum(counts)]:
        counts[place] += 1
    return [Cell(cell, number) for cell, number in zip(grid, counts, strict=True)]


def _shares(values: list[str], given: dict[str, float]) -> dict[str, Fraction]:
    """Shares that come to 1: those given as they are written, the rest in equal parts."""
    told = {value: Fraction(str(share)) for value, share in given.items()}
    left = [value for value in values if value not in told]
    total = sum(told.values(), start=Fraction(0))
    if not left or total > 1:  # they come to 1 but for how decimals are written
        return {value: told.get(value, Fraction(0)) / total for value in values}
    return {value: told.get(value, (1 - total) / len(left)) for value in values}
