"""medbill: the product package. It never imports airflow; dags/ and plugins/ call into it."""
