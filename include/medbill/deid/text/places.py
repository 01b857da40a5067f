"""Places smaller than a state, facilities and employers (45 CFR 164.514(b)(2)(i)(B) and, for employers, its head)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import regex

from medbill.deid.text.lexicon import (
    CITY,
    DRUG,
    EPONYM,
    FIRST,
    LAST,
    MEDICAL,
    MONTH,
    ODD,
    PAYER,
    STATE,
    STATE_CODES,
    STATE_NAMES,
    STOP,
    WORD,
    city_openers,
    flags,
    is_city,
    word_set,
)
from medbill.deid.text.note import Note
from medbill.deid.text.people import _is_eponym
from medbill.deid.text.scan import TIME_LIMIT, at, finditer, led, near
from medbill.deid.text.span import Span, spot
from medbill.deid.text.words import TITLES, Word

_SUFFIXES = (
    "Alley|Aly|Burgs|Islands|Knolls|Shoals|Mountains|Avenue|Ave|Av|Bend|Bluff|Boulevard|Blvd|Branch|Bridge|Brook|Brooks|Burg|Bypass|Byp|Camp|Canyon|Cape|Causeway|Center|Centers|"
    "Circle|Circles|Cir|Cliff|Cliffs|Club|Common|Commons|Corner|Corners|Course|Court|Courts|Ct|Cove|Coves|Creek|Crescent|Cres|Crest|"
    "Crossing|Xing|Crossroad|Curve|Dale|Dam|Divide|Drive|Drives|Dr|Estate|Estates|Expressway|Expy|Extension|Extensions|Fall|Falls|Ferry|"
    "Field|Fields|Flat|Flats|Ford|Fords|Forest|Forge|Forges|Fork|Forks|Fort|Freeway|Fwy|Garden|Gardens|Gateway|Glen|Glens|Green|Greens|"
    "Grove|Groves|Harbor|Harbors|Haven|Heights|Hts|Highway|Hwy|Hill|Hills|Hollow|Inlet|Island|Islands|Isle|Junction|Junctions|Key|Keys|"
    "Knoll|Knolls|Lake|Lakes|Land|Landing|Lane|Ln|Light|Lights|Loaf|Lock|Locks|Lodge|Loop|Mall|Manor|Manors|Meadow|Meadows|Mews|Mill|Mills|"
    "Mission|Motorway|Mount|Mountain|Mountains|Neck|Orchard|Oval|Overpass|Park|Parks|Parkway|Parkways|Pkwy|Pass|Passage|Path|Pike|Pine|"
    "Pines|Place|Pl|Plain|Plains|Plaza|Plz|Point|Points|Port|Ports|Prairie|Radial|Ramp|Ranch|Rapid|Rapids|Rest|Ridge|Ridges|River|Road|"
    "Roads|Rd|Route|Rte|Row|Rue|Run|Shoal|Shoals|Shore|Shores|Skyway|Spring|Springs|Spur|Spurs|Square|Squares|Sq|Station|Stravenue|"
    "Stream|Street|Streets|St|Summit|Terrace|Ter|Throughway|Trace|Track|Trafficway|Trail|Trl|Tunnel|Turnpike|Tpke|Underpass|Union|"
    "Unions|Valley|Valleys|Via|Viaduct|View|Views|Village|Villages|Ville|Vista|Walk|Walks|Wall|Way|Ways|Well|Wells"
)
_PLAIN_SUFFIX = (
    "Street|St|Avenue|Ave|Boulevard|Blvd|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Highway|Hwy|Parkway|Pkwy|Terrace|Turnpike"
)
_UNIT = r"(?:,?\s*(?i:Apt|Apartment|Suite|Ste|Unit|Room|Rm|Bldg|Building|Floor|Fl|Lot|No|\#)\.?\s*\#?\s?(?:[A-Z0-9-]|l){1,6}\b)?"
_STREET = regex.compile(
    rf"(?<![\w$./-])(?=[lIO]{{0,2}}\d)[\dlIOS]{{1,6}}[A-Z]?(?:-\d+)?(?:\s+1/2)?\s+(?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.?\s+)?"
    rf"(?:(?:[A-Z0-9][\w'.-]*|St\.)\s+){{1,4}}?(?:{_SUFFIXES}|{_SUFFIXES.upper()})\b\.?(?:\s+(?:N|S|E|W|NE|NW|SE|SW)\b\.?)?{_UNIT}"
)
_STREET_ANY = regex.compile(
    rf"(?<![\w$./-])\d{{1,6}}\s+(?:(?:n|s|e|w|north|south|east|west)\.?\s+)?(?:[a-z0-9][\w'.-]*\s+){{1,3}}?(?:{_PLAIN_SUFFIX})\b\.?{_UNIT}",
    regex.I,
)
_STREET_BARE = regex.compile(
    r"(?<![\w])(?:(?:[A-Z][a-z][\w'-]*\s+){1,3}|\d{1,3}(?:st|nd|rd|th)\s+)(?:Street|Avenue|Boulevard|Blvd|Ave|Lane|Parkway|Turnpike|Road)\b"
)
_CUED_STREET = regex.compile(
    r"\b(?:address|addr|lives?\s+at|living\s+at|resides?\s+at|residing\s+at|residence|located\s+at|mail(?:ed|ing)?\s+to|home|street)(?:\s+(?:is|of\s+record))?\s*[:=]?\s*"
    r"(\d{1,6}\s+[\w'. -]{3,40}?)(?=\s*[,;\n.(]|\s+(?:and|in|with|seen|on|since)\b|$)",
    regex.I,
)
_BOX = regex.compile(
    r"\b(?:P\.?\s?O\.?\s*Box|Post\s+Office\s+Box|PO\s?BOX|RR\s?\#?\s?\d+,?\s+Box|HC\s?\d+\s+Box|PSC\s?\d+,?\s+Box|Unit\s+\d+\s+Box)\s*\#?\s*\d{1,6}\b",
    regex.I,
)
_MILITARY = regex.compile(
    r"\b(?:USNS|USS|USNV|USCGC)\s+[A-Z]\w+|\b(?:FPO|APO|DPO)\s*,?\s*(?:AA|AE|AP)\b(?:\s+\d{5}(?:-\d{4})?)?"
)
_ZIP = regex.compile(
    r"\bzip(?:\s*codes?)?\s*(?:\+\s?4)?(?:[\s:=#]|\b(?:is|of|code)\b){1,5}(\d{5}(?:-\d{4})?|\d{3}(?:xx|\*\*)?)(?![\w-])",
    regex.I,
)
_ZIP_NUMBER = re.compile(r"(?<![\w.-])\d{5}(?:\s?-\s?[\dlO]{4})?(?![\w-])")
_NINE = re.compile(r"\d{5}-\d{4}")
_STATE_BEFORE = re.compile(rf"\b(?:{STATE_CODES}|{STATE_NAMES})\.?,?\s+$", re.I)
_CITY_STATE = regex.compile(
    rf"(?<![\w])((?:(?:[A-Z][a-zA-Z'-]*|St\.|Ft\.|Mt\.)\s+){{0,3}}[A-Z][a-zA-Z'-]*[a-zA-Z])\s?,\s{{0,2}}"
    rf"((?:{STATE_CODES})\b\.?|(?:{STATE_NAMES})\b)(?!-?\d)"
)
_CITY_STATE_LOWER = regex.compile(
    rf"\b(?:in|from|of|at|near)\s+([a-z][a-z'-]+(?:\s[a-z][a-z'-]+){{0,2}})\s?,\s?(?:{STATE_CODES.lower()})\b"
)
_LOWER_CITY = re.compile(r"\b(?:in|from|near|outside) ([a-z]{4,}(?: [a-z]{3,})?)\b")
_COUNTY = regex.compile(
    r"(?<![\w])(?:[A-Z][\w'-]*\.?\s+){1,3}(?:County|Parish|Borough|Township|Twp|COUNTY|PARISH|TOWNSHIP)\b(?!\s+(?:Medical|Hospital|General|Health|Clinic))|\b(?:County|Parish|Borough|Township|Town|City|Village)\s+of\s+[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*){0,2}"
)
_HEAD = (
    r"(?:Hospitals?|Hosp|Clinics?|Infirmary|Sanatorium|Sanitarium|Hospice|Polyclinic|Medical\s+(?:Cent(?:er|re)|Ctr|Group|Associates|Plaza|Arts|Campus|Clinic|Practice|Office|College|School|Pavilion|Partners)|"
    r"Med\.?\s+(?:Cent(?:er|re)|Ctr|Group|School)\.?|Health\s*care(?:\s+(?:System|Center|Partners|Network|Services))?|Health\s+(?:System|Center|Ctr|Network|Partners|Services|Clinic|Care|Sciences?|Group|Alliance|Department|District)s?|Health|"
    r"Surgery\s+Center|Surgical\s+(?:Center|Associates|Group|Hospital)|Surgicenter|Urgent\s+Care|Walk-?in\s+Clinic|Imaging(?:\s+Center)?|Radiology(?:\s+(?:Associates|Group))?|Diagnostics?|Laborator(?:y|ies)|Labs?|"
    r"Pharmacy|Drugs?|Rehab(?:ilitation)?(?:\s+(?:Center|Hospital|Institute))?|Nursing\s+(?:Home|Center|Facility)|Care\s+Center|Senior\s+(?:Center|Living|Care)|Assisted\s+Living|Retirement\s+(?:Home|Community|Village)|"
    r"Living\s+Center|Convalescent|Cancer\s+(?:Center|Institute)|Heart\s+(?:Institute|Center|Hospital)|Eye\s+(?:Institute|Center|Clinic|Associates)|Dental(?:\s+(?:Group|Care|Associates|Clinic|Office))?|Dentistry|"
    r"Orthop(?:a)?edics?(?:\s+(?:Associates|Group|Institute|Center))?|Pediatrics?(?:\s+(?:Associates|Group|Clinic|Center))?|Cardiology(?:\s+(?:Associates|Group|Clinic|Center))?|Oncology(?:\s+(?:Associates|Group|Center))?|"
    r"Dermatology(?:\s+(?:Associates|Group|Center))?|Neurology(?:\s+(?:Associates|Group|Center|Clinic))?|Family\s+(?:Medicine|Practice|Health|Care|Physicians)|Internal\s+Medicine|Primary\s+Care|Women's\s+(?:Health|Hospital|Care|Center)|"
    r"Physicians?(?:\s+Group)?|Associates|Institute|Foundation|Cent(?:er|re)|Ctr|University|Univ|College|School|Academy|Elementary|Church|Medicine|Med|General|Memorial|Presbyterian|Methodist|Baptist|"
    r"Children's|VA|VAMC|Veterans\s+(?:Affairs|Administration|Hospital)|Regional|Community\s+(?:Hospital|Health|Clinic)|Wellness(?:\s+Center)?|Therapy|Physical\s+Therapy|Home\s+Health|Home\s+Care|Dialysis|Endoscopy(?:\s+Center)?|Obstetrics|OB/?GYN|ENT|Psychiatry|Behavioral\s+Health)"
)
_HEAD_RE = regex.compile(rf"(?<![\w])({_HEAD})(?!\w)(?:\.(?=\s+[a-z,(]))?", regex.I)
_TAIL = regex.compile(
    r"(?:\s+(?:of|at|in|for)\s+(?:the\s+)?(?:[A-Z][\w'.-]*)(?:\s+(?!(?:On|At|In|For|With)\b)[A-Z][\w'-]*){0,2}|\s*[,-]\s*[A-Z][a-z]+(?:\s+[A-Z][a-z]+)?\s+(?:Campus|Branch|Location)|(?:\s+[A-Z][a-z][\w'-]*){1,2})"
)
_LOWER_FACILITY = regex.compile(
    r"\b(?:at|from|to|in|by|@)\s+(?:the\s+)?((?:[a-z][\w'.-]*\s+){1,3}?(?:hospital|medical\s+cent(?:er|re)|med\s+ct(?:e)?r|clinic|health\s+center|infirmary))\b"
)
_GENERIC = word_set("""
emergency department intensive care unit critical outpatient inpatient urgent ambulatory acute local community
teaching university nearby regional rural urban tertiary private public pain memory heart stroke wound sleep
travel diabetes cancer dental eye medical surgical primary general family specialty specialist same another
other different outside this that our their his her my your a an the hospital clinic center health care home
nursing skilled facility rehabilitation rehab walk-in free mental behavioral county state city physical
occupational speech therapy women's children's veterans va pediatric orthopedic cardiology neurology oncology
dermatology network of and for in at on surgery imaging lab laboratory pharmacy mail order retail service
services program plan insurance public national world american international affordable human department
ministry protected electronic system school medicine internal cancer institute association society college
academy foundation heart lung kidney liver disease control centers prevention study risk score trial trials new
current recent updated which what any each every
""")
#: Function words of the lexicon that are also parts of names of places.
_PLACE_WORDS = word_set("""
new old north south west east general county city community medical health home state st first african emergency
street avenue road hospital clinic center care location facility service services
""")
_KNOWN = (
    r"UCLA|UCSF|UCSD|UCI|USC|NYU(?:\s+Langone)?|UPMC|MGH|BWH|MSKCC|CHOP|OHSU|VUMC|UPenn|UNC|UVA|UIC|UMass|UT\s?Southwestern|Mass\s+Gen|UTSW|UTMB|UAB|UW|BIDMC|CHLA|JHU|JHH|HUP|"
    r"Cedars?[- ]Sinai|Johns?\s+Hopkins|Mount\s+Sinai|Mt\.?\s+Sinai|MD\s+Anderson|Mass(?:achusetts)?\.?\s+General|Beth\s+Israel(?:\s+Deaconess)?|Brigham(?:\s+(?:and|&)\s+Women'?s)?|"
    r"Kaiser(?:\s+Permanente)?|Cleveland\s+Clinic|Clevland\s+Clinic|Mayo(?:\s+Clinic)?|Sloan[- ]Kettering|Memorial\s+Sloan(?:\s+Kettering)?|Dana[- ]Farber|City\s+of\s+Hope|"
    r"Fred\s+Hutch(?:inson)?|New\s?York[- ]Presbyterian|NY[- ]Presbyterian|NewYork[- ]Presbyterian|Weill\s+Cornell|Montefiore|Lenox\s+Hill|Northwell|"
    r"Geisinger|Intermountain|Ochsner|Sutter|Scripps|Vanderbilt|Emory|Northwestern|Baylor(?:\s+Scott\s+(?:and|&)\s+White)?|Stanford|Barnes[- ]Jewish|Yale(?:[- ]New\s+Haven)?|"
    r"Tufts|Rush|Loyola|Henry\s+Ford|Beaumont|Spectrum\s+Health|Ascension|Dignity|Providence|Banner|HonorHealth|Piedmont|Novant|Atrium|Sentara|Inova|MedStar|"
    r"Jefferson|Temple|Hahnemann|Einstein|Maimonides|Bellevue|Harborview|Swedish|Virginia\s+Mason|Parkland|Ben\s+Taub|Grady|Jackson\s+Memorial|Cook\s+County|Walter\s+Reed|"
    r"St\.?\s+Jude(?:'s)?|Shriners|Nationwide\s+Children's|Texas\s+Children's|Boston\s+Children's|Cincinnati\s+Children's|Lurie|Rady|Nemours|Duke|Wake\s+Forest|Moffitt|"
    r"Mercy|Trinity\s+Health|Advocate|Aurora|Froedtert|Gundersen|Marshfield|Essentia|Sanford|Avera|Hackensack|Cooper|Virtua|ChristianaCare|Lahey|Baystate|Dartmouth[- ]Hitchcock|"
    r"Walgreens|CVS|Rite\s+Aid|Quest|LabCorp|DaVita|Fresenius|Concentra|MinuteClinic|HCA|Tenet|Encompass|Walmart|Costco|Kroger|Publix|Safeway|Brookdale|"
    r"Planned\s+Parenthood|Minute\s?Clinic|Select\s+Medical"
)
_KNOWN_RE = regex.compile(
    rf"(?<![\w-])(?:{_KNOWN})(?![\w])(?:'s)?(?:\s+(?:Med(?:ical)?|Health|Hospital|Clinic|Cent(?:er|re)|Ctr|Care|University|General|Langone|clinic|hospital|campus)\b\.?){{0,3}}"
)
_KNOWN_SHOUTED = regex.compile(_KNOWN_RE.pattern, regex.I)
_AMBIGUOUS = word_set("""
rush uw mercy jefferson temple cooper advocate banner providence grady duke rady aurora ascension quest swedish
sanford usc uva uci tenet mayo einstein beaumont spectrum trinity dignity piedmont stanford emory baylor
northwestern sutter yale tufts loyola
""")
_NOT_FACILITY = regex.compile(
    r"[\s-]+(?:score|criteria|classification|guidelines?|risk|scale|protocol|study|trial|model|study|equation|formula|stage|system\s+of|act|advantage)",
    regex.I,
)
_SPOT = frozenset(["at", "@"])
_MOVES = word_set("""
admitted presented presents presenting transferred referred transported discharged sent taken brought airlifted
flown went came drove moved relocated returned traveled travelled visit trip admit transfer direct
""")
_STAYS = word_set("""
live lives living lived resides residing resided reside born raised works working worked treated seen diagnosed
hospitalized hospitalised evaluated cared based located native resident clinic office hospital appointment
surgery checkup follow-up patient notes note records record report results letter referral consult is currently
""")
_VISITS = frozenset(["visited", "visits", "visiting", "attends", "attended", "attending"])
_TOWARDS = frozenset(["to", "from", "into", "in"])
_NEAR = word_set("in from of near outside around by")
_ARTICLES = frozenset(["the", "our", "their", "downtown"])
_CITY_PREPOSITIONS = word_set("in from near outside around of to our the downtown at")
_CITY_OFFICE = regex.compile(
    r"(?<![\w])((?:[A-Z][\w'.-]*\s+){1,3})(?:(?:downtown|main|north|south|east|west|central|satellite|outpatient|medical|pediatric|urgent\s+care|primary\s+care)\s+)?(?:clinic|office|hospital|campus|branch|location|practice|facility|site|center|urgent\s+care|ER|ED|VA|metro\s+area|area|suburbs?)\b"
)
_WORKS = regex.compile(
    r"\b(?:employed\s+(?:at|by|with)|works?\s+(?:at|for|with)|working\s+(?:at|for)|worked\s+(?:at|for)|employer(?:\s+(?:is|was|name))?\s*[:=]?|job\s+(?:at|with)|occupation\s+at|retired\s+from|laid\s+off\s+(?:from|by)|employee\s+(?:of|at)|sponsored\s+by|coverage\s+through)\s+(?:the\s+)?(?=[A-Z0-9])",
    regex.I,
)
_COMPANY = regex.compile(
    r"(?<![\w])((?:[A-Z][\w'&.-]*,?\s+(?:(?:and|&)\s+)?){0,4}[A-Z][\w'&-]*(?:-[A-Z]\w+)*),?\s+(Inc|LLC|L\.L\.C|Ltd|Corp|Corporation|Company|Co|PLC|LLP|PLLC|P\.?C|P\.?A|Group|and\s+Sons|&\s+Sons|Industries|Enterprises|Holdings|Partners|Logistics|Manufacturing|Construction|Trucking|Bank|Airlines)\b\.?"
)
_ORG_BODY = regex.compile(r"[A-Z0-9][\w'&.-]*(?:,?\s+(?:(?:and|&|of|the)\s+)?[A-Z][\w'&.-]*){0,5}")


_OFFICE_AT = re.compile(
    r"\b(?:clinic|office|hospital|campus|branch|location|practice|facility|site|center|urgent\s+care|ER|ED|VA|area|suburbs?)\b"
)
_WORKS_AT = led(
    "employ", r"works?\b", "work(?:ing|ed)", "job", "occupation", "retired", "laid", "sponsored", "coverage"
)
_COMPANY_AT = re.compile(
    r"\b(?:Inc|LLC|L\.L\.C|Ltd|Corp|Corporation|Company|Co|PLC|LLP|PLLC|P\.?C|P\.?A|Group|Sons|Industries|Enterprises|Holdings|"
    r"Partners|Logistics|Manufacturing|Construction|Trucking|Bank|Airlines)\b"
)
_CUE_AT = led("addr", "liv(?:e|ing)", "resid", "located", "mail", "home", "street")
#: A house number and the word after it.
_STREET_LEAD = re.compile(r"[\dlIO](?<![\w$./-].)(?<=(?=[lIO]{0,2}\d).)[\dlIOS]{0,5}[A-Z]?(?:-\d+)?\s+[A-Z0-9]")
_STREET_ANY_LEAD = re.compile(r"\d(?<![\w$./-].)\d{0,5}\s+[A-Za-z0-9]")
_SUFFIX_WORDS = frozenset(_SUFFIXES.lower().split("|"))
_PLAIN_SUFFIX_WORDS = frozenset(_PLAIN_SUFFIX.lower().split("|"))
_BARE_SUFFIX_FORMS = word_set("Street Avenue Boulevard Blvd Ave Lane Parkway Turnpike Road")
_ADDRESS_CUES = word_set("""
address addr live lives living reside resides residing residence located mail mailed mailing home street
""")
_STATE_FORMS = frozenset(STATE_CODES.split("|")) | frozenset(w for name in STATE_NAMES.split("|") for w in name.split())
_LOWER_STATE = re.compile(r",\s?[a-z]{2}\b")
_COUNTY_WORDS = word_set("county parish borough township twp town city village")
_OFFICE_WORDS = word_set("""
clinic office hospital campus branch location practice facility site center urgent er ed va area suburb suburbs
""")
_WORK_WORDS = word_set("""
employed work works working worked employer job occupation retired laid employee sponsored coverage
""")
_COMPANY_FORMS = word_set("""
Inc LLC L Ltd Corp Corporation Company Co PLC LLP PLLC PC P PA Group Sons Industries Enterprises Holdings
Partners Logistics Manufacturing Construction Trucking Bank Airlines
""")
_HEAD_WORDS = frozenset(w.lower() for w in re.findall(r"[A-Za-z]{2,}", _HEAD)) | word_set("""
hospitals hospital hosp clinics clinic center centre centers ctr labs lab laboratory laboratories drugs drug
orthopedics orthopaedics pediatrics physicians physician services rehab rehabilitation obgyn ob
""")
_KNOWN_WORDS = frozenset(w.lower() for w in re.findall(r"[A-Za-z]{2,}", _KNOWN)) | word_set(
    "cedar cedars john johns massachusetts newyork new mt st fred hutchinson"
)


def find(note: Note) -> list[Span]:
    text, runs = note.text, note.runs
    found: list[Span] = []
    add = found.append
    if note.tokens:
        _addresses(note, found)
    if note.has({"usns", "uss", "usnv", "uscgc", "fpo", "apo", "dpo"}):
        for match in finditer(_MILITARY, text):
            add(spot(match, 0, "ADDRESS", 0.85, "military_address"))
    if not note.forms.isdisjoint(_BARE_SUFFIX_FORMS):
        for match in finditer(_STREET_BARE, text):
            start = _skip(text, match.start(), match.end())
            if start is not None and len(text[start : match.end()].split()) > 1:
                add(Span(start, match.end(), "ADDRESS", 0.6, "street_name"))
    if "," in text and not note.forms.isdisjoint(_STATE_FORMS):
        _city_states(text, found)
    if "," in text and _LOWER_STATE.search(text):
        for match in finditer(_CITY_STATE_LOWER, text):
            if is_city(match[1]):
                add(Span(match.start(1), match.end(), "CITY", 0.7, "city_state"))
    for match in _LOWER_CITY.finditer(text):
        name = match[1] if is_city(match[1]) else match[1].split()[0]
        f = flags(name)
        if is_city(name) and not f & (WORD | STOP | MEDICAL | DRUG | EPONYM | STATE):
            add(Span(match.start(1), match.start(1) + len(name), "CITY", 0.6, "city_lower_case"))
    if note.has(_COUNTY_WORDS):
        for match in finditer(_COUNTY, text):
            start = _skip(text, match.start(), match.end())
            if start is not None and len(text[start : match.end()].split()) > 1:
                add(Span(start, match.end(), "COUNTY", 0.8, "county"))
    if note.has(_HEAD_WORDS):
        _facilities(note, found)
    if note.has(_KNOWN_WORDS):
        for match in _at_words(_KNOWN_RE, note, _KNOWN_WORDS, _KNOWN_SHOUTED):
            if _NOT_FACILITY.match(text, match.end()):
                continue
            if match[0].lower() in _AMBIGUOUS and not _PLACED.search(text[max(0, match.start() - 8) : match.start()]):
                continue
            add(Span(match.start(), _further(runs, match.end()), "FACILITY", 0.8, "known_facility"))
    for run, lead in zip(runs, note.leads, strict=True):
        _in_context(text, run, lead, found)
        _cities(text, run, found)
    if note.has(_OFFICE_WORDS):
        for match in near(_CITY_OFFICE, _OFFICE_AT, text, 70, 2):
            end = match.start(1) + len(match[1].rstrip())
            start = _skip(text, match.start(1), end)
            if start is None:
                continue
            name = text[start:end]
            if is_city(name) or name in _SHORT_CITIES or not flags(name.split()[0]) & (WORD | MEDICAL | DRUG | STOP):
                add(Span(start, match.end(), "FACILITY", 0.7, "city_office"))
    if note.has(_WORK_WORDS):
        for match in near(_WORKS, _WORKS_AT, text, 0, 30):
            body = _ORG_BODY.match(text, match.end())
            if body and (not flags(body[0].split()[0].strip(",.")) & STOP or _FIRM.search(body[0])):
                end = body.end() - (1 if body[0].endswith(".") and not body[0].endswith("Inc.") else 0)
                add(Span(body.start(), end, "EMPLOYER", 0.7, "employer"))
    if not note.forms.isdisjoint(_COMPANY_FORMS):
        for match in near(_COMPANY, _COMPANY_AT, text, 110, 2):
            start = _skip(text, match.start(1), match.end(1))
            if start is None or any(flags(w.strip(",.&")) & PAYER for w in text[start : match.end(1)].split()):
                continue
            vague = match[2] in ("Co", "PA", "PC", "Group", "Bank", "Company", "Partners", "Construction")
            if vague and not _place_words(text[start : match.end(1)]):
                continue
            add(Span(start, match.end(), "EMPLOYER", 0.7, "company"))
    for span in [s for s in found if s.type == "ADDRESS"]:
        match = _AFTER_ADDRESS.match(text, span.end)
        if match:
            words = match[1].split()
            for size in range(len(words), 0, -1):
                name = " ".join(words[:size])
                if is_city(name):
                    add(
                        Span(
                            match.start(1),
                            match.start(1) + len(match[1]) if size == len(words) else match.start(1) + len(name),
                            "CITY",
                            0.7,
                            "city_after_street",
                        )
                    )
                    break
    return _joined(text, found)


_AFTER_ADDRESS = re.compile(r"\s{0,2},\s{0,2}([A-Z][\w'.]*(?:[ \n][A-Z][\w']*){0,2})")
_FIRM = re.compile(r"\b(?:Inc|LLC|Ltd|Corp|PLC|LLP|Company|and Sons)\b")
_PLACED = re.compile(r"(?:\bat|\bto|\bfrom|\bin|@|\bour|\bthe|\bof|\bby|\()\s*$", re.I)


def _addresses(note: Note, found: list[Span]) -> None:
    text = note.text
    if note.has(_SUFFIX_WORDS):
        streets = at(_STREET, _STREET_LEAD, text)
        if note.has(_PLAIN_SUFFIX_WORDS):
            streets += at(_STREET_ANY, _STREET_ANY_LEAD, text)
        for match in streets:
            if not _dose(match[0]):
                found.append(spot(match, 0, "ADDRESS", 0.85, "street"))
    if note.has(_ADDRESS_CUES):
        for match in near(_CUED_STREET, _CUE_AT, text, 0, 90):
            found.append(spot(match, 1, "ADDRESS", 0.8, "street_labelled"))
    if note.has({"box", "pobox"}):
        for match in finditer(_BOX, text):
            found.append(spot(match, 0, "ADDRESS", 0.9, "po_box"))
    for match in _ZIP_NUMBER.finditer(text):
        after_state = _STATE_BEFORE.search(text, max(0, match.start() - 24), match.start())
        if after_state or (_NINE.fullmatch(match[0]) and not note.protected(*match.span())):
            found.append(spot(match, 0, "ZIP", 0.9, "zip"))
    if note.has({"zip", "zipcode", "zips"}):
        for match in finditer(_ZIP, text):
            found.append(spot(match, 1, "ZIP", 0.9, "zip"))


_COMMA_STATE = re.compile(rf",\s{{0,2}}(?:(?:{STATE_CODES})\b|(?:{STATE_NAMES})\b)")
_ZIP_NEXT = re.compile(r"[\s,]{1,3}\d{5}\b")


def _city_states(text: str, found: list[Span]) -> None:
    for match in near(_CITY_STATE, _COMMA_STATE, text, 45, 16):
        start = _skip(text, match.start(1), match.end(1))
        if start is None:
            continue
        name = text[start : match.end(1)]
        if match[2] in ("OR", "IN", "ME", "PA", "MD", "CO", "HI", "OK") and not _place_words(name):
            continue
        if flags(match[1].split()[-1]) & (MEDICAL | DRUG):
            continue
        if match[2] in ("MD", "PA", "DO") and not is_city(name) and not _ZIP_NEXT.match(text, match.end()):
            continue
        found.append(Span(start, match.end(), "CITY", 0.85, "city_state"))


def _in_context(text: str, run: list[Word], lead: list[str], found: list[Span]) -> None:
    """Places a preposition points at: the words before the run, or inside it where everything has capitals."""
    at = run[0].start
    words = [w.strip("(\"'") for w in lead] if at and (text[at - 1].isspace() or text[at - 1] in "@(") else []
    for k in range(len(run)):
        if words:
            _place_at(text, words, run, k, found)
        if not (run[k].flags & STOP or (run[k].upper and run[k].flags & WORD)):
            break
        words = [*words[-4:], run[k].text.lower()]


def _place_at(text: str, words: list[str], run: list[Word], k: int, found: list[Span]) -> None:
    last = words[-1]
    article = last in _ARTICLES and len(words) > 1
    near = words[-2] if article else last
    further = words[:-2] if article else words[:-1]
    if near.endswith((".", ";", ",", ":", "?", "!")) and near != "@":
        return
    if (
        near in _SPOT
        or near.endswith("@")
        or near in _VISITS
        or (near in _TOWARDS and not _MOVES.isdisjoint(further[-2:]))
        or (near in _NEAR and not _STAYS.isdisjoint(further[-2:]))
    ):
        _named_place(text, run, k, found, near in _SPOT or near.endswith("@"), near in _TOWARDS and near != "in")
    if near in _CITY_PREPOSITIONS or last in _CITY_PREPOSITIONS:
        _city_after(text, run, k, found)


_FUNCTION_WORDS = word_set("by on at in for with to from and or is was per under via until since after before")


def _dose(value: str) -> bool:
    words = value.split()
    if any(w.lower() in _FUNCTION_WORDS for w in words[1:-1]):
        return True
    return (
        any(flags(w) & DRUG and not flags(w) & (FIRST | LAST | CITY) for w in words[1:-1])
        or re.match(
            r"\d+\s+(?:mg|mcg|ml|year|yo|y|day|week|month|units?|x|of|to|on|in|in|and|or|for|hours?|times|is|was)\b",
            value,
            regex.I,
        )
        is not None
    )


_CHUNK = re.compile(r"\S+")


def _skip(text: str, start: int, end: int) -> int | None:
    """Start of a name without the sentence's own words before it ("Called Mercy ..."), or None if nothing is left."""
    for match in _CHUNK.finditer(text, start, end):
        word = match[0].strip(",.")
        f = flags(word)
        if (
            f & (STOP | MONTH | PAYER | MEDICAL | DRUG)
            and not f & CITY
            and word.lower() not in ("new", "old", "county", "city", "general", "home", "medical", "health", "african")
        ):
            continue
        if (
            word.lower() in ("new", "old")
            and not is_city(text[match.start() : end].split(",")[0])
            and not re.match(r"(?:New|Old|NEW)\s+[A-Z]", text[match.start() :])
        ):
            continue
        return match.start()
    return None


