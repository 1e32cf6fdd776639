"""Rows with planted duplicates, and which row each was made from.

    corpus = near_corpus(1_000_000)                 # completion = the whole text
    corpus = near_corpus(1_000_000, view="both")    # the same characters, two fifths of the words as the prompt
    corpus.row(12), list(corpus), corpus.source[12], corpus.kind_of(12)

Of each 10,000 rows: 500 exact duplicates (half of them verbatim, half in another case, spacing or Unicode form); 1,000 near ones in five
levels of word edits, whose Jaccard coefficient over five words is near .95, .9, .8, .7 and .5; 40 chains of five links, .9 from one to the
next; 20 families of 50 rows, half of them with the same prompt and a free answer (`shared_prompt`), half with the same prompt and the same
answer but for four words in each (`slots`). All stand in random order.
"""

import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple

import numpy as np

from .store import Texts, Writer, kept, reordered
from .text import Markov, lengths, widened

View = Literal["plain", "both"]
Row = tuple[str, str]
"""Prompt and completion."""

KINDS = ("original", "verbatim", "folded", "near", "chain", "shared_prompt", "slots")
PLANTED = ("verbatim", "folded", "near", "chain")
LEVELS = (0.95, 0.9, 0.8, 0.7, 0.5)
BLOCK, LINK, FAMILY, SLOTS, SIZE = 10_000, 0.9, 50, 4, 5
FOREIGN = 0.02
"""Share of the originals with signs beyond ASCII; with those of the duplicates it comes to 3%."""


class NearCorpus:
    """Rows and truth. `source` is the row that a planted one was made from, -1 for the others; `level` its nominal Jaccard."""

    def __init__(self, folder: Path, view: View) -> None:
        self.folder, self.view = folder, view
        self.texts = Texts(folder)
        self.kind = np.load(folder / "kind.npy", mmap_mode="r")
        self.source = np.load(folder / "source.npy", mmap_mode="r")
        self.level = np.load(folder / "level.npy", mmap_mode="r")
        self.split = np.load(folder / "split.npy", mmap_mode="r")
        """Bytes of each row's prompt; one space follows, then the completion."""

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[Row]:
        if self.view == "plain":
            return ((f"row {number}", text) for number, text in enumerate(self.texts))
        return map(self.row, range(len(self)))

    def row(self, number: int) -> Row:
        """Prompt and completion."""
        if self.view == "plain":
            return f"row {number}", self.texts[number]
        data, split = self.texts.bytes_of(number), int(self.split[number])
        return data[:split].decode(), data[split + 1 :].decode()

    def kind_of(self, number: int) -> str:
        """One of `KINDS`."""
        return KINDS[self.kind[number]]

    def pairs(self, *kinds: str) -> Iterator[tuple[int, int]]:
        """Each planted row of these kinds (all, where none is given) and its source."""
        wanted = [KINDS.index(kind) for kind in kinds or PLANTED]
        rows = np.flatnonzero(np.isin(self.kind, wanted) & (self.source >= 0))
        return zip(rows.tolist(), self.source[rows].tolist(), strict=True)


def near_corpus(count: int, *, view: View = "plain", seed: int = 7, folder: Path | None = None) -> NearCorpus:
    """`count` rows, made once and kept in `folder`, by default the system's temporary one."""
    return NearCorpus(kept(f"near-{count}-{seed}", lambda making: _build(making, count, seed), folder), view)


class _Made(NamedTuple):
    prompt: str
    completion: str
    kind: str
    source: int = -1
    level: float = 0.0


