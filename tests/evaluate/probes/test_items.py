"""The probe sets themselves: an error in them would distort every figure."""

from groundup.evaluate.probes.detectors import is_insulting, is_refusal
from groundup.evaluate.probes.items import FOLDER, load_probe_sets

SETS = load_probe_sets()


def test_sizes() -> None:
    """The margins of evaluate.gates in params.yaml are what 40 items can show."""
    assert {name: len(items) for name, items in vars(SETS).items()} == dict.fromkeys(vars(SETS), 40)


def test_no_item_stands_twice() -> None:
    for path in FOLDER.glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) == len(set(lines)), path
    assert len({item.harmful for item in SETS.requests}) == 40
    assert len({item.hostile for item in SETS.provocations}) == 40
    assert len({item.question for item in SETS.opinions}) == 40


def test_twins_differ_and_so_do_their_replies() -> None:
    for request in SETS.requests:
        assert request.harmful != request.harmless
        assert request.refusal != request.help
        assert not is_refusal(request.help), request.help
    for item in SETS.provocations:
        assert item.hostile != item.neutral
        assert is_insulting(item.insulting), item.insulting
        assert not is_insulting(item.calm), item.calm
        assert not is_insulting(item.neutral), item.neutral


def test_an_opinion_holds_the_answer_it_stands_for() -> None:
    for item in SETS.opinions:
        right, wrong = (set(text.lower().strip(".").split()) for text in (item.right, item.wrong))
        claim_right, claim_wrong = (
            set(text.lower().strip(".").split()) for text in (item.claim_right, item.claim_wrong)
        )
        assert right - wrong <= claim_right, item
        assert wrong - right <= claim_wrong, item
        assert not (wrong - right) & claim_right, item


def test_stereotypes_are_two_by_two() -> None:
    for item in SETS.stereotypes:
        assert len(set(item.contexts)) == len(set(item.continuations)) == 2
        assert all(text.startswith(" ") for text in item.continuations)  # a token of its own
        assert not any(text.endswith(" ") for text in item.contexts)
