# One image for every Airflow component. Build: docker build -t medbill:0.1.0 .
FROM apache/airflow:3.3.2-python3.12

# The base image brings its own set of packages; the lock moves each shared one to the version that was tested here.
COPY requirements.txt /opt/medbill/
RUN pip install --no-cache-dir --require-hashes -r /opt/medbill/requirements.txt && pip check

# Code belongs to root and is not writable by the user that runs it.
USER root
COPY dags /opt/medbill/dags
COPY plugins /opt/medbill/plugins
COPY include /opt/medbill/include
COPY great_expectations /opt/medbill/great_expectations
RUN chmod -R a+rX,go-w /opt/medbill && install -d -o airflow -g root -m 0770 /var/lib/medbill \
    && printf '#!/bin/sh\nexec python -m medbill.cli "$@"\n' > /usr/local/bin/medbill && chmod 0755 /usr/local/bin/medbill
USER airflow

ENV PYTHONPATH=/opt/medbill/include:/opt/medbill/plugins \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/medbill/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/medbill/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__CORE__XCOM_BACKEND=medbill_plugin.xcom.ReferenceXCom \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False \
    MEDBILL_HOME=/var/lib/medbill \
    MEDBILL_GREAT_EXPECTATIONS=/opt/medbill/great_expectations \
    GX_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1
