"""Names of people: in every order and case, with titles, initials, relatives, and repeated later in the text."""

from __future__ import annotations

import re

import regex

from medbill.deid.text.lexicon import (
    CITY,
    DRUG,
    EPONYM,
    EPONYM_FOLLOWERS,
    FIRST,
    LAST,
    MEDICAL,
    MONTH,
    ODD,
    PAYER,
    RARE,
    STATE,
    STATES,
    STOP,
    WORD,
    flags,
    word_set,
)
from medbill.deid.text.note import Note
from medbill.deid.text.scan import TIME_LIMIT, at, finditer, led, near
from medbill.deid.text.span import Span, spot
from medbill.deid.text.words import TITLES, Word

_OTHER = STOP | DRUG | MEDICAL | PAYER | STATE | EPONYM | ODD
_OTHER_THAN_NAME = STOP | DRUG | MEDICAL | PAYER | STATE | MONTH | ODD
_SUFFIX = frozenset(["jr", "sr", "ii", "iii", "iv", "esq"])
_PARTICLES = r"(?:de|la|las|los|del|der|den|van|von|da|di|do|dos|du|al|el|bin|ibn|ben|y|st\.?|o'|mc|mac|le)"
_CREDENTIALS = r"(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|N\.?P\.?|P\.?A\.?-?C?|Ph\.?D\.?|L\.?P\.?N\.?|D\.?D\.?S\.?|D\.?P\.?M\.?|D\.?C\.?|CRNA|FACP|FACS|FACC|FAAP|LCSW|MSW|DNP|APRN|ARNP|FNP(?:-C|-BC)?|CNM|OD|DPT|PT|OT|CPC|RHIA|RHIT|LMFT|PsyD|Pharm\.?D|MBBS|FRCP|BSN|MSN|CNA|CMA|RT|RDN?|Esq)"
_N = r"[A-Z][\w']*(?:-[A-Z][\w']*)*"
_CREDENTIALLED = regex.compile(
    rf"(?<![\w])((?:{_N}|[A-Z]\.)(?:\s+(?:{_PARTICLES}\s+)?(?:{_N}|[A-Z]\.)){{0,3}}),?\s+{_CREDENTIALS}(?![\w])"
)
#: Titles before a name in any case. "Dr." is part of the name, as the gold standards have it.
_TITLED = regex.compile(
    r"(?<![\w])(?:Dr|Mr|Mrs|Ms|Miss|Prof|Doctor|Professor|Nurse|Mister|DR|MR|MRS|MS|MISS|PROF|DOCTOR|NURSE|dr|mr|mrs|ms|Sgt|Capt|Rev|Atty|Hon|Drs|Judge|Officer|Señora?)(?:\.\s*|\s+)"
    r"(?!'s\b)((?:[^\W\d_]\.?\s+){0,2}(?:(?i:" + _PARTICLES + r")\s+){0,2}[^\W\d_][\w']*(?:-[^\W\d_][\w']*)*\.?)"
)
_CUES = word_set("""
patient patients pt pts client name named member subscriber insured policyholder holder guarantor spouse wife
husband mother father mom dad son daughter sister brother sibling aunt uncle niece nephew cousin grandmother
grandfather grandson granddaughter grandma grandpa fiance fiancee partner girlfriend boyfriend roommate neighbor
friend caregiver guardian parent parents contact kin nok poa proxy attn attention dear sincerely regards signed
signature by from with to rep representative agent adjuster supervisor manager biller coder provider physician
doctor surgeon attending resident fellow pcp referring rendering ordering dictated transcribed cc re regarding
for per aka nee spoke s/w witness nurse therapist dentist pharmacist attorney lawyer teacher pastor baby infant
like under of and caller w w/ from: to: - w w/
""")
#: Prepositions after which a word of no list is more likely a person than a thing.
_TELLING = word_set("by from per w w/ spoke")
#: Cues after which a capitalised word that means nothing else is a name; the weak ones need a known name.
_STRONG_CUES = word_set("""
patient patients pt pts client name named spouse wife husband mother father mom dad son daughter sister brother
sibling aunt uncle niece nephew cousin grandmother grandfather grandson granddaughter grandma grandpa fiance
fiancee partner girlfriend boyfriend roommate neighbor friend caregiver guardian attn attention dear sincerely
regards signed aka nee surname rep representative agent adjuster supervisor biller coder witness s/w insured
guarantor subscriber
""")
_LABELLED = regex.compile(
    r"(?<![\w])(?:(?:patient|pt|member|subscriber|insured|guarantor|provider|physician|doctor|mother'?s?|father'?s?|spouse'?s?|"
    r"contact|full|last|first|middle|maiden|sur|given|family|employee|caller|rep(?:resentative)?|attending|rendering|referring|ordering|"
    r"responsible\s+party|policy\s?holder|beneficiary|dependent|signature|signed|dictated\s+by|reviewed\s+by|prepared\s+by|"
    r"transcribed\s+by|completed\s+by|authorized\s+by)\s*(?:name|by)?|name|attn|attention|cc|caller|patient)\s*[:=]\s*"
    r"([^\W\d_][\w'.-]*(?:,?[ \t]+(?:[^\W\d_]\.|[^\W\d_][\w'-]*)){0,3})",
    regex.I,
)
_TITLE_AT = led(
    *(rf"{title}\b" for title in ("Drs?", "drs?", "DR", "Mrs?", "mrs?", "MRS?", "Ms", "ms", "MS", "Miss", "MISS", "Prof", "PROF",
      "Doctor", "DOCTOR", "Professor", "Nurse", "NURSE", "Mister", "Sgt", "Capt", "Rev", "Atty", "Hon", "Judge", "Officer",
      "Se\u00f1ora?", "Senora?")),
    case=True,
)  # fmt: skip
_INITIALS = regex.compile(r"(?<![\w.])(?:[A-Z]\.\s?){2,3}(?![\w])")
#: Written with full stops and no initials, unless they stand where a name is due.
_DOTTED = word_set("""
us uk md do pa np rn dc po pc am pm ie eg bid tid qid im iv id ed er or pt la ny op ob ent
""")
_INITIALS_CUED = regex.compile(
    r"\b(?:patient|pt|initials?|client|mr|mrs|ms|name)(?:\s+(?:is|are|was)|\s*:)?\s+([A-Z]{2}|[A-Z]\.?\s?[A-Z]\.?)(?![\w])",
    regex.I,
)
_INITIALS_LEAD = led("patient", "pt", "initial", "client", "mr", "ms", "name")
_NOT_INITIALS = word_set("""
us uk md do pa np rn dc po pc am pm ie eg bid tid qid qd qhs iv im id er ed or icu ot pt dob lp va ny la sf bp
hr cc op ob gi gu ms ra mi cp mr ct mri ekg ns nsr cv ra sob ha hx dx tx rx fx sx cad dm htn ii iii to in on is
no we he it as at by if of so
""")
_LOWER_PAIR = regex.compile(r"(?<![\w@.])([a-z]{3,12})(?=\s+(?:([a-z])\.?\s+)?([a-z][a-z'-]{2,15})(?![\w@]))")
_COMMA = re.compile(r"\s?,[ \t]{0,2}(?:\r?\n)?[ \t]{0,2}")
_BETWEEN = re.compile(r"(?:'s)?\s*[:,#-]?\s+")
_NAMING = frozenset(("name", "named", "signed"))
_ABBREVIATED_CUES = frozenset(("pt", "pts", "rep", "attn", "re", "cc"))
_LINKS = word_set("name is was are signed named called")
_PARTICLE_WORDS = word_set("""
de la las los del der den van von da di do dos du al el bin ibn ben st mc mac le o
""")
_TITLE_TRIGGERS = word_set("""
dr mr mrs ms miss prof doctor professor nurse mister sgt capt rev atty hon drs judge officer señor señora senor
senora
""")
_CREDENTIAL_FORMS = word_set("""
MD DO RN NP PA PhD LPN DDS DPM DC CRNA FACP FACS FACC FAAP LCSW MSW DNP APRN ARNP FNP CNM OD DPT PT OT CPC RHIA
RHIT LMFT PsyD PharmD MBBS FRCP BSN MSN CNA CMA RT RD RDN Esq M D R N Ph Pharm
""")
_ALSO_WORDS = word_set("PT OT OD DO PA RT DC RD CPC")
_CREDENTIAL_AT = re.compile(rf"(?<=[\s,]){_CREDENTIALS}(?![\w])")
_NAME_LABEL = re.compile(r"[A-Za-z]\s*[:=]")
_MAYBE_INITIALS = re.compile(r"(?<![\w.])[A-Z]\.\s?[A-Z]\.")
_INITIALS_TRIGGERS = word_set("patient pt initial initials client mr mrs ms name")
_FOLLOW = re.compile(
    r"(?:'s|')?[\s-]+(?:(?:[a-z]+ly|[a-z]{2,12}al|the|type|grade|class|heart|risk|disability|coma|pain|depression|Heart|Risk|Coma|Study)[\s-]+)?([A-Za-z]+)"
)
_JOINTS = frozenset("'-")


