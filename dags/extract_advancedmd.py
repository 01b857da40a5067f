"""Billed claims from AdvancedMD, hourly outside of its peak hours. Only the fields of include/policies/extraction.yml ever leave the adapter.

Used by the practices whose platform is AdvancedMD. Promises: windows with overlap, so late changes arrive; changed visits are
taken only where none with charges is missing among them; a day whose claims did not change is not landed again. From 06 to 18
in Denver the vendor allows one list of visits a minute, and people work with it. An Airflow dag made by common.extraction.
"""

from common.extraction import extraction

extract_advancedmd = extraction("advancedmd", 20, __doc__, hours="0-5,18-23", timezone="America/Denver")