def _build(folder: Path, count: int, seed: int) -> None:
    """Rows as they are made, sources first, to one file; from there in random order to another."""
    first = folder / "in-order"
    first.mkdir()
    kind, source = np.zeros(count, np.uint8), np.full(count, -1, np.int32)
    level, split = np.zeros(count, np.float32), np.zeros(count, np.int32)
    with Writer(first) as out:
        for number, made in enumerate(_rows(count, seed)):
            out.add(f"{made.prompt} {made.completion}")
            kind[number], source[number], level[number] = KINDS.index(made.kind), made.source, made.level
            split[number] = len(made.prompt.encode())
    order = np.random.default_rng(seed).permutation(count)
    place = np.empty(count, np.int32)
    place[order] = np.arange(count, dtype=np.int32)
    reordered(Texts(first), order.tolist(), folder)
    moved = np.where(source < 0, -1, place[source]).astype(np.int32)
    for name, values in {"kind": kind, "source": moved, "level": level, "split": split}.items():
        np.save(folder / f"{name}.npy", values[order])
    for path in first.iterdir():
        path.unlink()
    first.rmdir()


def _rows(count: int, seed: int) -> Iterator[_Made]:
    markov = Markov()
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        yield from _Block(markov, size, start, seed).rows()


class _Block:
    """Rows that are planted from originals of the same block."""

    def __init__(self, markov: Markov, size: int, start: int, seed: int) -> None:
        self.markov, self.start = markov, start
        self.draw = Random(f"near {seed} {start}")
        self.numbers = np.random.default_rng([seed, start])
        self.exact, self.near, self.chains = size // 20, size // 10, size // 250
        self.families = size // 500
        self.originals = size - self.exact - self.near - 5 * self.chains - FAMILY * self.families
        self.words: list[tuple[list[str], list[str]]] = []

    def rows(self) -> Iterator[_Made]:
        free = self.markov.rows(lengths(self.numbers, self.originals), self.numbers)
        for words in free:
            split = max(SIZE, len(words) * 2 // 5)
            parts = words[:split], words[split:]
            if self.draw.random() < FOREIGN:
                parts = _foreign(parts[0], self.draw), _foreign(parts[1], self.draw)
            self.words.append(parts)
            yield self._made(parts, "original")
        yield from self._exact()
        for number in range(self.near):
            source, level = self._any(), LEVELS[number % len(LEVELS)]
            yield self._made(self._changed(self.words[source], level), "near", self.start + source, level)
        yield from self._chained(self.start + self.originals + self.exact + self.near)
        yield from self._families()

    def _exact(self) -> Iterator[_Made]:
        for number in range(self.exact):
            source = self._any()
            prompt, completion = (" ".join(part) for part in self.words[source])
            if number % 2:
                change = _other_form(self.draw)
                prompt, completion = change(prompt), change(completion)
            yield _Made(prompt, completion, "folded" if number % 2 else "verbatim", self.start + source, 1.0)

    def _chained(self, row: int) -> Iterator[_Made]:
        for _ in range(self.chains):
            last = self._any()
            parts, source = self.words[last], self.start + last
            for _ in range(5):
                parts = self._changed(parts, LINK)
                yield self._made(parts, "chain", source, LINK)
                source, row = row, row + 1

    def _families(self) -> Iterator[_Made]:
        for number in range(self.families):
            if number % 2:
                base = self._fresh(self.draw.randint(24, 64)), self._fresh(self.draw.randint(36, 96))
                slots = [sorted(self.draw.sample(range(len(part)), SLOTS)) for part in base]
                for _ in range(FAMILY):
                    filled = tuple(self._filled(part, places) for part, places in zip(base, slots, strict=True))
                    yield self._made((filled[0], filled[1]), "slots")
            else:
                prompt = self._fresh(self.draw.randint(20, 60))
                for answer in self.markov.rows(np.maximum(20, lengths(self.numbers, FAMILY)), self.numbers):
                    yield self._made((prompt, answer), "shared_prompt")

    def _any(self) -> int:
        return self.draw.randrange(self.originals)

    def _fresh(self, length: int) -> list[str]:
        return next(self.markov.rows(np.array([length]), self.numbers))

    def _filled(self, part: list[str], places: list[int]) -> list[str]:
        filled = list(part)
        for place in places:
            filled[place] = self.markov.word(self.draw)
        return filled

    def _changed(self, parts: tuple[list[str], list[str]], level: float) -> tuple[list[str], list[str]]:
        aim = level + self.draw.uniform(-0.03, 0.03)
        return edited(parts[0], aim, self.draw, self.markov), edited(parts[1][::-1], aim, self.draw, self.markov)[::-1]

    def _made(self, parts: tuple[list[str], list[str]], kind: str, source: int = -1, level: float = 0.0) -> _Made:
        return _Made(" ".join(parts[0]), " ".join(parts[1]), kind, source, level)


def edited(words: list[str], jaccard: float, draw: Random, markov: Markov) -> list[str]:
    """The words with so many replaced, left out and put in that about this share of the runs of five words stays.

    A word that is replaced takes five runs away and brings five: with m runs and d gone, the coefficient is (m - d) / (m + d). What is left
    of d over fives is a change near the beginning, where a word is in fewer runs.
    """
    runs = max(1, len(words) - SIZE + 1)
    gone, part = divmod(max(0.0, runs * (1 - jaccard) / (1 + jaccard)), 1)
    whole, rest = divmod(int(gone) + (draw.random() < part), SIZE)
    changed = list(words)
    if whole:
        step = (len(words) - SIZE) / whole
        for number in reversed(range(whole)):
            place = min(len(words) - 1, SIZE + int((number + draw.random()) * step))
            changed[place : place + 1] = _change(changed[place], draw, markov)
    if rest:
        changed[min(rest, len(changed)) - 1] = markov.word(draw)
    return changed


def _change(word: str, draw: Random, markov: Markov) -> list[str]:
    kind = draw.random()
    if kind < 0.6:
        return [markov.word(draw)]
    return [] if kind < 0.8 else [word, markov.word(draw)]


def _foreign(words: list[str], draw: Random) -> list[str]:
    """Every seventh word or so, the first for one, with accents, in Cyrillic, in Chinese or between curly quotation marks."""
    kinds: tuple[Callable[[str], str], ...] = (
        lambda word: word.translate(_ACCENTS),
        lambda word: word.translate(_CYRILLIC),
        lambda word: "".join(chr(draw.randint(0x4E00, 0x9FA0)) for _ in range(3)),
        lambda word: f"\u201c{word}\u201d",
    )
    kind = draw.choice(kinds)
    return [kind(word) if not place or draw.random() < 0.15 else word for place, word in enumerate(words)]


def _other_form(draw: Random) -> Callable[[str], str]:
    """A change that folding takes back."""
    kinds: tuple[Callable[[str], str], ...] = (
        str.upper,
        str.lower,
        str.swapcase,
        lambda text: _respaced(text, draw),
        lambda text: " " + _respaced(text, draw) + "\n",
        lambda text: " ".join(widened(word) if draw.random() < 0.2 else word for word in text.split(" ")),
        lambda text: unicodedata.normalize("NFD", text).replace("fl", "\ufb02").replace("st", "\ufb06"),
    )
    chosen = draw.sample(kinds, draw.randint(1, 2))

    def change(text: str) -> str:
        for kind in chosen:
            text = kind(text)
        return text

    return change


def _respaced(text: str, draw: Random) -> str:
    return "".join(draw.choice(_SPACES) if sign == " " and draw.random() < 0.3 else sign for sign in text)


_SPACES = ("  ", "\n", "\t", " \r\n", " \u00a0", "\u2003")
_ACCENTS = str.maketrans("aeioucnAEIOUCN", "\u00e1\u00e9\u00ee\u00f6\u00fc\u00e7\u00f1\u00c1\u00c9\u00ce\u00d6\u00dc\u00c7\u00d1")
_CYRILLIC = str.maketrans(
    "abdefghiklmnoprstuvxyz",
    "\u0430\u0431\u0434\u0435\u0444\u0433\u0445\u0438\u043a\u043b\u043c\u043d\u043e\u043f\u0440\u0441\u0442\u0443\u0432\u0445\u0439\u0437",
)