def _is_eponym(text: str, word: Word) -> bool:
    """Whether a surname stands here as the name of a disease, sign, score or device."""
    return bool(word.flags & EPONYM) or _follows_eponym(text, word)


def _name_like(word: Word, strict: bool = False) -> bool:
    """Whether a word with a capital may be part of a name: known as one, or known as nothing else."""
    f = word.flags
    if f & (STOP | DRUG | MEDICAL | PAYER | MONTH | ODD):
        return False
    if f & (FIRST | LAST) and not f & WORD:
        return True
    if word.upper or strict:
        return bool(f & (FIRST | LAST)) and not strict
    return bool(f & (FIRST | LAST)) or not f & (WORD | STATE)


def _initial(word: Word) -> bool:
    return len(word.text) == 1 and (word.text != "I" or word.dotted)


def _unknown(word: Word) -> bool:
    """Whether a word is on no list, or only on that of rare words: with a capital inside a sentence it is a name of
    some kind."""
    f = word.flags
    rare = f == WORD | RARE and not word.first
    return (f == 0 or rare) and not word.upper and len(word.text) > 2


def _may_be_name(word: Word) -> bool:
    """Whether a word means nothing else, or only rarely, than a name; at the start of a sentence no frequent word does."""
    f = word.flags
    if f & _OTHER_THAN_NAME or len(word.text) < 2:
        return False
    if word.upper:
        return len(word.text) > 3 if f == 0 else bool(f & (FIRST | LAST)) and not f & WORD
    if f & WORD and not f & RARE:
        return bool(f & (FIRST | LAST)) and not word.first
    return not f & CITY or bool(f & FIRST)


