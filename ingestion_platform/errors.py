"""
Every error of the platform, one tree. An error says what is wrong, carries a hint, and its class says whether trying again can help.

    IngestionError
    ├── DeclarationError      a dataset or SQL file contradicts itself
    ├── SettingsError         a variable of the environment is missing or wrong
    ├── ObjectRejected        one landed object can't be read as declared
    ├── NotErasable           records can't be taken out of one landed object
    ├── LandingError          the landing zone refused or lost something
    │   ├── ObjectMissing     no object under that key
    │   ├── ObjectChanged     it changed while being read          (retry)
    │   ├── ObjectCold        it is being fetched from an archive  (retry)
    │   └── LandingUnavailable  no answer after every attempt      (retry)
    ├── SourceError           a stream, an API or a database refused or lost something
    │   ├── SourceUnavailable no answer after every attempt        (retry)
    │   ├── SourceChanged     what came isn't what was declared
    │   └── StreamGap         records of a stream are gone for ever
    ├── SinkError             an alert couldn't be told
    │   ├── SinkUnavailable   whoever is told can't be reached     (retry)
    │   └── SinkRefused       this one message won't be taken
    └── WarehouseError        the warehouse can't do what was asked
        ├── WarehouseBusy     somebody else held it too long       (retry)
        ├── WarehouseDamaged  a file is cut, flipped or gone
        ├── DayBeforeMissing  a state can't be carried on yet         (retry)
        └── NotMaterialized   the table or day asked for isn't there yet

Only orchestration turns one of these into a Dagster failure.
"""

from typing import ClassVar


class IngestionError(Exception):
    """
    Something the platform can name.

    Args:
        what: the rule that was broken, then what was found.
        hint: what the reader can do about it.
    """

    can_retry: ClassVar[bool] = False

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = what
        self.hint = hint
        super().__init__(f"{what} (hint: {hint})" if hint else what)

    def __reduce__(self) -> tuple[type["IngestionError"], tuple[str, str]]:
        """Pickle by the two arguments, so that worker processes hand errors over whole."""
        return type(self), (self.what, self.hint)


class DeclarationError(IngestionError):
    """A dataset or SQL file contradicts itself, or names something that isn't there."""


class SettingsError(IngestionError):
    """A variable of the environment is missing or can't be read."""


class ObjectRejected(IngestionError):
    """One landed object can't be read as declared; the others are untouched by that."""


class NotErasable(IngestionError):
    """Records can't be taken out of one landed object without touching the others."""


class LandingError(IngestionError):
    """The landing zone refused or lost something."""


class ObjectMissing(LandingError):
    """No object is under that key."""


class ObjectChanged(LandingError):
    """The object changed while it was being read: most likely it is still being written."""

    can_retry = True


class ObjectCold(LandingError):
    """Objects are in an archive, and have to be fetched back before they can be read: that takes minutes to days."""

    can_retry = True


class LandingUnavailable(LandingError):
    """The landing zone gave no usable answer after every attempt."""

    can_retry = True


class SourceError(IngestionError):
    """A source refused something, and will again, or isn't what was declared."""


class SourceUnavailable(SourceError):
    """A source gave no usable answer after every attempt; what landed until then stays, and the next attempt goes on after it."""

    can_retry = True


class SourceChanged(SourceError):
    """A source answered, and not as it is declared: records aren't where they were, pages go round, a list moves faster than it is read."""


class StreamGap(SourceError):
    """Records of a stream are gone before they could land. The range is recorded in the landing zone, and what came after it has landed."""


class SinkError(IngestionError):
    """An alert couldn't be told."""


class SinkUnavailable(SinkError):
    """
    Whoever is told can't be reached, or takes nothing at present.

    Args:
        what: as of any error.
        hint: likewise.
        again_seconds: after which it wants to be asked again; None: it doesn't say.
        may_be_taken: perhaps the message was taken, and the answer was lost.
    """

    can_retry = True

    def __init__(
        self, what: str, hint: str = "", *, again_seconds: float | None = None, may_be_taken: bool = False
    ) -> None:
        super().__init__(what, hint)
        self.again_seconds = again_seconds
        self.may_be_taken = may_be_taken


class SinkRefused(SinkError):
    """A sink won't take this message, however often it is sent; others it may."""


class WarehouseError(IngestionError):
    """The warehouse can't do what was asked."""


class WarehouseBusy(WarehouseError):
    """Somebody else held the ledger for longer than we were willing to wait."""

    can_retry = True


class WarehouseDamaged(WarehouseError):
    """A file of the warehouse is cut, changed or gone. Everything can be rebuilt from the landing zone."""


class DayBeforeMissing(WarehouseError):
    """A day is made of the state at the end of the day before, which was never computed: by another run soon, or by nobody."""

    can_retry = True


class NotMaterialized(WarehouseError):
    """The table, or the day of it that was asked for, isn't there yet."""
