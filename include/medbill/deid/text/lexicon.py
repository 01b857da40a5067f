"""Words the detectors know: names, places, drugs, and what only looks like an identifier (eponyms, abbreviations)."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files

FIRST, LAST, WORD, DRUG, CITY, MEDICAL, EPONYM, STATE, STOP, PAYER, MONTH, RARE, ODD = (1 << i for i in range(13))


@cache
def _list(name: str) -> frozenset[str]:
    text = (files("medbill.deid.text.gazetteers") / f"{name}.txt").read_text(encoding="utf-8")
    return frozenset(text.split("\n")) - {""}


def word_list(text: str) -> list[str]:
    """The words of a text, in order."""
    return text.split()


def word_set(text: str) -> frozenset[str]:
    """The words of a text, as written."""
    return frozenset(text.split())


def _set(text: str) -> frozenset[str]:
    return frozenset(text.lower().split())


#: Words after which a capital proves nothing, and words no name consists of.
STOPWORDS = _set("""
a an and any are as at be been being both but by can could did do does each either every few for from further had has
have he her here hers him his how however i if in into is it its just let may might more most must my neither no nor
not now of off on once only or other our ours out over own per please pls same shall she should since so some still such
than that the their theirs them then there these they this those though through thru to too under until up upon us very
via was we were what when where whether which while who whom whose why will with within without would yes yet you your
yours am also about above after again against all because before below between down during
new old current updated latest recent recommended recommendations guidelines guideline treatment management safety
effectiveness efficacy comparative contraindications considerations appropriate prognosis survival strategies protocol
protocols best practices options what's patient patients pt pts seen called calls call said says states stated spoke
told asked advised notes note noted per re ref attn cc dear sincerely regards thanks thank hello hi subject fax phone
tel cell mobile home work office email mail address date dob dos claim claims member subscriber policy group plan payer
provider insurance insured account acct mrn ssn npi tin ein id number no code codes cpt hcpcs icd ndc carc rarc pos drg
amount billed paid allowed balance due total charge charges copay deductible coinsurance denial denied appeal appeals
reason remark remarks eob era remittance check eft trace invoice statement authorization auth referral received sent
mailed faxed reviewed review submitted resubmit resubmitted corrected pending status follow followup admission admit
admitted discharge discharged transferred diagnosis dx procedure procedures history hx physical exam assessment allergies
medications medication labs lab results impression plan vitals discussed presented presents reports reported denies
mr mrs ms miss dr prof doctor nurse md do rn np pa phd aka via spouse wife husband mother father son daughter sister
brother guardian parent mom dad aunt uncle cousin friend neighbor caregiver boss contact emergency relative guarantor
lien coder biller adjuster lm f/u monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun today yesterday
tomorrow january february march april june july august september october november december jan feb mar apr jun jul aug
sep sept oct nov dec male female man woman boy girl year years old yo mvc mva accident vehicle license plate vin serial
implant device model employed employer works tolerates portal from rendering referring attending billing ordering
supervising operating facility service services location street avenue road city state zip county hospital clinic center
medical health care department emergency room unit icu ed er
""")
#: Clinical and billing words and abbreviations that are no names, in whatever case.
MEDICAL_WORDS = _set("""
aaos acc aha ada cdc nih fda who cms hhs hipaa jnc gold nccn idsa acog aap aafp uspstf nyha asa ascvd kdigo esc ats gina
ace arb ssri snri nsaid nsaids ppi cad chf copd ckd ckd esrd dm t2dm t1dm htn hld afib a-fib mi nstemi stemi tia cva dvt
pe gerd ibs ibd uti uri bph ms als ra sle hiv aids hcv hbv hpv tb ptsd adhd ocd gad mdd osa oa pcos pad pvd svt vt bmi
bp hr rr spo2 ekg ecg eeg emg mri ct cta pet cxr us tte tee lvef ef bnp crp esr cbc cmp bmp lfts lft inr pt ptt aptt tsh
psa a1c hba1c gfr egfr bun ldl hdl ana anca wbc rbc hgb hct plt po iv im sc sq prn bid tid qid qd qhs qam npo stat icu
nicu picu ccu ed er or pacu snf ltac pcp obgyn ent cabg pci tkr tka thr tha acl mcl rotator chemo chads chads2 cha2ds2
cha2ds2-vasc has-bled mmse moca phq gcs apache sofa qsofa meld das28 wells gleason framingham mcisaac centor curb-65 doac
noac lmwh tpa ivig cpap bipap copd asthma lupus gout rsv covid covid-19 sars-cov-2 mrsa vre cdiff esbl h pylori
hcfa ub ub04 cms1500 cms-1500 eob eobs era edi hmo ppo epo pos hdhp hsa fsa cob msp dme ncci mue lcd ncd rvu drg apc
carc rarc co pr oa pi cpt hcpcs icd icd-10 icd-10-cm icd10 ndc npi tin ein mrn ssn dob dos dod ssi ssdi mbi hic hicn
icn dcn tcn plb isa gs st clp svc cas ref nm1 clia dea upin taxonomy snomed loinc rxnorm abn hcc raf mips aco pcmh
medicaid medicare tricare champva cobra erisa aca
metformin insulin hemoglobin creatinine troponin sodium potassium glucose lantus humalog novolog ozempic wegovy mounjaro
jardiance farxiga eliquis xarelto coumadin plavix lipitor crestor zoloft prozac lexapro humira enbrel keytruda opdivo
marcaine lidocaine botox toradol zofran dilaudid versed propofol fentanyl ancef keflex zosyn vancomycin rocephin bactrim
flagyl cipro levaquin augmentin amoxicillin prednisone medrol solu-medrol decadron lasix aldactone norvasc toprol coreg
entresto synthroid protonix nexium pepcid zantac tylenol advil motrin aleve aspirin heparin lovenox warfarin
type class stage grade phase level score index scale risk study trial criteria guidelines syndrome disease cancer carcinoma
hispanic latino latina caucasian african american asian black white native indian pacific islander european jewish
english spanish french german chinese japanese korean vietnamese arabic russian hindi
filipino filipina somali ethiopian eritrean cuban haitian dominican brazilian nigerian ghanaian kenyan egyptian syrian
iraqi iranian afghan pakistani bangladeshi nepali nepalese cambodian hmong laotian burmese thai polish ukrainian greek
italian irish portuguese turkish armenian mexican guatemalan salvadoran honduran colombian peruvian ecuadorian
samoan tongan navajo cherokee bosnian albanian romanian hungarian swahili tagalog punjabi urdu gujarati
difficile coli pylori aureus albicans pneumoniae influenzae faecalis jirovecii
bluetooth android iphone windows microsoft google zoom teams fedex ups usps
""")
#: Surnames that live on as signs, scores, devices and diseases. Guarded unless a title or a first name stands before.
EPONYM_WORDS = _set("""
addison addison's alport alzheimer alzheimer's alzheimers apgar asherman asperger babinski baker's barrett barrett's
barthel bartholin bartter batten bechterew beck beckwith becker behcet behcet's bell's berger bishop bovie bowen bowen's
braden brudzinski brugada brugia buerger burkitt burkitt's caesarean chaddock chagas charcot chiari child-pugh chvostek
colles colle's conn's cooley coombs crohn crohn's crohns cullen cushing cushing's cushings dercum doppler down's downs
dressler dukes dupuytren dupuytren's ebstein edwards ehlers-danlos eisenmenger epley epstein-barr ewing ewing's fabry fallot fanconi
finkelstein foley fontan framingham fournier fournier's frey gaucher gehrig gilbert's gilles glasgow gleason glisson goodpasture gram
graves graves' grave's grawitz guillain-barre gullain guillain barre hallpike hartmann hashimoto hashimoto's hawkins heberden heimlich
henoch-schonlein hickman hirschsprung hodgkin hodgkin's hodgkins homans horner horner's huntington huntington's jaeger
jefferson kaposi kaposi's kawasaki kegel kernig kleihauer klinefelter korsakoff krukenberg kussmaul lachman landau langerhans
legionella lhermitte lou ludwig ludwig's lyme mallory-weiss mantoux marfan marfan's mcburney mcburney's mcisaac mcmurray meckel meckel's
meniere meniere's merkel mobitz moro munchausen murphy's neer nissen non-hodgkin non-hodgkin's osgood-schlatter osler osgood paget paget's
pap parkinson parkinson's parkinsons patau perthes peutz-jeghers peyronie peyronie's phalen phalen's pott pott's prader-willi
prinzmetal purkinje ramsay raynaud raynaud's raynauds reed-sternberg reiter reiter's reye reye's rinne romberg roux-en-y
rorschach salter-harris schilling schober sheehan simmonds sjogren sjogren's sjogrens snellen spurling stevens-johnson
stevens still's swan-ganz takayasu takotsubo tay-sachs thomas tinel tinel's tourette tourette's trendelenburg trousseau turner's
valsalva virchow von-willebrand willebrand waldenstrom wallenberg wegener wegener's wernicke wernicke's whipple whipple's wilms
wilms' wilson's wolff-parkinson-white wolff yersinia zenker zenker's zollinger-ellison ellison zollinger weber wells yergason
ancylostoma bard jackson-pratt kirschner steinmann penrose yankauer kocher richter allis babcock mayo metzenbaum
mcgill likert ishihara karnofsky kellgren kellgren-lawrence killip hunt hess fisher forrester ranson ranson's glasgow-blatchford
lund-mackay mallampati cormack-lehane rutherford breslow clark's bethesda ann-arbor dukes' tanner ballard bosniak garden
weber gustilo gustilo-anderson schatzker danis-weber neer's frankel ashworth norton morse hamilton hendrich rankin aldrete
oswestry roland-morris womac harris epworth mallory castleman erb erb's duchenne becker's friedreich hansen hansen's
""")
#: After a surname these make it an eponym (Wilson disease, Wells score).
EPONYM_FOLLOWERS = _set("""
disease disease's syndrome syndromes sign signs reflex reflexes score scores scale criteria criterion classification test
tests index grade stage staging esophagus palsy lymphoma tumor tumour fracture fractures contracture maneuver manoeuvre
procedure operation position catheter tube angina thyroiditis chorea phenomenon sarcoma cyst cysts stain block encephalopathy
dementia dystrophy anomaly malformation deformity triad law method technique incision forceps clamp retractor drain
pouch point ulcer gangrene nodule nodules node nodes body bodies cell cells sphincter duct gland glands ligament reaction
antibody antibodies anemia purpura arteritis granulomatosis vasculitis neuralgia paralysis ataxia neuropathy
hernia diverticulum pneumonia fever virus bacillus strain rule rules formula equation chart coefficient inventory
questionnaire study studies trial trials guideline guidelines recommendations calculator protocol regimen diet exercise
exercises stockings wire pin nail plate screw cast splint brace brackets bandage dressing ring tracing
assessment category class type carcinoma melanoma nephropathy nephritis cardiomyopathy hepatitis risk heart level levels
""")
STATES = _set(
    "alabama alaska arizona arkansas california colorado connecticut delaware florida georgia hawaii idaho illinois indiana "
    "iowa kansas kentucky louisiana maine maryland massachusetts michigan minnesota mississippi missouri montana nebraska "
    "nevada ohio oklahoma oregon pennsylvania tennessee texas utah vermont virginia washington wisconsin wyoming"
)
STATE_CODES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|"
    "RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|PR|VI|GU|AS|MP|AE|AP|AA|FM|MH|PW"
)
STATE_NAMES = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|"
    "Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|"
    "Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|"
    "Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|"
    "West Virginia|Wisconsin|Wyoming|District of Columbia|Puerto Rico"
)
#: Payers name no patient; analysis needs them.
PAYERS = _set("""
aetna cigna humana unitedhealthcare unitedhealth uhc bcbs bcbstx anthem medicare medicaid tricare champva
kaiser-insurance molina centene ambetter optum optumrx oscar wellcare healthnet healthfirst amerigroup elevance carefirst
highmark premera regence humana's aetna's cigna's bluecross blueshield caresource evernorth express-scripts caremark
novitas noridian palmetto ngs wps cgs availity waystar drchrono optumcare emblemhealth
""")
MONTHS = _set(
    "january february march april may june july august september october november december jan feb mar apr jun jul aug "
    "sep sept oct nov dec"
)


_OF_NAMES = FIRST | LAST | CITY | WORD | RARE


def _double_name(word: str, parts: list[int]) -> bool:
    """Whether a hyphenated word of no list is a name: of known parts, or one that is surely a name and no other word."""
    if all(p & (FIRST | LAST) for p in parts):
        return True
    sure = any(p & (FIRST | LAST) and not p & WORD for p in parts)
    return len(word) > 6 and sure and not any(p & ~_OF_NAMES for p in parts)


@lru_cache(maxsize=200_000)
def flags(word: str) -> int:
    """What is known of a word (any case), as a set of the flags above."""
    w = word.lower().rstrip(".")
    bare = w[:-2] if w.endswith("'s") else w.rstrip("'")
    found = 0
    for flag, words in (
        (FIRST, _list("first_names")),
        (LAST, _list("last_names")),
        (WORD, _list("words")),
        (RARE, _list("rare_words")),
        (DRUG, _list("drugs")),
        (CITY, _list("cities")),
        (MEDICAL, MEDICAL_WORDS),
        (STATE, STATES),
        (PAYER, PAYERS),
        (MONTH, MONTHS),
    ):
        if bare in words or w in words:
            found |= flag
    if w in EPONYM_WORDS or bare in EPONYM_WORDS:
        found |= EPONYM
    if w in STOPWORDS:
        found = (found | STOP | WORD) & ~RARE
    if found == 0 and "-" in w:
        parts = [flags(part) for part in w.split("-") if part]
        if parts and all(p & (WORD | MEDICAL) for p in parts):
            found |= WORD
        elif len(parts) > 1 and _double_name(w, parts):
            found |= LAST
    if found == 0 and len(w) > 4 and w.endswith("s") and flags(w[:-1]) & WORD:
        found |= WORD
    return found


#: What people call cities beside their names in the list.
_CITY_NAMES = frozenset(
    [
        "new york",
        "nyc",
        "brooklyn",
        "bronx",
        "the bronx",
        "queens",
        "manhattan",
        "staten island",
        "harlem",
        "philly",
        "st louis",
        "st. louis",
        "st paul",
        "st. paul",
        "vegas",
        "frisco",
        "nola",
        "hollywood",
        "washington dc",
        "washington d.c.",
        "ft worth",
        "ft. worth",
        "ft lauderdale",
        "ft. lauderdale",
        "st petersburg",
        "st. petersburg",
        "mt vernon",
        "mt. vernon",
        "silicon valley",
        "bay area",
        "long island",
        "south bronx",
        "la jolla",
        "san fran",
        "ft. collins",
        "twin cities",
    ]
)


@cache
def city_openers() -> frozenset[str]:
    """First words of names of cities with more than one."""
    return frozenset(name.split()[0].rstrip(".") for name in _list("cities") | _CITY_NAMES if " " in name)


def is_city(words: str) -> bool:
    """Whether these words, as a whole, are the name of a city."""
    low = " ".join(words.lower().split())
    return low in _list("cities") or low in _CITY_NAMES
