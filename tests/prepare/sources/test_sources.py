from pathlib import Path
from typing import get_args

import pytest

from groundup.prepare.sources.sources import KINDS, check_sources, open_sources
from groundup.runner.params.prepare import Source
from tests.prepare.made_up import PackageMaker, files_source, hub_source, make_params


def test_every_kind_of_the_schema_has_a_reader() -> None:
    union, _ = get_args(Source)
    assert {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(union)} == KINDS.keys()


def test_every_source_that_cannot_be_read_is_named_at_once(tmp_path: Path, install_package: PackageMaker) -> None:
    good = install_package("talk", {})
    hub = hub_source("owner/name") | {"name": "far", "revision": "main"}
    params = make_params([good, good | {"name": "old", "version": "2.0"}, files_source("own", ["*.txt"], "text"), hub])
    with pytest.raises(ValueError, match=r"prepare\.sources cannot be read") as error:
        check_sources(open_sources(params, tmp_path, tmp_path))
    named = [line.split(":")[0] for line in str(error.value).split("\n")[1:]]
    assert named == ["source old", "source own", "source far"]
