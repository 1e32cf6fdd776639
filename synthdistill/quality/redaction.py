"""Personal data in a text: where it stands, and the text with a placeholder for each.

    find("Mail ann@example.com or call +49 171 1234567")      # [Found("EMAIL", 5, 20), Found("PHONE", 29, 44)]
    redact("Mail ann@example.com or call +49 171 1234567")    # ("Mail <EMAIL> or call <PHONE>", Counter(EMAIL=1, PHONE=1))
    redacted(value, found)                                    # the same in every text of a JSON value, and in JSON in a text
    replaced(value, put)                                      # with placeholders of one's own

Found are e-mail addresses, cards (Luhn), IBANs (mod 97), IP addresses, US social security numbers, phone numbers (with a country code,
or as the regions of `REGIONS` write them), keys, tokens, and passwords in addresses. Names of people and postal addresses are not found:
they have no form by which a program could tell them. Numbers of orders, dates, prices and times stay, as the student needs them.
"""

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from synthdistill.messages import parsed

REGIONS = ("US", "GB", "DE", "FR")
"""Where a phone number without a country code may be from."""
LEFT = ("role", "model", "id", "tool_call_id", "type", "finish_reason")
"""Keys of OpenAI's form whose texts are not people's words."""

_DIGIT = re.compile(r"\d")
_DATA = re.compile(r"(?a)data:[\w.+-]+/[\w.+-]+(?:;[\w.+-]+=[\w.+-]+)*;base64,[\w+/=-]*")
"""A picture or a sound in a text: chance makes everything of its letters."""
_STYLES: tuple[dict[str, Any], ...] = tuple(
    {"separators": separators, "indent": indent, "ensure_ascii": ascii}
    for ascii in (False, True)
    for separators, indent in (((",", ":"), None), ((", ", ": "), None), ((",", ": "), 2), ((",", ": "), 4))
)
"""How programs write JSON."""
_TELLING = re.compile(
    r"(?i)phone|mobile|\b(?:tel|cell|call|whatsapp|sms|fax)\b|\bssn\b|social.?security|api.?key|token|secret|passw|\bpwd\b|bearer"
)
"""A key that says what its value is."""
_WORDS = re.compile(r"[_-]+|(?<=[a-z])(?=[A-Z])")
"""What stands between the words of a key."""
_CREDENTIALS = re.compile(
    r"(?<=://)(?:"
    r"(?<!http://)(?<!https://)[^\s/@:\"<>]{0,256}:[^\s/@\"<>]{1,256}(?:@[^\s\"<>,]{0,256})?"
    r"|[^\s/@:\"<>]{0,256}:[^\s/@\"<>]{1,256}(?:@[^\s/\"<>,]{0,256})?"
    r")(?=@)"
)
"""Up to the last @, as passwords hold some; but an @ in the path of a web address is none of them."""
_KEY = re.compile(
    r"(?<![\w-])(?:"
    r"sk-[\w-]{16,}|[rsp]k_(?:live|test)_\w{10,}"  # OpenAI, Anthropic; Stripe
    r"|gh[opusr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"  # GitHub, GitLab
    r"|A(?:KIA|SIA)[0-9A-Z]{16}|AIza[\w-]{30,}|hf_\w{20,}|xox[abeoprs]-[\w-]{10,}"  # AWS, Google, Hugging Face, Slack
    r"|(?<=hooks\.slack\.com/services/)\w+/\w+/\w+"  # whoever has the address may post there
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"  # JSON web tokens
    r")"
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)", re.DOTALL)
_NAMED_SECRET = re.compile(
    r"(?i)(\b(?:api[_-]?key|(?:access[_-]?)?token|secret|password|passwd|pwd|bearer)\b[\"']?\s{0,3}[=: ]\s{0,3}[\"']?)"
    r"(?=[^\s\"',;&]{0,64}\d)(?=[^\s\"',;&]{0,64}[^\W\d_])[^\s\"',;&<>]{8,}"
)
"""A word for a secret, and a text of at least eight characters with a letter and a digit."""
_EMAIL = re.compile(r"(?<![\w.+%-])(?<!\w')[\w.+%-]+(?:'[\w.+%-]+)*@(?:[\w-]+\.)+(?:[^\W\d_]{2,}|xn--[\w-]+)")
_IBAN = re.compile(r"(?ai)\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,40}")
_RUN = re.compile(r"\d(?:[ -]?\d)+")
"""Digits in groups: what may hold a card."""
_DOTTED_CARD = re.compile(r"(?<![\w.])\d{4}\.(?:\d{4}\.\d{4}\.\d{1,7}|\d{6}\.\d{5})(?!\.?\w)")
_SAID_SSN = re.compile(
    r"(?i)(\b(?:ssn|social security(?: number| no\.?)?)\b[^\d\n]{0,12})"
    r"(?!000|666|9\d\d)\d{3} ?(?!00)\d\d ?(?!0000)\d{4}(?![\w-])"
)
"""With spaces, or in one group: where the words before it say so."""
_SSN = re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])")
_IP4 = re.compile(r"(?<!version )(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\w)")
_IP6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_PHONE = re.compile(
    r"(?<![\w+.,/-])(?:"
    r"(?:\+|00)[1-9](?:[ ().\-/\xa0]{0,3}\d){6,14}"  # +49 171 1234567
    r"|\(?0\d(?:[ ()\-/.]{0,2}\d){7,10}"  # 0171 1234567
    r"|(?:1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])\d{3}[ .-]\d{4}"  # (415) 555-2671
    r"|(?P<bare>\d{9,12})"  # one group: a phone's where the words before it say so
    r")(?![\w])"
)
_CALL = re.compile(r"(?i)\b(?:phone|mobile|cell|tel|telephone|call|text|whatsapp|sms|fax|handy|reach|ring)\b")
_NO_CALL = re.compile(r"(?i)\b(?:order|ticket|case|ref|reference|invoice|tracking|parcel|account)\b")