def find(note: Note) -> list[Span]:
    text, runs = note.text, note.runs
    found: list[Span] = []
    add = found.append
    if note.has(_TITLE_TRIGGERS):
        for match in near(_TITLED, _TITLE_AT, text, 0, 50):
            span = _titled(text, match)
            if span:
                add(span)
    if not note.forms.isdisjoint(_CREDENTIAL_FORMS):
        for match in near(_CREDENTIALLED, _CREDENTIAL_AT, text, 60, 4):
            parts = _PART.findall(match[1])
            while parts and flags(parts[0]) & (STOP | MEDICAL | DRUG) and not (flags(parts[0]) & FIRST):
                parts.pop(0)
            good = [
                p for p in parts if flags(p) & (FIRST | LAST) or not flags(p) & (WORD | MEDICAL | DRUG | STOP | CITY)
            ]
            ambiguous = match[0].rsplit(None, 1)[-1].strip(".") in _ALSO_WORDS and "," not in match[0]
            if (
                good
                and not (ambiguous and match[0].isupper())
                and not (len(parts) == 1 and flags(parts[0]) & (MEDICAL | DRUG | EPONYM))
            ):
                start = text.index(parts[0], match.start(1))
                add(Span(start, match.end(1), "PERSON", 0.9, "credentialled_name"))
    if ":" in text or "=" in text:
        for match in near(_LABELLED, _NAME_LABEL, text, 30, 60):
            named = "name" in text[match.start() : match.start(1)].lower()
            span = _labelled_value(text, match.start(1), match[1], named)
            if span:
                add(span)
    for n, run in enumerate(runs):
        _walk(text, run, found)
        _cued(text, run, note.leads[n], found)
        if n + 1 < len(runs) and runs[n + 1][0].start - run[-1].end <= 6:
            _last_first(text, run, runs[n + 1], found)
    if _MAYBE_INITIALS.search(text):
        for match in finditer(_INITIALS, text):
            letters = _NOT_CAPITAL.sub("", match[0]).lower()
            if (
                letters not in _DOTTED
                or _AGED.match(text, match.end())
                or _apposed(text, match.start())
                or _enclosed(text, *match.span())
            ):
                add(Span(match.start(), match.start() + len(match[0].rstrip()), "PERSON", 0.6, "initials"))
    if note.has(_INITIALS_TRIGGERS):
        for match in at(_INITIALS_CUED, _INITIALS_LEAD, text):
            letters = _NOT_LETTER.sub("", match[1])
            if letters.isupper() and letters.lower() not in _NOT_INITIALS:
                add(spot(match, 1, "PERSON", 0.6, "initials"))
    if not note.words.isdisjoint(_LOWER_CUES):
        for match in at(_LOWER_CUED, _LOWER_LEAD, text):
            lower = _lower_name(match[1])
            if lower:
                add(Span(match.start(1), match.start(1) + lower, "PERSON", 0.7, "lower_case_name"))
    common = WORD | STOP | DRUG | MEDICAL | EPONYM
    if any(flags(w) & FIRST and not flags(w) & common for w in note.forms if w.islower()):
        for match in finditer(_LOWER_PAIR, text):
            a, b = flags(match[1]), flags(match[3])
            if a & FIRST and b & LAST and not (a | b) & common:
                add(Span(match.start(), match.end(3), "PERSON", 0.7, "lower_case_name"))
    if not note.words.isdisjoint(_PARTICLE_CUES):
        _particled(note, found)
    _persons(note, found)
    return found + _repeated(text, found)


#: Particles of which at least one is written in lower case or is no word of its own ("Van der Berg", "De la Cruz").
_PARTICLE_CUES = word_set("de la las los del der den van von da di do dos du el al bin ibn ben st le abu ter ten bint")
_PARTICLED = regex.compile(
    r"(?<![\w'-])((?:[A-Z][\w'-]+\s+|[A-Z]\.?\s+){0,3})"
    r"((?:(?:[Dd]e|[Dd]el|[Vv]an|[Vv]on|[Dd]a|[Dd]i|[Dd]os?|[Dd]u|[Ee]l|[Aa]l|[Bb]in|[Ii]bn|[Bb]int|[Aa]bu|[Ll]e|[Ll]a|[Tt]er|[Tt]en|St\.?|VAN|VON|DE|DA|DI|DEL|DU|LE|LA)\s+)"
    r"(?:(?:[Dd]e|[Ll]a|[Ll]as|[Ll]os|[Dd]er|[Dd]en|[Hh]et|DER|DEN|LA|LAS|LOS)\s+)?)([A-Z][\w'-]+)"
    r"(,\s?[A-Z][\w'-]+(?:\s[A-Z]\b\.?)?)?"
)


_PARTICLE_AT = re.compile(
    r"\b(?:[Dd](?:el?|a|i|os?|u)|[Vv][ao]n|VAN|VON|DE|DA|DI|DEL|DU|[Ee]l|[Aa]l|[Bb]int?|[Ii]bn|[Aa]bu|[Ll][ea]|LE|LA|[Tt]e[rn]|St)\b\.? ?\s"
)


