"""Column headers: unit, field group and role in a cohort."""

from __future__ import annotations

import re

#: Units of time in days; a month is a twelfth of 365.25 days.
DAYS = {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25}

#: Results of `stem` for death and last contact, and for headers that fit any endpoint.
VITAL, ANY = "vital", ""

#: Names of the columns of patients and slides, best first, normalized as by `plain`.
PATIENT = (
    "patient id",
    "patient",
    "case submitter id",
    "bcr patient barcode",
    "patient bcr patient barcode",
    "submitter id",
    "cases submitter id",
    "case id",
    "cases case id",
    "subject id",
    "participant id",
    "patienten id",
    "patient number",
    "pat id",
    "mrn",
    "pseudonym",
)

SLIDE = ("slide id", "slide", "filename", "file name", "image id", "wsi")

_UNITS = {
    "days": r"\bdays?\b",
    "weeks": r"\bweeks?\b",
    "months": r"\b(months?|mos?)\b",
    "years": r"\b(years|yrs?)\b",
    "mm": r"\bmm\b",
    "cm": r"\bcm\b",
    "kg": r"\bkg\b",
    "%": r"%|\b(percent|percentage|pct)\b",
}

_BRACKETED = re.compile(r"[(\[]([^()\[\]]{1,16})[)\]]\s*$")

_UNIT_LIKE = re.compile(
    r"[%°µμ]|\^|/|\b(mm|cm|m|kg|g|mg|ng|years?|yrs?|days?|weeks?|months?|U|IU)\b"
)

_GROUPS = (
    ("follow-up", r"surviv|death|deceased|vital|follow ?up|recur|relapse|progress|disease "
                  r"free|last (known|alive|contact)|\b(futime|fustat)\b|(neoplasm|tumor) status|"
                  r"\b(os|dss|css|dfs|dfi|pfs|pfi|efs|rfs|mfs|dmfs|ttp)\b"),
    ("treatment", r"therap|treatment|surg|chemo|radiation|margin|neoadjuvant|drug"),
    ("stage", r"stage|staging|ajcc|grad(e|ing)|\b[ptnm]{1,2}\b|tnm|metasta|lymph ?node|\baln\b"),
    ("receptors", r"\b(er|pr|her ?2|ki ?67|pd ?l1)\b|estrogen|progesterone|molecular"),
    ("genome", r"mutation|genome|\b(tmb|msi|cnv)\b|aneuploid|gene"),
    ("blood", r"h(a?e)moglobin|leukocyt|lymphocyt|platelet|\b(ldh|crp|wbc|hb)\b|albumin|"
              r"creatinin|calcium|bilirubin|microglobulin|serum|blood"),
    ("demographic", r"\bage\b|\bsex\b|gender|\brace\b|ethnic|menopaus|height|"
                    r"^(body )?weight|\bbmi\b|birth|smok|alcohol|\bcountry\b"),
    ("tumor", r"tumou?r|histolog|neoplasm|cancer|diagnos|morpholog|primary site|lateral|organ"),
)  # fmt: skip

_ENDPOINTS = "os|dss|css|dfs|dfi|pfs|pfi|efs|rfs|mfs|dmfs|ttp"

_OUTCOME = re.compile(
    r"surviv|death|deceased|\bdead\b|vital|follow ?up|recur|relapse|progression|disease free|"
    rf"last (known|alive|contact)|\b({_ENDPOINTS})\b|neoplasm status|cause of|response|"
    r"\b(event|censor\w*|futime|fustat)\b|new tumou?r event|tmb label|\b(label|outcome|target)\b"
)

_EVENT = re.compile(
    r"surviv|death|deceased|\bdead\b|vital|recur|relapse|progress|disease free|"
    rf"\b({_ENDPOINTS})\b|^(status|fustat)$|"
    r"\b(event|censor\w*|zensiert|ereignis|verstorben)\b"
)

_IDENTIFIER = re.compile(
    r"\b(id|ids|uuid|uid|guid|barcode|md5|url|link|path|code ?book|serial|accession)\b"
)

