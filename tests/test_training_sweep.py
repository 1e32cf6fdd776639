"""Temperature and alpha from validation rows: what is measured, what is chosen, and that nothing is trained twice."""

import json

import pytest
from project import synthdistill
from test_label import done, legible, soft
from test_training_soft import ROWS, loaded
from tiny import tiny_model

from synthdistill.manifest import load
from synthdistill.ops import examples
from synthdistill.runs import Run
from synthdistill.training.sweep import Measured, Point, agreement, best, points, sweep

pytestmark = pytest.mark.usefixtures("one_thread")


def test_plain_cross_entropy_is_always_tried_and_each_alpha_at_each_temperature():
    assert points((1.0, 2.0)) == [Point(1.0, 1.0), Point(1.0, 0.1), Point(1.0, 0.5), Point(2.0, 0.1), Point(2.0, 0.5)]


def answers(right, *, wrong=0):
    """Of 400, the first `right` are said, but for the first `wrong` of these."""
    return [wrong <= number < right for number in range(400)]


def test_the_best_agrees_most_and_within_a_standard_error_of_the_difference_is_the_surest():
    """Five answers fewer out of five that differ are more than sqrt(5); out of 45 they are not."""
    most = Measured(2, 0.1, answers(320), 0.5)
    behind, about_alike = Measured(1, 1, answers(315), 0.1), Measured(2, 0.5, answers(335, wrong=20), 0.4)

    assert best([behind, most]) == most
    assert best([behind, about_alike, most]) == about_alike
    assert [point.agreement for point in (most, behind, about_alike)] == [0.8, 0.7875, 0.7875]


def test_points_that_say_the_same_are_told_apart_by_their_nll():
    one, other = Measured(1, 1, answers(320), 0.2), Measured(2, 0.1, answers(320), 0.1)

    assert best([one, other]) == best([other, one]) == other


def test_a_point_that_was_measured_is_not_trained_again(tmp_path):
    trained = []

    def train(point, folder):
        trained.append(point)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return point

    tried = points((1.0, 2.0))
    with pytest.raises(KeyboardInterrupt):
        sweep(tried, train, lambda point: ([point.alpha > 0.3], point.temperature), tmp_path)
    found = sweep(tried, train, lambda point: ([point.alpha > 0.3], point.temperature), tmp_path)

    assert trained == [*tried[:3], *tried[2:]]
    assert [(point.agreement, point.nll) for point in found] == [(point.alpha > 0.3, point.temperature) for point in tried]


def test_agreement_is_what_greedy_generation_says(tmp_path):
    """Of rows whose completions the model would say, and of others."""
    import torch

    from synthdistill.training.render import Rendered

    model = loaded(tiny_model(tmp_path / "model")).float()
    rows = []
    for row in ROWS:
        ids = torch.tensor([row.prompt])
        said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)[0, ids.shape[1] :].tolist()
        rows += [Rendered(row.prompt, said), Rendered(row.prompt, [*said[:-1], (said[-1] + 1) % 320])]
    told, nll = agreement(model, rows)

    assert told == [True, False] * 4
    total = sum(
        float(-model(torch.tensor([row.ids])).logits[0].log_softmax(-1)[range(len(row.prompt) - 1, len(row) - 1), row.completion].sum())
        for row in rows
    )
    assert nll == pytest.approx(total / sum(len(row.completion) for row in rows), rel=1e-4)


def test_auto_chooses_says_so_and_leaves_nothing_behind(tmp_path):
    """With the package's own teacher, whose answers end."""
    examples.write(tmp_path, "triage")
    recipe = tmp_path / "recipe.toml"
    for name, rows in (("messages.jsonl", 300), ("held-out.jsonl", 10)):
        (tmp_path / name).write_text("".join((tmp_path / name).read_text().splitlines(keepends=True)[:rows]))
    settings = ['train.method={kind="soft",sweep_rows=16}', "train.epochs=1", "prompts.validation=0.2", "label.temperatures=[2.0]"]
    given = [part for setting in settings for part in ("--set", setting)]
    for stage in ("generate", "filter", "label"):
        done(stage, recipe, *given)
    planned = json.loads(done("train", recipe, *given, "--dry-run", "--json").stdout)["plan"]["train"]
    found = done("train", recipe, *given)
    place = Run(tmp_path / "runs" / "triage" / "main", tmp_path, "recipe.toml")
    results = load(place.stage("train")).results

    assert planned["sweep"] == {"trainings": 5, "rows": 16}
    assert len(results["sweep"]) == 5 and results["sweep"][0]["alpha"] == 1.0
    chosen = min((point for point in results["sweep"] if point["within"]), key=lambda point: point["nll"])
    assert (results["temperature"], results["alpha"]) == (chosen["temperature"], chosen["alpha"])
    assert "did best" in " ".join(found.stderr.split())
    assert sorted(path.name for path in place.stage("train").iterdir() if path.is_dir()) == ["student"]
    assert synthdistill("eval", recipe, *given).returncode in (0, 4)
    page = (place.stage("eval") / "report.html").read_text()
    assert "short trainings" in page and page.count("<small>taken</small>") == 1
    assert "examples scored" in page and "of the teacher&#39;s probability is not stored" in page


def test_alpha_beside_auto_is_refused(tmp_path):
    refused = synthdistill("run", soft(tmp_path, ("builtin", "x"), train={"method": {"kind": "soft", "alpha": 0.5}}))

    assert refused.returncode == 2
    assert 'alpha is found together with temperature = "auto"' in " ".join(refused.stderr.split())


def test_auto_without_validation_rows_is_one_line(tmp_path):
    teacher, student = legible(tiny_model(tmp_path / "teacher", seed=1)), tiny_model(tmp_path / "student")
    recipe = soft(tmp_path / "p", (student, teacher), prompts={"validation": 0.0}, train={"method": {"kind": "soft"}})
    refused = synthdistill("run", recipe)

    assert refused.returncode == 2
    assert "looks at validation rows, and there are none" in " ".join(refused.stderr.split())