def _particled(note: Note, found: list[Span]) -> None:
    """Surnames with particles: with a first name before, a first name after a comma, or two particles."""
    text = note.text
    for match in near(_PARTICLED, _PARTICLE_AT, text, 50, 60):
        particles, surname = match[2].split(), match[3]
        f = flags(surname)
        if f & (STOP | MEDICAL | DRUG | MONTH | PAYER) and not f & LAST:
            continue
        start = None
        for part in _CHUNK.finditer(match[1]):
            g = flags(part[0])
            known = g & (FIRST | LAST) and not g & (STOP | DRUG | MEDICAL | PAYER)
            letter = len(part[0].strip(".")) == 1 and (start is not None or part[0].endswith("."))
            if known or letter or (g == 0 and not part[0].isupper()):
                start = match.start(1) + part.start() if start is None else start
            else:
                start = None
        end = match.end(3)
        after = match[4]
        if after is not None:
            g = flags(after.split()[1] if after[1] == " " else after[1:].split()[0])
            if (g & FIRST or g == 0) and not g & (STOP | DRUG | MEDICAL | PAYER | STATE):
                end = match.end(4)
                start = match.start(2) if start is None else start
        if start is None:
            if len(particles) < 2 or not (f & LAST or f == 0):
                continue
            start = match.start(2)
        found.append(Span(start, _possessive(text, start, end), "PERSON", 0.8, "name_with_particle"))


_CHUNK = re.compile(r"\S+")
_PERSON_VERB = re.compile(
    r"(?i)\s+(?:,\s*)?(?:\([^)]{0,40}\)\s*)?(?:(?:also|now|just|still|never|always|then|later|again)\s+)?"
    r"(?:hates|likes|wants|wanted|says|said|states|stated|reports|reported|denies|denied\s+(?:chest|pain|any)|complains|"
    r"called|calls|asks|asked|emailed|texted|told|lives|lived|moved|works|worked|came|comes|went|needs|refuses|refused|"
    r"prefers|agrees|agreed|declined|declines|takes|took|tolerates|tolerated|stopped|started|developed|presents|presented|"
    r"underwent|returned|returns|feels|felt|thinks|worries|who|has\s+(?:had|been|a|an|no)|had\s+(?:a|an|been|to)|"
    r"was\s+(?:seen|admitted|discharged|born|diagnosed|told|referred|transferred|started|treated|given|brought|found|evaluated)|"
    r"is\s+(?:a\s+\d|an\s+\d|\d|our|my|their|asking|having|being|very|still|worried|currently|now|on|taking|his|her))\b"
)
_PERSON_AFTER = re.compile(
    r"(?:,?\s{0,2}\(?(?:(?:an?|aged?|who\s+is|is)\s)?\d{1,3}\s?[- ]?(?:y|yo|yrs?|years?|y/o|[MF])\b"
    r"|,\s\d{1,3},|,?\s{0,2}\(?(?:MRN|DOB|SSN|d\.o\.b|born|aged?\s\d|medical\s+record|date\s+of\s+birth|member\s+id|insurance\s+(?:id|no|number)|acct)\b)",
    re.I,
)


def _persons(note: Note, found: list[Span]) -> None:
    """Words of no list that are treated as people: they own ("Esi's labs"), speak, fall ill, have an age or a record."""
    text = note.text
    for run in note.runs:
        if len(run) > 3:
            if run[0].upper and run[1].upper:
                _shouted(text, run, found)
            continue
        words = list(run)
        while words and words[0].flags & STOP:
            words.pop(0)
        names = [w for w in words if not _initial(w)]
        if not names:
            continue
        if not all(_may_be_name(w) for w in names):
            if run[0].upper:
                _shouted(text, run, found)
            continue
        last = words[-1]
        own = last.text.endswith(("'s", "'S"))
        if _follows_eponym(text, last) or (own and not _OWNED.match(text, last.end)):
            continue
        end = last.end + (1 if _initial(last) and last.dotted else 0)
        eponym = any(w.flags & EPONYM for w in names)
        apposed = _apposed(text, words[0].start)
        treated = (
            own
            or _enclosed(text, words[0].start, end)
            or _PERSON_VERB.match(text, end)
            or _PERSON_AFTER.match(text, end)
        )
        if apposed or (
            treated and not eponym and not (len(names) > 2 and not any(w.flags & (FIRST | LAST) for w in names))
        ):
            found.append(
                Span(words[0].start, _possessive(text, words[0].start, end), "PERSON", 0.65, "treated_as_person")
            )


def _shouted(text: str, run: list[Word], found: list[Span]) -> None:
    """In text all in capitals: a word of no list with a surname after it, or that is treated as a person."""
    for k, word in enumerate(run):
        if word.flags or not word.upper or len(word.text) < 4:
            continue
        following = run[k + 1] if k + 1 < len(run) else None
        if following is not None and _sure_surname(text, following):
            found.append(
                Span(word.start, _possessive(text, word.start, following.end), "PERSON", 0.65, "treated_as_person")
            )
        elif _PERSON_VERB.match(text, word.end) or _PERSON_AFTER.match(text, word.end):
            found.append(Span(word.start, _possessive(text, word.start, word.end), "PERSON", 0.65, "treated_as_person"))


