"""What medbill adds to Airflow: the ledger's listener and the XCom backend."""
