"""Questions that clinicians type, made up, in many hands: terse, shouting, chatty, in learnt English, with typing errors.

Templates and the words that fill them are both split. Development may read notes of DEVELOPMENT templates filled with the
development names and places; the HELD_BACK templates with names and places of their own are only ever counted, never read.
The same seed gives the same query. Two-patient notes for the check of medbill.deid.text.patients come from here too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

HELD_BACK = 90_000


def _words(text: str) -> list[str]:
    return [w.replace("_", " ") for w in text.split()]


#: Two vocabularies: [0] for development, [1] held back.
_FIRST = (
    _words("""
    Aarav Abena Agata Ahmad Aleksander Amadou Ananya Andrea Bao Bilal Birgitta Carlos Chiara Chloe Dariusz Devon
    Eitan Ekaterina Elias Esi Farah Fernanda Gianna Goran Gwendolyn Hana Hassan Helga Hyun-Woo Ikram Ines Jabari
    Jean-Luc Joaquin Kavita Kofi Lars Leticia Lina Luis Maeve Manuela Marek Mary-Beth Mehmet Mireille Nasser
    Nikolai Oluwaseun Paloma Pedro Quyen Rafael Renata Rohan Ruth Saoirse Sergei Shira Tariq Tatiana Thandiwe
    Uchenna Vera Wei Xiu-Ying Yaw Yuki Zofia James Emily Daniel Laura Kevin Sarah Thomas Nancy
    """),
    _words("""
    Abdullahi Aditi Akua Alessandro Anneke Armando Astrid Bogdan Catalina Chinedu Cormac Darya Dieter Eduardo Efua
    Elina Enrique Faisal Florence Gitte Hamid Hideo Ioana Isadora Ivan Jorge Juanita Kareem Kwame Liam Ling Lourdes
    Mariam Matthias Min-Jun Mustafa Neha Nkechi Noemi Oksana Pilar Piotr Rania Rosa Sadia Samir Sunita Teodora
    Tuan Umar Vusi Wiktor Yael Zeynep Anne-Marie Margaret Brian Steven Karen Paul Alice Henry
    """),
)
_LAST = (
    _words("""
    Abdi Acheampong Al-Masri Andrade Antonopoulos Asante Balogun Banerjee Bergstrom Birch Bonnet Cardoso Chowdhury
    Contreras D'Angelo Da_Silva De_la_Cruz Diallo Dimitrov Duarte Eriksen Farouk Ferreira Fischer Fofanah Gebre
    Georgiou Haile Hoang Horvath Jovanovic Kaminski Katz Kipkemboi Kovacs Le_Blanc Lefebvre Liu MacLeod Mahmoud
    Malhotra Mensah Moreau Musa Nair Navarro O'Malley O'Neill Obi Osei Pacheco Pereira Phan Popescu Qureshi
    Ramirez-Soto Reyes Rossi Saito Sandoval Schmidt Shah Silva Singh Sithole Tanaka Van_der_Berg Varga Wang
    Wanjiru Weiss Yang Young Zhao Zulu Ward Baker Carter Cook Fields
    """),
    _words("""
    Adeleke Aguilar Al-Hassan Amoah Bakker Barzani Beaumont-Hughes Bello Bianchi Boateng Castillo Chaudhari Cho
    Cohen Coleman Costa D'Souza De_Leon Delgado Dlamini El-Sayed Eze Fernando Fontaine Fraser Gonzalez Goswami Gupta
    Hakimi Hernandez Hussein Ivanov Jacobsen Jimenez Kamau Karim Klein Kruger Lam MacDonald Marques Mbatha McKenna
    Medina Menon Mitchell Mueller Novak O'Connor O'Hara Ogunleye Okafor Oliveira Ortega Paterson Petersen Rao
    Rezaei Romero Sato Sharma St._Clair Suzuki Toure Turner Van_Dyke Vega Vu Wood Yeboah Zhang Brooks Fisher Rivers
    """),
)
_PLACE = (
    _words("""
    Abilene Akron Amarillo Asheville Bakersfield Bellingham Bozeman Burlington Cheyenne Dayton Duluth El_Paso Erie
    Evanston Fargo Flagstaff Fresno Gainesville Green_Bay Hartford Knoxville Lubbock Macon Missoula Naperville Omaha
    Peoria Provo Quincy Rapid_City Roanoke San_Mateo Santa_Fe Scranton Toledo Tucson Waco Wichita Yonkers
    """),
    _words("""
    Albany Ann_Arbor Billings Boulder Cedar_Rapids Charleston Corpus_Christi Decatur Dubuque Eugene Fayetteville
    Fort_Collins Galveston Harrisburg Jackson Juneau Lafayette Las_Cruces Lincoln Memphis Modesto Nashville Olympia
    Pensacola Plano Providence Racine Reno San_Antonio Savannah Sioux_Falls Tacoma Topeka Tyler Utica
    """),
)
_HOUSE = (
    _words("""
    St._Luke's St_Vincent's St._Agnes Holy_Family Sacred_Heart Good_Shepherd Mercy Cedar_Grove Lakeshore Riverside
    Harbor_View Maplewood Northgate Summit_Ridge Desert_Springs Elmwood Westbrook Pinehurst Abbott Hutchins Delaney
    Grant Whitfield Loma_Vista Three_Oaks Bay_State Great_Plains Blue_Ridge North_Shore Saint_Raphael
    """),
    _words("""
    St._Barnabas St_Clare's St._Elizabeth's Holy_Name Our_Lady_of_Lourdes Good_Hope Bethany Stonebridge Eastlake
    Glenbrook Harrow Highland Kingsbridge Meadowlands Oak_Hill Palm_Grove Redwood_Coast Sunrise Thornton Valley_Forge
    Willowbrook Winthrop Carver Langford Prescott Rolling_Hills Sea_Pines High_Desert Twin_Lakes
    """),
)
_KIND = (
    _words("""
    Hospital Medical_Center Clinic General_Hospital Memorial_Hospital Regional Health Children's_Hospital Cancer_Center
    Med_Ctr Family_Practice Surgical_Center Rehab Nursing_Home Community_Health_Center Heart_Institute Urgent_Care
    """),
    _words("""
    Hospital Medical_Centre Clinic Regional_Medical_Center Memorial General Health_System Women's_Hospital
    Oncology_Center Med_Center Primary_Care Surgery_Center Rehabilitation_Hospital Care_Center Health_Clinic
    Heart_Hospital Walk-in_Clinic Dialysis_Center
    """),
)
#: Houses that people call by a name without a word for hospital.
_NICK = (
    _words("""
    NYU_Langone Mass_General Johns_Hopkins Cedars-Sinai Mount_Sinai MD_Anderson UCSF Barnes-Jewish Mayo UPMC
    Cleveland_Clinic Brigham_&_Women's Kaiser_Oakland Beth_Israel St._Jude Emory Vanderbilt Stanford
    """),
    _words("""
    Mass_Gen Hopkins UCLA Sloan_Kettering Dana-Farber UT_Southwestern Penn_Medicine Yale_New_Haven Duke Northwestern
    Houston_Methodist Sharp_Grossmont Loma_Linda_University UNC_Rex Maine_Med Rush_Copley Tampa_General CHOP
    """),
)
_STATE = _words("TX OH CA NC WA MT WY ND FL IL AZ NM VA PA NY CT TN GA IA KS NE")
_STREET = (
    _words("Linden Fairmount Chestnut Ridgeway Sequoia Mulberry 9th Old_Post Lakewood Cypress Beacon Jefferson"),
    _words("Walnut Grandview Poplar Hillcrest Spruce Wisteria 22nd Mill_Pond Seabreeze Hickory Liberty Franklin"),
)
_SUFFIX = _words("St Street Ave Avenue Rd Road Ln Lane Dr Drive Blvd Ct Way Circle Pkwy Terrace Trail Loop")
_FIRM = (
    _words("Brightwell Kestner Ironside Halvorsen Meridian Copperline"),
    _words("Thornfield Oakhurst Delmar Vantage_Point Silverbrook Rademaker"),
)
_FIRM_KIND = ["Inc", "LLC", "Logistics", "Manufacturing", "Construction", "Trucking", "and Sons"]
_MONTH = _words("January February March April May June July August September October November December")
_DAY = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_DRUG = _words("metformin apixaban Eliquis Ozempic lisinopril Losartan Keytruda prednisone warfarin Humira Lantus")
_DISEASE = [
    "type 2 diabetes", "COPD", "CKD stage 3", "Crohn's disease", "atrial fibrillation", "HFrEF", "lupus", "Parkinson's disease",
    "stage IIIB NSCLC", "Graves' disease", "acute pancreatitis", "PE", "Hodgkin lymphoma", "resistant hypertension", "PTSD",
]  # fmt: skip

Make = Callable[[random.Random, dict[str, Any]], str]


def _digits(r: random.Random, n: int) -> str:
    return "".join(r.choice("0123456789") for _ in range(n))


def _letters(r: random.Random, n: int) -> str:
    return "".join(r.choice("ABCDEFGHJKLMNPRSTVW") for _ in range(n))


def _one(r: random.Random, c: dict[str, Any], lists: tuple[list[str], list[str]]) -> str:
    return r.choice(lists[c["half"]])


def _date(r: random.Random, c: dict[str, Any]) -> str:
    y, m, d = r.randint(2018, 2025), r.randint(1, 12), r.randint(1, 28)
    month = _MONTH[m - 1]
    suffix = "th" if 10 < d < 14 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    forms = [
        f"{month} {d}, {y}", f"{month} {d}{suffix}, {y}", f"{month} {d}{suffix} {y}", f"{month[:3]} {d}, {y}", f"{d} {month} {y}",
        f"{m}/{d}/{y}", f"{m}/{d}/{y % 100:02d}", f"{m:02d}-{d:02d}-{y}", f"{y}-{m:02d}-{d:02d}", f"{d:02d}.{m:02d}.{y}",
        f"the {d}{suffix} of {month} {y}", f"{month} {d}{suffix}", f"{d} {month[:3]} '{y % 100:02d}", f"{month[:3].upper()} {d} {y}",
        f"{d:02d}{month[:3].upper()}{y}", f"{y}/{m:02d}/{d:02d}", f"{d:02d}-{month[:3]}-{y % 100:02d}",
    ]  # fmt: skip
    if c["half"]:
        forms += [f"{r.choice(_DAY)}, {month} {d}, {y}", f"{month} {d} of {y}", f"{month[:3]}. {d}, {y}"]
    return r.choice(forms)


def _relative(r: random.Random, c: dict[str, Any]) -> str:
    return f"{r.choice(('last', 'next', 'this past', 'this coming'))} {r.choice(_DAY)}"


def _name(r: random.Random, c: dict[str, Any]) -> str:
    f, la, i = c["first"], c["last"], r.choice("ABCDEGHJKLMNPRT")
    return r.choice(
        (
            f"{f} {la}",
            f"{f} {la}",
            f"{f} {la}",
            f"{f} {i}. {la}",
            f"{f} {la[0]}.",
            f"{la}, {f}",
            f"{f[0]}. {la}",
            f"{f} {i} {la}",
        )
    )


def _mrn(r: random.Random, c: dict[str, Any]) -> str:
    forms = [
        _digits(r, 7), _digits(r, 8), f"#{_letters(r, 2)}-{_digits(r, 6)}", f"{_letters(r, 3)}{_digits(r, 6)}", f"0{_digits(r, 2)}-{_digits(r, 4)}",
        f"{_digits(r, 2)}-{_digits(r, 2)}-{_digits(r, 3)}", f"{_letters(r, 1)}{_digits(r, 9)}", f"{_digits(r, 6)}",
    ]  # fmt: skip
    if c["half"]:
        forms += [
            f"{_letters(r, 2)} {_digits(r, 6)}",
            f"{_digits(r, 3)} {_digits(r, 4)}",
            f"{_letters(r, 2)}/{_digits(r, 5)}",
        ]
    return r.choice(forms)


def _member(r: random.Random, c: dict[str, Any]) -> str:
    forms = [
        f"{_letters(r, 3)}{_digits(r, 9)}",
        f"{_letters(r, 2)}-{_digits(r, 6)}",
        _digits(r, 10),
        f"W{_digits(r, 9)}",
        "1EG4-TE5-MK73",
    ]
    if c["half"]:
        forms += [
            f"{_letters(r, 3)} {_digits(r, 3)} {_digits(r, 4)}",
            f"{_digits(r, 9)}{_letters(r, 1)}",
            f"{_letters(r, 4)}-{_digits(r, 3)}-{_digits(r, 4)}",
        ]
    return r.choice(forms)


def _phone(r: random.Random, c: dict[str, Any]) -> str:
    a, b, d = str(r.randint(201, 989)), str(r.randint(200, 999)), _digits(r, 4)
    forms = [
        f"({a}) {b}-{d}",
        f"{a}-{b}-{d}",
        f"{a}.{b}.{d}",
        f"{a} {b} {d}",
        f"+1 {a}-{b}-{d}",
        f"{a}{b}{d}",
        f"({a}){b}-{d}",
    ]
    if c["half"]:
        forms += [f"+1-{a}-{b}-{d}", f"1 ({a}) {b}-{d}", f"{a}/{b}-{d}", f"+44 20 7946 {d}"]
    return r.choice(forms)


def _facility(r: random.Random, c: dict[str, Any]) -> str:
    return f"{_one(r, c, _HOUSE)} {_one(r, c, _KIND)}"


def _email(r: random.Random, c: dict[str, Any]) -> str:
    f, la = c["first"].lower(), "".join(x for x in c["last"].lower() if x.isalpha())
    host = r.choice(("gmail.com", "example.org", "mail.net", "health.example.edu", "clinic.co.uk"))
    return r.choice(
        (f"{f}.{la}@{host}", f"{f[0]}{la}{_digits(r, 2)}@{host}", f"{la}_{f}@{host}", f"{f}{_digits(r, 4)}@{host}")
    )


_AGES = _words("ninety-one ninety-four ninety_six ninety-eight one_hundred")
_SLOTS: dict[str, tuple[str | None, Make]] = {
    "name": ("PERSON", _name),
    "first": ("PERSON", lambda r, c: c["first"]),
    "last": ("PERSON", lambda r, c: c["last"]),
    "lower": ("PERSON", lambda r, c: f"{c['first']} {c['last']}".lower()),
    "initials": ("PERSON", lambda r, c: f"{c['first'][0]}.{c['last'][0]}."),
    "titled": ("PERSON", lambda r, c: f"{r.choice(('Mr.', 'Mrs.', 'Ms.', 'Mr', 'Mrs', 'Ms'))} {c['last']}"),
    "other": ("PERSON", lambda r, c: f"{_one(r, c, _FIRST)} {_one(r, c, _LAST)}"),
    "otherfirst": ("PERSON", lambda r, c: _one(r, c, _FIRST)),
    "dr": ("PERSON", lambda r, c: f"Dr. {r.choice(('', _one(r, c, _FIRST) + ' '))}{_one(r, c, _LAST)}"),
    "drlower": ("PERSON", lambda r, c: f"dr {_one(r, c, _LAST).lower()}"),
    "fac": ("FACILITY", _facility),
    "nick": ("FACILITY", lambda r, c: _one(r, c, _NICK)),
    "house": ("FACILITY", lambda r, c: _one(r, c, _HOUSE)),
    "city": ("CITY", lambda r, c: _one(r, c, _PLACE)),
    "citystate": ("CITY", lambda r, c: f"{_one(r, c, _PLACE)}, {r.choice(_STATE)}"),
    "street": ("ADDRESS", lambda r, c: f"{r.randint(2, 9999)} {r.choice(('', 'N ', 'West '))}{_one(r, c, _STREET)} {r.choice(_SUFFIX)}{r.choice(('', '', f', Apt {r.randint(1, 40)}', f' #{r.randint(1, 40)}'))}"),
    "zip": ("ZIP", lambda r, c: _digits(r, 5)),
    "date": ("DATE", _date),
    "relday": ("DATE", _relative),
    "month": ("DATE", lambda r, c: f"{r.choice(_MONTH)} {r.randint(2018, 2025)}"),
    "dob": ("DATE", lambda r, c: r.choice((f"{r.randint(1, 12)}/{r.randint(1, 28)}/{r.randint(40, 99)}", f"{r.randint(1, 12):02d}/{r.randint(1, 28):02d}/{r.randint(1938, 2012)}", f"{r.choice(_MONTH)} {r.randint(1, 28)}, {r.randint(1938, 2012)}"))),
    "old": ("AGE", lambda r, c: r.choice((str(r.randint(90, 104)), r.choice(_AGES)))),
    "oldnum": ("AGE", lambda r, c: str(r.randint(90, 104))),
    "phone": ("PHONE", _phone),
    "email": ("EMAIL", _email),
    "ssn": ("SSN", lambda r, c: r.choice((f"{_digits(r, 3)}-{_digits(r, 2)}-{_digits(r, 4)}", "123-45-6789", f"{_digits(r, 3)} {_digits(r, 2)} {_digits(r, 4)}"))),
    "mrn": ("MRN", _mrn),
    "member": ("MEMBER", _member),
    "acct": ("ACCOUNT", lambda r, c: r.choice((_digits(r, 9), f"{_letters(r, 2)}{_digits(r, 7)}", f"{_digits(r, 4)}-{_digits(r, 4)}"))),
    "ref": ("REFERENCE", lambda r, c: r.choice((f"S{r.randint(18, 25)}-{_digits(r, 5)}", f"{_letters(r, 2)}-{_digits(r, 4)}", _digits(r, 8), f"{r.randint(2019, 2025)}-{_digits(r, 5)}"))),
    "device": ("DEVICE", lambda r, c: r.choice((f"{_letters(r, 3)}{_digits(r, 6)}{_letters(r, 1)}", f"SN{_digits(r, 7)}"))),
    "url": ("URL", lambda r, c: f"https://{r.choice(('portal', 'mychart'))}.{_one(r, c, _FIRM).lower().replace(' ', '')}.org/u/{_digits(r, 5)}"),
    "ip": ("IP", lambda r, c: ".".join(str(r.randint(2, 250)) for _ in range(4))),
    "lic": ("LICENSE", lambda r, c: r.choice((f"{_letters(r, 1)}{_digits(r, 7)}", f"MD-{_digits(r, 6)}"))),
    "plate": ("PLATE", lambda r, c: f"{_letters(r, 3)}-{_digits(r, 4)}"),
    "firm": ("EMPLOYER", lambda r, c: f"{_one(r, c, _FIRM)} {r.choice(_FIRM_KIND)}"),
    "age": (None, lambda r, c: str(r.randint(3, 88))),
    "sex": (None, lambda r, c: r.choice(("M", "F"))),
    "drug": (None, lambda r, c: r.choice(_DRUG)),
    "dz": (None, lambda r, c: r.choice(_DISEASE)),
    "cpt": (None, lambda r, c: r.choice(("99214", "27447", "45378", "J1885", "E11.9", "C50.911", "CO-45", "N130"))),
    "bp": (None, lambda r, c: f"BP {r.randint(100, 180)}/{r.randint(55, 99)}"),
}  # fmt: skip

TEMPLATES = (
    # terse
    "{age}{sex} {dz}, {name}, MRN {mrn}, {fac} {date}. Next line after {drug}?",
    "{name} / DOB {dob} / MRN {mrn}: {dz}, {bp}. Start {drug}?",
    "Pt {last} w/ {dz} on {drug}. Seen {date} {nick}. Safe to stop?",
    "re {name}: A1c 9.2 on {drug}. add what? (acct {acct})",
    "{dz} s/p stent {month}, {titled}, {age}yo. Duration of DAPT?",
    "Consult: {last}, {first}. {age} y/o {sex}. {dz}. Ref {dr}. Phone {phone}. Rec?",
    "{drug} dose renal? {initials}, {age}{sex}, eGFR 28, admitted {date}",
    # shouting
    "URGENT: PATIENT {name} MRN {mrn} HAS {dz}, CAN I GIVE {drug}???",
    "NEED HELP NOW - {titled} CRASHING AT {fac}, {bp}, ON {drug}. PRESSOR CHOICE?",
    "PLS ADVISE!! {name} (DOB {dob}) POST OP DAY 2, {dz}. CALL ME {phone}",
    # telegraphic, lower case
    "pt {lower} dob {dob} mrn {mrn} c/o chest pain hx {dz} on {drug} troponin neg what next",
    "seen by {drlower} {date} for {dz}, wants 2nd opinion re {drug}",
    "{titled} called, {dz} flare since {relday}, already on {drug}. ok to double?",
    "admitted to {fac} {date}, d/c'd on {drug}; wife {otherfirst} asks about interactions",
    "transfer from {nick} to us {relday}. {dz}. name {name}, mrn# {mrn}. abx choice?",
    # chatty
    "Hi there, I have a lovely {age} year old lady called {first} {last} who came to see me at {fac} on {date} with {dz}. What would you do?",
    "So I've been following {name} for years (he lives over in {city}) and his {dz} just isn't budging on {drug}. Any thoughts?",
    "Quick one: my patient {first} was told by {dr} at {nick} that {drug} is contraindicated in {dz}. Is that right?",
    "Hey, could you look at this? {name}'s daughter {otherfirst} emailed me from {email} about {drug} for {dz}.",
    "We had a gentleman, {titled}, come in {relday} after a fall at {street}, {citystate} {zip}. He has {dz}. Is {drug} still OK?",
    "Thanks for your help yesterday. As for {titled}, she's moving to {citystate} in {month}; can {drug} be continued for {dz}?",
    "Between us, {first} hates {drug}. Her number is {phone} if you need it. What else works in {dz}?",
    # learnt English
    "Please to advise for the patient {name}, he is having {age} years, he was admit in {fac} the {date} with {dz}.",
    "My patient name is {name}, she come from {city}, she have {dz} since {month}. What is best medicine?",
    "Good morning doctor. Mister {last} have allergy of {drug}, medical record number is {mrn}. Which other drug I can give him?",
    "Patient of me, {first} {last}, born on {dob}, insurance number {member}, need {drug} for {dz}. How to make prior authorization?",
    # typing errors
    "Pateint {name} dx w {dz} on {date} at {fac}, treatement optoins?",
    "whats teh dose of {drug} for {name} (MRN:{mrn}), {dz}, sorry typing on phone",
    "Recieved referal from {dr}, {fac}. Pt {name}, DOB:{dob}. {dz}. Evidnce for {drug}?",
    # forms and ids
    "Name: {name}\nDOB: {dob}\nMRN: {mrn}\nInsurance ID: {member}\nQ: first-line therapy for {dz}?",
    "Patient ID {mrn} | Member ID {member} | {dz} | {drug} | seen {date} | {fac}",
    "Accession {ref} ({name}) shows {dz}; next step in staging?",
    "Study subject {ref}, enrolled {date} at {fac}: can {drug} be held for {dz}?",
    "SSN {ssn} is all I have for this {age}{sex} from {city}; {dz}. Does {drug} need a taper?",
    "Pacemaker serial {device}, implanted {date} at {nick} in {name}. Is MRI allowed with {dz}?",
    "Portal message {url} from {email} (IP {ip}): \"my {dz} is worse on {drug}\". Patient is {name}.",
    "License plate {plate}, driver {name}, ED trauma from {city}. {bp}. TXA yes or no?",
    "Does {drug} need PA for {name}, policy no. {member}, employed at {firm}? Dx {cpt}.",
    # the very old
    "{old}-year-old with {dz}: is {drug} worth it? Lives alone at {street}, {city}.",
    "My oldest patient {titled} is {oldnum} yo, {dz}, refuses {drug}. Palliative options?",
    "{name}, aged {oldnum}, from {citystate}: deprescribing {drug} in {dz}?",
    # names in odd places
    "Is {drug} safe in {dz}? Asking for {name}, seen {date}.",
    "{first}'s labs from {date} show A1c 8.8. {drug} up to max?",
    "For {titled} and her {dz}, would {dr} of {fac} be right to start {drug}?",
    "Compare {drug} with placebo in {dz}, case of {initials}, treated in {city} in {month}.",
    "{dr} ({fac}) asked whether {name} ({phone}) may take {drug} with {dz}.",
    "Evidence for {drug} in {dz}? Patient {name}, referred from {house} on {date} (case #{ref}).",
    "Cc {other}, PharmD: {name} on {drug}, {dz}, {nick}, {date}.",
    "{name} was discharged from {nick} on {date} with {dz}; license of prescriber {lic}. Refill {drug}?",
    "Mother {other} reports that {first}, {age}, has had {dz} since {date}. {drug} ok in kids?",
    "Followed at {house} since {month} for {dz}, {first} {last} now wants {drug}.",
)  # fmt: skip
#: Nothing to find.
EMPTY = (
    "What is the role of {drug} in {dz} for a {age}-year-old with {bp}?",
    "{age}{sex}, {dz}, on {drug}, {bp}. Next line?",
    "does {drug} interact with grapefruit in {dz}",
    "ANY NEW GUIDELINES FOR {dz}? ACC OR ESC? {drug} FIRST?",
    "Hi there, just wondering what most people do for {dz} when {drug} fails. Thanks in advance!",
    "Please to advise, which medicine is better in {dz}, {drug} or placebo?",
    "Is {cpt} denied when {drug} is given for {dz} in a community hospital in the US?",
    "Compare the Wells score with the Geneva score before {drug}; patient had Foley catheter, Babinski negative.",
    "Will {drug} help? May I add it in {dz}? Mark it as urgent.",
    "In the SPRINT and ACCORD trials, was {drug} used for {dz}? Published in NEJM 2015.",
    "Per Mayo criteria, is {dz} severe when CRP is 48 and {bp}?",
    "Pt is a retired teacher, {age}, {dz}, lives in Texas with her husband. Home {drug} safe?",
)
#: Every third template is held back.
DEVELOPMENT = tuple(t for n, t in enumerate(TEMPLATES) if n % 3 != 2)
UNSEEN = tuple(t for n, t in enumerate(TEMPLATES) if n % 3 == 2)


def _filled(r: random.Random, template: str, context: dict[str, Any]) -> tuple[str, list[list[Any]]]:
    text = ""
    gold: list[list[Any]] = []
    for part in template.replace("{", "\x01").replace("}", "\x02\x01").split("\x01"):
        if part.endswith("\x02"):
            kind, make = _SLOTS[part[:-1]]
            value = make(r, context)
            if kind is not None:
                gold.append([len(text), len(text) + len(value), kind])
            text += value
        else:
            text += part
    return text, gold


def query(seed: int) -> dict[str, Any]:
    """{"id", "text", "gold": [[start, end, type]]}; from HELD_BACK on with held-back templates, names and places."""
    r = random.Random(seed)
    half = int(seed >= HELD_BACK)
    context: dict[str, Any] = {"half": half}
    context |= {"first": _one(r, context, _FIRST), "last": _one(r, context, _LAST)}
    template = r.choice(UNSEEN if half else DEVELOPMENT) if r.random() < 0.85 else r.choice(EMPTY[half::2])
    text, gold = _filled(r, template, context)
    if r.random() < 0.06 and not text.startswith("{"):
        text = text.upper()
    return {"id": f"query-{seed}", "text": text, "gold": gold, "record": None, "template": template}


def queries(count: int, seed: int = 0) -> list[dict[str, Any]]:
    return [query(seed + n) for n in range(count)]


#: Notes in which a second patient ({2...}) is named as well; the rest of a template is about the first.
TWO_PATIENTS = (
    "Pt {name}, MRN {mrn}, called about {cpt}. Also pt {2name}, MRN {2mrn}, wants a copy of the bill.",
    "Patient: {name}\nDOB: {dob}\nSeen {date} at {fac}.\nPatient: {2name}\nDOB: {2dob}\nSeen {date}.",
    "Spoke with the plan about patient {name} (DOB {dob}) and patient {2name} (DOB {2dob}). Both claims denied {cpt}.",
    "{name}, DOB {dob}, MRN {mrn}: {drug} refilled {date}. {2name}, DOB {2dob}, MRN {2mrn}: no show.",
    "Fax of {date} holds records of {name} (MRN {mrn}) and of {2name} (MRN {2mrn}). Member ID {member}.",
    "Re: {name}, acct {acct}. Payment was posted to the account of patient {2name} by mistake, see DOS {date}.",
    "Wrong chart? Note says patient {name}, {age}{sex}, but the label says patient name: {2name}.",
    "Patient {name}, SSN {ssn}, seen {date} by {dr}. Patient {2name}, SSN {2ssn}, seen right after. {dz}.",
    "Pt name {name} MRN {mrn} {dz}. Next: pt name {2name} MRN {2mrn} {drug}.",
    "Twins? {name} born {dob} and {2name}: patient {2name}, MRN {2mrn}; patient {name}, MRN {mrn}.",
    "{dz} in {name} ({age}{sex}), MRN {mrn}; the referral of {dr} is for {2name} ({age}{sex}), MRN {2mrn}.",
    "Called {phone} re {name}. Same call re {2name}, claim for {date} at {fac}.",
)


def _full_name(r: random.Random, c: dict[str, Any]) -> str:
    first, last = c["first"], c["last"]
    return r.choice((f"{first} {last}", f"{last}, {first}", f"{first} {r.choice('ABK')}. {last}"))


def two_patients(seed: int) -> dict[str, Any]:
    """A note of two patients, with the first one's record: {"id", "text", "record"}."""
    r = random.Random(seed)
    half = int(seed >= HELD_BACK)
    both: list[dict[str, Any]] = []
    for _ in range(2):
        context: dict[str, Any] = {"half": half}
        context |= {"first": _one(r, context, _FIRST), "last": _one(r, context, _LAST)}
        both.append(context)
    template = r.choice(TWO_PATIENTS[half::2])
    text = ""
    for part in template.replace("{", "\x01").replace("}", "\x02\x01").split("\x01"):
        if not part.endswith("\x02"):
            text += part
            continue
        slot, context = part[:-1], both[part.startswith("2")]
        slot = slot.removeprefix("2")
        text += _full_name(r, context) if slot == "name" else _SLOTS[slot][1](r, context)
    return {"id": f"two-{seed}", "text": text, "record": {"first_name": both[0]["first"], "last_name": both[0]["last"]}}