#: What follows a name that stands between commas.
_BETWEEN_COMMAS = re.compile(
    r",?\s\(?(?:who|whose|whom|seen|treated|evaluated|diagnosed|admitted|referred|from|presenting|presented|followed|post|with|under|currently)\b"
)
_OWNED = re.compile(r"\s+[a-z]")
_BEFORE_NAME = regex.compile(
    r"(?:(?<![\w-])(?:male|female|man|woman|boy|girl|gentleman|lady|veteran|child|kid|infant|baby|toddler|teen|teenager|adult|"
    r"patient|pt|individual|person|nurse|teacher|worker|smoker|athlete|client)s?"
    r"(?:\s+(?:patient|pt|individual|veteran|smoker))?\s?(?:,|:|-|\()?\s?(?:(?:named|called|namely|specifically|name(?:\s+is)?)\s)?"
    r"|\d\s?-?(?:yo|y/o|year[- ]old|years[- ]old)?\s?-?[MF],?\s"
    r"|\d\s?-?(?:yo|y/o|(?:year|yr)s?[- ]old),?\s"
    r"|\b(?:like|similar\s+to|specifically|particularly|named|called|name\s+is|name|namely|case\s+of|notes\s+for)\s(?:for\s)?(?:patient\s)?)$",
    regex.I,
)
#: How what _BEFORE_NAME finds can end, punctuation aside.
_BEFORE_ENDS = (
    "man", "male", "boy", "girl", "lady", "veteran", "child", "kid", "infant", "baby", "toddler", "teen", "teenager", "adult",
    "patient", "pt", "individual", "person", "nurse", "teacher", "worker", "smoker", "athlete", "client", "mans", "males", "boys",
    "girls", "ladys", "veterans", "childs", "kids", "infants", "babys", "toddlers", "teens", "teenagers", "adults", "patients",
    "pts", "individuals", "persons", "nurses", "teachers", "workers", "smokers", "athletes", "clients", "named", "called",
    "namely", "specifically", "name", "is", "m", "f", "yo", "y/o", "old", "like", "to", "particularly", "of", "for",
)  # fmt: skip


def _enclosed(text: str, start: int, end: int) -> bool:
    return text[max(0, start - 3) : start].rstrip().endswith(",") and _BETWEEN_COMMAS.match(text, end) is not None


def _apposed(text: str, start: int) -> bool:
    """Whether what stands before is where a name is due: "a 70-year-old woman, ...", "patients like ..."."""
    before = text[max(0, start - 40) : start].rstrip().rstrip(",:-(").rstrip()
    if not before.lower().endswith(_BEFORE_ENDS):
        return False
    return _BEFORE_NAME.search(text, max(0, start - 40), start, timeout=TIME_LIMIT) is not None


#: What follows a person's name or initials: an age, a birthday, a record.
_AGED = re.compile(r",?\s{0,2}\(?(?:(?:an?|age[ds]?|who is|is)\s)?\d{1,3}\s?[- ]?(?:y|yo|yrs?|years?|y/o|[MF])\b", re.I)
_LOWER_CUES = word_set("""
pt patient client named name called wife husband spouse mother father mom dad son daughter sister brother aunt uncle
partner guarantor subscriber insured caller dr mr mrs ms miss
""")
_LOWER_CUED = regex.compile(
    r"(?<![\w'])(?:pt|patient|client|named|name(?:\s+is)?|wife|husband|spouse|mother|father|mom|dad|son|daughter|sister|brother|"
    r"aunt|uncle|partner|guarantor|subscriber|insured|caller|dr|mr|mrs|ms|miss)\.?:?\s+"
    r"([a-z][a-z'-]+(?:\s[a-z]\b\.?)?(?:\s[a-z][a-z'-]+){0,4})"
)
_LOWER_LEAD = led(
    *(rf"{cue}[.:\s]" for cue in ("pt", "patient", "client", "named?", "wife", "husband", "spouse", "mother", "father", "mom", "dad",
      "son", "daughter", "sister", "brother", "aunt", "uncle", "partner", "guarantor", "subscriber", "insured", "caller", "dr",
      "mrs?", "ms", "miss")),
    case=True,
)  # fmt: skip


def _lower_name(value: str) -> int:
    """How much of a phrase in lower case is a name: a first name that is no word, then surnames and particles."""
    parts = list(_CHUNK.finditer(value))
    f = flags(parts[0][0])
    second = flags(parts[1][0]) if len(parts) > 1 else 0
    new = f == 0 and len(parts) > 1 and second & (FIRST | LAST) and not second & (WORD | STOP | DRUG | MEDICAL | CITY)
    if not (f & FIRST or new) or f & (STOP | DRUG | MEDICAL | MONTH) or (f & WORD and not f & RARE):
        return 0
    k, last = 1, 1
    while k < len(parts):
        word = parts[k][0]
        g = flags(word)
        if word in _PARTICLE_WORDS or len(word.strip(".")) == 1:
            k += 1
            continue
        if (
            g & (STOP | MEDICAL | MONTH)
            or (g & DRUG and not g & LAST)
            or not (g == 0 or g & (FIRST | LAST))
            or (g & WORD and last > 1)
        ):
            break
        k += 1
        last = k
    return parts[last - 1].end() if last > 1 else 0


_NEXT_NAME = re.compile(r"\.?[ \t]*(?:\r?\n)?[ \t]*(?<=\s)([A-Z][\w'-]*)")
_PART = re.compile(r"[^\W\d_][\w'-]*")
_NOT_CAPITAL = re.compile(r"[^A-Z]")
_NOT_LETTER = re.compile(r"[^A-Za-z]")


