"""Billed claims from DrChrono with the notes on them, hourly and when a webhook says so. Only the fields of
include/policies/extraction.yml ever leave the adapter.

Used by the practices whose platform is DrChrono. Promises: windows with overlap, so late changes arrive; a day whose
claims did not change is not landed again. An Airflow dag made by common.extraction.
"""

from common.assets import DRCHRONO_EVENTS
from common.extraction import extraction

extract_drchrono = extraction("drchrono", 35, __doc__, events=DRCHRONO_EVENTS)
