"""A student made from its teacher: some of the layers, all of the embeddings, the head and the tokenizer.

    make("models/teacher", None, layers=6, folder=Path("students/teacher-6"))

DistilBERT began so (Sanh et al. 2019, arXiv 1910.01108, section 3): layers spread over all of the teacher's, the first and the last among
them; of 12, six are 0, 2, 4, 7, 9 and 11.
"""

from pathlib import Path
from typing import Any

from synthdistill.errors import RecipeError, unloadable
from synthdistill.training.guards import quiet
from synthdistill.training.student import place


def chosen(layers: int, of: int) -> list[int]:
    """The numbers of the layers that are kept, evenly spread, the first and the last among them.

    >>> chosen(6, of=12)
    [0, 2, 4, 7, 9, 11]
    """
    return [round(number * (of - 1) / (layers - 1)) for number in range(layers)] if layers > 1 else [0]


def make(teacher: str, revision: str | None, layers: int, folder: Path) -> None:
    """Write the student to a folder, whole or not at all.

    Raises:
        RecipeError: the teacher cannot be loaded, has not more layers than that, or keeps them in no place that is known here.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet():
        try:
            model = AutoModelForCausalLM.from_pretrained(teacher, revision=revision, dtype="auto")
            tokenizer = AutoTokenizer.from_pretrained(teacher, revision=revision)
        except Exception as error:  # a folder can be broken in as many ways as its formats have readers
            raise unloadable(f"the teacher {teacher}", error) from error
        _cut(model, teacher, layers)

        def save(beside: Path) -> None:
            model.save_pretrained(beside)
            tokenizer.save_pretrained(beside)

        folder.parent.mkdir(parents=True, exist_ok=True)
        place(folder, save)


def _cut(model: Any, name: str, layers: int) -> None:
    """Leave out layers, in the model and wherever its config has something for each."""
    from torch.nn import ModuleList

    config = model.config.get_text_config()
    of = config.num_hidden_layers
    if not 1 <= layers < of:
        raise RecipeError(f"[train] student from_teacher layers = {layers}: the teacher {name} has {of}", f"Give 1 to {of - 1}")
    held = [(module, key) for module in model.base_model.modules() for key, child in module.named_children() if _is_stack(child, of)]
    if len(held) != 1:
        raise RecipeError(
            f"the layers of the teacher {name} ({type(model).__name__}) are not found: {len(held)} lists of {of} modules",
            "Make the student yourself, and give its folder as [train] student",
        )
    module, key = held[0]
    kept = chosen(layers, of)
    stack = getattr(module, key)
    setattr(module, key, ModuleList([stack[number] for number in kept]))
    for number, layer in enumerate(getattr(module, key)):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = number
    for field, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == of:  # such as which layers attend to a window only
            setattr(config, field, [value[number] for number in kept])
    config.num_hidden_layers = layers


def _is_stack(module: Any, count: int) -> bool:
    from torch.nn import ModuleList

    return isinstance(module, ModuleList) and len(module) == count
