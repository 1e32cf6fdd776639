"""What eval measures with: the metrics of a recipe by name, what their rows have in common, and how alike texts are in meaning.

names = check(["exact_match", "checks.py:polite"])
given = prepare(names, text_fields, prompts, base)
refuse_unjudgeable(names, prompts, given, teacher_answers)
told = meanings("models/minilm", prompts, answers, place)     # prompt id -> system -> {"semantic": Score}
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from synthdistill import user_function
from synthdistill.errors import RecipeError, about
from synthdistill.evaluation import metrics
from synthdistill.evaluation.metrics import Case, Choices, Given, is_own, own
from synthdistill.manifest import file_hash
from synthdistill.quality import embeddings
from synthdistill.records import Prompt, Score
from synthdistill.runs import Run

KEY = "[eval] metrics"
MEANING = "semantic"
_MODEL = "[eval] semantic_model"
_BLOCK = 4096
"""Pairs of vectors that are held at once."""
_TRIED = 200
"""Answers that a user's function is tried on before anybody is asked."""


def check(names: list[str]) -> list[str]:
    """The names, each of which there is, none of them twice.

    Raises:
        ValueError: it is not so.
    """
    for name in names:
        metrics.check(name)
    if len(set(names)) < len(names):
        raise ValueError("a metric is named twice")
    if names and names[0] == "win_rate":
        raise ValueError("win_rate holds the student against the teacher, and is no score of either: put another metric first")
    return names


def files(names: Sequence[str], semantic_model: str | None, base: Path) -> dict[str, str]:
    """The hashes of the files with functions, and of the model of meanings.

    Raises:
        RecipeError: one is not there.
    """
    found = {}
    for name in filter(is_own, names):
        path = user_function.parts(name, name)[0]
        if not (base / path).is_file():
            raise RecipeError(f"{KEY}: there is no file {base / path}", "Give a path relative to the recipe's folder")
        found[path] = file_hash(base / path)
    if MEANING in names and semantic_model:
        with about(_MODEL, embeddings.KEY):
            found[semantic_model] = embeddings.revision(semantic_model, base)
    return found


def prepare(names: Sequence[str], text_fields: Iterable[str], prompts: Iterable[Prompt], base: Path) -> Given:
    """What all rows have in common: the answers to choose from are those of the prompts' references.

    Raises:
        MissingError: the library of a metric is not installed.
        RecipeError: a function is not there, or its file cannot be imported.
    """
    metrics.refuse_missing(names)
    functions = {name: user_function.parts(name, name) for name in filter(is_own, names)}
    return Given(
        frozenset(text_fields),
        Choices.of(prompt.reference for prompt in prompts if prompt.reference is not None),
        {name: own.own(name, user_function.load(base / path, function, KEY)) for name, (path, function) in functions.items()},
    )


def score_of(names: Sequence[str], prompts: Iterable[Prompt]) -> str:
    """The metric that counts: the first; without any reference agreement, unless the first needs none."""
    gold = any(prompt.reference is not None for prompt in prompts)
    return names[0] if gold or metrics.needs_no_reference(names[0]) else "agreement"


def score_by_rows(names: Sequence[str], prompts: Iterable[Prompt]) -> str:
    """The metric that counts where answers are scored one by one as they come.

    Raises:
        RecipeError: somebody else has to be asked for it.
    """
    score = score_of(names, prompts)
    if score in metrics.TOLD:
        raise RecipeError(
            f"--learning-curve scores the answers of every student by itself, and {score} is told by another model",
            "Put another metric first, as with --set 'eval.metrics=[\"exact_match\"]'",
        )
    return by_row(score)


def by_row(name: str) -> str:
    """The metric that stands for one where answers are scored by themselves: of `macro_f1`, which rows have none of, the share of right
    labels; of what another model tells, agreement with the teacher."""
    return {"macro_f1": "choice"}.get(name, "agreement" if name in metrics.TOLD else name)