def _place_words(value: str) -> bool:
    """Whether any word is no plain English, clinical or function word."""
    return any(not flags(w.strip(".,")) & (WORD | MEDICAL | DRUG | STOP) for w in value.split()) or is_city(value)


def _further(runs: list[list[Word]], end: int) -> int:
    """End of a known facility's name with what follows it in its run: "UNC Rex", "Kaiser Oakland"."""
    for run in runs:
        if run[-1].end <= end or run[0].start >= end:
            continue
        for word in run:
            if word.start < end:
                continue
            if word.upper or word.start - end > 2 or word.flags & (STOP | DRUG | MEDICAL | MONTH | PAYER | FIRST):
                break
            if word.flags & WORD and not word.flags & (LAST | CITY):
                break
            end = word.end
    return end


def _at_words(
    pattern: regex.Pattern[str],
    note: Note,
    first: frozenset[str],
    shouted: regex.Pattern[str] | None = None,
) -> Iterator[regex.Match[str]]:
    """Matches that begin at a capitalised word; first: words, in lower case, one of which begins it."""
    end = 0
    for word, low, opening in note.names:
        if (low in first or opening in first) and word.start >= end:
            match = (shouted if word.upper and shouted else pattern).match(note.text, word.start, timeout=TIME_LIMIT)
            if match is not None:
                end = match.end()
                yield match