def _titled(text: str, match: regex.Match[str]) -> Span | None:
    name = match[1].rstrip(".")
    last = name.split()[-1]
    f = flags(last)
    lower = last[0].islower()
    if lower and not f & (FIRST | LAST):
        return None
    if f & STOP and (lower or not f & (FIRST | LAST)):
        return None
    if f & (MEDICAL | DRUG | PAYER) and not f & (FIRST | LAST):
        return None
    if match[0].startswith(("MS ", "ms ")) and f & WORD:  # multiple sclerosis
        return None
    end = match.end(1) - (1 if match[1].endswith(".") and len(last) > 1 else 0)
    for _ in range(3):  # further names: known as such, or known as nothing else
        more = _NEXT_NAME.match(text, end)
        if more is None:
            break
        g = flags(more[1])
        if g & (STOP | DRUG | MEDICAL | PAYER | STATE) or (g & (WORD | CITY) and not g & (FIRST | LAST)):
            break
        if len(more[1]) == 1 or g & (FIRST | LAST) or g == 0:
            end = more.end(1)
        else:
            break
    return Span(match.start(), _possessive(text, match.start(1), end), "PERSON", 0.95, "titled_name")


def _last_first(text: str, run: list[Word], following: list[Word], found: list[Span]) -> None:
    """ "Hernandez, Mario R": the last word of one run and the first of the next, a comma between."""
    k = len(run) - 1
    while k > 0 and run[k].text.lower() in _SUFFIX:
        k -= 1
    last, first = run[k], following[0]
    if _COMMA.fullmatch(text, run[-1].end + (1 if run[-1].dotted else 0), first.start) is None:
        return
    a, b = last.flags, first.flags
    if b & (STOP | DRUG | MEDICAL | PAYER | STATE | MONTH) or a & (STOP | DRUG | MEDICAL | PAYER | MONTH):
        return
    if len(first.text) < 3 or len(last.text) < 2:  # a state: "Boston, MA"
        return
    middle = following[1] if len(following) > 1 else None
    initial = middle is not None and len(middle.text) == 1
    known_last = bool(a & LAST) or not a & (WORD | CITY)
    surely = (b & FIRST and not b & WORD and known_last) or (b & FIRST and a & LAST and (not a & WORD or initial))
    if (
        (b == 0 or b == WORD | RARE)
        and a & LAST
        and not first.upper
        and len(first.text) > 3
        and (initial or not a & (WORD | CITY))
    ):
        surely = True  # a first name that is on no list
    if not surely or (b & CITY and a & CITY):
        return
    while k > 0 and run[k - 1].text.lower() in _PARTICLE_WORDS:
        k -= 1
    end = first.end
    if initial and middle is not None:
        end = middle.end + (1 if middle.dotted else 0)
    elif middle is not None and middle.flags & (FIRST | LAST) and not middle.flags & (WORD | STOP):
        end = middle.end
    found.append(Span(run[k].start, end, "PERSON", 0.85, "last_first"))


def _leads(word: str) -> bool:
    """Whether the last word before a run may be a cue, or a word between a cue and the name."""
    bare = word.strip("(\"':,#-.;!?").removesuffix("'s")
    return bare in _CUES or bare in _LINKS or not bare or word.startswith("name") or word.strip(":,#-") in _CUES


def _cued(text: str, run: list[Word], lead: list[str], found: list[Span]) -> None:
    """Names after a cue: the word before the run, or a word of the run itself ("Patient John ...")."""
    at = run[0].start
    cue = ""
    if at and lead and (text[at - 1].isspace() or text[at - 1] in ":#-"):
        words = [w for w in lead if w.strip(":,#-")] if _leads(lead[-1]) else []
        while len(words) > 1 and words[-1].rstrip(":,#-") in _LINKS and words[-1].rstrip(":,#-") not in _NAMING:
            words.pop()
        if len(words) > 1 and words[-1].startswith("name") and words[-2].removesuffix("'s") in _CUES:
            words.pop()
        if words:
            ended = words[-1][-1] in ".;!?"
            cue = words[-1].strip("(\"':,#-.;!?").removesuffix("'s")
            if ended and cue not in _ABBREVIATED_CUES:
                cue = ""
    for k in range(len(run)):
        if cue in _CUES:
            _after_cue(text, cue, run, k, found)
        cue = run[k].text.lower().removesuffix("'s")


def _possessive(text: str, start: int, end: int) -> int:
    """End of a name without its "'s"."""
    return end - 2 if text[start:end].endswith(("'s", "'S")) else end


def _labelled_value(text: str, start: int, value: str, named: bool) -> Span | None:
    """The name after "Patient:" and the like: words until one that is surely none. named: the label says "name"."""
    end = start
    for match in re.finditer(r"[^\W\d_][\w'-]*\.?", value):
        word = match[0].rstrip(".")
        f = flags(word)
        if len(word) > 1 and f & (STOP | DRUG | MEDICAL | PAYER) and not (f & (FIRST | LAST) and word[0].isupper()):
            break
        if len(word) > 1 and f & WORD and not f & (FIRST | LAST) and not (named and word.istitle()):
            break
        if len(word) > 1 and word.islower() and not f & (FIRST | LAST):
            break
        end = start + match.start() + len(word)
    if end == start or not re.search(r"[^\W\d_]{2}", text[start:end]):
        return None
    return Span(start, _possessive(text, start, end), "PERSON", 0.85, "labelled_name")


