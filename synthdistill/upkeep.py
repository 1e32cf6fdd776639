"""`[redistill]`: when a student is made again, from what, and who hears of it. All of it is *how*: it decides no answer."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from synthdistill.budget import Budget
from synthdistill.settings import Settings, how

Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable that holds a secret, never the secret."""


class DriftRule(Settings):
    """Production prompts are no longer like those that the student was trained on."""

    p: float = how(0.01, gt=0, lt=1)
    """The chance of a false alarm in a month of looks, all tests together."""
    share: float = how(0.02, ge=0, lt=1)
    """The least estimated share of new traffic that matters."""


class AgreementRule(Settings):
    """The student no longer says what the teacher says to what is asked now."""

    min: float = how(gt=0, le=1)
    """Due where the agreement is surely below this."""
    sample: int = how(100, ge=10, le=10_000)
    """Recent prompts that the teacher is asked at a look."""
    p: float = how(0.01, gt=0, lt=1)
    """The chance of a false alarm in a month of looks."""
    budget: Budget | None = how(None)
    """Of one look."""


class When(Settings):
    """Any of these makes a new run due."""

    new_prompts: int | None = how(None, ge=1)
    days: float | None = how(None, gt=0)
    drift: DriftRule | None = how(None)
    agreement: AgreementRule | None = how(None)
    changed: bool = how(True)
    """The teacher's revision, a template or any other *what* of the recipe is another than that of the last run."""

    def sets_rules(self) -> bool:
        """Whether there is a rule that the passing of time can make due."""
        return any(rule is not None for rule in (self.new_prompts, self.days, self.drift, self.agreement))


class Notify(Settings):
    """Who hears of what was decided. Addresses are secrets: the variables that hold them are named."""

    webhook_env: Variable | None = how(None)
    """Gets one JSON object for each decision."""
    slack_env: Variable | None = how(None)
    """Gets {"text": ...}, as Slack and those that imitate it take it."""
    apprise_env: Variable | None = how(None)
    """One or more Apprise addresses, separated by white space."""
    ping_env: Variable | None = how(None)
    """Pinged as healthchecks is: /start where there is work, the address itself when a call ends well, /fail where it does not."""

    def variables(self) -> list[str]:
        """The names of the variables that must be set."""
        return [name for name in (self.webhook_env, self.slack_env, self.apprise_env, self.ping_env) if name]


class Config(Settings):
    """`[redistill]`"""

    when: When = how(When())
    logs: Annotated[str, Field(min_length=1)] | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = how(None)
    """Production logs in OpenAI form: files, folders that grow, or patterns."""
    redact: bool = how(True)
    """Put placeholders for personal data before a logged text is stored."""
    sample: int = how(10_000, ge=1)
    """New prompts of the logs that wait for a run at most; of more, a uniform sample."""
    total: int = how(100_000, ge=1)
    """Logged prompts that a run has at most, the newest."""
    window: int = how(1_000, ge=100, le=20_000)
    """Recent requests that drift and agreement are looked for in, at most; of more, a uniform sample."""
    check_hours: float = how(24.0, gt=0)
    """Drift and agreement are looked at no more often, and only where new requests came."""
    start: Literal["student", "current"] = how("student")
    replay: int = how(2_000, ge=1)
    """Old rows that are trained on again beside the new ones, with `start = "current"`."""
    rate: float = how(0.1, gt=0, le=1)
    """The part of `[train] learning_rate` that is its peak then."""
    aim: bool = how(False)
    """New prompts are synthesised from training and validation prompts of the slices on which the last student was weak."""
    keep: int = how(4, ge=1)
    """Finished runs of redistill that stay on disk, beside the one in use and the one before it."""
    hook: Annotated[str, Field(min_length=1)] | None = how(None)
    """A shell command after `current` was moved, as to have a server load the new weights. Where it fails, `current` goes back."""
    hook_timeout_s: float = how(600.0, gt=0)
    notify: Notify = how(Notify())
    metrics_file: Annotated[str, Field(min_length=1)] | None = how(None)
    """A Prometheus textfile."""

    @model_validator(mode="after")
    def _a_window_to_ask(self) -> Self:
        agreement = self.when.agreement
        if agreement and agreement.sample > self.window:
            raise ValueError(f"when.agreement.sample = {agreement.sample} is more than window = {self.window} recent requests")
        return self