_NAMESAKE = re.compile(r" ([A-Z][a-z]+)\b")


def _facilities(note: Note, found: list[Span]) -> None:
    text = note.text
    for match in _at_words(_HEAD_RE, note, _HEAD_WORDS):
        if not match[0][0].isupper():
            continue
        start = _walk_left(text, match.start(), match[0].isupper())
        end = match.end()
        if start is None or start == match.start():
            if not re.match(
                r"(?:Children's|Memorial|Methodist|Presbyterian|Baptist|VA|VAMC|Veterans)\b", match[0]
            ) or match[0] in ("VA", "General", "Memorial"):
                tail = re.match(
                    r"\s+(?:of|at)\s+(?:the\s+)?[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*)?",
                    text[match.end() : match.end() + 60],
                )
                if tail is None or not re.match(
                    r"(?:Hospital|Clinic|University|Institute|Infirmary|Medical)", match[0]
                ):
                    named = _NAMESAKE.match(text, match.end())
                    if named and match[0] == "Memorial" and flags(named[1]) & LAST and not flags(named[1]) & WORD:
                        found.append(Span(match.start(), named.end(1), "FACILITY", 0.7, "facility"))
                    continue
                found.append(Span(match.start(), match.end() + tail.end(), "FACILITY", 0.75, "facility"))
                continue
            start = match.start()
        words = [w.strip(".,").lower() for w in text[start:end].split()]
        if all(w in _GENERIC for w in words) and words not in (
            ["general", "hospital"],
            ["community", "hospital"],
            ["university", "hospital"],
            ["city", "hospital"],
            ["county", "general"],
            ["county", "hospital"],
            ["general", "clinic"],
            ["va", "hospital"],
            ["va", "clinic"],
        ):
            continue
        if all(flags(w) & (PAYER | STOP | MEDICAL) or w in _GENERIC for w in words) and words[0] not in (
            "general",
            "community",
            "university",
            "city",
            "county",
            "va",
        ):
            continue
        if _NOT_FACILITY.match(text, end):
            continue
        found.append(Span(start, end, "FACILITY", 0.85, "facility"))
        beyond = _TAIL.match(text, end, timeout=TIME_LIMIT)
        if beyond:
            rest = re.sub(r"^(?:of|at|in|for)\s+(?:the\s+)?", "", beyond[0].strip(" ,-\n"))
            first = rest.split()[0]
            f = flags(first)
            if (
                (beyond[0].strip().startswith("of ") and not f & (STOP | MEDICAL))
                or is_city(rest)
                or is_city(first)
                or (f & CITY)
                or f & STATE
                or _HEAD_RE.match(rest)
            ):
                stop = (
                    beyond.end()
                    if is_city(rest) or beyond[0].strip().startswith("of ")
                    else end + beyond[0].index(first) + len(first)
                )
                found.append(Span(start, stop, "FACILITY", 0.85, "facility"))
    for match in finditer(_LOWER_FACILITY, text):
        words = match[1].split()
        telling = [w for w in words if w.strip(".,") not in _GENERIC]
        if (telling and any(flags(w) & (FIRST | LAST | CITY) and not flags(w) & WORD for w in telling)) or (
            telling and words[0] in ("st", "st.", "mercy", "mount", "sacred", "holy", "saint")
        ):
            found.append(Span(match.start(1), match.end(1), "FACILITY", 0.65, "facility_lower_case"))


