"""A prompt template: Jinja in a sandbox, cut into turns before it is rendered, so that no row can open a turn of its own.

    --- system ---
    Answer in {{ language }}.
    --- user ---
    {{ message }}

Without such lines the whole text is the user's turn. Row values are never templates, and a column that a row has not is an error.
"""

import re
from pathlib import Path

from synthdistill.errors import RecipeError
from synthdistill.records import Message
from synthdistill.sources import Row
from synthdistill.text import as_text

LIBRARY = Path(__file__).parent / "library"
_TURN = re.compile(r"^--- (system|user|assistant) ---[ \t]*$", re.MULTILINE)


class Template:
    """A prompt template, cut into turns.

    Raises:
        RecipeError: it cannot be read or is no Jinja.
    """

    def __init__(self, path: Path) -> None:
        from jinja2 import StrictUndefined, TemplateSyntaxError, meta
        from jinja2.sandbox import SandboxedEnvironment

        self.path = path
        source = read_text(path)
        environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, finalize=as_text)
        try:
            turns = _turns(source, path)
            self._turns = [(role, environment.from_string(text)) for role, text in turns]
            for _, turn in self._turns:
                turn.globals = dict(turn.globals)  # Jinja copies them for each row, and its own chain of maps is slow to copy
            read = [meta.find_undeclared_variables(environment.parse(text)) for _, text in turns]
        except TemplateSyntaxError as error:
            raise RecipeError(f"template {path} is not Jinja: {error.message} (line {error.lineno} of its turn)", "Mend it") from error
        if turns[-1][0] == "assistant":
            raise RecipeError(f"template {path} ends with the assistant's turn: there is nothing to ask", "End it with a line --- user ---")
        self.columns = tuple(sorted(set().union(*read)))
        reading = (place for place, (role, _) in enumerate(turns) if read[place] and role != "system")
        self.cut = next(reading, len(turns) - 1)
        """The first turn that asks: not the system's, and it reads a column. Examples come before it."""
        self._asked = tuple(sorted(set().union(*read[self.cut :])))
        if not self.columns:
            raise RecipeError(f"template {path} reads no column: every row would be the same prompt", "Write {{ column }} where it goes")

    def render(self, row: Row) -> list[Message]:
        """The messages of a row; a null is rendered as nothing, a list or an object as JSON.

        Raises:
            RecipeError: the template reads a column that the row has not, or fails on it.
        """
        return self._render(row, 0, self.columns)

    def render_asked(self, row: Row) -> list[Message]:
        """The turns from `cut` on, as an example asks: what they read is all that its row must have.

        Raises:
            RecipeError: as `render`.
        """
        return self._render(row, self.cut, self._asked)

    def own_words(self, row: Row) -> str:
        """The row's own words: what it has in the columns that the template reads."""
        return _words(row, self.columns)

    def asked_words(self, row: Row) -> str:
        """Its words in the turns from `cut` on."""
        return _words(row, self._asked)

    def _render(self, row: Row, since: int, columns: tuple[str, ...]) -> list[Message]:
        for column in columns:
            if column not in row.values:
                have = ", ".join(sorted(row.values)) or "none"
                raise RecipeError(
                    f"template {self.path} reads {column!r}, which {row.place} has not; its columns: {have}",
                    "Mend the template, or give that column",
                )
        values = {column: "" if row.values[column] is None else row.values[column] for column in columns}
        try:
            return [{"role": role, "content": turn.render(values)} for role, turn in self._turns[since:]]
        except Exception as error:  # a user's template may raise anything at all
            raise RecipeError(f"template {self.path} fails on {row.place}: {error}", "Mend the template") from error


def read_text(path: Path) -> str:
    """The words of a template, or of a system's turn.

    Raises:
        RecipeError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"template {path} cannot be read: {error}", "Give a UTF-8 text file") from error


def template_path(name: str, base: Path, key: str = "[prompts] template") -> Path:
    """The file of a template: relative to the recipe, or `library:systems/classify.md` for one that comes with the package.

    Raises:
        RecipeError: it is not there.
    """
    ours = name.startswith("library:")
    path = LIBRARY / name.removeprefix("library:") if ours else base / name
    if not path.is_file():
        have = ", ".join(sorted(f"library:{each.relative_to(LIBRARY)}" for each in LIBRARY.glob("*/*.md")))
        hint = f"The package has {have}" if ours else "Give a path relative to the recipe's folder"
        raise RecipeError(f"{key}: no such file: {name if ours else path}", hint)
    return path


def _words(row: Row, columns: tuple[str, ...]) -> str:
    return "\n".join(as_text(row.values.get(column)) for column in columns)


def _turns(source: str, path: Path) -> list[tuple[str, str]]:
    cuts = list(_TURN.finditer(source))
    if not cuts:
        return [("user", source.strip("\n"))]
    if source[: cuts[0].start()].strip():
        raise RecipeError(f"template {path} has text before its first turn", "Begin it with a line --- system --- or --- user ---")
    ends = [cut.start() for cut in cuts[1:]] + [len(source)]
    return [(cut[1], source[cut.end() : end].strip("\n")) for cut, end in zip(cuts, ends, strict=True)]
