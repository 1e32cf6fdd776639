"""The pass over the text, in C: folded, tokenised and hashed once, for exact keys, near-duplicates and decontamination together.

    read = kernel.read(["Where's order 12?", ...])       # keys, and the hashes of the words
    kernel.shingles(read, width=5)                       # the hashes of its runs of five words

Text is folded (Unicode NFKC, case, runs of white space) and cut into words: runs of letters, digits, marks, `_` and apostrophes.
Other punctuation parts words and is left out, but for signs that carry meaning in maths and code; these, and the characters of scripts
that put no spaces between words (Han, kana, Thai, Lao, Khmer, Burmese), are words by themselves. `kernel.c` has the loops. Arrays go
in and out, memory is numpy's; the calls let other threads run meanwhile.
"""

import ctypes
import importlib.util
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synthdistill.errors import MissingError

VERSION = 6
SPACE, WORD, SIGN, DROPPED, ALONE = range(5)
MEANT = frozenset("*/%#@&\\")
"""Punctuation to Unicode, but not to a formula or a path."""
_UNSPACED = (
    *((0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800), (0x3005, 0x3008), (0x3040, 0x3100), (0x31F0, 0x3200)),
    *((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x40000)),
)
_ASSIGNED = ((0, 0x20000), (0xE0000, 0xE0200))
"""Where characters have a category that matters, beside the ideographs of the planes 2 and 3."""

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]


class Read(NamedTuple):
    """n texts: `keys` [n, 2], 128 bits of each folded text; `words`, the hashes of their words, those of text i from `starts[i]` to
    `starts[i + 1]`."""

    keys: U64
    words: U64
    starts: I64

    def and_(self, more: "Read") -> "Read":
        """These texts, and more behind them."""
        starts = np.concatenate([self.starts, self.starts[-1] + more.starts[1:]])
        return Read(np.concatenate([self.keys, more.keys]), np.concatenate([self.words, more.words]), starts)

    def take(self, which: npt.NDArray[np.bool_]) -> "Read":
        """The texts that are marked."""
        if which.all():
            return self
        sizes = np.diff(self.starts)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[which])])
        return Read(np.ascontiguousarray(self.keys[which]), self.words[np.repeat(which, sizes)], starts)


class Shingles(NamedTuple):
    """Of text i the hashes `values[starts[i]:starts[i + 1]]`. `whole[i]` is not 0 where it has only one, and stands for it in 64 bits."""

    values: U32
    starts: I64
    whole: U64


def read(texts: Sequence[str]) -> Read:
    """One pass over texts. No text is refused: a lone surrogate counts as a question mark."""
    return _read(texts, joined=False)[0]


def read_joined(texts: Sequence[str]) -> tuple[Read, Read]:
    """That of `read`, and the same with joined words: what stands between blanks, without punctuation at its ends. "top-up" is one."""
    return _read(texts, joined=True)


def _read(texts: Sequence[str], *, joined: bool) -> tuple[Read, Read]:
    data, offsets = _encoded(texts)
    n, room = len(texts), int(offsets[-1]) + 1
    keys, words, starts = np.empty((n, 2), np.uint64), np.empty(room, np.uint64), np.empty(n + 1, np.int64)
    whole, joints = (np.empty(room, np.uint64), np.empty(n + 1, np.int64)) if joined else (None, None)
    _call("sd_read", data, offsets, n, _classes(), keys, words, starts, whole, joints)
    plain = Read(keys, words[: starts[-1]], starts)
    return plain, plain if whole is None or joints is None else Read(keys, whole[: joints[-1]], joints)


def keys(texts: Sequence[str]) -> U64:
    """The keys [n, 2] of `read` alone: equal where two texts are the same but for Unicode form, case and white space (`text.normalise`)."""
    data, offsets = _encoded(texts)
    found, starts = np.empty((len(texts), 2), np.uint64), np.empty(len(texts) + 1, np.int64)
    _call("sd_read", data, offsets, len(texts), _classes(), found, None, starts, None, None)
    return found


def _encoded(texts: Sequence[str]) -> tuple[U8, I64]:
    """The folded bytes of all texts, and where each begins."""
    encoded = [text.encode() if text.isascii() else _folded(text) for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded) or b"\0", np.uint8), offsets


