"""Cards of models that come from an open one name it; the others stay as they are."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from groundup.core.formats.origin import as_parent, origin_of, with_base
from groundup.runner.base import Base

CARD = "---\nlibrary_name: transformers\n---\n# groundup model\n\nWhat it is.\n"
BASE = Base(
    name="tiny",
    source="owner/tiny@" + "a" * 40,
    revision="a" * 40,
    licence="Apache-2.0",
    licence_accepted=False,
    files={"model.safetensors": "0" * 64},
)


def test_from_scratch_no_byte_is_added(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD, encoding="utf-8")
    assert with_base(CARD, None) == as_parent(CARD, tmp_path) == CARD
    assert origin_of(tmp_path) is None


def test_a_card_names_the_base_its_revision_and_its_licence() -> None:
    card = with_base(CARD, BASE)
    assert card == (
        "---\nlibrary_name: transformers\nbase_model: owner/tiny\nlicense: apache-2.0\norigin:\n  name: tiny\n"
        f"  source: owner/tiny@{'a' * 40}\n  revision: {'a' * 40}\n  licence: Apache-2.0\n---\n# groundup model\n\n"
        "What it is.\n\n## The open model that it comes from\n\n"
        f"tiny, which `groundup fetch owner/tiny@{'a' * 40}` brings, revision {'a' * 40}. Its licence is Apache-2.0; "
        "what that asks of models\nmade from it holds for this one. The text and conversations that it was trained on "
        "here have their own licences, in the\ntables of artifacts/reports/prepare/report.md.\n"
    )
    assert (ModelCard(card).data.license, ModelCard(card).data.base_model) == ("apache-2.0", "owner/tiny")


@pytest.mark.parametrize("source", ["smollm2-135m", "--from PATH/mine@2", "--from 'PATH/my tiny'"])
def test_only_a_hubs_repository_is_a_base_model_to_hubs(source: str) -> None:
    data = ModelCard(with_base(CARD, BASE.model_copy(update={"source": source}))).data
    assert data.base_model is None
    assert data.get("origin")["source"] == source


@pytest.mark.parametrize("licence", ["Apache-2.0", "other: 'x'", "none: [a]"])
def test_it_goes_on_to_every_model_made_from_it(tmp_path: Path, licence: str) -> None:
    base = BASE.model_copy(update={"licence": licence})
    (tmp_path / "README.md").write_text(with_base(CARD, base), encoding="utf-8")
    assert as_parent("---\na: b\n---\n# Next\n", tmp_path) == with_base("---\na: b\n---\n# Next\n", base)
    assert origin_of(tmp_path) == {
        "name": "tiny",
        "source": base.source,
        "revision": base.revision,
        "licence": licence,
    }
