"""Which licences a user must accept."""

from groundup.app.fetch.source import FetchError, Origin

# They allow use, change and distribution, for a notice at most. By their names on the hub, in lower case.
PERMISSIVE = {
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "isc",
    "cc0-1.0",
    "cc-by-4.0",
    "unlicense",
    "afl-3.0",
}
NONE_STATED = "none stated"


def accept_licence(name: str, origin: Origin, accepted: bool) -> tuple[str, bool]:
    """(the licence, whether it had to be accepted); FetchError where it must be and is not."""
    licence = origin.licence or NONE_STATED
    is_free = licence.lower() in PERMISSIVE and not origin.gated
    if not is_free and not accepted:
        asked = " and its owner asks people to accept it" if origin.gated else ""
        why = f"{name} states no licence" if origin.licence is None else f"the licence of {name} is {licence}{asked}"
        raise FetchError(
            f"{why}: find out what you may do with the model (one that you trained on your own data is yours), then "
            "run the same command with --accept-licence. It is noted in groundup.json and base.lock"
        )
    return licence, not is_free
