"""A teacher with another tokenizer: TRL's GOLD, which compares what two models think of the same bytes.

    tutor = Tutor(Weights("models/teacher"), prompts, ..., foreign=Foreign(teacher_tokenizer, end_of_turn=2, size=32_000))

The student's answer is made text and then the teacher's ids; tokens of both are put together until they end at the same byte. Words that
both know are compared by the divergence, all others by the distance of their sorted probabilities (Universal Logit Distillation, Boizard
et al. 2024, arXiv 2402.12030), each part with the weight that its words have in the teacher's vocabulary; what is less likely than 1e-8
counts as that. Both tokenizers must be byte-level BPE. An answer that is no text (half a letter) teaches nothing.
"""

from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from types import SimpleNamespace
from typing import Any

from synthdistill.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Foreign:
    """How a teacher writes: its ids, and the one that ends an answer."""

    tokenizer: Any
    end_of_turn: int
    size: int
    """Its ids; what lies above is padding."""


def refuse_unaligned(teacher: Any, student: Any) -> None:
    """Refuse tokenizers whose tokens are not counted in bytes.

    Raises:
        RecipeError: one of them is no byte-level BPE; says which.
    """
    from trl.experimental.utils import is_byte_level_tokenizer

    for name, tokenizer in (("teacher", teacher), ("student", student)):
        if not is_byte_level_tokenizer(tokenizer.backend_tokenizer):
            raise RecipeError(
                f"[train] method foreign_tokenizer compares bytes, and the tokenizer of the {name} is no byte-level BPE",
                'Set [train] method = { kind = "sft" }, or take models with tokenizers as those of Llama 3, Qwen or SmolLM',
            )


def foreign_class(base: Any) -> Any:
    """The trainer `base` of `on_policy.py` for a tutor with a `foreign` tokenizer."""
    import torch
    from trl.experimental.gold.gold_trainer import ULDLoss
    from trl.experimental.utils import encode_with_byte_offsets, piece_byte_len

    class Trainer(base):  # type: ignore[misc]
        """Every answer counts alike, however many passes a batch takes."""

        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            tutor, t = self.tutor, self.tutor.temperature
            config = SimpleNamespace(use_extended_uld=True, uld_token_merge_strategy="bayesian", uld_use_hybrid_loss=True, beta=tutor.beta)
            config.uld_crossentropy_weight, config.uld_distillation_weight = 0.0, 1.0
            config.uld_student_temperature = config.uld_teacher_temperature = t
            config.uld_skip_student_eos = config.uld_skip_teacher_eos = False
            ours, theirs = _Words(self._tokenizer, tutor.end_of_turn), _Words(tutor.foreign.tokenizer, tutor.foreign.end_of_turn)
            self.loss_of = ULDLoss(config, student_tokenizer=ours, teacher_tokenizer=theirs, device=self.accelerator.device)

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            found = super()._generate_and_score_completions(inputs)
            found["num_items_in_batch"] = self.accelerator.gather(found["completion_mask"].any(1).sum()).sum()
            return found

        def _compute_loss(self, student: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> Any:
            parts = ("prompt", "teacher", "completion")
            plain = [_unpadded(inputs[f"{part}_ids"], inputs[f"{part}_mask"]) for part in parts]
            losses = [self._row(student, *row) for row in zip(*plain, strict=True)]
            total = torch.stack(losses).sum()
            return total / num_items_in_batch, total.detach() * 0.0, inputs["completion_mask"].sum()

        def _row(self, student: Any, ours: list[int], theirs: list[int], answer: list[int]) -> Any:
            """The loss of one answer: a mean over the stretches of bytes at whose end both have one."""
            foreign, words = self.tutor.foreign, answer[:-1]
            text = self._tokenizer.decode(words, clean_up_tokenization_spaces=False)
            ends = list(accumulate(piece_byte_len(piece) for piece in self._tokenizer.convert_ids_to_tokens(words)))
            whole = len(text.encode())
            if not answer or (ends or [0])[-1] != whole:
                return next(student.parameters()).sum() * 0.0
            [(said, spans)] = encode_with_byte_offsets(foreign.tokenizer.backend_tokenizer, [text])
            one = self._read_answer(student, ours, answer, self.tutor.size, list(pairwise([0, *ends, whole])))
            with torch.no_grad():
                teacher = self.teacher_model.eval()
                other = self._read_answer(teacher, theirs, [*said, foreign.end_of_turn], foreign.size, [*spans, (whole, whole)])
            return self.loss_of(*chain.from_iterable(zip(one, other, strict=True)))

        def _read_answer(self, model: Any, prompt: list[int], answer: list[int], size: int, spans: list[tuple[int, int]]) -> Any:
            """Logits [1, n + 1, size] of an answer and the id before it; what is learned of these, the ids, their bytes [1, n + 1, 2]."""
            ids = torch.tensor([prompt + answer], device=self.accelerator.device)
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(answer) + 1).logits[..., :size]
            kept = ids[:, -len(answer) - 1 :]
            labels = kept.clone()
            labels[:, 0] = -100
            return logits, labels, kept, torch.tensor([[(0, 0), *spans]], device=ids.device)

    return Trainer


def _unpadded(ids: Any, mask: Any) -> list[list[int]]:
    """Each row of `ids` [B, T] where `mask` has it."""
    return [row[there.bool()].tolist() for row, there in zip(ids, mask, strict=True)]


class _Words:
    """A tokenizer as GOLD asks it: its words, among which the end of turn goes by one name for both."""

    def __init__(self, tokenizer: Any, end_of_turn: int) -> None:
        self._words = {("" if number == end_of_turn else word): number for word, number in tokenizer.get_vocab().items()}

    def get_vocab(self) -> dict[str, int]:
        """Word -> id."""
        return self._words
