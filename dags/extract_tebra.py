"""Billed claims from Tebra with the notes on their lines, hourly. Only the fields of include/policies/extraction.yml ever leave the adapter.

Used by the practices whose platform is Tebra. Promises: windows with overlap, so late changes arrive; a window is taken only
where asking for the whole and for its parts agree; a day whose claims did not change is not landed again. An Airflow dag made
by common.extraction.
"""

from common.extraction import extraction

extract_tebra = extraction("tebra", 40, __doc__)
