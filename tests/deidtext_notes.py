"""Notes of a billing office, made up, with the place of every identifier in them; the same seed gives the same notes.

Seeds below HELD_BACK are for development. Those from HELD_BACK on are only ever counted, never read: figures that are
reported come from them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

HELD_BACK = 90_000


def _words(text: str) -> list[str]:
    return text.split()


_FIRST = _words("""
Aaliyah Abdul Adaeze Agnieszka Aiko Alejandra Amara Amit Anders Anh Anneliese Ayesha Beatriz Bertram Bjorn
Brigid Camille Carmela Cedric Chidi Clarice Clement Corazon Dagmar Darnell Deepika Delphine Desmond Dimitri
Dolores Dwayne Edith Efrain Eleanor Elif Emeka Esperanza Ewa Fatima Felipe Fiona Floyd Gabriela Gerald Giovanni
Gloria Graciela Guadalupe Hamza Harriet Hector Hiroshi Ignacio Imani Ingrid Isaac Ivana Jamal Jacinta Jerome
Jolene Joyce Kamala Katarzyna Keisha Kenji Khalid Lakshmi Latoya Leilani Leopold Lorraine Lucia Magdalena Malik
Marguerite Mateo Maureen Mei Milagros Mohammed Muriel Nadia Natalia Ngozi Niamh Noor Olga Omar Opal Padma Pablo
Paulette Percival Priya Quentin Rashad Ravi Rosalind Rupert Salma Sanjay Santiago Shanice Siobhan Soledad
Svetlana Tamika Thaddeus Theodora Thuy Tomasz Tyrone Ursula Valentina Vikram Wanda Wendell Winifred Xavier
Ximena Yasmin Yolanda Yusuf Zainab Zelda Zoltan Mary John Robert Linda James Patricia Michael Barbara David
Susan Will May Grace Mark Rose
""")
_LAST = _words("""
Abernathy Abubakar Achterberg Adeyemi Aguirre Alvarado Andersson Arceneaux Bhattacharya Blackwood Boudreaux
Brzezinski Bustamante Calloway Castellanos Chaudhry Christodoulou Cisneros Colquhoun Czarnecki Dabrowski
Delacroix Deshpande Dombrowski Eberhardt Echeverria Fairweather Fitzgerald Fontenot Fujimoto Gallagher Ganguly
Goldberg Grzybowski Gutierrez Haddad Halvorsen Hashemi Hutchinson Ibrahim Iyer Jankowski Johansson Kapoor
Kirkpatrick Kowalski Krishnamurthy Kuznetsov Lachapelle Larsson Lindqvist Lombardi Machado Mbeki McAllister
McDougall Montenegro Mukherjee Nakamura Nguyen Nwosu O'Brien O'Shaughnessy Oduya Okonkwo Olszewski Oyelaran
Papadopoulos Park Patel Petrov Pham Quinones Rahman Ramaswamy Rasmussen Ruthven Sadowski Salazar Santangelo
Schwartz Sepulveda Shimizu Sokolov Stavros Sundaram Szymanski Takahashi Thibodeaux Tran Underhill Vandenberg
Vasquez Villanueva Wojcik Wolfowitz Xiong Yamamoto Yilmaz Zapata Zielinski Smith Jones Lee Kim Brown Young Green
Hill Stone Price Long Bell Graves Wilson Parkinson Hansen Garcia-Lopez Smith-Okafor
""")
_STREET = _words("""
Alder Birchwood Canterbury Dogwood Elmhurst Foxglove Gallatin Hawthorne Ironwood Juniper Kestrel Larkspur
Magnolia Northgate Old_Mill Prairie Quail_Hollow Riverside Sycamore Tanglewood Union Vermilion Willow Yarrow
14th 3rd Martin_Luther_King
""")
_SUFFIX = _words("""
St Street Ave Avenue Rd Road Ln Lane Dr Drive Blvd Court Ct Way Circle Pkwy Place Terrace Trail
""")
_CITY = [
    "Tulsa",
    "Boise",
    "Des Moines",
    "Baton Rouge",
    "Chattanooga",
    "Fort Wayne",
    "Grand Rapids",
    "Little Rock",
    "Salt Lake City",
    "Spokane",
    "Worcester",
    "Albuquerque",
    "Poughkeepsie",
    "Kalamazoo",
    "Sheboygan",
    "Walla Walla",
    "Oconomowoc",
    "Cape Girardeau",
    "Eau Claire",
    "Terre Haute",
]
_STATE = _words("OK ID IA LA TN IN MI AR UT WA MA NM NY WI MO OH TX GA NC CA")
_FACILITY_NAME = _words("""
Good_Samaritan St._Anthony St._Luke's Sacred_Heart Mercy Providence Riverbend Lakeview Cedar_Ridge Blue_Mountain
Harbor_Point Three_Rivers Pine_Grove Summit Northside Tri-County Holy_Cross Trinity Oakwood Bayview Valley_View
Kessler Whitmore Dunleavy Ashgrove
""")
_FACILITY_KIND = [
    "Hospital",
    "Medical Center",
    "Clinic",
    "Regional Medical Center",
    "Surgery Center",
    "Family Medicine",
    "Orthopedics",
    "Cancer Center",
    "Imaging",
    "Community Hospital",
    "Rehabilitation Center",
    "Urgent Care",
    "Health System",
    "Nursing Home",
    "Pediatrics",
    "Memorial Hospital",
]
_FIRM = _words("""
Vantoor Halbrook Quillen Ostrander Merriweather Tidewater Pinecrest Bluebonnet Castlegate Fenwick
""")
_FIRM_KIND = ["Inc", "LLC", "Ltd", "Corp", "Industries", "Logistics", "and Sons", "Manufacturing"]
_MONTH = _words("""
January February March April May June July August September October November December
""")
_DRUG = _words("""
metformin lisinopril atorvastatin Eliquis Humira gabapentin Losartan prednisone Ozempic Xarelto amoxicillin
Keytruda
""")
_PAYER = _words("Aetna Cigna UnitedHealthcare Humana BCBS Medicare Medicaid Anthem Molina")
_EPONYM = [
    "Crohn's disease",
    "Parkinson's disease",
    "a positive Babinski sign",
    "Gleason score 7",
    "Wells score of 4",
    "Graves' disease",
    "Hodgkin lymphoma",
    "a Foley catheter",
    "Marfan syndrome",
]
_CPT = _words("""
99213 99214 99285-25 27447 45378 71046 93000 80053 97110 20610 J1885 G0439 A4253 0042T 3074F
""")
_ICD = _words("E11.9 I10 M17.11 J44.1 S72.001A Z79.4 N18.30 C50.911 F33.1 K21.9 T84.54XA")
_CARC = _words("CO-45 CO-16 PR-1 PR-204 OA-23 CO-97 PI-204 CO-197 CO-29")
_RARC = ["N130", "MA04", "M15", "N290", "MA130", "N657", "M76"]
_NDC = ["0002-8215-01", "00378-0180-93", "50242-061-01"]

Make = Callable[[random.Random, dict[str, Any]], str]


def _digits(r: random.Random, n: int) -> str:
    return "".join(r.choice("0123456789") for _ in range(n))


def _id(r: random.Random) -> str:
    letters = "".join(r.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(r.choice((1, 2, 3))))
    return r.choice(
        (
            letters + _digits(r, r.randint(6, 9)),
            f"{letters}-{_digits(r, 6)}",
            _digits(r, r.randint(7, 11)),
            f"{_digits(r, 4)}-{_digits(r, 6)}",
        )
    )


def _date(r: random.Random, low: int = 2019, high: int = 2026) -> str:
    y, m, d = r.randint(low, high), r.randint(1, 12), r.randint(1, 28)
    month = _MONTH[m - 1]
    suffix = "th" if 10 < d < 14 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    return r.choice(
        (
            f"{m:02d}/{d:02d}/{y}",
            f"{m}/{d}/{y % 100:02d}",
            f"{m:02d}-{d:02d}-{y}",
            f"{y}-{m:02d}-{d:02d}",
            f"{month} {d}, {y}",
            f"{month} {d}{suffix}, {y}",
            f"{month[:3]} {d} {y}",
            f"{d} {month} {y}",
            f"{d}-{month[:3]}-{y}",
            f"the {d}{suffix} of {month}",
            f"{m:02d}.{d:02d}.{y}",
        )
    )


def _phone(r: random.Random) -> str:
    a, b, c = str(r.randint(201, 989)), str(r.randint(200, 999)), _digits(r, 4)
    return r.choice(
        (
            f"({a}) {b}-{c}",
            f"{a}-{b}-{c}",
            f"{a}.{b}.{c}",
            f"{a} {b} {c}",
            f"+1 {a} {b} {c}",
            f"1-{a}-{b}-{c}",
            f"{a}-{b}-{c} ext {_digits(r, 3)}",
        )
    )


def _person(r: random.Random, person: dict[str, str]) -> str:
    f, la, i = person["first"], person["last"], person["middle"]
    return r.choice(
        (
            f"{f} {la}",
            f"{f} {la}",
            f"{f} {i}. {la}",
            f"{la}, {f}",
            f"{la.upper()}, {f.upper()}",
            f"{f} {la[0]}.",
            f"{la}, {f} {i}",
        )
    )


def _new_person(r: random.Random) -> dict[str, str]:
    return {"first": r.choice(_FIRST), "last": r.choice(_LAST), "middle": r.choice("ABCDEGHJKLMNPRSTW")}


def _facility(r: random.Random, _: dict[str, Any]) -> str:
    return f"{r.choice(_FACILITY_NAME)} {r.choice(_FACILITY_KIND)}".replace("_", " ")


def _zip_city(r: random.Random) -> str:
    return f"{r.choice(_CITY)}, {r.choice(_STATE)}"


_SLOTS: dict[str, tuple[str | None, Make]] = {
    "pt": ("PERSON", lambda r, c: _person(r, c["patient"])),
    "ptlast": ("PERSON", lambda r, c: f"{r.choice(('Mr.', 'Mrs.', 'Ms.'))} {c['patient']['last']}"),
    "ptfirst": ("PERSON", lambda r, c: c["patient"]["first"]),
    "dr": ("PERSON", lambda r, c: f"Dr. {r.choice(('', r.choice(_FIRST) + ' '))}{r.choice(_LAST)}"),
    "md": ("PERSON", lambda r, c: f"{r.choice(_FIRST)} {r.choice(_LAST)}"),
    "rel": ("PERSON", lambda r, c: f"{r.choice(_FIRST)} {c['patient']['last']}"),
    "staff": ("PERSON", lambda r, c: r.choice((r.choice(_FIRST), f"{r.choice(_FIRST)} {r.choice('ABCDKLMRT')}.", f"{r.choice(_FIRST)} {r.choice(_LAST)}"))),
    "dob": ("DATE", lambda r, c: _date(r, 1940, 2015)),
    "date": ("DATE", lambda r, c: _date(r)),
    "short": ("DATE", lambda r, c: f"{r.randint(1, 12):02d}/{r.randint(1, 28):02d}"),
    "age90": ("AGE", lambda r, c: str(r.randint(90, 104))),
    "nineties": ("AGE", lambda r, c: r.choice(("nineties", "90s", "nineties"))),
    "phone": ("PHONE", lambda r, c: _phone(r)),
    "fax": ("FAX", lambda r, c: _phone(r)),
    "email": ("EMAIL", lambda r, c: f"{c['patient']['first'].lower()}{r.choice(('.', '_', ''))}{_digits(r, 2)}@example.{r.choice(('com', 'org', 'net'))}"),
    "ssn": ("SSN", lambda r, c: r.choice(("123-45-6789", f"{_digits(r, 3)}-{_digits(r, 2)}-{_digits(r, 4)}", _digits(r, 9)))),
    "mrn": ("MRN", lambda r, c: _id(r)),
    "member": ("MEMBER", lambda r, c: _id(r)),
    "group": ("MEMBER", lambda r, c: r.choice((_digits(r, 6), f"GRP{_digits(r, 5)}"))),
    "acct": ("ACCOUNT", lambda r, c: _id(r)),
    "claim": ("CLAIM", lambda r, c: r.choice((_digits(r, 13), f"{r.randint(2020, 2026)}{_digits(r, 8)}{r.choice('ABC')}{r.choice('XYZ')}", _id(r)))),
    "auth": ("AUTHORIZATION", lambda r, c: _id(r)),
    "npi": ("NPI", lambda r, c: r.choice("12") + _digits(r, 9)),
    "dea": ("DEA", lambda r, c: f"{r.choice('ABFM')}{r.choice(_LAST)[0]}{_digits(r, 7)}"),
    "lic": ("LICENSE", lambda r, c: r.choice((f"MD{_digits(r, 6)}", _digits(r, 7), f"{r.choice('ABCW')}{_digits(r, 6)}"))),
    "vin": ("VIN", lambda r, c: "1" + "".join(r.choice("ABCDEFGHJKLMNPRSTUVWXYZ0123456789") for _ in range(15)) + "7"),
    "plate": ("PLATE", lambda r, c: r.choice((f"{r.choice(_LAST)[:3].upper().replace(chr(39), 'X')}-{_digits(r, 4)}", f"{_digits(r, 1)}ABC{_digits(r, 3)}"))),
    "device": ("DEVICE", lambda r, c: r.choice((f"PM{_digits(r, 6)}", f"{_digits(r, 9)}A", f"SN-{_digits(r, 7)}"))),
    "url": ("URL", lambda r, c: f"https://portal.{r.choice(_FIRM).lower()}.com/p/{_digits(r, 6)}"),
    "ip": ("IP", lambda r, c: ".".join(str(r.randint(2, 250)) for _ in range(4))),
    "photo": ("PHOTO", lambda r, c: f"{c['patient']['last'].lower().replace(chr(39), '')}_face_{_digits(r, 3)}.jpg"),
    "bio": ("BIOMETRIC", lambda r, c: f"FP-{_digits(r, 6)}"),
    "ref": ("REFERENCE", lambda r, c: r.choice((_digits(r, 8), f"I-{_digits(r, 9)}", f"{r.choice('ABCD')}{_digits(r, 7)}"))),
    "street": ("ADDRESS", lambda r, c: f"{r.randint(2, 19999)} {r.choice(('', 'N ', 'SW '))}{r.choice(_STREET)} {r.choice(_SUFFIX)}{r.choice(('', '', f' Apt {r.randint(1, 99)}', f' Suite {r.randint(100, 900)}'))}".replace("_", " ")),
    "city": ("CITY", lambda r, c: _zip_city(r)),
    "town": ("CITY", lambda r, c: r.choice(_CITY)),
    "zip": ("ZIP", lambda r, c: _digits(r, 5) + r.choice(("", "", f"-{_digits(r, 4)}"))),
    "county": ("COUNTY", lambda r, c: f"{r.choice(('Cook', 'Travis', 'Maricopa', 'Harris', 'Fulton', 'Ozaukee'))} County"),
    "fac": ("FACILITY", _facility),
    "firm": ("EMPLOYER", lambda r, c: f"{r.choice(_FIRM)} {r.choice(_FIRM_KIND)}"),
    "cpt": (None, lambda r, c: r.choice(_CPT)),
    "icd": (None, lambda r, c: r.choice(_ICD)),
    "carc": (None, lambda r, c: r.choice(_CARC)),
    "rarc": (None, lambda r, c: r.choice(_RARC)),
    "ndc": (None, lambda r, c: r.choice(_NDC)),
    "amt": (None, lambda r, c: f"${r.randint(1, 4)},{_digits(r, 3)}.{_digits(r, 2)}"),
    "drug": (None, lambda r, c: f"{r.choice(_DRUG)} {r.choice((5, 10, 20, 40, 500))} mg"),
    "payer": (None, lambda r, c: r.choice(_PAYER)),
    "epo": (None, lambda r, c: r.choice(_EPONYM)),
    "bp": (None, lambda r, c: f"BP {r.randint(90, 180)}/{r.randint(50, 99)}"),
    "age": (None, lambda r, c: str(r.randint(2, 88))),
}  # fmt: skip
#: Slots whose text is a code or an amount: nothing of it may be redacted.
CODES = frozenset(["cpt", "icd", "carc", "rarc", "ndc", "amt"])

TEMPLATES = (
    # calls
    "Called {payer} at {phone}, spoke with {staff}, call ref # {ref}. Claim {claim} for {pt} denied {carc}, remark {rarc}.",
    "s/w {staff} in provider services. Claim # {claim} DOS {date} is in process. Will call back {short}.",
    "LM for pt at {phone} re balance of {amt}. {ptlast} returned the call, will pay by card.",
    "Pt {pt} (DOB {dob}) called upset about bill {amt}; explained that {carc} is contractual. Callback {phone}.",
    "Spoke to spouse {rel}; patient is deceased as of {date}. Need estate info, acct {acct}.",
    "Rep {staff} says auth {auth} covers {cpt} only. Fax records to {fax}.",
    "{payer} rep would not release info w/o DOB. Gave {dob}, member ID {member}. Ref: {ref}",
    "Voicemail from {rel}, daughter of {pt}: new address {street}, {city} {zip}.",
    "Patient's mother {rel} confirmed policy # {member}, group {group}, effective {date}.",
    "Inbound call from {md}, RN at {fac}, re peer to peer for {pt}. Call back at {phone}.",
    "Called number on file {phone} - disconnected. Emailed {email}. Will mail statement to {street}.",
    "Per {staff} at {payer}: ICN {claim} was sent to wrong payer ID. Resubmit with {icd} primary.",
    # appeals
    "Dear Appeals Department:\n\nRe: {pt}, Member ID {member}, Claim No. {claim}, DOS {date}\n\nWe appeal the denial of CPT {cpt} ({carc}). The patient, a {age}-year-old with {epo}, failed {drug}.\n\nSincerely,\n{md}, MD\nNPI {npi}",
    "To whom it may concern: {ptlast} was admitted to {fac} on {date} and discharged on {date}. ICD-10 {icd} supports medical necessity of {cpt}.",
    "Second level appeal for {pt}; first level denied {date}. Auth number {auth}. Attach op note by {dr}.",
    "I am writing on behalf of my patient {pt} (DOB: {dob}; SSN {ssn}) whose surgery {cpt} was denied as not medically necessary.",
    "Appeal filed {date} by {staff}. Tracking number {ref}. {payer} must answer by {date}.",
    "Letter of medical necessity. Patient: {pt}. MRN: {mrn}. Dx: {icd}. Rx: {drug}. Prescriber {dr}, DEA {dea}, license {lic}.",
    "The denial letter dated {date} cites {carc} and {rarc}; however authorization # {auth} was obtained from {staff} on {date}.",
    "Please overturn. {ptfirst} lives in {county} and the only provider within 50 miles is {fac}.",
    # discharge
    "DISCHARGE SUMMARY\nPatient: {pt}\nMRN: {mrn}\nAdmitted: {date}\nDischarged: {date}\nAttending: {dr}\n\n{age} yo with {epo}, {bp}. Sent home on {drug}.",
    "{pt} is a {age90}-year-old admitted to {fac} from {town} with {icd}. Daughter {rel} is health care proxy, {phone}.",
    "Hospital course: {ptlast} underwent {cpt} by {dr} on {date}. Implant serial number {device}. No complications.",
    "Follow up with {dr} at {fac}, {street}, {city} {zip}, on {date}. Call {phone} for questions.",
    "Patient seen and examined by {md}, PA-C. {bp}, HR 72, EF 55%. Continue {drug}. RTC {short}.",
    "Pacemaker model interrogated, serial {device}; lead ok. Next check {date} with {dr} in {town}.",
    "HPI: {age}F, works at {firm}, presents to {fac} with chest pain since {date}. PMH {epo}. Meds {drug}.",
    "Pt in her {nineties}, lives alone at {street}, {town}. Son {rel} ({phone}) helps with meds: {drug}.",
    "Dictated by {md}, MD on {date}. Transcribed {date}. cc: {dr}, {fac}",
    "Transferred from {fac} to {fac} on {date} under care of {dr}; MRN {mrn} there, {mrn} here.",
    # faxes
    "FAX COVER\nTo: {md}\nFrom: {staff}, {fac}\nFax: {fax}\nPhone: {phone}\nRe: {pt} DOB {dob}\nPages: 4",
    "Attn {staff}: records for {pt}, acct # {acct}, DOS {date} attached. Please fax back to {fax}.",
    "To {payer} claims dept, fax {fax}. Corrected claim {claim}: {cpt} changed, dx {icd}.",
    "CONFIDENTIAL. If received in error call {phone}. Patient {pt}, {street}, {city} {zip}, SSN: {ssn}.",
    "Referral from {dr} (NPI {npi}) to {fac} for {pt}, phone {phone}, insurance {payer} ID# {member}.",
    "Records request: all visits {date} to {date} for {pt}, chart # {mrn}. Send to {street}, {city} {zip}.",
    # EOB remarks
    "EOB {date}: billed {amt} allowed {amt} paid {amt} {carc} {rarc} check # {ref} acct {acct}.",
    "ERA posted {date}, trace number {ref}. {cpt} adj {carc} {amt}; {cpt} denied {rarc}.",
    "Claim control number {claim} patient {pt} service {date} proc {cpt} reason {carc} pt resp {amt}.",
    "Payer recouped {amt} on claim # {claim}; original check {ref} dated {date}.",
    "Line 1 {cpt} {icd} {amt} {carc}. Line 2 {cpt} {amt} {rarc}. Patient account number {acct}.",
    "COB: {payer} primary, member id {member}; {payer} secondary, policy number {member}. Subscriber {rel} DOB {dob}.",
    "NDC {ndc} missing on J-code {cpt}, claim # {claim}. Resubmitted {date} by {staff}.",
    # payer letters
    "Dear {ptlast},\n\nYour claim for services on {date} at {fac} was processed. Member ID: {member}. You owe {amt}. Questions? Call {phone} or visit {url}.",
    "{payer} Utilization Review\nMember: {pt}\nID: {member}\nGroup No: {group}\nCase #: {ref}\nDecision: approved {cpt} x 2, auth # {auth}, valid {date} to {date}.",
    "Notice of overpayment. Provider {dr}, NPI {npi}, patient {pt}, claim number {claim}, date of service {date}, amount {amt}.",
    "We could not identify member {pt} with date of birth {dob} and ID {member}. Please verify eligibility.",
    "Request for accident details: {pt}, MVA on {date} in {town}, vehicle VIN {vin}, license plate {plate}. Adjuster {staff}, claim # {claim}.",
    "Workers comp: {pt}, employer {firm}, injured {date}. Adjuster {staff} {phone}. WC claim number {claim}.",
    # portal, audit, other identifiers
    "Portal login by {email} from IP {ip} on {date}; user uploaded {photo}.",
    "ID check: driver's license {lic} scanned, fingerprint template {bio} stored. Photo {photo}.",
    "Statement emailed to {email}; link {url} expires {date}.",
    "Registration: {pt}, {street}, {city} {zip}. Home {phone}, cell {phone}, email {email}. Employer: {firm}.",
    "Guarantor {rel}, SSN {ssn}, DOB {dob}, employed at {firm}. Responsible for {amt}.",
    "Emergency contact: {rel} (husband) {phone}. PCP {dr}, {fac}.",
    "Lien letter from attorney {md}, {street}, {city} {zip}, re {pt}, DOI {date}, acct {acct}.",
    # terse
    "{pt} {dob} {mrn} - NO AUTH ON FILE FOR {cpt}. ESCALATED TO {staff} {short}.",
    "pt {pt}: elig checked {date}, {payer} active, copay $40. mrn {mrn}",
    "f/u w {staff} re {pt} acct {acct} - {carc} - rebill w/ {icd} mod 25",
    "Coder note: {dr} documented {epo}; use {icd}. Query sent {date}. {cpt} ok.",
    "TFL denial {carc}; proof of timely filing {date}, claim # {claim}, sent by {staff}.",
    "{ptfirst} called again about {amt}. Told her insurance paid {date}. - {staff}",
    "Scheduling: {pt} {phone} for {cpt} at {fac} {date} w/ {dr}. Pre-cert # {auth}.",
    "NSA notice mailed {date} to {street}, {city} {zip}. Tracking # {ref}.",
    # nothing to find
    "Claim denied {carc} with {rarc}; {cpt} needs modifier 25. Allowed {amt}. Dx {icd}. Resubmit to {payer}.",
    "Patient is a {age}-year-old with {epo}, {bp}, on {drug}. Denied as experimental; CPT {cpt} is covered by {payer}.",
    "Underpaid: {cpt} contract {amt}, paid {amt}. {payer} fee schedule 2025. NDC {ndc}.",
)
#: The last templates hold no identifier.
EMPTY = 3

_TYPO = {
    "patient": "pateint",
    "called": "caled",
    "claim": "cliam",
    "denied": "deneid",
    "received": "recieved",
    "number": "nubmer",
    "address": "adress",
    "authorization": "authorizaton",
    "member": "memeber",
}
_OCR = str.maketrans({"0": "O", "1": "l", "5": "S"})


def _noisy(r: random.Random, noise: str, text: str, gold: bool) -> str:
    if noise == "typos" and not gold:
        for right, wrong in _TYPO.items():
            if r.random() < 0.5:
                text = text.replace(right, wrong)
    elif noise == "breaks":
        text = "".join("\n" if c == " " and r.random() < 0.12 else c for c in text)
    elif noise == "ocr":
        # a scan misreads figures of numbers now and then, and letters of the words around
        if gold:
            text = "".join(c.translate(_OCR) if c in "015" and r.random() < 0.06 else c for c in text)
        else:
            text = "".join({"l": "1", "o": "0", "m": "rn"}[c] if c in "lom" and r.random() < 0.02 else c for c in text)
    elif noise == "upper":
        text = text.upper()
    return text


def note(seed: int) -> dict[str, Any]:
    """{"id", "text", "gold": [[start, end, type]], "codes": [[start, end]], "record", "noise"}"""
    r = random.Random(seed)
    noise = r.choice(("", "", "", "typos", "breaks", "ocr", "upper"))
    context = {"patient": _new_person(r)}
    text = ""
    gold: list[list[Any]] = []
    codes: list[list[int]] = []
    for part in r.choice(TEMPLATES).replace("{", "\x01").replace("}", "\x02\x01").split("\x01"):
        if part.endswith("\x02"):
            kind, make = _SLOTS[part[:-1]]
            value = make(r, context)
            if kind is not None or part[:-1] not in CODES:
                value = _noisy(r, noise, value, True) if noise != "ocr" or kind not in (None, "PERSON") else value
            if kind is not None:
                gold.append([len(text), len(text) + len(value), kind])
            elif part[:-1] in CODES:
                codes.append([len(text), len(text) + len(value)])
            text += value
        else:
            text += _noisy(r, noise, part, False)
    patient = context["patient"]
    record = {"first_name": patient["first"], "last_name": patient["last"], "middle_initial": patient["middle"]}
    return {"id": f"generated-{seed}", "text": text, "gold": gold, "codes": codes, "record": record, "noise": noise}


def notes(count: int, seed: int = 0, records: bool = True) -> list[dict[str, Any]]:
    out = [note(seed + n) for n in range(count)]
    if not records:
        for entry in out:
            entry["record"] = None
    return out
