"""The distillation loss against dense references in float64, identities and gradients among them."""

import itertools
import math

import pytest

torch = pytest.importorskip("torch")

from synthdistill.training.divergence import Objective, Targets, compare  # noqa: E402

N, V = 6, 23


def drawn(seed, n=N, v=V, scale=2.0):
    made = torch.Generator().manual_seed(seed)
    return (torch.randn(n, v, generator=made, dtype=torch.float64) * scale).requires_grad_()


def stored(teacher, k, t=1.0, known=True):
    """What `label` keeps of a teacher's logits: its k best tokens."""
    lp = teacher.detach().log_softmax(-1)
    values, ids = lp.topk(k)
    normaliser = (lp / t).logsumexp(-1)
    at = values / t - normaliser[:, None] if known else values
    rest = torch.log1p(-at.exp().sum(-1).clamp(max=1)) if k < lp.shape[-1] else torch.full(lp.shape[:1], -math.inf, dtype=lp.dtype)
    return Targets(ids, values, normaliser if known else None, rest)


def dense(teacher, student, t, divergence="forward", beta=0.5):
    p, q = (teacher.detach() / t).log_softmax(-1), (student / t).log_softmax(-1)

    def kl(one, other):
        return (one.exp() * (one - other)).sum(-1)

    middle = (beta * p.exp() + (1 - beta) * q.exp()).log()
    return {
        "forward": lambda: kl(p, q),
        "reverse": lambda: kl(q, p),
        "js": lambda: beta * kl(p, middle) + (1 - beta) * kl(q, middle),
        "skew": lambda: kl(p, middle),
    }[divergence]()


LABELS = torch.arange(N)