Span = tuple[int, int]
Put = Callable[[str, str], str]
"""From a kind and what was found to what shall stand in its place."""


class Found(NamedTuple):
    """Something personal: its kind (`EMAIL`), and where it stands in the text."""

    kind: str
    start: int
    end: int


def placeholder(kind: str, what: str = "") -> str:
    """What stands in the place of something of a kind.

    >>> placeholder("EMAIL")
    '<EMAIL>'
    """
    return f"<{kind}>"


def find(text: str) -> list[Found]:
    """What is personal in a text, in order, none within another."""
    found: list[Found] = []
    current = text
    digits = bool(_DIGIT.search(text))
    for kind, spans_of, of_digits in _STEPS:
        spans = spans_of(current) if digits or not of_digits else []
        if spans:
            found = _with(found, [Found(kind, *span) for span in _in_original(text, found, spans)])
            current = _put(text, found, placeholder)
    return found


def redact(text: str, put: Put = placeholder) -> tuple[str, Counter[str]]:
    """The text with placeholders, and how many of each. A text that went through comes through again as it is."""
    found = find(text)
    return _put(text, found, put) if found else text, Counter(kind for kind, _, _ in found)


def redacted(value: Any, found: Counter[str], left: tuple[str, ...] = (), key: str = "") -> Any:
    """As `replaced`, with the usual placeholders; what is found is counted in `found`."""

    def put(kind: str, what: str) -> str:
        found[kind] += 1
        return placeholder(kind)

    return replaced(value, put, left, key)


def replaced(value: Any, put: Put, left: tuple[str, ...] = (), key: str = "") -> Any:
    """A JSON value with what is personal replaced in each of its texts and keys, and in what JSON in a text says.

    The texts under the keys of `left` stay. A number that is a card or a phone number becomes its placeholder. `key` is what the value
    goes by: under `phone`, digits are a phone's.
    """
    if isinstance(value, str):
        return value if _DATA.fullmatch(value) else _in_text(value, put, key)
    if isinstance(value, dict):
        return _in_object(value, put, left)
    if isinstance(value, list):
        return [replaced(item, put, left, key) for item in value]
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) < 10**6:
        return value
    text = _by_key(str(value), put, key)
    return value if text == str(value) else text