def spoken(text: str) -> list[str]:
    """The words of a text, as `read` hashes them: for people to read.

    >>> spoken("My top-up: why did it fail?")
    ['my', 'top', 'up', 'why', 'did', 'it', 'fail']
    """
    said = (word.strip("'") for word in _folded(text).decode().translate(_parted()).split(" "))
    return [word for word in said if word not in ("", "_")]


def shingles(given: Read, width: int) -> Shingles:
    """The hashes of each text's runs of `width` words, in their order. A text with fewer words has one, that of its folded text."""
    n = len(given.keys)
    sizes = np.maximum(np.diff(given.starts) - width + 1, 1)
    values, starts = np.empty(int(sizes.sum()), np.uint32), np.empty(n + 1, np.int64)
    whole = np.empty(n, np.uint64)
    _call("sd_shingles", given.words, given.starts, given.keys, n, width, values, starts, whole)
    return Shingles(values, starts, whole)


def sets(given: Shingles) -> Shingles:
    """The same without repeats, each text's in rising order. The arrays are worked on in place."""
    _call("sd_sets", given.values, given.starts, len(given.whole))
    return given._replace(values=given.values[: given.starts[-1]])


class Common:
    """How many texts have a shingle: a count-min sketch of 32 MiB, which never counts too few (Cormode and Muthukrishnan 2005)."""

    def __init__(self) -> None:
        self._counts = np.zeros(1 << 23, np.uint32)

    def add(self, given: Shingles) -> None:
        """Count each text's shingles, each once."""
        _call("sd_count", given.values, given.starts, len(given.whole), self._counts)

    def cut(self, given: Shingles, most: int, width: int) -> Shingles:
        """The shingles without those that more than `most` texts have, in place. A text that would lose more than half of them, and has
        fewer than `width` words beside them, stays whole."""
        _call("sd_cut", given.values, given.starts, len(given.whole), width, self._counts, most, given.whole)
        return given._replace(values=given.values[: given.starts[-1]])


