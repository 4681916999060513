import re

import pytest
from pydantic import ValidationError

from groundup.core.decoding import make_decoding, parse_decoding
from groundup.core.decoding.settings import METHODS, READS
from groundup.runner.params.decoding import DecodingNumbers
from tests.core.decoding.conftest import NUMBERS, decoding

DEFAULTS = DecodingNumbers(**NUMBERS)


def test_what_is_typed_changes_only_what_it_names() -> None:
    assert parse_decoding("greedy", DEFAULTS) == decoding("greedy")
    assert parse_decoding("sample temperature=0.5 top_k=7", DEFAULTS) == decoding("sample", temperature=0.5, top_k=7)


def test_every_number_is_read_by_a_method() -> None:
    assert tuple(READS) == METHODS
    read = {"max_new_tokens", "repetition_penalty"}.union(*READS.values())
    assert read == set(DecodingNumbers.model_fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown decoding method ''"),
        ("treee", "unknown decoding method 'treee': choose greedy, sample, beam, best_of_n, tree"),
        ("sample hot", "'hot' is not a setting: write name=value"),
        ("sample temperature=", "'temperature=' is not a setting"),
        ("sample heat=1", "unknown decoding setting heat: choose from seed, max_new_tokens"),
        ("sample method=tree", "unknown decoding setting method"),
        ("sample temperature=warm", "temperature is warm: input should be a valid number"),
        ("sample temperature=nan", "temperature is nan: input should be a finite number"),
        ("sample temperature=-1", "temperature is -1: input should be greater than or equal to 0"),
        ("sample top_p=0", "top_p is 0: input should be greater than 0"),
        ("sample min_p=1", "min_p is 1: input should be less than 1"),
        ("sample repetition_penalty=0.5", "repetition_penalty is 0.5: input should be greater than or equal to 1"),
        ("best_of_n n=1000000", "n is 1000000: input should be less than or equal to 256"),
        ("beam num_beams=1000", "num_beams is 1000: input should be less than or equal to 64"),
        ("beam num_beams=9", "budget_tokens 96 is below num_beams x max_new_tokens (108), which beam may need"),
        ("tree max_new_tokens=97", "budget_tokens 96 is below one reply of max_new_tokens (97), which tree may need"),
        ("tree depth=0 keep=0", "keep is 0: input should be greater than or equal to 1; depth is 0"),
    ],
)
def test_bad_settings_are_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        parse_decoding(text, DEFAULTS)
    assert "\n" not in str(error.value)


def test_a_budget_binds_only_the_methods_that_have_one() -> None:
    assert make_decoding("sample", DEFAULTS, {"max_new_tokens": 97}).max_new_tokens == 97
    assert make_decoding("beam", DEFAULTS, {"num_beams": 8}).num_beams == 8


def test_a_request_that_is_no_decoding_is_refused_by_pydantic() -> None:
    for wrong in ({"method": "magic"}, {"n": "8"}, {"surprise": 1}):
        with pytest.raises(ValidationError):
            decoding(**{"method": "sample", **wrong})