def _walk_left(text: str, at: int, upper: bool) -> int | None:
    """Where the name begins whose head stands at `at`: capitalised words before it, connectors between them."""
    start = at
    limit = 4 if upper else 6
    k = at
    for _ in range(limit):
        match = re.search(r"([^\s,;:()\"]+)(?:\s{1,2}|\s?\r?\n\s?)$", text[max(0, k - 40) : k])
        if match is None:
            break
        word = match[1]
        position = k - len(match[0])
        if word[0] == "'" and len(word) > 1 and word[1].isupper():  # an opening quotation mark
            start = position + 1
            break
        bare = word.strip(".'")
        f = flags(bare)
        if (
            word.endswith((".", "!", "?"))
            and bare.lower() not in ("st", "mt", "ft", "med", "univ", "dr")
            and len(bare) > 1
        ):
            break
        if bare.lower() in ("of", "and", "for", "the") or word == "&":
            if bare.lower() == "the" or (upper and bare.lower() in ("for", "and")):
                break
            k = position
            continue
        if not word[0].isupper() and not word[0].isdigit():
            break
        if word[0].isdigit() and not re.fullmatch(r"\d+(?:st|nd|rd|th)", word):
            break
        if f & (STOP | MONTH | PAYER) and bare.lower() not in _PLACE_WORDS:
            break
        if f & DRUG and not f & (FIRST | LAST):
            break
        start = k = position
    return start