def refuse_unjudgeable(names: Sequence[str], prompts: Sequence[Prompt], given: Given, teacher: Callable[[str], str | None]) -> None:
    """A metric that can judge none of the references is a mistake in the recipe; no references at all are not. So is a function of the
    user's that raises on, or can tell of, none of the teacher's answers, which are there (`teacher`: prompt id -> what it said).

    Raises:
        RecipeError: it is one.
    """
    gold = [prompt for prompt in prompts if prompt.reference is not None]
    for name in names:
        if name == "agreement" or name in metrics.TOLD or is_own(name) or not gold:
            continue
        reasons = [metrics.measure(name, Case("", prompt.reference, None, prompt), given)[0] for prompt in gold]
        if all(found.value is None for found in reasons):
            raise RecipeError(
                f"{KEY}: {name} can judge none of the {len(gold)} references: {reasons[0].reason}",
                "Put another metric in its place, or mend [prompts] reference",
            )
    for name in filter(is_own, names):
        tried = [(prompt, answer) for prompt in prompts if (answer := teacher(prompt.id)) is not None][:_TRIED]
        found = [metrics.measure(name, Case(answer, prompt.reference, answer, prompt), given)[0] for prompt, answer in tried]
        if found and all(score.value is None or score.reason.startswith(own.RAISED) for score in found):
            raise RecipeError(
                f"{KEY}: {name} can judge none of the first {len(found)} answers of the teacher: {found[0].reason}",
                "Mend the function: it is given the answer, the reference (None where there is none) and the prompt",
            )


def merged(*told: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, Score]]:
    """What several have told of the answers to a prompt: system -> metric -> score."""
    found: dict[str, dict[str, Score]] = {}
    for each in told:
        for system, scores in each.items():
            found.setdefault(system, {}).update(scores)
    return found


def meanings(
    model: str, prompts: Sequence[Prompt], answers: Mapping[str, Mapping[str, str | None]], place: Run
) -> dict[str, dict[str, dict[str, Score]]]:
    """How alike answer and reference are in meaning: the cosine of their vectors, at least 0. `answers` are by system and prompt id; of
    those that are missing nothing is looked up. A text that the model cannot read as a whole is null.

    Raises:
        MissingError: the extra `semantic` is not installed, or the hub cannot be reached.
        RecipeError: there is no such model.
        StorageError: the vectors cannot be kept.
    """
    import numpy as np

    judged = [prompt for prompt in prompts if prompt.reference is not None]
    pairs = [(prompt, system, said) for prompt in judged for system, by in answers.items() if (said := by.get(prompt.id)) is not None]
    with about(_MODEL, embeddings.KEY):
        found = embeddings.find(model, place.base)
        texts = [said for _, _, said in pairs] + [prompt.reference or "" for prompt, _, _ in pairs]
        vectors = embeddings.embed(texts, found, place.folder.parent / ".embeddings")
    told: dict[str, dict[str, dict[str, Score]]] = {
        prompt.id: {system: {MEANING: Score(MEANING, 0.0, "no_answer", model)} for system in answers} for prompt in judged
    }
    for start in range(0, len(pairs), _BLOCK):
        stop = min(start + _BLOCK, len(pairs))
        said_BD, gold_BD = vectors[start:stop], vectors[len(pairs) + start : len(pairs) + stop]
        cosines: list[float] = np.einsum("bd,bd->b", said_BD, gold_BD).tolist()
        read = [bool(said.any() and gold.any()) for said, gold in zip(said_BD, gold_BD, strict=True)]
        for (prompt, system, said), cosine, known in zip(pairs[start:stop], cosines, read, strict=True):
            if known or not any(map(str.isalnum, said)):
                score = Score(MEANING, min(1.0, max(0.0, cosine)), "" if known else "no words", model)
            else:
                score = Score(MEANING, None, "the model cannot read answer and reference as a whole", model)
            told[prompt.id][system][MEANING] = score
    return told
