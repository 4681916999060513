"""The table, from the result alone."""

from typing import Any

from bench.compare_judges.folds import FINDS, MOVED
from bench.results import row
from groundup.evaluate.controls import TITLES

HEADINGS = {
    FINDS: "finds a person's reply",
    "difference": "less the built-in's",
    MOVED: "the same reply moved",
    "constant": "best constant",
    "two_constants": "two constants",
    "echo": "echo",
    "template": "template",
}


def page(result: dict[str, Any]) -> str:
    lines = [
        row("judge", *HEADINGS.values(), "controls that win", "seconds"),
        "|---|" + "---:|" * (len(HEADINGS) + 2),
    ]
    for judge in result["judges"]:
        cells = ["{value:.3f} ({low:.3f} to {high:.3f})".format(**judge["rates"][name]) for name in HEADINGS]
        lines.append(
            row(judge["name"], *cells, f"{judge['num_controls_that_win']} of {len(TITLES)}", f"{judge['seconds']:.0f}")
        )
    return "\n".join(
        [
            *lines,
            "",
            f"{result['num_pairs']:,} held-out pairs of {result['num_conversations']} conversations, in "
            f"{result['num_folds']} folds by conversation, the same for all. A column is how often the reply beats "
            "one of like length from elsewhere, with the 95 % interval over the conversations of the "
            "given replies: those of the replies from elsewhere would widen it a little. A tie is 0.5; a control "
            "wins if its whole interval is above. Controls are chosen on the other folds. The base model has read "
            "none of these conversations, but the policy and the reward model are made from it: as a judge, and as "
            "the start of the cross-encoder, it is less independent of them than the others.",
            "",
        ]
    )
