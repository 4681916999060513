import pytest

from groundup.data.pii import passes_luhn, replace_pii


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jane.doe+spam@mail.example.co.uk, ok?", "write to [EMAIL], ok?"),
        ("call (801) 555-0123 now", "call [PHONE] now"),
        ("801-555-0123", "[PHONE]"),
        ("1-801-555-0123", "[PHONE]"),
        ("ring +44 20 7946 0958.", "ring [PHONE]."),
        ("ring 020 7946 0958", "ring [PHONE]"),
        ("card 4111 1111 1111 1111!", "card [CARD]!"),
        ("card 4111111111111111", "card [CARD]"),
        ("5500-0055-5555-5559", "[CARD]"),
        ("server 192.168.0.1:8080", "server [IP]:8080"),
        ("server 192.168.0.1 is down", "server [IP] is down"),
        ("at 2001:db8:85a3::8a2e:370:7334", "at [IP]"),
        ("key AKIAIOSFODNN7EXAMPLE here", "key [KEY] here"),
        ("sk-proj-abcdEFGH1234abcdEFGH1234", "[KEY]"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[KEY]"),
        ("d41d8cd98f00b204e9800998ecf8427e", "[KEY]"),
        ("token aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3f", "token [KEY]"),
    ],
)
def test_personal_data_becomes_a_typed_placeholder(text: str, expected: str) -> None:
    assert replace_pii(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "It was founded in 1939-1945 and again on 2018-04-11.",
        "Light travels at 299 792 458 metres a second, 149,597,870,700 m to the sun.",
        "card 4111 1111 1111 1112 fails the checksum",
        "pi is 3.14159265358979323846",
        "at 12:30:45 the ratio was 3:2:1",
        "version 1.2.3 of 300.1.2.3",
        "use std::vector and a @mention",
        "a_very_long_identifier_in_lower_case_without_digits",
        "Sports-in-the-United-States-of-America-since-1900",
        "no digits at all",
    ],
)
def test_what_only_looks_alike_stays(text: str) -> None:
    assert replace_pii(text) == (text, {})


def test_placeholders_are_counted_by_kind() -> None:
    text, found = replace_pii("a@b.org c@d.org 801-555-0123")
    assert text == "[EMAIL] [EMAIL] [PHONE]"
    assert found == {"email": 2, "phone": 1}


def test_luhn_accepts_published_test_numbers_and_no_neighbour_of_them() -> None:
    number = "378282246310005"
    assert passes_luhn(number)
    assert not any(passes_luhn(number[:-1] + digit) for digit in "012346789")
    assert not passes_luhn("0000")  # too short to be a card