def minhash(given: Shingles, k: int) -> U32:
    """At least `k` minima of each text's shingles [n, >= k] (Broder 1997): two texts share each with the probability of their Jaccard
    index."""
    k = -(-k // 32) * 32
    a, b = _permutations(k)
    minima = np.empty((len(given.whole), k), np.uint32)
    _call("sd_minhash", given.values, given.starts, len(given.whole), a, b, k, minima)
    return minima


def bands(first: U32, rows: int, second: U32 | None, rows2: int, count: int) -> U32:
    """Keys [count, n]: each of `rows` minima of the first side and `rows2` of the second."""
    keys = np.empty((count, len(first)), np.uint32)
    other = first if second is None else second
    _call("sd_bands", first, first.shape[1], rows, other, other.shape[1], rows2, len(first), count, keys, len(first))
    return keys


def repeated(keys: U32) -> npt.NDArray[np.bool_]:
    """Which of n keys are there more than once."""
    found = np.zeros(len(keys), np.uint8)
    _call("sd_repeated", keys, len(keys), found)
    return found.astype(bool)


def keep(keys: U32, group: U64, sides: Sequence[Shingles], threshold: float) -> I64:
    """Which of n rows, the best first, stay: a row is dropped where an earlier one that stays, of another group, shares one of its
    `keys` [bands, n] and has a Jaccard index of at least `threshold` with it on each of the `sides` (sets).

    Returns for each row the first such row, -1 where it stays.
    """
    n = len(group)
    instead = np.empty(n, np.int64)
    one, two = sides[0], sides[1] if len(sides) > 1 else None
    second = two or (None, None, None)
    _call("sd_keep", keys, len(keys), n, group, *one, *second, threshold, instead)
    return instead


def touched(keys: U32, group: U64, answers: U64, side: Shingles, threshold: float) -> npt.NDArray[np.bool_]:
    """Which of n rows share one of their `keys` [bands, n] with a row of another group and another answer, and have a Jaccard index of at
    least `threshold` with it."""
    found = np.zeros(len(group), np.uint8)
    _call("sd_touched", keys, len(keys), len(group), group, answers, *side, threshold, found)
    return found.astype(bool)


def runs(given: Read, width: int) -> tuple[U64, I32, U64]:
    """The table of all runs of `width` words that `overlaps` looks into, with the first text that has each."""
    count = int(np.maximum(np.diff(given.starts) - width + 1, 0).sum())
    size = 1 << max(4, (2 * count).bit_length())
    hashes, owner, marks = np.zeros(size, np.uint64), np.full(size, -1, np.int32), np.zeros(size // 8, np.uint64)
    _call("sd_runs", given.words, given.starts, len(given.keys), width, hashes, owner, marks, size)
    return hashes, owner, marks


def overlaps(given: Read, width: int, table: tuple[U64, I32, U64]) -> tuple[I32, I64]:
    """The first run of each text that is in the table: whose it is, -1 where there is none, and its first word's number."""
    n = len(given.keys)
    hit, where = np.empty(n, np.int32), np.empty(n, np.int64)
    _call("sd_overlaps", given.words, given.starts, n, width, *table, len(table[0]), hit, where)
    return hit, where


class Bags:
    """Prompts as bags of words, to find those that share at least `threshold` of their words with a text (Jaccard over bags). Those with
    fewer than `fewest` words are left out."""

    def __init__(self, prompts: Read, threshold: float, fewest: int) -> None:
        self.threshold, self.fewest = threshold, fewest
        sizes = np.diff(prompts.starts)
        self._count = len(sizes)
        self._longest = int(sizes.max(initial=0))
        owner = np.repeat(np.arange(self._count), sizes)
        use = (sizes >= fewest)[owner]
        words, owner = prompts.words[use], owner[use]
        repeat = _repeats(words, owner)
        vocabulary, place = np.unique(words, return_inverse=True)
        held = np.bincount(place, weights=repeat == 0, minlength=len(vocabulary))  # in how many prompts a word is
        room = np.zeros(len(vocabulary), np.int64)
        np.maximum.at(room, place, repeat + 1)
        rarest = np.lexsort((vocabulary, held))
        base = np.empty(len(vocabulary), np.int64)
        base[rarest] = np.cumsum(room[rarest]) - room[rarest]
        total = int(room.sum())
        self._table(vocabulary, base)
        self._room = np.zeros(total + 1, np.int32)
        self._room[base] = room
        element = base[place] + repeat
        order = np.lexsort((element, owner))
        self._elements, owner = element[order].astype(np.uint32), owner[order]
        self._own = np.searchsorted(owner, np.arange(self._count + 1)).astype(np.int64)
        lengths = np.diff(self._own)
        self._both = 2 if threshold * fewest > 1 + 1e-6 else 1
        prefix = lengths - np.floor(threshold * lengths - 1e-6).astype(np.int64) + self._both - 1
        inside = np.arange(len(owner)) - self._own[owner] < prefix[owner]
        posted, whose = self._elements[inside].astype(np.int64), owner[inside]
        order = np.lexsort((whose, posted))
        self._prompts = whose[order].astype(np.int32)
        self._posted = np.searchsorted(posted[order], np.arange(total + 2)).astype(np.int64)

    def nearest(self, given: Read) -> tuple[I32, F64]:
        """The prompt that each text shares most with, -1 where none reaches the threshold, and the share (0 to 1)."""
        n = len(given.keys)
        hit, share = np.empty(n, np.int32), np.empty(n, np.float64)
        _call(
            *("sd_bags", given.words, given.starts, n, self.fewest, self._longest, self._both, self.threshold),
            *(self._known, self._base, len(self._known)),
            *(self._room, self._elements, self._own, self._prompts, self._posted, self._count, hit, share),
        )
        return hit, share

    def _table(self, vocabulary: U64, base: I64) -> None:
        """The words by their hashes, in open addressing."""
        size = 1 << max(4, (2 * len(vocabulary)).bit_length())
        self._known, self._base = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        for word, first in zip(vocabulary.tolist(), base.tolist(), strict=True):
            place = word & (size - 1)
            while self._base[place] >= 0:
                place = (place + 1) & (size - 1)
            self._known[place], self._base[place] = word, first


def _repeats(words: U64, owner: I64) -> I64:
    """For each word how often its text had it before."""
    order = np.lexsort((np.arange(len(words)), words, owner))
    ordered, whose = words[order], owner[order]
    new = np.ones(len(words), bool)
    new[1:] = (ordered[1:] != ordered[:-1]) | (whose[1:] != whose[:-1])
    start = np.maximum.accumulate(np.where(new, np.arange(len(words)), 0))
    repeat = np.empty(len(words), np.int64)
    repeat[order] = np.arange(len(words)) - start
    return repeat


def _folded(text: str) -> bytes:
    """As `text.normalise`, but for white space, which the pass folds, and A to Z, where the text is nothing but ASCII. An apostrophe is one
    however it is set."""
    if text.isascii():
        return text.encode()
    normal = unicodedata.normalize
    return normal("NFKC", normal("NFKC", text).casefold()).casefold().replace("\u2019", "'").encode("utf-8", "replace")


@cache
def _classes() -> U8:
    """The class of every code point."""
    classes = np.full(0x110000, SIGN, np.uint8)
    for first, last in _ASSIGNED:
        classes[first:last] = [_class(chr(code)) for code in range(first, last)]
    for first, last in _UNSPACED:
        worded = classes[first:last] == (SIGN if first >= 0x20000 else WORD)
        classes[first:last][worded] = ALONE
    return classes


class _Parted(dict[int, str]):
    """What each character is to `spoken`: itself in a word, and between blanks where it parts words."""

    def __missing__(self, code: int) -> str:
        kind, character = _classes()[code], chr(code)
        self[code] = character.lower() if kind == WORD and code < 128 else character if kind == WORD else " "
        if kind in (SIGN, ALONE):
            self[code] = f" {character} "
        return self[code]


@cache
def _parted() -> _Parted:
    return _Parted()


def _class(character: str) -> int:
    if character.isspace():
        return SPACE
    category = unicodedata.category(character)
    if character.isalnum() or character in "_'" or category[0] == "M":
        return WORD
    return DROPPED if category[0] == "P" and character not in MEANT else SIGN


@cache
def _permutations(k: int) -> tuple[U32, U32]:
    """The same in every process and version: multipliers are odd."""
    drawn = np.random.Generator(np.random.PCG64(20261126)).integers(0, 1 << 32, (2, k), np.uint32)
    return drawn[0] | np.uint32(1), drawn[1]


def _call(name: str, *arguments: Any) -> None:
    """One call of `kernel.c`: arrays go as pointers, None as a null pointer."""
    passed = [_passed(argument) for argument in arguments]
    status = getattr(_library(), name)(*passed)
    if status is not None and status < 0:
        raise MemoryError(f"{name} found no memory")


def _passed(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        if not argument.flags.c_contiguous:
            raise ValueError("the kernel takes contiguous arrays")
        return ctypes.c_void_p(argument.ctypes.data)
    if isinstance(argument, float):
        return ctypes.c_double(argument)
    return None if argument is None else ctypes.c_int64(argument)


@cache
def _library() -> ctypes.CDLL:
    """The compiled part.

    Raises:
        MissingError: it was not built, or is that of another version.
    """
    hint = "Install the package again (pip install -e . in a checkout); it needs a C compiler such as gcc"
    found = importlib.util.find_spec("synthdistill.quality._kernel")
    if found is None or found.origin is None:
        raise MissingError("the compiled part of the filter (synthdistill/quality/_kernel) is missing", hint)
    library = ctypes.CDLL(found.origin)
    if library.sd_version() != VERSION:
        raise MissingError("the compiled part of the filter (synthdistill/quality/_kernel) is of another version", hint)
    for name in ("sd_shingles", "sd_sets", "sd_cut", "sd_minhash", "sd_bands", "sd_runs", "sd_overlaps"):
        getattr(library, name).restype = None
    for name in ("sd_read", "sd_count", "sd_repeated", "sd_keep", "sd_touched", "sd_bags"):
        getattr(library, name).restype = ctypes.c_int64
    return library
