"""Headers: what the name of a column says of its unit, its group and its place in a cohort."""

from __future__ import annotations

import re

#: Units of time in days; a month is a twelfth of 365.25 days.
DAYS = {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25}

#: What columns of patients and slides are called, best first, normalized as `plain` does.
PATIENT = (
    "patient id",
    "patient",
    "case submitter id",
    "bcr patient barcode",
    "submitter id",
    "case id",
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
                  r"free|last (known|alive)|\b(os|dss|dfs|dfi|pfs|pfi)\b|(neoplasm|tumor) status"),
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

_OUTCOME = re.compile(
    r"surviv|death|deceased|\bdead\b|vital|follow ?up|recur|relapse|progression|disease free|"
    r"last (known|alive)|\b(os|dss|dfs|dfi|pfs|pfi|efs)\b|neoplasm status|cause of|response|"
    r"\b(event|censor\w*)\b|new tumou?r event|tmb label|\b(label|outcome|target)\b"
)
_EVENT = re.compile(
    r"surviv|death|deceased|\bdead\b|vital|recur|relapse|progress|disease free|"
    r"\b(os|dss|dfs|dfi|pfs|pfi|efs)\b|\b(event|censor\w*|zensiert|ereignis|verstorben)\b"
)
_IDENTIFIER = re.compile(
    r"\b(id|ids|uuid|uid|guid|barcode|md5|url|link|path|code ?book|serial|accession)\b"
)
_TIME_WORDS = re.compile(
    r"\b(months?|days?|weeks?|years?|mos?|time|status|event|censor\w*|indicator|to|in)\b"
)
#: Survival from any cause is called many things; the GDC has two times of it.
_FAMILY = {
    "overall survival": "os",
    "survival": "os",
    "vital": "os",
    "death": "os",
    "dead": "os",
    "deceased": "os",
    "last follow up": "os",
    "disease free": "dfs",
    "disease free survival": "dfs",
    "progression free": "pfs",
    "progression free survival": "pfs",
}


def plain(header: str) -> str:
    """Return a header in lower-case words, one space between them."""
    return " ".join(re.sub(r"[^a-z0-9%]+", " ", header.casefold()).split())


def unit_of(header: str) -> str:
    """Return the unit that a header names: "months" of "survival (months)", "" for none."""
    words = plain(header)
    for unit, pattern in _UNITS.items():
        if re.search(pattern, words):
            return unit
    bracketed = _BRACKETED.search(header)
    if bracketed and _UNIT_LIKE.search(bracketed[1]):
        return bracketed[1].strip()
    return "years" if names_age(header) else ""


def group_of(header: str) -> str:
    """Return the group of fields that a header belongs to, "clinical" where none is plain."""
    words = plain(header)
    return next((name for name, pattern in _GROUPS if re.search(pattern, words)), "clinical")


def is_outcome(header: str) -> bool:
    """Return whether a header names what follows from a disease: survival, response, label."""
    return bool(_OUTCOME.search(plain(header)))


def names_event(header: str) -> bool:
    """Return whether a header names something that happens to patients or is censored."""
    return bool(_EVENT.search(plain(header)))


def names_stage(header: str) -> bool:
    """Return whether a column of this name holds stages, so that a bare "2" is one."""
    words = plain(header)
    return "stage" in words and not re.search(r"edition|version|system", words)


def names_identifier(header: str) -> bool:
    """Return whether a column of this name holds identifiers, links or places of files."""
    return bool(_IDENTIFIER.search(plain(header)))


def names_count(header: str) -> bool:
    """Return whether a column of this name holds counts, so that 0 and 1 are no flags."""
    return bool(re.search(r"\b(number|count|counts|no of|n)\b", plain(header)))


def names_age(header: str) -> bool:
    """Return whether a column of this name holds ages."""
    return bool(re.search(r"\b(age|alter)\b", plain(header)))


def stem(header: str) -> str:
    """Return what a time and its event have in common: "os" of OS_MONTHS and OS_STATUS."""
    left = " ".join(_TIME_WORDS.sub(" ", plain(header)).split())
    return _FAMILY.get(left, left)