_TIME_WORDS = re.compile(
    r"\b(months?|days?|weeks?|years?|mos?|time|futime|duration|status|fustat|event|censor\w*|indicator|"
    r"ind|to|in)\b"
)

#: Parts of the GDC's and Firehose's names that say of which of their tables a column is.
_TABLES = re.compile(
    r"^(demographic|diagnoses|cases|patient|follow ups) | (demographic|diagnoses)$"
)

#: The endpoint that the words of a header mean. Death and last contact, "vital", give overall
#: survival together; a time or an event without a word of its own goes with any.
_FAMILIES = (
    (rf"\b({_ENDPOINTS})\b", ""),
    (r"overall", "os"),
    (r"disease specific", "dss"),
    (r"cancer specific", "css"),
    (r"disease free interval", "dfi"),
    (r"disease free", "dfs"),
    (r"progression free interval", "pfi"),
    (r"progression free", "pfs"),
    (r"event free", "efs"),
    (r"(relapse|recurrence) free", "rfs"),
    (r"^(vital|death|dead|deceased|last (follow ?up|contact|known alive))$", VITAL),
    (r"^(survival|follow ?up|fu)?$", ANY),
)


def plain(header: str) -> str:
    """Return a header in lower-case words, one space between them."""
    return " ".join(re.sub(r"[^a-z0-9%]+", " ", header.casefold()).split())


def unit_of(header: str) -> str:
    """Return the unit in a header: "months" of "survival (months)"."""
    words = plain(header)
    for unit, pattern in _UNITS.items():
        if re.search(pattern, words):
            return unit
    bracketed = _BRACKETED.search(header)
    if bracketed and _UNIT_LIKE.search(bracketed[1]):
        return bracketed[1].strip()
    return "years" if names_age(header) else ""


def group_of(header: str) -> str:
    """Return the field group of a header, by default "clinical"."""
    words = plain(header)
    return next((name for name, pattern in _GROUPS if re.search(pattern, words)), "clinical")


def is_outcome(header: str) -> bool:
    """Return whether a header is about survival, response or label."""
    return bool(_OUTCOME.search(plain(header)))


def names_event(header: str) -> bool:
    """Return whether a header names an event or its censoring."""
    return bool(_EVENT.search(plain(header)))


def names_stage(header: str) -> bool:
    """Return whether a header names stages, such as bare "2"."""
    words = plain(header)
    return "stage" in words and not re.search(r"edition|version|system", words)


def names_identifier(header: str) -> bool:
    """Return whether a header names identifiers, links or file paths."""
    return bool(_IDENTIFIER.search(plain(header)))


def names_count(header: str) -> bool:
    """Return whether a header names counts, which are no flags."""
    return bool(re.search(r"\b(number|count|counts|no of|n)\b", plain(header)))


def names_age(header: str) -> bool:
    """Return whether a header names ages."""
    return bool(re.search(r"\b(age|alter)\b", plain(header)))


def names_time(header: str) -> bool:
    """Return whether a header names a time to an event."""
    words = plain(header)
    if unit_of(header) in DAYS or re.search(r"\b(time|futime|duration)\b", words):
        return stem(header) == ANY or is_outcome(header)
    return words in _ENDPOINTS.split("|")


def names_death_time(header: str) -> bool:
    """Return whether a header names a time to death."""
    return bool(re.search(r"\bdeath\b", plain(header))) and unit_of(header) in DAYS


def names_censoring(header: str) -> bool:
    """Return whether a header names censoring, not an event."""
    return bool(re.search(r"\bcensor\w*|zensiert", plain(header)))


def stem(header: str) -> str:
    """Return the endpoint in a header: "os" of OS_MONTHS, OS_STATUS."""
    words = _TABLES.sub("", plain(header))
    if re.fullmatch(r"days to follow ?up", words):  # the GDC's newer name of the last one
        return VITAL
    left = " ".join(_TIME_WORDS.sub(" ", words).split())
    for pattern, family in _FAMILIES:
        if match := re.search(pattern, left):
            return family if match.lastindex is None or pattern[0] == "^" else match[1]
    return left
