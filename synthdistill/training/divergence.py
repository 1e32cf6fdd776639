"""How far a student is from its teacher at a token: on the tokens that were stored of the teacher's distribution, and on the rest.

    nll, divergence = compare(logits, labels, targets, Objective(temperature=2.0))
    loss = alpha * nll + (1 - alpha) * T * T * divergence             # Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2

Everything is a vector over n positions. The teacher's distribution at T is that of its log-probabilities l at 1: log p_T(i) = l_i / T - N_T
with N_T = log sum exp(l / T) over the whole vocabulary, which was stored where the whole vocabulary was seen. What is not stored:

bucket   is one class more, on both sides. Merging classes never adds to a divergence of Csiszar's kind (the log-sum inequality), so
         this is at most the dense one, and equal to it where all tokens are stored.
coarse   is the same where no N_T is known: the classes at temperature 1 are tempered, p_T(c) = p(c)^(1/T) / sum, on both sides. It is
         not the divergence at T, but is 0, as its gradient, exactly where both agree on the classes.
renorm   is left out: the teacher's stored tokens are made to sum to 1, the student's probabilities are those of its whole vocabulary.
         N_T cancels, and need not be known.
sample   is represented: tokens were drawn from the teacher at 1, and stand for all, each weighed by p_T / p_1. The sum over draws is an
         unbiased estimate of the dense KL and of its gradient (Anshumann et al. 2025, arXiv 2503.16870).
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Tail = Literal["bucket", "renorm", "sample"]
Divergence = Literal["forward", "reverse", "js", "skew"]

LEAST = -30.0
"""The log-probability that a rest is taken to have at least: 1 - sum of what is stored is rounded to 1e-7 or so."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What is made small.

    forward KL(p || q), reverse KL(q || p), js the generalised Jensen-Shannon divergence beta KL(p || m) + (1 - beta) KL(q || m) with
    m = beta p + (1 - beta) q (Agarwal et al. 2024, arXiv 2306.13649, equation 1), skew KL(p || beta p + (1 - beta) q) (Ko et al. 2024,
    arXiv 2402.03898, section 3.1). p is the teacher.
    """

    temperature: float = 1.0
    tail: Tail = "bucket"
    divergence: Divergence = "forward"
    beta: float = 0.5


class Targets(NamedTuple):
    """What was stored of the teacher at n positions."""

    ids: Any
    """[n, K], int64"""
    logprobs: Any
    """[n, K], of the ids at temperature 1."""
    normaliser: Any
    """[n], N_T; 0 at T = 1; None where it is not known."""
    rest: Any
    """[n], the log-probability at T of all that is not stored (at 1 where the normaliser is not known); -inf where all is."""
    counts: Any = None
    """[n, K], how often an id was drawn; 0 marks a place that is empty."""


def compare(logits: Any, labels: Any, targets: Targets, objective: Objective, size: int | None = None) -> tuple[Any, Any]:
    """For logits [n, V] and labels [n] of the student: -log q_1(label) [n], and the divergence at T [n], both in nats. Of the ids that
    are compared, only those under `size` are tokens to the teacher."""
    whole = logits.logsumexp(-1)
    nll = whole - logits.gather(-1, labels[:, None])[:, 0]
    if size is not None and size < logits.shape[-1]:
        logits = logits[:, :size]
        whole = logits.logsumexp(-1)
    return nll, divergence(logits, whole, targets, objective)


def divergence(logits: Any, whole: Any, targets: Targets, objective: Objective) -> Any:
    """The divergence [n] of the student's logits [n, V], whose logsumexp is `whole` [n], from the teacher."""
    t = objective.temperature
    known, whole_stored = targets.normaliser is not None or t == 1.0, targets.ids.shape[-1] >= logits.shape[-1]
    if not known and objective.tail == "bucket":
        q, p = logits.gather(-1, targets.ids) - whole[:, None], targets.logprobs
        if not whole_stored:
            p, q = _joined(p, targets.rest), _with_rest(q)
        return _divergence((p / t).log_softmax(-1), (q / t).log_softmax(-1), objective)
    over = whole if t == 1.0 else (logits / t).logsumexp(-1)
    q = logits.gather(-1, targets.ids) / t - over[:, None]
    p = targets.logprobs / t if t != 1.0 else targets.logprobs
    if t != 1.0 and targets.normaliser is not None:
        p = p - targets.normaliser[:, None]
    if objective.tail == "sample":
        assert known  # draws come from a teacher that tells
        return _sampled(p, q, targets)
    if objective.tail == "renorm":
        return _divergence(p.log_softmax(-1), q, objective)
    if not whole_stored:
        p, q = _joined(p, targets.rest), _with_rest(q)
    return _divergence(p.log_softmax(-1), q, objective)  # what was stored is rounded, and need not sum to 1


def _sampled(p: Any, q: Any, targets: Targets) -> Any:
    """sum of w (log p - log q) over the draws, w = count / draws * p_T / p_1."""
    weight = targets.counts / targets.counts.sum(-1, keepdim=True) * (p - targets.logprobs).exp()
    return (weight * (p - q)).masked_fill(targets.counts == 0, 0.0).sum(-1)


def _divergence(p: Any, q: Any, objective: Objective) -> Any:
    """Of log-probabilities [n, classes]."""
    import math

    import torch

    beta = objective.beta
    match objective.divergence:
        case "forward":
            return _kl(p, q)
        case "reverse":
            return _kl(q, p)
    middle = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
    return _kl(p, middle) if objective.divergence == "skew" else beta * _kl(p, middle) + (1 - beta) * _kl(q, middle)


def _kl(p: Any, q: Any) -> Any:
    return (p.exp() * (p - q)).sum(-1)


def _joined(logprobs: Any, rest: Any) -> Any:
    import torch

    return torch.cat([logprobs, rest.clamp(min=LEAST)[:, None]], -1)


def _with_rest(logprobs: Any) -> Any:
    """Log-probabilities [n, K] and, behind them, that of everything else."""
    import torch

    mass = logprobs.exp().sum(-1).clamp(max=1 - 1e-7)
    return torch.cat([logprobs, torch.log1p(-mass)[:, None]], -1)