def _walk(text: str, run: list[Word], found: list[Span]) -> None:
    """Names within one run of capitalised words."""
    i = 0
    while i < len(run):
        j = _name_at(text, run, i)
        if j > i:
            start, end = run[i].start, run[j - 1].end
            if len(run[j - 1].text) == 1 and run[j - 1].dotted:
                end += 1
            found.append(Span(start, _possessive(text, start, end), "PERSON", 0.8, "name"))
            i = j
        else:
            i += 1


def _name_at(text: str, run: list[Word], i: int) -> int:
    """End (index in the run) of a name that begins at run[i]; i where none does."""
    word = run[i]
    f = word.flags
    n = len(run)
    if len(word.text) == 1:  # "A. Smith"
        if (
            word.dotted
            and i + 1 < n
            and (
                (run[i + 1].flags & LAST and _name_like(run[i + 1]))
                or (_may_be_name(run[i + 1]) and not run[i + 1].upper and len(run[i + 1].text) > 2)
            )
            and not _is_eponym(text, run[i + 1])
        ):
            return i + 2
        return i
    if word.text.lower() in TITLES:
        return i
    if f & (DRUG | MEDICAL | PAYER) and not (f & FIRST and i + 1 < n and _initial(run[i + 1])):
        return i
    if f & MONTH and i + 1 < n and not run[i + 1].flags & LAST and not (_initial(run[i + 1]) and run[i + 1].dotted):
        return i
    weak = bool(f & WORD) and not (f & RARE and f & (FIRST | LAST) and not word.upper and (not word.first or i + 1 < n))
    strong_next = i + 1 < n and _sure_surname(text, run[i + 1])
    verb = word.text.lower() in _VERB_NAMES
    if verb and i + 1 < n and not strong_next:
        nxt = run[i + 1]
        if _initial(nxt) and nxt.dotted:  # "May T.", "Will M. Sokolov"
            return i + 3 if i + 2 < n and _sure_surname(text, run[i + 2]) else i + 2
        capital = not word.first and not nxt.upper and bool(nxt.flags & LAST) and not nxt.flags & _OTHER
        strong_next = capital or (nxt.flags == 0 and not nxt.upper and len(nxt.text) > 4)
    first = bool(f & FIRST) and (not f & STOP or (strong_next and verb))
    if f == 0 and not word.upper and len(word.text) > 3 and i + 1 < n and _initial(run[i + 1]) and run[i + 1].dotted:
        return i + 3 if i + 2 < n and _sure_surname(text, run[i + 2]) else i + 2
    initial_next = i + 1 < n and _initial(run[i + 1])
    rare = f == WORD | RARE and not word.upper and initial_next and run[i + 1].dotted
    if i + 1 < n and not f & _OTHER and (_unknown(word) or rare or (f & LAST and not weak and initial_next)):
        k = i + 1
        while k < n and _initial(run[k]) and k - i <= 2:
            k += 1
        if rare and (k == n or not _may_be_name(run[k])):
            return k
        if k < n and (
            (k > i + 1 and not run[k].flags & _OTHER_THAN_NAME and not run[k].upper and not run[k].first)
            or _sure_surname(text, run[k])
            or (k == i + 1 and _unknown(run[k]) and f == 0)
            or (run[k].flags & (FIRST | LAST) and not run[k].flags & _OTHER and not run[k].upper and not word.first)
        ):
            while k + 1 < n and _sure_surname(text, run[k + 1]):
                k += 1
            return k + 1
    if strong_next and f == 0 and len(word.text) > 2:
        return i + 2
    j = i + 1
    # initials after the first name
    while j < n and _initial(run[j]) and j - i <= 2 and (run[j].dotted or j + 1 < n or first):
        j += 1
    initials = j - i - 1
    if j < n and first:
        nxt = run[j]
        if nxt.text.lower() in _SUFFIX:
            return j + 1
        g = nxt.flags
        surname = bool(g & LAST) and not g & (STOP | PAYER) and not (g & DRUG and (weak or nxt.upper))
        unknown = not g & (WORD | STOP | DRUG | MEDICAL | PAYER | STATE) and (not nxt.upper or g == 0)
        # a word after a name that is surely one: "Wendell Delacroix", not "Mercy Hospital"
        trailing = (
            not weak
            and not nxt.upper
            and (not word.first or g & RARE or initials or nxt.text.endswith("'s"))
            and g & WORD
            and not g & (STOP | DRUG | MEDICAL | PAYER | STATE | CITY)
            and nxt.text.lower() not in _NO_SURNAMES
        )
        if (
            trailing
            or (surname and (not weak or not g & WORD or initials))
            or (unknown and not weak)
            or (surname and weak and g & WORD and not word.first and not (word.upper and nxt.upper))
        ):
            if _is_eponym(text, nxt) and not (g & LAST and not _follows_eponym(text, nxt)):
                return i
            j += 1
            # two surnames, suffix
            while (
                j < n
                and j - i < 5
                and (
                    run[j].text.lower() in _SUFFIX
                    or (run[j].flags & LAST and not run[j].flags & (WORD | CITY | STOP | MEDICAL | DRUG))
                )
            ):
                j += 1
            return j
    if first and initials and (run[i + 1].dotted or not weak):
        return i + 1 + initials
    if f & LAST and not weak and i + 1 < n and _initial(run[i + 1]) and run[i + 1].dotted:  # "Smith J."
        return i + 2
    if _is_eponym(text, word):
        return i
    if first and not weak and not f & (CITY | STATE | EPONYM) and not word.upper:
        return i + 1
    if first and not weak and not f & (CITY | STATE | EPONYM) and word.upper and (n <= 3 or len(word.text) > 4):
        return i + 1
    if f & LAST and not f & (WORD | CITY | STATE | EPONYM | STOP) and not word.upper and len(word.text) > 2:
        return i + 1
    return i