def _in_object(value: dict[str, Any], put: Put, left: tuple[str, ...]) -> dict[str, Any]:
    """A call's `arguments` are the caller's words, whatever their keys. Two keys that become the same are numbered."""
    kept: dict[str, Any] = {}
    for key, item in value.items():
        name = free = _by_key(key, put)
        while free in kept:
            free = f"{name} {len(kept)}"
        stays = key in left and isinstance(item, str)
        kept[free] = item if stays else replaced(item, put, () if key == "arguments" else left, key)
    return kept


def _in_text(text: str, put: Put, key: str) -> str:
    """JSON stays JSON, written as it was."""
    value = _json(text)
    if value is None:
        return _by_key(text, put, key)
    try:
        kept = replaced(value, put)
        if kept == value:
            return text
        fits = (style for style in _STYLES if json.dumps(value, **style) == text.strip())
        return json.dumps(kept, **next(fits, _STYLES[1 if '": ' in text else 0]))
    except RecursionError:  # hundreds of brackets: read as a text without form
        return _by_key(text, put, key)


def _json(text: str) -> Any:
    """The object or list that a text is, None where it is none."""
    value = parsed(text) if text.lstrip()[:1] in ("{", "[") else None
    return value if isinstance(value, dict | list) else None


def _by_key(text: str, put: Put, key: str = "") -> str:
    """A text redacted as if a key that tells what it is stood before it."""
    before = f"{_WORDS.sub(' ', key)} {key}: " if _TELLING.search(key) else ""
    found = find(before + text)
    if found and found[0].start < len(before):
        before, found = "", find(text)
    return _put(before + text, found, put)[len(before) :] if found else text


def _with(old: Sequence[Found], new: Sequence[Found]) -> list[Found]:
    """Both, without those of the old that lie within a new one."""
    kept: list[Found] = []
    for mark in sorted([*old, *new], key=lambda mark: (mark.start, -mark.end)):
        if not kept or mark.start >= kept[-1].end:
            kept.append(mark)
    return kept


def _in_original(text: str, found: Sequence[Found], spans: Sequence[Span]) -> list[Span]:
    """Where spans of the text with placeholders for what is `found` lie in the text itself."""
    moved, shift, number = [], 0, 0
    for place in [place for span in spans for place in span]:
        while number < len(found) and found[number].start + shift < place:
            mark = found[number]
            shift += len(_standing(text, mark, placeholder)) - (mark.end - mark.start)
            number += 1
        moved.append(place - shift)
    return list(zip(moved[::2], moved[1::2], strict=True))


def _put(text: str, found: Sequence[Found], put: Put) -> str:
    """The text with something else in each place."""
    parts, last = [], 0
    for mark in found:
        parts += [text[last : mark.start], _standing(text, mark, put)]
        last = mark.end
    return "".join([*parts, text[last:]])


def _standing(text: str, mark: Found, put: Put) -> str:
    """What is put for a mark. A number in a piece of JSON becomes a text."""
    what = text[mark.start : mark.end]
    kept = put(mark.kind, what)
    bare = kept != what and mark.kind not in ("EMAIL", "KEY") and text[max(0, mark.start - 4) : mark.start].rstrip().endswith('":')
    return f'"{kept}"' if bare else kept


def _by(pattern: re.Pattern[str], fits: Callable[[str], bool] = lambda text: True, group: int = 0) -> Callable[[str], list[Span]]:
    """A step that finds each match that fits; what stands behind `group` where that is not the whole."""

    def spans(text: str) -> list[Span]:
        return [(match.end(group) if group else match.start(), match.end()) for match in pattern.finditer(text) if fits(match[0])]

    return spans


def _emails(text: str) -> list[Span]:
    return [match.span() for match in _EMAIL.finditer(text)] if "@" in text else []


def _ibans(text: str) -> list[Span]:
    spans, place = [], 0
    while match := _IBAN.search(text, place):
        end = _iban_end(text, *match.span())
        if end:
            spans.append((match.start(), end))
        place = end or match.start() + 4
    return spans