def _named_place(text: str, run: list[Word], k: int, found: list[Span], at: bool = False, sent: bool = False) -> None:
    """A capitalised name after "at", "admitted to", "lives in": a facility or a place unless it means something else."""
    first = run[k]
    f = first.flags
    if f & ODD and not (at or sent):
        return
    if f & (STOP | DRUG | MEDICAL | PAYER | MONTH | STATE) and first.text.lower() not in _PLACE_WORDS:
        return
    if first.text.lower() in TITLES or (
        first.flags & WORD
        and len(run) - k == 1
        and not first.flags & CITY
        and (not at or first.upper)
        and not (sent and first.flags & LAST and not first.upper and not first.first)
    ):
        return  # after "at" even a word is a name if it has a capital of its own
    if len(first.text) == 1 or (_is_eponym(text, first) and not f & CITY):
        return
    j = k
    while j < len(run) and j - k < 5:
        g = run[j].flags
        if j > k and (g & (DRUG | MONTH | PAYER) or (g & STOP and run[j].text.lower() not in _PLACE_WORDS)):
            break
        j += 1
        if run[j - 1].dotted and len(run[j - 1].text) > 3 and j < len(run):
            break
    if first.upper and all(w.flags & WORD and not w.flags & (FIRST | LAST | CITY) for w in run[k:j]):
        return
    kind = "CITY" if is_city(text[first.start : run[j - 1].end]) else "FACILITY"
    found.append(Span(first.start, run[j - 1].end, kind, 0.6, "place_after_preposition"))


