"""The wording of questions: a set of templates per style, one template per task.

``w2v``    never says what it asks for: every direction is offered alike, an object is named or
           boxed but not both where that would give the answer away.
``paper``  World2VLM's canonical prompts (arXiv 2604.26934, appendix B), which name the direction
           in A1 and A2, the box in D2 and the moves in D4.

How an answer is to be written stands last; the forms choice and sentence of the paper's set end
in our words, since the appendix prints the plain form only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from w2v.errors import BadOption
from w2v.phrases import FORMS

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A question with ``{fields}`` to fill in, and for each form how it is to be answered."""

    question: str
    plain: str
    choice: str = "\n{options}\nAnswer with the letter of one option only."
    sentence: str = " Answer in one short sentence."

    def written(self, form: str, images: int) -> str:
        """Return the whole user turn, tags first, with its fields to fill in by ``%``."""
        ending: str = getattr(self, form)
        text = "<image>" * images + self.question + ending
        return _FIELD.sub(r"%(\1)s", text.replace("%", "%%"))  # twice as fast as format


IMAGES = {"D2": 1} | dict.fromkeys(("A1", "A2", "A3", "A4", "D1", "D3", "D4"), 2)
"""How many pictures each task shows; D2 asks what a picture that is not shown would hold."""

_STEP = "move <forward|backward|left|right> X meters"
_TURN = "turn <left|right> X degrees"
_VOCABULARY = "\n- move forward/backward/left/right X meters\n- turn left/right X degrees"
_LISTED = " Write all of them in order, with ';' between them. Each is one of:" + _VOCABULARY
_GRID = " Boxes are [x1, y1, x2, y2] in whole numbers from 0 to 1000, x to the right and y down."

_W2V = {
    "A1": Template(
        question="Between the first picture and the second the camera made one move, without "
        "turning. Which way did it move, and how far?",
        plain=f" Answer like this: {_STEP}",
        sentence=f" Answer in one short sentence that holds: {_STEP}",
    ),
    "A2": Template(
        question="Between the first picture and the second the camera only turned, on the spot. "
        "Which way did it turn, and how far?",
        plain=f" Answer like this: {_TURN}",
        sentence=f" Answer in one short sentence that holds: {_TURN}",
    ),
    "A3": Template(
        question="Between the first picture and the second the camera made two or three moves, "
        "one after the other. Which moves?",
        plain=_LISTED,
        sentence=f" Answer in one sentence that names them in order, each as one of:{_VOCABULARY}",
    ),
    "A4": Template(
        question="Someone claims that between the first picture and the second the camera did "
        'this: "{moves}". Is the claim true or false?',
        plain=" Answer with one word, true or false.",
    ),
    "D1": Template(
        question="In the first picture the {object} is at {first}." + _GRID + " Then the camera "
        'did this: "{moves}". Where is the same {object} in the second picture?',
        plain=" Answer with its box only, as [x1, y1, x2, y2].",
        sentence=" Answer in one short sentence that holds its box as [x1, y1, x2, y2].",
    ),
    "D2": Template(
        question='The picture shows the {object}. Now the camera does this: "{moves}". Will the '
        "{object} be gone from view, that is, out of the picture or hidden?",
        plain=" Answer with one word, yes or no.",
    ),
    "D3": Template(
        question="The {object} at {first} in the first picture and the {object} at {second} in "
        "the second are the same." + _GRID + " Which one or two moves did the camera make between "
        "the pictures?",
        plain=_LISTED,
        sentence=f" Answer in one sentence that names them in order, each as one of:{_VOCABULARY}",
    ),
    "D4": Template(
        question="The camera was moved between the two pictures. In the first there is one "
        "{object} at {first}, in the second one at {second}." + _GRID + " Are these boxes around "
        "the same physical {object}?",
        plain=" Answer with one word, yes or no.",
    ),
}

_PAPER = {
    "A1": Template(
        question="How many meters did the camera move to get the second image?",
        plain=" Answer as: {verb} X meters.",
    ),
    "A2": Template(
        question="How many degrees did the camera turn to get the second image?",
        plain=" Answer as: {verb} X degrees.",
    ),
    "A3": Template(
        question="To move from the first image to the second image, the camera used 2 or 3 "
        "actions in order.",
        plain=" Write the full action sequence using ';' as a separator. Allowed actions:"
        + _VOCABULARY,
    ),
    "A4": Template(
        question='True or false: the camera did "{moves}" to get the second image.',
        plain="",
    ),
    "D1": Template(
        question="In the first image, the {object} is at bbox {first}. Bboxes use normalized "
        'integer coordinates in [0,1000]. After the camera does "{moves}", give the bbox of the '
        "same {object} in the second image.",
        plain=" Answer with bbox [x1, y1, x2, y2] only.",
    ),
    "D2": Template(
        question='In the image, the {object} is at bbox {first}. After the camera does "{moves}", '
        "does this {object} disappear from view?",
        plain=" Answer: yes or no.",
    ),
    "D3": Template(
        question="The {object} in the first image (bbox {first}) and the {object} in the second "
        "image (bbox {second}) are the same physical object. The camera used 1 or 2 actions in "
        "order.",
        plain=" Write the full action sequence using ';' as a separator. Allowed actions:"
        + _VOCABULARY,
    ),
    "D4": Template(
        question="In the first image, the {object} is at bbox {first}. After the camera does "
        '"{moves}", the second image shows a {object} at bbox {second}. Are these the same '
        "physical object instance?",
        plain=" Answer: yes or no.",
    ),
}

SETS: Mapping[str, Mapping[str, Template]] = {"w2v": _W2V, "paper": _PAPER}


def written(templates: str, task: str) -> dict[str, str]:
    """Return the user turn of a task in each form, with its fields to fill in by ``%``.

    Raises:
        BadOption: There is no such set of templates.
    """
    if templates not in SETS:
        raise BadOption(
            f"there is no template set {templates!r}", f"known: {', '.join(sorted(SETS))}"
        )
    template = SETS[templates][task]
    return {form: template.written(form, IMAGES[task]) for form in FORMS}