def _iban_end(text: str, start: int, end: int) -> int | None:
    """Where an IBAN ends that words may follow."""
    from stdnum import iban

    for stop in range(end, start + 14, -1):
        at_end = stop == len(text) or not text[stop].isalnum()
        if at_end and _mod_97(text[start:stop]) == 1 and iban.is_valid(text[start:stop]):
            return stop
    return None


def _mod_97(text: str) -> int:
    """ISO 7064's remainder of an IBAN, its first four characters moved to the end: a hundred times as fast as all rules of its country."""
    bare = "".join(letter for letter in text if letter.isalnum())
    return int("".join(str(int(letter, 36)) for letter in bare[4:] + bare[:4])) % 97


def _cards(text: str) -> list[Span]:
    return [span for run in _RUN.finditer(text) for span in _cards_in(text, run)]


def _cards_in(text: str, run: re.Match[str]) -> Iterator[Span]:
    """The groups of a run that are a card together: 13 to 19 digits, a first digit that issuers use, Luhn's check digit."""
    if run.end() - run.start() < 13 or _is_part(text, run):
        return
    groups = [(run.start() + group.start(), run.start() + group.end()) for group in re.finditer(r"\d+", run[0])]
    place = 0
    while place < len(groups):
        start, end = groups[place]
        ends = [end for _, end in groups[place : place + 5]] if end - start in (4, *range(13, 20)) else []
        taken = next((count for count, end in enumerate(ends, 1) if _is_card(text[start:end])), 0)
        if taken:
            yield start, ends[taken - 1]
        place += taken or 1


def _is_part(text: str, run: re.Match[str]) -> bool:
    """Whether a run is a piece of a word or a decimal number."""
    before, after = text[max(0, run.start() - 2) : run.start()], text[run.end() : run.end() + 1]
    return any(side.isalpha() or side == "_" for side in (before[-1:], after)) or before in ("0.", "0,")


def _is_card(text: str) -> bool:
    from stdnum import luhn

    groups = re.findall(r"\d+", text)
    sizes, digits = [len(group) for group in groups], "".join(groups)
    as_printed = len(sizes) == 1 or set(sizes[:-1]) == {4} or (sizes[:2] == [4, 6] and len(sizes) == 3)
    return as_printed and 13 <= len(digits) <= 19 and digits[0] in "23456" and luhn.is_valid(digits)


def _is_public_ip(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified) and any(letter.isdigit() for letter in text)


def _phones(text: str) -> list[Span]:
    spans = []
    for match in _PHONE.finditer(text):
        if match["bare"] is None or _is_said(text[max(0, match.start() - 40) : match.start()]):
            end = _phone_end(text, *match.span())
            if end:
                spans.append((match.start(), end))
    return spans


def _is_said(before: str) -> bool:
    """Whether the words before a number say that somebody can be called there, and not that something was ordered."""
    return bool(_CALL.search(before)) and not _NO_CALL.search(before)


def _phone_end(text: str, start: int, end: int) -> int | None:
    """Where a phone number ends that other numbers may follow, None where it is none of any region."""
    ends = [start + group.end() for group in re.finditer(r"\d+", text[start:end])]
    return next((stop for stop in reversed(ends) if any(_is_phone(text[start:stop], region) for region in REGIONS)), None)


def _is_phone(text: str, region: str) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


_STEPS: tuple[tuple[str, Callable[[str], list[Span]], bool], ...] = (
    ("KEY", _by(_CREDENTIALS), False),
    ("KEY", _by(_PRIVATE_KEY), False),
    ("KEY", _by(_KEY), False),
    ("KEY", _by(_NAMED_SECRET, group=1), True),
    ("EMAIL", _emails, False),
    ("IBAN", _ibans, True),
    ("CARD", _cards, True),
    ("CARD", _by(_DOTTED_CARD, _is_card), True),
    ("SSN", _by(_SSN), True),
    ("SSN", _by(_SAID_SSN, group=1), True),
    ("IP", _by(_IP4, _is_public_ip), True),
    ("IP", _by(_IP6, _is_public_ip), True),
    ("PHONE", _phones, True),
)
"""In this order: a token may hold what looks like a number, a card what looks like a phone's. Most find nothing without a digit."""