@pytest.mark.parametrize("t", [1.0, 2.0, 0.7])
@pytest.mark.parametrize("divergence", ["forward", "reverse", "js", "skew"])
@pytest.mark.parametrize("tail", ["bucket", "renorm"])
def test_with_the_whole_vocabulary_stored_it_is_the_dense_one_in_value_and_gradient(t, divergence, tail):
    teacher, student = drawn(1), drawn(2)
    objective = Objective(t, tail, divergence, beta=0.3)
    _, found = compare(student, LABELS, stored(teacher, V, t), objective)
    wanted = dense(teacher, student, t, divergence, 0.3)

    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)
    (got,), (right,) = (torch.autograd.grad(each.sum(), student, retain_graph=True) for each in (found, wanted))
    torch.testing.assert_close(got, right, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("t", [1.0, 3.0])
@pytest.mark.parametrize("divergence", ["forward", "reverse", "js", "skew"])
def test_the_bucket_never_exceeds_the_dense_one(seed, t, divergence):
    teacher, student = drawn(seed), drawn(seed + 1000)
    for k in (1, 5, 22):
        _, found = compare(student, LABELS, stored(teacher, k, t), Objective(t, "bucket", divergence))
        assert (found <= dense(teacher, student, t, divergence) + 1e-9).all()
        assert (found >= -1e-9).all()


@pytest.mark.parametrize("t", [1.0, 2.0])
def test_a_bucket_grows_with_what_is_stored(t):
    teacher, student = drawn(3), drawn(4)
    found = [compare(student, LABELS, stored(teacher, k, t), Objective(t))[1] for k in (1, 4, 12, V)]

    assert all((less <= more + 1e-9).all() for less, more in itertools.pairwise(found))


@pytest.mark.parametrize("t", [2.0, 4.0])
@pytest.mark.parametrize("divergence", ["forward", "reverse", "js", "skew"])
def test_coarse_is_nought_with_its_gradient_where_both_agree_on_the_classes(t, divergence):
    """The student spreads the rest otherwise than its teacher, and has the same classes."""
    teacher = drawn(5)
    targets = stored(teacher, 4, t, known=False)
    outside = torch.ones(N, V, dtype=torch.bool).scatter(-1, targets.ids, False)
    other = torch.rand(N, V, generator=torch.Generator().manual_seed(6), dtype=torch.float64) * outside
    share = other / other.sum(-1, keepdim=True) * targets.rest.exp()[:, None]
    student = torch.where(outside, share.log(), teacher.detach().log_softmax(-1)).requires_grad_()
    _, found = compare(student, LABELS, targets, Objective(t, divergence=divergence))

    torch.testing.assert_close(found, torch.zeros(N, dtype=torch.float64), atol=1e-9, rtol=0)
    (gradient,) = torch.autograd.grad(found.sum(), student)
    torch.testing.assert_close(gradient, torch.zeros(N, V, dtype=torch.float64), atol=1e-9, rtol=0)
    assert (dense(teacher, student, t, divergence) > 1e-4).any()


def test_coarse_at_1_is_the_bucket():
    teacher, student = drawn(7), drawn(8)
    known, unknown = (compare(student, LABELS, stored(teacher, 5, known=known), Objective())[1] for known in (True, False))

    torch.testing.assert_close(known, unknown)


def draws(teacher, k, t, seed):
    """k tokens drawn from the teacher at 1, each position for itself, with how often each came."""
    lp = teacher.detach().log_softmax(-1)
    ids = torch.multinomial(lp.exp(), k, replacement=True, generator=torch.Generator().manual_seed(seed))
    counts = torch.zeros(lp.shape, dtype=lp.dtype).scatter_add(-1, ids, torch.ones(ids.shape, dtype=lp.dtype))
    counts, ids = counts.topk(k)
    return Targets(ids, lp.gather(-1, ids), (lp / t).logsumexp(-1), None, counts)


@pytest.mark.parametrize("t", [1.0, 2.0])
def test_sample_is_unbiased_in_value_and_gradient(t):
    n = 10_000
    teacher, student = drawn(9, n=1, v=12, scale=1.0), drawn(10, n=1, v=12, scale=1.0)
    wide = student.expand(n, -1)
    _, found = compare(wide, torch.zeros(n, dtype=torch.long), draws(teacher.expand(n, -1), 5, t, seed=11), Objective(t, "sample"))
    gradients = torch.stack([torch.autograd.grad(part.mean(), student, retain_graph=True)[0][0] for part in found.split(100)])
    wanted = dense(teacher, student, t)
    (right,) = torch.autograd.grad(wanted.sum(), student)

    assert abs(found.mean() - wanted) <= 3 * found.std() / n**0.5
    assert ((gradients.mean(0) - right[0]).abs() <= 4 * gradients.std(0) / len(gradients) ** 0.5).all()


def test_the_gradient_at_T_keeps_its_size_with_T_squared():
    """Hinton et al. 2015: for logits that are small beside T, T^2 KL has a gradient of (z - v) / V, whatever T is."""
    teacher, student = drawn(12, scale=0.5), drawn(13, scale=0.5)
    z, v = (each.detach() - each.detach().mean(-1, keepdim=True) for each in (student, teacher))
    for t in (50.0, 200.0):
        _, found = compare(student, LABELS, stored(teacher, V, t), Objective(t))
        (gradient,) = torch.autograd.grad(t * t * found.sum(), student)
        torch.testing.assert_close(gradient, (z - v) / V, atol=2e-3 / t * 50, rtol=0)


def test_nll_is_cross_entropy():
    student = drawn(14)
    nll, _ = compare(student, LABELS, stored(drawn(15), 3), Objective())

    torch.testing.assert_close(nll, torch.nn.functional.cross_entropy(student, LABELS, reduction="none"))


def test_a_teacher_that_is_sure_leaves_a_finite_gradient():
    """All mass on the stored tokens, for teacher and student, in the precision of training."""
    teacher = torch.full((1, V), -60.0).index_fill(1, torch.tensor([0]), 20.0)
    student = (teacher * 0.9).requires_grad_()
    for divergence in ("forward", "reverse", "js", "skew"):
        _, found = compare(student, torch.tensor([0]), stored(teacher, 2), Objective(divergence=divergence))
        (gradient,) = torch.autograd.grad(found.sum(), student)
        assert torch.isfinite(found).all() and torch.isfinite(gradient).all()
