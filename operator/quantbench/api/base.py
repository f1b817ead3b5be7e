"""What every model of the API shares: camelCase names, refusal of unknown fields, bounded scalars."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticUndefined

JsonObject = dict[str, Any]


class Model(BaseModel):
    """A frozen piece of the API; unknown fields are refused so that a typing error cannot pass silently."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        # Six significant digits are kept by `number`; infinities and NaN are no JSON.
        allow_inf_nan=False,
    )

    def to_json(self) -> JsonObject:
        """The object as the API server stores it: camelCase names, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def six_digits(value: float) -> float:
    """Round to six significant digits: more would pretend a precision that no benchmark has."""
    return float(f"{value:.6g}")


Number = Annotated[float, Field(ge=0, le=1e15), AfterValidator(six_digits)]
"""A measured figure: a JSON number of six significant digits; none of them can be negative."""
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""A number of things; larger ones would lose digits in JSON readers that know doubles only."""

Ordinal = Annotated[int, Field(ge=1, le=2**53 - 1)]
"""A place in a sequence that begins with 1."""
MAX_SECONDS = 2**31 - 1
"""Longest time that a pod's activeDeadlineSeconds takes [s]."""

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DURATION = r"^([0-9]{1,7}(s|m|h)){1,3}$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"


def whole_or_text(value: Any) -> Any:
    """What ``int | str`` takes, without a YAML file's 2.0 and with a better word about 2.5 than a union has.

    Raises:
        ValueError: neither a whole number nor a string.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, float):
        raise ValueError(f'write it as a string, "{value}"')
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a whole number or a string is expected")
    return value


def text(description: str, *, longest: int, pattern: str | None = None, default: Any = PydanticUndefined) -> Any:
    """A bounded string field.

    Every string of the API has a bound: unbounded ones make CEL rules too expensive for the API server
    and let one object fill etcd.
    """
    return Field(default=default, description=description, max_length=longest, pattern=pattern)


def name_field(description: str, *, longest: int = 40, default: Any = PydanticUndefined) -> Any:
    """A name that may become part of object names and label values: an RFC 1123 label."""
    return text(description, longest=longest, pattern=DNS_LABEL, default=default)


def kubernetes(**extension: Any) -> JsonObject:
    """Schema extensions, e.g. ``list_type="map"`` becomes ``x-kubernetes-list-type: map``."""
    return {f"x-kubernetes-{key.replace('_', '-')}": value for key, value in extension.items()}


def rule(cel: str, message: str, *, field: str | None = None, reason: str | None = None) -> JsonObject:
    """One CEL validation rule; ``field`` is the path below the schema that carries the rule."""
    built = {"rule": cel, "message": message}
    if field:
        built["fieldPath"] = field
    if reason:
        built["reason"] = reason
    return built


def list_map(*keys: str) -> JsonObject:
    """A list whose items the API server tells apart by ``keys``: duplicates are refused, patches merge."""
    return kubernetes(list_type="map", list_map_keys=list(keys))


def seconds(duration: str) -> int:
    """``"1h30m"`` → 5400 [s]; the pattern ``DURATION`` has been checked before.

    Raises:
        ValueError: the text is not a duration.
    """
    units: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600}
    total, digits = 0, ""
    for character in duration:
        if character.isdigit():
            digits += character
        elif character in units and digits:
            total, digits = total + int(digits) * units[character], ""
        else:
            raise ValueError(f"not a duration: {duration!r}")
    if digits or not duration:
        raise ValueError(f"not a duration: {duration!r}")
    return total