_NO_SURNAMES = word_set("""
inc llc ltd corp corporation company co plc llp group industries logistics manufacturing sons enterprises holdings
general memorial university institute foundation cancer heart health children's childrens clinic's score study scale index
criteria syndrome disease sign test reflex protocol method procedure class type stage grade insurance plan company trust
bank pharmacy drug drugs lab labs laboratory imaging surgery surgical dental vision eye care street avenue road campus
building tower hall house school college elementary high middle church temple
""")
_VERB_NAMES = frozenset(("will", "may"))


def _sure_surname(text: str, word: Word) -> bool:
    """Whether a word is a surname and nothing else."""
    return (
        bool(word.flags & LAST)
        and not word.flags & (WORD | STOP | DRUG | MEDICAL | PAYER | CITY | STATE | EPONYM)
        and len(word.text) > 2
        and not _follows_eponym(text, word)
    )


def _follows_eponym(text: str, word: Word) -> bool:
    after = text[word.end : word.end + 1]
    if after not in _JOINTS and not after.isspace():
        return False
    match = _FOLLOW.match(text, word.end)
    return match is not None and match[1].lower() in EPONYM_FOLLOWERS


def _after_cue(text: str, cue: str, run: list[Word], k: int, found: list[Span]) -> None:
    """The name that begins at run[k], after a cue such as "spouse": words as long as they may be names."""
    if run[k].text.lower() in TITLES:
        k += 1
    strong = cue in _STRONG_CUES
    j = k
    known = 0
    while j < len(run) and j - k < 4:
        word = run[j]
        f = word.flags
        if _initial(word):
            j += 1
            continue
        if word.text.lower() in _SUFFIX and j > k:
            j += 1
            continue
        named = strong and f & FIRST and f & EPONYM and not _follows_eponym(text, word)
        if f & (STOP | DRUG | MEDICAL | PAYER) or (_is_eponym(text, word) and not named):
            break
        if (
            f & WORD
            and not (strong and _unknown(word))
            and not (f & (FIRST | LAST) and not word.upper and (strong or j > k))
        ):
            break
        if not f & (FIRST | LAST) and (
            f & (CITY | STATE) or (f and word.upper) or not (strong or (f == 0 and cue in _TELLING))
        ):
            break
        known += bool(f & (FIRST | LAST)) or (f == 0 and not word.upper and cue in _TELLING and len(word.text) > 3)
        j += 1
    while j > k and _initial(run[j - 1]) and not run[j - 1].dotted and j - 1 == k:
        j -= 1
    words = [w for w in run[k:j] if not _initial(w)]
    if not words:
        return
    if not strong and not (
        known
        and any(
            (w.flags & (FIRST | LAST) and not w.flags & (WORD | CITY)) or (w.flags == 0 and cue in _TELLING)
            for w in words
        )
    ):
        return
    if strong and len(words) == 1 and words[0].flags & WORD and cue in ("patient", "patients", "pt", "pts", "client"):
        return  # "Patient May ..." is left to the record
    last = run[j - 1]
    end = last.end + (1 if _initial(last) and last.dotted else 0)
    found.append(Span(run[k].start, _possessive(text, run[k].start, end), "PERSON", 0.75, "name_after_cue"))


def _repeated(text: str, found: list[Span]) -> list[Span]:
    """Later mentions of a found name by one of its parts: "Mr. Stone" ... "Stone called back"."""
    parts: set[str] = set()
    for span in found:
        for part in _PART.findall(text[span.start : span.end]):
            low = part.lower()
            if len(part) > 2 and part[0].isupper() and low not in TITLES and low not in STATES:
                f = flags(part)
                if not f & (STOP | DRUG | MEDICAL | EPONYM) and (span.score >= 0.75):
                    parts.add(part)
    if not parts:
        return []
    out: list[Span] = []
    for part in sorted(parts):
        common = bool(flags(part) & WORD)
        for form in {part, part.upper(), part.title()}:
            start = text.find(form)
            while start >= 0:
                end = start + len(form)
                left = start == 0 or not (text[start - 1].isalnum() or text[start - 1] in "_@.-")
                right = end == len(text) or not (text[end].isalnum() or text[end] in "_@-")
                if left and right and not (common and _common_use(text, start, end)):
                    word = Word(form, start, end, False, flags(form), False, form.isupper())
                    if not _follows_eponym(text, word):
                        out.append(Span(start, end, "PERSON", 0.7, "repeated_name"))
                start = text.find(form, end)
    return out


def _common_use(text: str, start: int, end: int) -> bool:
    """Whether a name that is also a word ("Will", "May") opens a sentence, where its capital proves nothing."""
    before = text[:start].rstrip()
    return not before or before[-1] in ".!?\n:;" or text[start:end].isupper()
