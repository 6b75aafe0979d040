"""What the command's options may say of a foreign history."""

from __future__ import annotations

from chaos.checker.errors import HistoryError
from chaos.checker.formats.broken import BrokenLineError
from chaos.checker.formats.edn import read
from chaos.checker.formats.foreign import Choices
from chaos.checker.formats.models import ELSEWHERE, MODELS
from chaos.checker.formats.names import value_of
from chaos.checker.formats.registry import NAMES

CAS = ("ignored", "refused")


def choose(form: str, model: str, initial: str | None, failed_cas: str) -> Choices:
    """Options to choices.

    Raises HistoryError with the values that there are.
    """
    for option, said, known in (
        ("--format", form, ("auto", *NAMES)),
        ("--model", model, ("auto", *MODELS, *sorted(ELSEWHERE))),
        ("--failed-cas", failed_cas, CAS),
    ):
        if said not in known:
            raise HistoryError(f"{option} {said} is not known", where=option, next=f"There are {', '.join(known)}.")
    given = initial is not None or model != "auto" or failed_cas != CAS[0]
    return Choices(model, _initial(initial), initial is not None, failed_cas, given)


def _initial(said: str | None) -> str | int | None:
    if said is None:
        return None
    try:
        values = [value for _, value in read(said.encode())]
    except BrokenLineError as error:
        raise HistoryError(f"--initial {said} is not a value of EDN or JSON: {error.what}", where="--initial") from None
    if len(values) != 1 or said.lstrip()[:1] in ("[", "("):
        raise HistoryError(f"--initial {said} is not one plain value", where="--initial", next='Such as 0, nil or "a".')
    return value_of(None if values[0] is None or said.strip() == "null" else values[0])
