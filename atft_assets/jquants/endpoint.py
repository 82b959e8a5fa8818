"""What a row of the endpoint table is made of: `Field`, `Endpoint`, and the notation of field lists.

Field lists are written `TYPE name name ...; TYPE name ...`. The types are

    S    string                         S?   string or null
    N    number                         N?   number or null
    NS   number, or a marker string such as "-", "*" or ""
    SN?  string, number or null (the specification leaves the type open)
    J    nested object or list

and a `*` after the type marks fields that an answer may lack: added later than the endpoint, or part of a larger plan.
Every other declared field must be there in every record. Fields that are not declared are kept, never dropped.
"""

from dataclasses import dataclass
from datetime import date, datetime

from atft_assets.jquants.availability import Rule
from atft_assets.settings import Plan

# what has no files of history: bulk itself, and what the service has no past of
_WITHOUT_FILES = ("/equities/bars/daily/am", "/equities/earnings-calendar", "/edinet/", "/td/", "/bulk/")


@dataclass(frozen=True)
class Field:
    """A field of a record: its name, its JSON type, and whether an answer may lack it."""

    name: str
    kind: str
    optional: bool = False

    @property
    def numeric(self) -> bool:
        """Whether the field is a plain number (markers and open types are not)."""
        return self.kind in ("N", "N?")

    def accepts(self, python_type: type) -> bool:
        """Whether a JSON value of this Python type may stand in the field; null is judged by the table's contract."""
        return python_type in _PYTHON_TYPES[self.kind]


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "S": (str, type(None)),
    "S?": (str, type(None)),
    "N": (int, float, type(None)),
    "N?": (int, float, type(None)),
    "NS": (int, float, str, type(None)),
    "SN?": (str, int, float, type(None)),
    "J": (dict, list, str, int, float, bool, type(None)),
}


@dataclass(frozen=True)
class Endpoint:
    """One endpoint.

    Attributes:
        path: below the base URL, with a leading slash.
        parameters: query parameters that it takes, besides `pagination_key`.
        fields: fields of a record, in the order of the specification.
        plan: the smallest plan that includes it.
        since: first stored date; None where only the latest data are served or the page does not say.
        bucket: rate limit that it counts against: `plan`, `statements`, `minute` or `tdnet`.
        keys: fields that tell records apart; () where records may repeat (or are none).
        date_field: the field that becomes a table's `date`; None where records have none.
        available: when a record could first be known; None where nothing that a record says gives it: such an endpoint
            can be asked, but not stored as a table.
        addon: the subscription option that it needs besides the plan.
        envelope: `data` for a list of records, `object` where the answer itself is the record.
        bulk_only: served as files through /bulk/get alone; there is no such path.
    """

    path: str
    parameters: tuple[str, ...]
    fields: tuple[Field, ...]
    plan: Plan
    since: date | None = None
    bucket: str = "plan"
    keys: tuple[str, ...] = ()
    date_field: str | None = None
    available: Rule | None = None
    addon: str | None = None
    envelope: str = "data"
    bulk_only: bool = False

    @property
    def in_bulk(self) -> bool:
        """Whether it is served as files as well."""
        return not self.path.startswith(_WITHOUT_FILES)

    @property
    def required(self) -> frozenset[str]:
        """Names of the fields that every record must carry."""
        return frozenset(field.name for field in self.fields if not field.optional)

    @property
    def declared(self) -> dict[str, Field]:
        return {field.name: field for field in self.fields}

    @property
    def rule(self) -> Rule:
        """The availability rule.

        Raises:
            ValueError: none is known.
        """
        if self.available is None or self.date_field is None:
            raise ValueError(
                f"{self.path} has no availability rule: its records do not say when they could first be known, so they "
                "cannot be stored as a table. Give its row (atft_assets/jquants/endpoints.py) a date field and a rule"
            )
        return self.available

    @property
    def dated_by(self) -> str:
        """The date field of an endpoint that has an availability rule; ValueError as for `rule`."""
        assert self.rule and self.date_field
        return self.date_field

    def published_at(self, day: date) -> datetime:
        """The earliest instant (Asia/Tokyo) at which records of a day that is asked for can be had.

        Raises:
            ValueError: the endpoint has no availability rule.
        """
        return self.rule.first(day)

    def column(self, field: str) -> str:
        """The column of a field in a table: the date field is `date`, `Code` is `code`, others keep their names."""
        if field == self.date_field:
            return "date"
        return "code" if field == "Code" else field

    @property
    def key_columns(self) -> list[str]:
        """Columns that tell a table's rows apart."""
        return [self.column(field) for field in self.keys]


def fields(text: str) -> tuple[Field, ...]:
    """Parse a field list in the notation of this module."""
    parsed = []
    for group in text.split(";"):
        kind, *names = group.split()
        parsed += [Field(name, kind.removesuffix("*"), kind.endswith("*")) for name in names]
    return tuple(parsed)
