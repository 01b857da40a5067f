#!/bin/bash
# A private certificate authority and PostgreSQL's certificate: deploy/certificates.sh FOLDER [HOST...]
# Run again, it keeps the authority and renews the certificate. HOST: names clients use, by default `postgres`.
set -euo pipefail
umask 077
folder=${1:?folder to put them into}
shift
hosts=("${@:-postgres}")
mkdir -p "$folder"
cd "$folder"
if [ ! -e ca.key ]; then
  openssl ecparam -name prime256v1 -genkey -noout -out ca.key
  openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=medbill database authority" -out ca.crt \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign"
fi
names=$(printf 'DNS:%s,' "${hosts[@]}")
openssl ecparam -name prime256v1 -genkey -noout -out server.key.new
openssl req -new -key server.key.new -subj "/CN=${hosts[0]}" -out server.csr
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days 397 -out server.crt.new \
  -extfile <(printf 'basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=%s\n' "${names%,}")
openssl verify -CAfile ca.crt server.crt.new > /dev/null
mv server.key.new server.key
mv server.crt.new server.crt
rm -f server.csr
chmod 644 ca.crt server.crt
# the server reads its key as a user of its own (999 in the image), and takes one of root's where only its group reads it
if [ "$(id -u)" = 0 ]; then
  chown 0:999 server.key
  chmod 640 server.key
  chmod 711 .
fi
