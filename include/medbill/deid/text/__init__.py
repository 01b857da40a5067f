"""Free-text de-identification: recognizers for the 18 Safe Harbor identifiers (45 CFR 164.514(b)(2)), and their engine."""
