"""Billed claims from CareCloud with the notes on them, hourly. Only the fields of include/policies/extraction.yml ever leave the adapter.

Used by the practices whose platform is CareCloud. Promises: windows with overlap, so late changes arrive; an answer is taken
only where its total says that all of it came; a day whose claims did not change is not landed again. An Airflow dag made by
common.extraction.
"""

from common.extraction import extraction

extract_carecloud = extraction("carecloud", 50, __doc__)
