"""What `[prompts.synthesize]` may say: one of four ways to have the teacher write more rows from those that are there, chosen by `kind`.

SelfInstruct(kind="self_instruct", count=20_000)
Attributes(kind="attributes", count=600, values={"tone": ["angry", "polite"]}, quota={"tone": {"angry": 0.7}})
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from synthdistill.sampling import Sampling
from synthdistill.settings import Settings, how

_Text = Annotated[str, Field(min_length=1)]


class Drawing(Sampling):
    """How the teacher writes: with more variety than it answers with."""

    temperature: float = Field(1.0, ge=0, le=10)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(1024, ge=1, le=1_000_000)


class _Operation(Settings):
    """What all kinds share."""

    library: ClassVar[str]
    """Its template in the package."""
    count: int = Field(ge=1, le=10_000_000)
    column: str | None = Field(None, min_length=1)
    seeds: str | None = Field(None, min_length=1)
    """A file of rows like the source's, which alone are seeds then: what `eval --write-seeds` wrote."""
    about: str | None = Field(None, min_length=1)
    """What the texts are, in the user's words; the templates show it to the teacher."""
    template: str | None = Field(None, min_length=1)
    sampling: Drawing = Drawing()
    near: float = Field(0.7, gt=0, le=1)
    """ROUGE-L at which a text is a copy of another: self-instruct's 0.7 (Wang et al. 2022, arXiv 2212.10560, section 2.2)."""
    min_length: int = Field(3, ge=1)
    max_length: int = Field(4000, ge=1)
    patience: int = how(5, ge=1)
    """Rounds with next to nothing new after which a start gives up."""

    def templates(self) -> list[str]:
        """The templates that the teacher is asked with, as a recipe names them."""
        return [self.template or f"library:synthesis/{self.library}.md"]

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length = {self.min_length} is more than max_length = {self.max_length}")
        return self


class SelfInstruct(_Operation):
    """New texts after examples, some of which it wrote itself (Wang et al. 2022: six and two)."""

    library = "self_instruct"
    kind: Literal["self_instruct"]
    examples: int = Field(6, ge=1, le=100)
    grown_examples: int = Field(2, ge=0, le=100)
    per_answer: int = Field(5, ge=1, le=100)


class Evolve(_Operation):
    """A text made harder, or another of the same field (Xu et al. 2023, arXiv 2304.12244: in depth and in breadth)."""

    library = "evolve"
    kind: Literal["evolve"]
    operations: list[Literal["harder", "broader"]] = Field(["harder", "broader"], min_length=1)
    generations: int = Field(2, ge=1, le=20)
    """1 evolves seeds alone, 2 what came of them as well, and so on."""


class Personas(_Operation):
    """Texts as somebody would write them (Ge et al. 2024, arXiv 2406.20094); who they are is given, or written by the teacher first."""

    library = "personas"
    kind: Literal["personas"]
    personas: _Text | Annotated[list[_Text], Field(min_length=1)] | None = None
    """A file with one a line, or the list itself."""
    persona_count: int = Field(100, ge=1, le=1_000_000)
    """How many the teacher writes where none are given."""
    persona_template: str | None = Field(None, min_length=1)
    examples: int = Field(6, ge=1, le=100)
    per_answer: int = Field(5, ge=1, le=100)

    def templates(self) -> list[str]:
        """With the one that has personas written, where they are not given."""
        return [*super().templates(), *([] if self.personas else [self.persona_template or "library:synthesis/persona_list.md"])]


class Attributes(_Operation):
    """Texts for each cell of a grid of named values, so many of each as the quotas say."""

    library = "attributes"
    kind: Literal["attributes"]
    values: dict[_Text, Annotated[list[_Text], Field(min_length=1)]] = Field(min_length=1)
    quota: dict[str, dict[str, Annotated[float, Field(ge=0, le=1)]]] = {}
    """Shares of some values; what they leave is spread evenly over the attribute's other values."""
    examples: int = Field(6, ge=1, le=100)
    per_answer: int = Field(5, ge=1, le=100)

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name, values in self.values.items():
            if len(set(values)) < len(values):
                raise ValueError(f"values.{name} names a value twice")
        for name, shares in self.quota.items():
            if name not in self.values:
                raise ValueError(f"quota.{name} is no attribute; values has {', '.join(self.values)}")
            if strange := next((value for value in shares if value not in self.values[name]), None):
                raise ValueError(f"quota.{name}.{strange} is no value; values.{name} has {', '.join(self.values[name])}")
            total, all_given = sum(shares.values()), len(shares) == len(self.values[name])
            if total > 1 + 1e-9 or (all_given and total < 1 - 1e-9):
                raise ValueError(f"the shares of quota.{name} come to {total:g}, and should come to {'' if all_given else 'at most '}1")
        cells = 1
        for values in self.values.values():
            cells *= len(values)
        if cells > 100_000:
            raise ValueError(f"values make a grid of {cells} cells, at most 100000 are allowed")
        return self


Operation = Annotated[SelfInstruct | Evolve | Personas | Attributes, Field(discriminator="kind")]