#: Cities by a name that is an abbreviation or no place of its own.
_SHORT_CITIES = word_set("LA NYC SF DC NOLA Philly Brooklyn Bronx Queens Manhattan Harlem Hollywood OKC SLC ATL")


def _city_after(text: str, run: list[Word], k: int, found: list[Span]) -> None:
    for size in (3, 2, 1):
        if k + size <= len(run):
            name = text[run[k].start : run[k + size - 1].end]
            if is_city(name.replace("\n", " ")):
                f = run[k].flags
                if size == 1 and ((f & (STOP | MEDICAL | DRUG | PAYER)) or _is_eponym(text, run[k])):
                    return
                found.append(Span(run[k].start, run[k + size - 1].end, "CITY", 0.65, "city"))
                return
    if run[k].text in _SHORT_CITIES:
        found.append(Span(run[k].start, run[k].end, "CITY", 0.6, "city"))


def _cities(text: str, run: list[Word], found: list[Span]) -> None:
    """Cities of the list anywhere, if the name is no other word: two words or more, or one that is nothing else."""
    k = 0
    openers = city_openers()
    while k < len(run):
        f = run[k].flags
        if not f & CITY and run[k].text.lower() not in openers:
            k += 1
            continue
        for size in (3, 2, 1):
            if k + size > len(run):
                continue
            if size == 1 and (
                not f & CITY
                or f & (WORD | STOP | MEDICAL | DRUG | STATE | EPONYM | PAYER)
                or _is_eponym(text, run[k])
                or (run[k].upper and f & (FIRST | LAST))
            ):
                continue
            if size > 1 and not is_city(" ".join(w.text for w in run[k : k + size]).removesuffix("'s")):
                continue
            if size > 1 and all(w.flags & (STOP | MEDICAL) for w in run[k : k + size]):
                continue
            found.append(Span(run[k].start, run[k + size - 1].end, "CITY", 0.55, "city"))
            k += size - 1
            break
        k += 1


_UNIT_OF = re.compile(r"(?:'s)? (?:clinic|hospital|campus|ER|ED|ICU|NICU|emergency (?:room|department)|urgent care)\b")


def _joined(text: str, found: list[Span]) -> list[Span]:
    """A facility with the city it is said to be in is one place: "Memorial Hospital in Atlanta"."""
    out = list(found)
    cities = {s.start: s for s in found if s.type == "CITY"}
    for span in found:
        if span.type != "FACILITY":
            continue
        unit = _UNIT_OF.match(text, span.end)
        if unit:
            out.append(span._replace(end=unit.end()))
        for joint in (" in ", " of ", ", "):
            city = cities.get(span.end + len(joint)) if text.startswith(joint, span.end) else None
            if city is not None:
                out.append(span._replace(end=city.end))
    return out


__all__ = ["find"]
