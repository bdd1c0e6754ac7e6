#!/bin/bash
# A PostgreSQL server with pgbench's tables on TCP port $1, as the user that Debian makes for it; started as root. The
# tables are made over a local socket before the port opens.
set -euo pipefail
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/data" "$folder/socket"
chown -R postgres "$folder"
cd "$folder"
as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }

as "$bin/initdb" -D "$folder/data" -A trust --no-sync -E UTF8 --locale C >/dev/null
echo 'host all all all trust' >>"$folder/data/pg_hba.conf"
as "$bin/pg_ctl" -D "$folder/data" -o "-k $folder/socket -c listen_addresses=" -w start >/dev/null
"$bin/pgbench" -h "$folder/socket" -U postgres -i -q -s 10 postgres
as "$bin/pg_ctl" -D "$folder/data" -w stop >/dev/null
# exec, so that the signal reaches the server itself.
(exec setpriv --reuid postgres --regid postgres --clear-groups \
    "$bin/postgres" -D "$folder/data" -k "$folder/socket" -p "$1" -c listen_addresses='*') &
# A fast shutdown: clients are not waited for.
trap 'kill -INT $!' TERM
while kill -0 $! 2>/dev/null; do wait $! || true; done
