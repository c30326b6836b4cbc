"""
What a sender says of an object beside its records: how many there are, the sum of a column, that it is whole.

Belongs here: the declaration, where such things stand, reading totals out of a text. Doesn't: comparing (`warehouse/controls.py`).
"""

import re
from dataclasses import dataclass as plain_dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from pydantic.dataclasses import dataclass

from ingestion_platform.errors import DeclarationError, ObjectRejected
from ingestion_platform.table import STRICT

PLACES = ("{key}", "{stem}", "{folder}")


@plain_dataclass(frozen=True, slots=True)
class Totals:
    """
    What is said of an object.

    Args:
        records: how many there are; None when it isn't said.
        sum: of the declared column; likewise.
    """

    records: int | None
    sum: Decimal | None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Control:
    """
    What a sender says of each object. What it says must be so.

    Keys of other objects are written with `{key}` (the object's whole key), `{stem}` (without the endings of its name: `.csv.gz`) or
    `{folder}` (what is before its name): `{key}.done`, `{stem}.json`, `{folder}/_SUCCESS`.

    Args:
        trailer: pattern of the line behind the records that says it, which the format's `footer` has to take for no record; a whole line,
            with groups `records`, `sum` or both: `TRAILER;(?P<records>[0-9]+);(?P<sum>[0-9.]+)`.
        manifest: key of another object that says it. The object isn't read before this one is there, and again when this one changes.
        says: pattern of what the manifest says of an object, with the same groups, found anywhere in it; `{name}` in it stands for the
            object's name, where one manifest speaks of several.
        marker: key of an object that lands when the object is whole, whatever is in it. The object isn't read before.
        sum_of: the column whose sum is said, by its name here.
        on_mismatch: `reject` the object, or let all its records go to `quarantine`.
    """

    trailer: str = ""
    manifest: str = ""
    says: str = ""
    marker: str = ""
    sum_of: str = ""
    on_mismatch: Literal["reject", "quarantine"] = "reject"

    def __post_init__(self) -> None:
        if not (self.trailer or self.manifest or self.marker):
            raise DeclarationError("Control: it says nothing", "declare trailer, manifest or marker")
        if bool(self.manifest) != bool(self.says):
            raise DeclarationError(
                "Control: manifest and says belong together", "say where in the manifest the totals are"
            )
        if self.trailer and self.manifest:
            raise DeclarationError("Control: totals are in the trailer or in a manifest", "leave one of them out")
        for name, text in (("manifest", self.manifest), ("marker", self.marker)):
            rest = text
            for place in PLACES:
                rest = rest.replace(place, "")
            if text and (rest == text or "{" in rest or "}" in rest):
                raise DeclarationError(f"Control: {name} {text!r} doesn't say whose it is", "as in {key}.done")
            if text == "{key}":
                raise DeclarationError(f"Control: {name} is the object itself", "as in {key}.done")
        groups: set[str] = set()
        for name, text in (("trailer", self.trailer), ("says", self.says)):
            if text:
                try:
                    groups |= set(re.compile(text.replace("{name}", "")).groupindex)
                except re.error as error:
                    raise DeclarationError(f"Control: {name} {text!r} is no pattern: {error}") from error
        if (self.trailer or self.says) and not groups & {"records", "sum"}:
            raise DeclarationError(
                "Control: its pattern has neither a group records nor a group sum", "(?P<records>[0-9]+)"
            )
        if ("sum" in groups) != bool(self.sum_of):
            raise DeclarationError(
                "Control: the group sum and sum_of belong together", "say which column it is the sum of"
            )

    def companions(self, key: str) -> tuple[str, ...]:
        """The keys of the objects that have to be there before *key* is read; the manifest's first."""
        return tuple(_placed(place, key) for place in (self.manifest, self.marker) if place)

    def totals_of_manifest(self, text: str, key: str) -> Totals:
        """
        What a manifest says of an object.

        Raises:
            ObjectRejected: nothing, or several things.
        """
        name = re.escape(key.rsplit("/", 1)[-1])
        found = list(re.finditer(self.says.replace("{name}", name), text))
        if len(found) != 1:
            what = "several things" if found else "nothing"
            raise ObjectRejected(
                f"has a manifest that says {what} of it", "see says of its Control; it is read again when that changes"
            )
        return _totals(found[0])

    def totals_of_trailers(self, trailers: tuple[str, ...]) -> Totals:
        """
        What the lines behind the records say.

        Raises:
            ObjectRejected: nothing, or several things.
        """
        found = [match for line in trailers if (match := re.fullmatch(self.trailer, line)) is not None]
        if not found:
            raise ObjectRejected(
                "has no trailer: it was cut, or it isn't as declared", "it is read again when it changes"
            )
        if len(found) > 1:
            raise ObjectRejected("has several trailers: files were strung together", "send them one by one")
        return _totals(found[0])


def _placed(place: str, key: str) -> str:
    folder, slash, name = key.rpartition("/")
    stem = folder + slash + (name[:1] + name[1:].split(".", 1)[0])
    if not folder:
        place = place.replace("{folder}/", "")
    return place.replace("{key}", key).replace("{stem}", stem).replace("{folder}", folder)


def _totals(found: re.Match[str]) -> Totals:
    groups = found.groupdict()
    said_records, said_sum = groups.get("records"), groups.get("sum")
    try:
        return Totals(
            None if said_records is None else int(said_records), None if said_sum is None else Decimal(said_sum.strip())
        )
    except (ValueError, InvalidOperation) as error:
        raise ObjectRejected(
            f"has totals that are no numbers: records {said_records!r}, sum {said_sum!r}",
            "see the pattern of its Control",
        ) from error
